"""Bars from an exchange's REST API, page by page, for a backfill.

What belongs here: asking Binance's ``/api/v3/klines``, waiting and retrying, and reading an answer
into rows. Where a backfill starts, and what becomes of its bars, is decided by the caller.
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

from tidemill.errors import InputError, TidemillError

PATH: Final = "/api/v3/klines"
URL_SETTING: Final = "TIDEMILL_EXCHANGE_URL"
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
_FULL_SHARE: Final = 0.9
_EXCERPT: Final = 200
# Codes of the exchange that say "try again" whatever the HTTP status: unknown, disconnected, too
# many requests, unexpected response, time-out, busy, shutting down.
_PASSING_CODES: Final = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1016})
_UNKNOWN_SYMBOL: Final = -1121
_RERUN: Final = "What was stored is kept; run it again to resume after the last stored bar."


class ExchangeError(TidemillError):
    """The exchange gave no usable answer within the tries and waits that were allowed."""


class UnknownSymbolError(InputError):
    """The exchange has no such trading pair."""


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
            line = _Line(self, client, query)
            # Not "until a short page": a page that lacks bars is short, too, and not the last.
            while cursor_s + step_s <= query.until_s:
                page = line.ask(cursor_s)
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

    def since(self, cursor_s: int) -> dict[str, str | int]:
        """The query string of the page that starts at ``cursor_s``, epoch s."""
        return {
            "symbol": self.symbol,
            "interval": self.interval,
            "startTime": cursor_s * 1000,
            "endTime": self.until_s * 1000 - 1,  # the exchange's end is inclusive
            "limit": self.limit,
        }

    def named(self, cursor_s: int) -> str:
        """The request for a message: path, symbol, interval and start."""
        try:
            start = f"{datetime.fromtimestamp(cursor_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (ValueError, OverflowError, OSError):  # no such calendar day
            start = f"{cursor_s} s"
        return f"GET {PATH} ({self.symbol} {self.interval} from {start})"


@dataclass(frozen=True)
class _Miss:
    """A try that may succeed when repeated: what came, and the wait that the exchange named."""

    found: str
    wait_s: float | None = None


@dataclass
class _Line:
    """One connection to the exchange, and the weight it was last told that it has used.

    Tries are a loop of our own: stamina can take a wait from an answer, but sleeps and draws its
    jitter from globals, and here both are arguments.
    """

    exchange: Exchange
    client: httpx.Client
    query: _Query
    used_weight: float = 0

    def ask(self, cursor_s: int) -> pl.DataFrame:
        """The page from ``cursor_s`` (epoch s) on: sorted, no repeats, none before or after."""
        tries = 1
        while isinstance(got := self._try(cursor_s), _Miss):
            if got.wait_s is not None and got.wait_s > self.exchange.longest_wait_s:
                raise ExchangeError(
                    f"{self.query.named(cursor_s)}: told to wait {got.wait_s:.0f} s, longer than "
                    f"the {self.exchange.longest_wait_s:.0f} s allowed: {got.found}. {_RERUN} "
                    "Wait that long first: asking sooner makes a ban longer."
                )
            if tries > self.exchange.retries:
                noun = "try" if tries == 1 else "tries"
                raise ExchangeError(
                    f"{self.query.named(cursor_s)}: gave up after {tries} {noun}, the last: "
                    f"{got.found}. {_RERUN} If it goes on, look at {URL_SETTING} "
                    f"(now {self.exchange.base_url})."
                )
            self.exchange.wait(self._backoff_s(tries) if got.wait_s is None else got.wait_s)
            tries += 1
        return got

    def _backoff_s(self, number: int) -> float:
        ceiling = self.exchange.backoff_s * 2 ** (number - 1)
        return self.exchange.rng.uniform(0, min(self.exchange.backoff_cap_s, ceiling))

    def _try(self, cursor_s: int) -> pl.DataFrame | _Miss:
        self._spare_the_limit()
        try:
            response = self.client.get(PATH, params=self.query.since(cursor_s))
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _Miss(f"no answer, {type(error).__name__}: {error}")
        weight = response.headers.get("x-mbx-used-weight-1m", "")
        if weight.isdecimal():
            self.used_weight = float(weight)
        if response.status_code in (418, 429):
            self.used_weight = 0  # Retry-After outlasts the minute that it counts in
            return _Miss(_told(response), self._retry_after_s(response))
        rows = self._rows(response)
        if isinstance(rows, _Miss):
            return rows
        try:
            page = parse_klines(rows)
        except InputError as error:
            raise InputError(f"{self.query.named(cursor_s)}: {error}") from error
        return _ahead(page, cursor_s, self.query.until_s)

    def _spare_the_limit(self) -> None:
        if self.used_weight > _FULL_SHARE * self.exchange.weight_limit:
            self.exchange.wait(60 - self.exchange.clock() % 60)
            self.used_weight = 0

    def _retry_after_s(self, response: httpx.Response) -> float:
        told = response.headers.get("retry-after", "")
        return float(told) if told.isdecimal() else self.exchange.retry_after_s

    def _rows(self, response: httpx.Response) -> list[object] | _Miss:
        """The rows of an answer; raises InputError for a refusal that no repeat can change."""
        status = response.status_code
        if status in (403, 451):
            raise InputError(
                f"{self.exchange.base_url} refuses this address or country, {_told(response)}. "
                f"Set {URL_SETTING} to a host that serves you, "
                "such as https://data-api.binance.vision or https://api.binance.us"
            )
        try:
            payload: object = response.json()
        except ValueError:  # no JSON, half of one, or no text
            return _Miss(_told(response))
        if status == 200 and isinstance(payload, list):
            return payload
        if 400 <= status < 500 and isinstance(payload, dict):
            code = payload.get("code")
            if isinstance(code, int) and code not in _PASSING_CODES:
                kind = UnknownSymbolError if code == _UNKNOWN_SYMBOL else InputError
                raise kind(
                    f"the exchange refuses {self.query.symbol} {self.query.interval}: "
                    f"code {code}, {payload.get('msg')!r}. Pairs are written in upper case, as "
                    f"BTCUSDT; {self.exchange.base_url}/api/v3/exchangeInfo lists them"
                )
        return _Miss(_told(response))


def _ahead(page: pl.DataFrame, cursor_s: int, until_s: int) -> pl.DataFrame | _Miss:
    """The bars that open in [cursor_s, until_s), each once (the first), in order of time.

    A page with nothing but older bars is a miss: taken as progress it would be asked for for ever,
    taken as the end it would lose the rest.
    """
    opens = pl.col("timestamp")
    new = page.filter(opens >= cursor_s, opens < until_s)
    if new.is_empty() and page.filter(opens < cursor_s).height:
        return _Miss(f"HTTP 200, {page.height} bars, all before {cursor_s} s, the start asked for")
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


def _told(response: httpx.Response) -> str:
    """Status and the start of the body, for a message."""
    return f"HTTP {response.status_code}, answer {response.text[:_EXCERPT]!r}"


def _short(value: object) -> str:
    return repr(value)[:_EXCERPT]
