"""Which column of a candle file is which, and how it writes times and numbers.

Columns are mapped by name, never by position; a file that does not say what its columns are is
refused with the way to say it. Reading the rows is ``rows``'s work.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tidemill.crypto.intake import numerals, times
from tidemill.crypto.intake.numerals import EMPTY, NUMBER
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.crypto.intake.source import Text

ROLES = ("time", "open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
ALIASES: dict[str, tuple[str, ...]] = {
    # Earlier names win: a time that is called the start of the bar, then a numeric Unix time, which
    # is more exact than the written one beside it.
    "time": (
        *("opentime", "timeopen", "starttime", "openttime", "candlebegintime"),
        *("unix", "unixtimestamp", "unixtime", "epoch", "timestamp", "datetime", "datetimeutc"),
        *("utctime", "gmttime", "date", "dateutc", "time", "ts", "t"),
    ),
    "end_time": ("endtime", "closetime", "timeclose"),
    "open": ("open", "openprice", "priceopen", "o", "first"),
    "high": ("high", "highprice", "pricehigh", "max", "h"),
    "low": ("low", "lowprice", "pricelow", "min", "l"),
    "close": ("close", "closeprice", "priceclose", "last", "c", "price"),
    "volume": ("volume", "vol", "basevolume", "volumetraded", "volumebase", "v", "amount"),
    "symbol": ("symbol", "pair", "ticker", "market", "instrument", "code", "tradingpair"),
}
DAYS, CLOCKS = ("date", "day", "dtyyyymmdd"), ("time", "clock", "timeofday")
BINANCE_KLINES = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
DELIMITERS = (",", ";", "\t", "|")
SAMPLE_LINES = 220
_STABLE = "USDT|USDC|FDUSD|TUSD|BUSD|DAI|USD|EUR|GBP|JPY|KRW|TRY|BRL|AUD|CAD|CHF"
_COINS = "BTC|ETH|BNB"
_NO_COINS = {
    *("bitstamp", "bitfinex", "binance", "coinbase", "kraken", "gemini", "kucoin", "okx", "bybit"),
    *("data", "price", "prices", "candle", "candles", "kline", "klines", "ohlc", "ohlcv", "crypto"),
    *("minute", "minutes", "hour", "hourly", "day", "daily", "history", "historical", "spot"),
    *("raw", "my", "sample", "test", "kaggle", "yahoo", "file", "export", "all", "full", "new"),
}


@dataclass(frozen=True)
class Layout:
    """How to read a plain candle file.

    Attributes:
        delimiter: Between fields.
        skip: Lines before the first row.
        names: Every column's name, in order, as the file or the user gives it.
        roles: Column index by role (time, open, ..., volume, and symbol where there is one).
        clock: Index of the column with the time of day, where it is not beside the date.
        times: How times are written.
        numbers: How numbers are written.
    """

    delimiter: str
    skip: int
    names: tuple[str, ...]
    roles: dict[str, int]
    clock: int | None
    times: times.Times
    numbers: numerals.Numbers


def layout(text: "Text", columns: Sequence[str] | None = None) -> Layout:
    """How to read a plain file.

    Args:
        text: The plain text.
        columns: Names of all columns in order, for a file without a header.

    Raises:
        InputError: The columns cannot be told, one is missing, or numbers can be read in two ways.
    """
    shown = str(text.shown)
    with text.path.open("rb") as handle:
        head = islice(iter(lambda: handle.readline(1 << 20), b""), SAMPLE_LINES)
        lines = [line.decode("utf-8", "replace") for line in head]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    if columns:
        delimiter, skip, names = _given(lines, columns, shown)
    elif text.names is not None:
        delimiter, skip, names = ",", 0, text.names
    else:
        delimiter, skip, names = _find_header(lines, shown)
    rows = [_split(line, delimiter) for line in lines[skip:] if line.strip()]
    if not rows:
        raise InputError(f"{shown}: a header ({', '.join(names)}) and no rows under it")
    # All rows may have an empty field more, a delimiter at the line's end; the parser takes that.
    rows = [row for row in rows if len(row) == len(names)] or rows
    roles = _roles(names, shown)
    is_end = "time" not in roles
    end = roles.pop("end_time", None)
    if is_end and end is not None:
        roles["time"], end = end, None
    clock = _clock(rows, names, roles)
    written = times.told(rows, roles["time"], end, clock, is_end)
    columns_of = [roles[role] for role in NUMBERS]
    numbers = numerals.told(rows, columns_of, roles["volume"], shown)
    return Layout(delimiter, skip, names, roles, clock, written, numbers)


def _clock(
    rows: Sequence[Sequence[str]], names: Sequence[str], roles: dict[str, int]
) -> int | None:
    """Index of the time of day, where the days stand in a column that becomes the time's."""
    plain = [_plain_name(name) for name in names]
    day = next((plain.index(name) for name in DAYS if name in plain), None)
    clock = next((plain.index(name) for name in CLOCKS if name in plain), None)
    if roles["time"] not in (day, clock) or day is None or clock is None:
        return None
    if not times.is_split(numerals.column(rows, day), numerals.column(rows, clock)):
        return None
    roles["time"] = day
    return clock


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:  # a field longer than the module takes, or a NUL: no line to learn from
        return []


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_number(text: str) -> bool:
    return re.fullmatch(NUMBER, text.strip()) is not None


def _find_header(lines: Sequence[str], shown: str) -> tuple[str, int, tuple[str, ...]]:
    """The delimiter, the lines before the rows, and the column names of the first header found."""
    for number, line in enumerate(lines[:20]):
        for delimiter in DELIMITERS:
            names = tuple(field.strip() for field in _split(line, delimiter))
            known = sum(role_of(name) is not None for name in names)
            if len(names) >= 5 and known >= 3 and not any(map(_is_number, names)):
                return delimiter, number + 1, names
    first = next((line for line in lines if line.strip()), "")
    for delimiter in DELIMITERS:
        fields = _split(first, delimiter)
        if len(fields) == len(BINANCE_KLINES) and all(map(_is_number, fields)):
            return delimiter, 0, BINANCE_KLINES
    widest = max(DELIMITERS, key=lambda d: len(_split(first, d)))
    fields = _split(first, widest)
    if len(fields) >= 5 and sum(map(_is_number, fields)) >= 4:
        raise InputError(
            f"{shown}: line 1 has {len(fields)} fields and no header, so which is which cannot be "
            f"told: {first.strip()[:120]!r}. Say it with --columns of 'tidemill ingest crypto', "
            "one name a field, for example --columns time,open,high,low,close,volume"
        )
    raise InputError(
        f"{shown}: expected a header naming time, open, high, low, close, volume in the first 20 "
        f"lines, found {first.strip()[:120]!r}"
    )


def _given(
    lines: Sequence[str], columns: Sequence[str], shown: str
) -> tuple[str, int, tuple[str, ...]]:
    number, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, ""))
    delimiter = max(DELIMITERS, key=lambda d: len(_split(first, d)))
    fields = _split(first, delimiter)
    count = len(fields)
    if count != len(columns) and not (count == len(columns) + 1 and not fields[-1].strip()):
        raise InputError(
            f"{shown}: --columns names {len(columns)} columns ({','.join(columns)}), "
            f"line {number + 1} has {count}: {first.strip()[:120]!r}"
        )
    is_header = not any(re.match(r"[-+.\d]", f.strip()) or f.strip() in EMPTY for f in fields)
    return delimiter, number + 1 if is_header else 0, tuple(name.strip() for name in columns)


def role_of(name: str) -> str | None:
    """What a column of that name holds, as far as a name tells."""
    ranks = {role: _rank(role, name) for role in ALIASES}
    return next((role for role, rank in ranks.items() if rank is not None), None)


def _rank(role: str, name: str) -> tuple[int, int] | None:
    """How surely a column of that name holds ``role``; smaller is surer, None is not at all."""
    plain, aliases = _plain_name(name), ALIASES[role]
    if plain in aliases:
        return 0, aliases.index(plain)
    if role == "volume":
        is_quote = re.search(r"(usd[tc]?|eur|gbp|jpy|krw|busd|currency|quote|to)$", plain)
        return (2 if is_quote else 1, 0) if plain.startswith("volume") else None
    bare = _plain_name(re.sub(r"[(\[{].*", "", name))  # Open (USD), Timestamp [ms]
    if role in PRICES:
        bare = re.sub(r"(usd[tc]?|eur|gbp)$", "", bare)
    elif role in ("time", "end_time"):
        bare = re.sub(r"(utc|gmt|ms|us|ns|sec|seconds)$", "", bare)
    return (1, aliases.index(bare)) if bare in aliases else None


def _roles(names: Sequence[str], shown: str) -> dict[str, int]:
    """Column index by role; of several columns for a role, the surest, then the first."""
    roles: dict[str, int] = {}
    for role in ALIASES:
        ranked = [(rank, i) for i, n in enumerate(names) if (rank := _rank(role, n)) is not None]
        if ranked:
            roles[role] = min(ranked)[1]
    missing = [
        role for role in ROLES if role not in roles and not (role == "time" and "end_time" in roles)
    ]
    if missing:
        raise InputError(
            f"{shown}: no column for {', '.join(missing)}; it has {', '.join(names)}. Rename it, "
            "or name all columns with --columns"
        )
    return roles


def symbol_in(name: str) -> str | None:
    """The trading pair that a file's or a market's name contains, as BTCUSDT, or None."""
    for quotes, base in ((_STABLE, r"[A-Za-z0-9]{2,10}?"), (_COINS, r"[A-Z0-9]{2,10}?")):
        flags = re.IGNORECASE if quotes == _STABLE else 0
        pattern = rf"(?<![A-Za-z0-9])({base})[-_/]?({quotes})(?![A-Za-z0-9])"
        for match in re.finditer(pattern, name, flags):
            if match[1].lower() not in _NO_COINS and re.search("[A-Za-z]{2}", match[1]):
                return (match[1] + match[2]).upper()
    return None


def symbol_from(text: str) -> str:
    """A symbol as the tables hold it: upper case, no separators.

    Raises:
        InputError: Something other than letters and digits is left.
    """
    symbol = re.sub(r"[-_/: ]", "", text).upper()
    if not re.fullmatch(r"[A-Z0-9][A-Z0-9.]{1,23}", symbol):
        raise InputError(f"symbol {text!r}: expected 2 to 24 letters and digits, as BTCUSDT")
    return symbol
