"""Live prices: the exchange's ``/api/v3/ticker/price``, asked once a second for all pairs."""

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from tidemill.crypto.asking import Line, Question
from tidemill.crypto.exchange import Exchange

PATH: Final = "/api/v3/ticker/price"

_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,30}")
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ADVICE: Final = "What was sent is kept; run it again to go on."


@dataclass(frozen=True)
class Quotes:
    """One answer.

    Attributes:
        at_ms: When it came, epoch ms: the endpoint tells no time of its own.
        pairs: Key and value of a message for each price.
        skipped: Entries without a usable symbol or price.
    """

    at_ms: int
    pairs: list[tuple[bytes, bytes]]
    skipped: int


def quotes(rows: Sequence[object], at_ms: int) -> Quotes:
    """Read one answer: a list of ``{"symbol": "LTCBTC", "price": "4.00000200"}``.

    Args:
        rows: The decoded JSON.
        at_ms: When it came, epoch ms.

    Source: Binance spot API, Symbol price ticker.
    """
    pairs = []
    for row in rows:
        told = row if isinstance(row, dict) else {}
        symbol, price = told.get("symbol"), str(told.get("price"))
        if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
            continue
        number = float(price) if _DECIMAL.fullmatch(price) else math.nan
        if not 0 < number < math.inf:
            continue
        value = json.dumps({"symbol": symbol, "price": number, "timestamp": at_ms})
        pairs.append((symbol.encode(), value.encode()))
    return Quotes(at_ms, pairs, len(rows) - len(pairs))


def poll(
    exchange: Exchange,
    symbols: Sequence[str] = (),
    every_s: float = 1.0,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Quotes]:
    """Ask again and again, at whole multiples of ``every_s`` after the first request.

    A request that takes longer leaves out the moments that it took; they are not made up for.

    Args:
        exchange: Whom, and how patiently; its ``wait`` also passes the time between requests.
        symbols: Trading pairs; none means all that it has.
        every_s: Seconds from one request to the next.
        stopped: Whether to end, asked before each request.
        clock: Now, seconds, that never goes back.

    Raises:
        UnknownSymbolError: It does not have one of the pairs.
        InputError: It refuses the request or this country.
        ExchangeError: The tries are used up, or it asks for too long a wait.
    """
    named = ",".join(symbols) or "all pairs"
    params = {"symbols": json.dumps(list(symbols), separators=(",", ":"))} if symbols else {}
    question = Question(
        path=PATH,
        params=params,
        named=f"GET {PATH} ({named})",
        subject=named,
        advice=_ADVICE,
        read=lambda rows: quotes(rows, int(exchange.clock() * 1000)),
    )
    with httpx.Client(base_url=exchange.base_url, timeout=exchange.timeout_s) as client:
        line = Line(exchange, client)
        start, turn = clock(), 0
        while not stopped():
            yield line.ask(question)
            turn = max(turn + 1, math.ceil((clock() - start) / every_s))
            while not stopped() and (left := start + turn * every_s - clock()) > 0:
                exchange.wait(left)
