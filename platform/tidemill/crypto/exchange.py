"""Bars from an exchange's REST API, page by page, for a backfill.

What belongs here: asking Binance's ``/api/v3/klines`` and reading an answer into rows. Waiting and
retrying is ``asking``'s work. Where a backfill starts, and what becomes of its bars, is decided by
the caller.
"""

import math
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httpx
import polars as pl

from tidemill.crypto.asking import (
    URL_SETTING,
    ExchangeError,
    Line,
    Miss,
    Question,
    UnknownSymbolError,
)
from tidemill.errors import InputError

__all__ = [
    "BAR_COLUMNS",
    "Exchange",
    "ExchangeError",
    "UnknownSymbolError",
    "interval_seconds",
    "parse_klines",
]

PATH: Final = "/api/v3/klines"
MAX_LIMIT: Final = 1000
BAR_COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
KLINE_SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    "timestamp": pl.Int64,
    **dict.fromkeys(BAR_COLUMNS[1:], pl.Float64),
    "close_time_ms": pl.Int64,
}

_SECONDS: Final = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14400,
    "6h": 21600,
    "8h": 28800,
    "12h": 43200,
    "1d": 86400,
    "3d": 259200,
    "1w": 604800,
}
_FIELDS_IN_ROW: Final = 12
_DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MILLISECONDS: Final = range(10**11, 10**14)  # 1973 to 5138: seconds and microseconds are outside
_EXCERPT: Final = 200
_RERUN: Final = "What was stored is kept; run it again to resume after the last stored bar."


def interval_seconds(interval: str) -> int:
    """Length of a bar.

    Args:
        interval: The exchange's name for it, such as ``1m``, ``1h`` or ``1d``; case matters.

    Returns:
        Seconds.

    Raises:
        InputError: No such interval, or one without a fixed length (``1M``, a calendar month).
    """
    if interval not in _SECONDS:
        raise InputError(f"interval {interval!r} is not one of {', '.join(_SECONDS)}")
    return _SECONDS[interval]


def parse_klines(payload: object) -> pl.DataFrame:
    """Read one answer of ``/api/v3/klines``: a list of rows of 12 fields, prices as text.

    Args:
        payload: The decoded JSON.

    Returns:
        A row for each row of the answer, in its order, repeats kept: ``timestamp`` (the bar's
        open, epoch s), ``open``, ``high``, ``low``, ``close`` (quote asset, > 0), ``volume`` (base
        asset, >= 0) and ``close_time_ms`` (last instant of the bar, epoch ms).

    Raises:
        InputError: Not a list, or a row that cannot be a bar; names the row (from 1) and field.

    Source: Binance spot API, Kline/Candlestick data.
    """
    if not isinstance(payload, list):
        raise InputError(
            f"klines answer: expected a list of rows, found {_short(payload)}; "
            "ask the exchange again"
        )
    rows = [_bar(number, row) for number, row in enumerate(payload, start=1)]
    return pl.DataFrame(rows, schema=KLINE_SCHEMA, orient="row")


@dataclass(frozen=True)
class Exchange:
    """Binance's REST API, and how patiently it is asked.

    Each request gets 1 + ``retries`` tries. A try fails for a time-out, a broken connection, a 5xx,
    a body that is no JSON list, a page of bars already had, 429 and 418. Bad requests and bad rows
    are not retried.

    Attributes:
        base_url: Scheme and host; some countries block the default.
        retries: Further tries after a failed one, >= 0.
        timeout_s: Longest silence while connecting or reading, seconds.
        weight_limit: Request weight that the exchange allows a minute (``REQUEST_WEIGHT`` of its
            ``exchangeInfo``). Over 90 % of it the next request waits for the next minute.
        backoff_s: The wait before retry n is drawn from 0 to ``backoff_s * 2 ** (n - 1)`` seconds.
        backoff_cap_s: Upper bound of that, seconds.
        retry_after_s: Wait for 429 and 418 without a ``Retry-After`` in seconds; the default is
            the exchange's shortest ban.
        longest_wait_s: A longer ``Retry-After`` is an error instead of a wait, seconds.
        wait: Sleeps for so many seconds.
        clock: Now, epoch seconds.
        rng: Draws the backoff.

    Raises:
        InputError: ``base_url`` is no http(s) address, or a number is out of its range.

    Source: Binance spot API, limits and HTTP return codes; full jitter after AWS Architecture Blog.
    """

    base_url: str = "https://api.binance.com"
    retries: int = 3
    timeout_s: float = 10.0
    weight_limit: int = 6000
    backoff_s: float = 1.0
    backoff_cap_s: float = 30.0
    retry_after_s: float = 120.0
    longest_wait_s: float = 300.0
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse settings that no request could be made with."""
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise InputError(f"{URL_SETTING} {self.base_url!r} is no address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(
                f"{URL_SETTING} is {self.base_url!r}; "
                "expected http(s)://host, as https://api.binance.com"
            )
        for name in ("retries", "backoff_s", "backoff_cap_s", "retry_after_s", "longest_wait_s"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}, expected >= 0")
        if self.timeout_s <= 0 or self.weight_limit <= 0:
            raise InputError(
                f"timeout_s is {self.timeout_s} and weight_limit {self.weight_limit}, expected > 0"
            )

    def klines(
        self,
        symbol: str,
        since_s: int,
        until_s: int,
        interval: str = "1m",
        limit: int = MAX_LIMIT,
    ) -> Iterator[pl.DataFrame]:
        """Fetch the closed bars of one symbol, a page at a time and in order.

        A bar that the exchange does not have is left out, not invented. A bar that is open at
        ``until_s`` is left out too, so that a backfill "to now" never stores half a bar. An empty
        answer means that the exchange has no further bars.

        Args:
            symbol: The exchange's name of the pair, upper case, as BTCUSDT.
            since_s: Opens of bars start here, epoch s, inclusive.
            until_s: Bars end by this, epoch s; usually now, by a clock that is not fast.
            interval: See ``interval_seconds``.
            limit: Bars in a page, 1 to 1000.

        Yields:
            Frames of at least one row: ``timestamp`` (Int64, epoch s of the open), ``open``,
            ``high``, ``low``, ``close`` (quote asset), ``volume`` (base asset), Float64.
            ``timestamp`` strictly increases, within a page and from page to page.

        Raises:
            UnknownSymbolError: The exchange has no such symbol.
            InputError: The exchange refuses the request or this country, a row is malformed, or an
                argument is out of range (the last one before any request).
            ExchangeError: The tries are used up, or the exchange asks for too long a wait. Pages
                yielded before are good.
        """
        interval_seconds(interval)
        if not 1 <= limit <= MAX_LIMIT:
            raise InputError(f"limit is {limit}, expected 1 to {MAX_LIMIT}")
        return self._pages(_Query(symbol, interval, until_s, limit), since_s)

    def _pages(self, query: "_Query", since_s: int) -> Iterator[pl.DataFrame]:
        step_s = interval_seconds(query.interval)
        cursor_s = since_s
        with httpx.Client(base_url=self.base_url, timeout=self.timeout_s) as client:
            line = Line(self, client)
            # Not "until a short page": a page that lacks bars is short, too, and not the last.
            while cursor_s + step_s <= query.until_s:
                page = line.ask(query.since(cursor_s))
                if page.is_empty():
                    return
                last_s = int(page.item(-1, "timestamp"))
                is_closed = pl.col("close_time_ms") < query.until_s * 1000
                bars = page.filter(is_closed | (pl.col("timestamp") < last_s))
                if bars.height:
                    yield bars.select(BAR_COLUMNS)
                cursor_s = last_s + step_s


@dataclass(frozen=True)
class _Query:
    """What stays the same from page to page."""

    symbol: str
    interval: str
    until_s: int
    limit: int

    def since(self, cursor_s: int) -> Question[pl.DataFrame]:
        """The page from ``cursor_s`` (epoch s) on: sorted, no repeats, none before or after."""
        params: dict[str, str | int] = {
            "symbol": self.symbol,
            "interval": self.interval,
            "startTime": cursor_s * 1000,
            "endTime": self.until_s * 1000 - 1,  # the exchange's end is inclusive
            "limit": self.limit,
        }
        return Question(
            path=PATH,
            params=params,
            named=self.named(cursor_s),
            subject=f"{self.symbol} {self.interval}",
            advice=_RERUN,
            read=lambda rows: _ahead(parse_klines(rows), cursor_s, self.until_s),
        )

    def named(self, cursor_s: int) -> str:
        """The request for a message: path, symbol, interval and start."""
        try:
            start = f"{datetime.fromtimestamp(cursor_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError, OSError):  # no such calendar day
            start = f"{cursor_s} s"
        return f"GET {PATH} ({self.symbol} {self.interval} from {start})"


def _ahead(page: pl.DataFrame, cursor_s: int, until_s: int) -> pl.DataFrame | Miss:
    """The bars that open in [cursor_s, until_s), each once (the first), in order of time.

    A page with nothing but older bars is a miss: taken as progress it would be asked for for ever,
    taken as the end it would lose the rest.
    """
    opens = pl.col("timestamp")
    new = page.filter(opens >= cursor_s, opens < until_s)
    if new.is_empty() and page.filter(opens < cursor_s).height:
        return Miss(f"HTTP 200, {page.height} bars, all before {cursor_s} s, the start asked for")
    return new.unique("timestamp", keep="first", maintain_order=True).sort("timestamp")


def _bar(number: int, row: object) -> tuple[int | float, ...]:
    """One row as the values of ``KLINE_SCHEMA``."""
    if not isinstance(row, list) or len(row) != _FIELDS_IN_ROW:
        raise _bad_row(number, "length", f"a list of {_FIELDS_IN_ROW} fields", row)
    open_ms, close_ms = row[0], row[6]
    if type(open_ms) is not int or open_ms not in _MILLISECONDS or open_ms % 1000:
        raise _bad_row(number, "open time", "epoch ms on a whole second", open_ms)
    if type(close_ms) is not int or close_ms not in _MILLISECONDS or close_ms <= open_ms:
        raise _bad_row(number, "close time", f"epoch ms after the open time {open_ms}", close_ms)
    numbers = []
    for name, value in zip(BAR_COLUMNS[1:], row[1:6], strict=True):
        number_in = float(value) if _DECIMAL.fullmatch(str(value)) else math.nan
        if not math.isfinite(number_in) or (number_in == 0 and name != "volume"):
            bound = ">= 0" if name == "volume" else "> 0"
            raise _bad_row(number, name, f"a decimal number {bound}", value)
        numbers.append(number_in)
    return (open_ms // 1000, *numbers, close_ms)


def _bad_row(number: int, name: str, expected: str, found: object) -> InputError:
    return InputError(
        f"klines answer, row {number}, {name}: expected {expected}, found {_short(found)}. "
        "Nothing of this page was used; if a rerun finds it again, end the range before this row"
    )


def _short(value: object) -> str:
    return repr(value)[:_EXCERPT]
