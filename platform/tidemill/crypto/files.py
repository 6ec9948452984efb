"""Candle files as others write them: finding the text, its dialect, and which column is which.

Columns are mapped by name, never by position; a file that does not say what its columns are is
refused with the way to say it. Reading the rows is ``landing``'s work.
"""

import csv
import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from tidemill.errors import InputError

ROLES = ("time", "open", "high", "low", "close", "volume")
ALIASES: dict[str, tuple[str, ...]] = {
    # Earlier names win: a numeric Unix time beside a written one is the more exact of the two.
    "time": (
        "unix",
        "unixtimestamp",
        "unixtime",
        "epoch",
        "timestamp",
        "opentime",
        "timeopen",
        "starttime",
        "openttime",
        "candlebegintime",
        "datetime",
        "datetimeutc",
        "utctime",
        "gmttime",
        "date",
        "dateutc",
        "time",
        "ts",
        "t",
    ),
    "end_time": ("endtime", "closetime", "timeclose"),
    "open": ("open", "openprice", "priceopen", "o", "first"),
    "high": ("high", "highprice", "pricehigh", "max", "h"),
    "low": ("low", "lowprice", "pricelow", "min", "l"),
    "close": ("close", "closeprice", "priceclose", "last", "c", "price"),
    "volume": ("volume", "vol", "basevolume", "volumetraded", "volumebase", "v", "amount"),
    "symbol": ("symbol", "pair", "ticker", "market", "instrument", "code", "tradingpair"),
}
BINANCE_KLINES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
DELIMITERS = (",", ";", "\t", "|")
EMPTY = ("", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "-")
_STABLE = "USDT|USDC|FDUSD|TUSD|BUSD|DAI|USD|EUR|GBP|JPY|KRW|TRY|BRL|AUD|CAD|CHF"
_COINS = "BTC|ETH|BNB"
_NOT_COINS = {"bitstamp", "bitfinex", "binance", "coinbase", "kraken", "gemini", "kucoin", "okx"}


@dataclass(frozen=True)
class Layout:
    """How to read a plain candle file.

    Attributes:
        delimiter: Between fields.
        skip: Lines before the first row.
        names: Every column's name, in order, as the file or the user gives it.
        roles: Column index by role (time, open, ..., volume, and symbol where there is one).
        is_epoch: Whether times are numbers since 1970 rather than text.
        is_end: Whether times name the end of the bar.
        decimal_comma: Whether numbers are written 1,5.
        thousands: Whether numbers are written 1,234.5.
    """

    delimiter: str
    skip: int
    names: tuple[str, ...]
    roles: dict[str, int]
    is_epoch: bool
    is_end: bool = False
    decimal_comma: bool = False
    thousands: bool = False


@contextmanager
def plain(path: Path) -> Iterator[Path]:
    """A plain UTF-8 text file with the content of ``path``, unpacked where it must be.

    Args:
        path: A CSV, JSON, gzip or one-member zip file.

    Raises:
        InputError: It is missing, empty, of another type, cut short, or still being written.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    before = path.stat()
    if before.st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes)")
    with TemporaryDirectory(prefix="tidemill-ingest-") as folder:
        yield _as_text(path, Path(folder), path)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(
            f"{path}: the file is still being written ({before.st_size} bytes at the start, "
            f"{after.st_size} now); nothing was taken, try again when it is complete"
        )


def _as_text(path: Path, folder: Path, shown: Path) -> Path:
    with path.open("rb") as handle:
        start = handle.read(4096)
    if start.startswith(b"\x1f\x8b"):
        unpacked = folder / path.name.removesuffix(".gz")
        try:
            with gzip.open(path) as packed:
                _copy(packed, unpacked)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"{shown}: the gzip file is damaged or cut short after {_size(unpacked)} unpacked "
                f"bytes ({error}); fetch it again"
            ) from error
        return _as_text(unpacked, folder, shown) if _size(unpacked) else _empty(shown)
    if start.startswith(b"PK"):
        return _as_text(_from_zip(path, folder, shown), folder, shown)
    for magic, kind in (
        (b"PAR1", "Parquet"),
        (b"ORC", "ORC"),
        (b"%PDF", "PDF"),
        (b"\x89PNG", "PNG"),
        (b"SQLite", "SQLite"),
        (b"\xd0\xcf\x11", "Excel"),
    ):
        if start.startswith(magic):
            raise InputError(
                f"{shown}: this is {kind}; candles are taken from CSV, JSON, gz or zip"
            )
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        recoded = folder / "utf8.csv"
        text = path.read_bytes().decode("utf-16", errors="replace")
        recoded.write_text(text, encoding="utf-8", newline="")
        return recoded
    if b"\x00" in start:
        raise InputError(
            f"{shown}: byte {start.index(0)} is NUL, so this is no text; "
            "candles are taken from CSV, JSON, gz or zip"
        )
    if start.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"["):
        return _from_json(path, folder / "rows.csv", shown)
    return path


def _empty(path: Path) -> Path:
    raise InputError(f"{path}: the file is empty once unpacked")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _copy(source: Any, target: Path) -> None:
    with target.open("wb") as out:
        while block := source.read(1 << 20):
            out.write(block)


def _from_zip(path: Path, folder: Path, shown: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            names = ", ".join(m.filename for m in members[:5])
            if len(members) != 1:
                raise InputError(
                    f"{shown}: expected a zip with one file, found {len(members)} ({names}); "
                    "unpack it and ingest each"
                )
            name = members[0].filename
            if Path(name).name != name or "\\" in name or name.startswith("."):
                raise InputError(
                    f"{shown}: expected a plain file name in the zip, found {name!r}; "
                    "unpack it and ingest the file itself"
                )
            with archive.open(members[0]) as packed:
                _copy(packed, folder / name)
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise InputError(f"{shown}: the zip file is damaged ({error}); fetch it again") from error
    return folder / name if _size(folder / name) else _empty(shown)


def _from_json(path: Path, target: Path, shown: Path) -> Path:
    """Rewrite the first list of records in a JSON document as CSV, a line a record."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        try:
            document = json.loads(text)
        except json.JSONDecodeError:
            document = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{shown}: this is no JSON: {error}") from error
    records, symbol = _records(document)
    if not records:
        raise InputError(f"{shown}: found no list of bars in this JSON")
    is_object = isinstance(records[0], dict)
    names = list(records[0]) if is_object else []
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        if is_object:
            writer.writerow([*names, *(["symbol"] if symbol else [])])
        for record in records:
            values = [record.get(n, "") for n in names] if is_object else list(record)
            writer.writerow([*values, *([symbol] if symbol and is_object else [])])
    return target


def _records(document: Any) -> tuple[list[Any], str | None]:
    if isinstance(document, list):
        return (document, None) if document and isinstance(document[0], dict | list) else ([], None)
    if isinstance(document, dict):
        symbol = next((document[k] for k in ("symbol", "name", "pair") if k in document), None)
        for value in document.values():
            found, _ = _records(value) if isinstance(value, list) else ([], None)
            if found:
                return found, symbol if isinstance(symbol, str) and symbol_in(symbol) else None
    return [], None


def layout(path: Path, shown: str, columns: Sequence[str] | None = None) -> Layout:
    """How to read a plain file.

    Args:
        path: Plain UTF-8 text.
        shown: What messages call the file.
        columns: Names of all columns in order, for a file without a header.

    Raises:
        InputError: The columns cannot be told, or one is missing.
    """
    with path.open("rb") as handle:
        lines = [line.decode("utf-8", "replace") for line in _head(handle, 220)]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    found = _given(lines, columns, shown) if columns else _find_header(lines, shown)
    delimiter, skip, names = found
    roles = _roles(names, shown)
    rows = [_split(line, delimiter) for line in lines[skip:] if line.strip()]
    if not rows:
        raise InputError(f"{shown}: a header ({', '.join(names)}) and no rows under it")
    is_end = "time" not in roles
    at = roles.pop("end_time", None)
    if is_end and at is not None:
        roles["time"] = at
    times = [row[roles["time"]] for row in rows if len(row) > roles["time"]]
    prices = [row[roles[r]] for row in rows for r in ROLES[1:5] if len(row) > roles[r]]
    return Layout(
        delimiter=delimiter,
        skip=skip,
        names=names,
        roles=roles,
        is_epoch=_mostly(times, r"-?\d{9,}(\.\d+)?([eE]\+?\d+)?|-?\d(\.\d+)?[eE]\+?\d+"),
        is_end=is_end,
        decimal_comma=delimiter != "," and _some(prices, r"-?\d+,\d+"),
        thousands=_some(prices, r"-?\d{1,3}(,\d{3})+\.\d+"),
    )


def _head(handle: BinaryIO, count: int) -> Iterable[bytes]:
    return islice(iter(lambda: handle.readline(1 << 20), b""), count)


def _mostly(values: Sequence[str], pattern: str) -> bool:
    matching = sum(bool(re.fullmatch(pattern, v.strip())) for v in values)
    return matching * 2 >= len(values)


def _some(values: Sequence[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, v.strip()) for v in values)


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _find_header(lines: Sequence[str], shown: str) -> tuple[str, int, tuple[str, ...]]:
    """The delimiter, the lines before the rows, and the column names of the first header found."""
    for number, line in enumerate(lines[:20]):
        for delimiter in DELIMITERS:
            names = tuple(field.strip() for field in _split(line, delimiter))
            known = sum(_role(name) is not None for name in names)
            if len(names) >= 5 and known >= 3 and not any(_is_number(n) for n in names if n):
                return delimiter, number + 1, names
    first = next((line for line in lines if line.strip()), "")
    for delimiter in DELIMITERS:
        fields = _split(first, delimiter)
        if len(fields) == len(BINANCE_KLINES) and all(_is_number(field) for field in fields):
            return delimiter, 0, BINANCE_KLINES
    widest = max(DELIMITERS, key=lambda d: len(_split(first, d)))
    fields = _split(first, widest)
    if len(fields) >= 5 and sum(_is_number(field) for field in fields) >= 4:
        raise InputError(
            f"{shown}: line 1 has {len(fields)} fields and no header, so which is which cannot be "
            f"told: {first.strip()[:120]!r}. Say it with --columns, one name a field, "
            "for example --columns time,open,high,low,close,volume"
        )
    raise InputError(
        f"{shown}: expected a header naming time, open, high, low, close, volume in the first 20 "
        f"lines, found {first.strip()[:120]!r}"
    )


def _given(
    lines: Sequence[str], columns: Sequence[str], shown: str
) -> tuple[str, int, tuple[str, ...]]:
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda d: len(_split(first, d)))
    fields = _split(first, delimiter)
    if len(fields) != len(columns):
        raise InputError(
            f"{shown}: --columns names {len(columns)} columns ({','.join(columns)}), "
            f"line 1 has {len(fields)}: {first.strip()[:120]!r}"
        )
    is_header = not any(_is_number(field) for field in fields)
    return delimiter, int(is_header), tuple(name.strip() for name in columns)


def _role(name: str) -> str | None:
    plain_name = _plain_name(name)
    return next((role for role, names in ALIASES.items() if plain_name in names), None)


def _roles(names: Sequence[str], shown: str) -> dict[str, int]:
    """Column index by role; of several columns for a role, the one whose alias comes first."""
    roles: dict[str, int] = {}
    plain_names = [_plain_name(name) for name in names]
    for role, aliases in ALIASES.items():
        index = next((plain_names.index(a) for a in aliases if a in plain_names), None)
        if index is None and role == "volume":
            index = next((i for i, n in enumerate(plain_names) if n.startswith("volume")), None)
        if index is not None:
            roles[role] = index
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
    for quotes in (_STABLE, _COINS):
        pattern = rf"(?<![A-Za-z0-9])([A-Za-z0-9]{{2,10}}?)[-_/]?({quotes})(?![A-Za-z0-9])"
        for match in re.finditer(pattern, name, re.IGNORECASE):
            if match[1].lower() not in _NOT_COINS and not match[1].isdigit():
                return (match[1] + match[2]).upper()
    return None


def symbol_from(text: str) -> str:
    """A symbol as the tables hold it: upper case, no separators.

    Raises:
        InputError: Something other than letters and digits is left.
    """
    symbol = re.sub(r"[-_/: ]", "", text).upper()
    if not re.fullmatch(r"[A-Z0-9.]{2,24}", symbol):
        raise InputError(f"symbol {text!r}: expected 2 to 24 letters and digits, as BTCUSDT")
    return symbol
