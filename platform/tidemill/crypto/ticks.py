"""Ticks out of candles, as messages of ``crypto_prices``: what a replay sends.

Four ticks stand for a candle, so that folding them by (event time, offset) gives its open, high,
low and close again: the open at its start, the low and the high at +20 s and +40 s, the close at
+59.999 s. Of the two extremes the one that makes the shorter way comes first: the low where the
price rose, the high where it fell.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tidemill.crypto.contracts import LANDED_FILES, RAW_CANDLES, REJECTED_ROWS
from tidemill.crypto.intake import files, source
from tidemill.crypto.intake.landing import Landing
from tidemill.errors import InputError
from tidemill.lake.contracts import Type, text_literal
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

TICKS_PER_CANDLE = 4
MINUTE_S = 60
_BATCH = 50_000
_DAY_MS = 86_400_000
_LANDED = {
    "symbol": Type.STRING,
    "timestamp": Type.BIGINT,
    **dict.fromkeys(("open", "high", "low", "close", "volume"), Type.DOUBLE),
    "is_seed": Type.BOOLEAN,
}


@dataclass(frozen=True)
class Choice:
    """Which candles.

    Attributes:
        symbols: Trading pairs; none means all.
        since_s: First minute, epoch s.
        until_s: End, not included, epoch s.
    """

    symbols: tuple[str, ...] = ()
    since_s: int | None = None
    until_s: int | None = None

    def sql(self) -> str:
        """As a condition on a relation of candles."""
        parts = ["true"]
        if self.symbols:
            parts.append(f"symbol in ({', '.join(map(text_literal, self.symbols))})")
        if self.since_s is not None:
            parts.append(f"timestamp >= {self.since_s}")
        if self.until_s is not None:
            parts.append(f"timestamp < {self.until_s}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Ticks:
    """Messages in order of (time, symbol), which is different for each of them.

    Attributes:
        times_ms: Event times, epoch ms.
        pairs: Key and value of each message.
    """

    times_ms: list[int]
    pairs: list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Mark:
    """The last tick that a topic's partition has: those up to it were sent."""

    time_ms: int
    symbol: str


class Candles:
    """Candles as DuckDB sees them, and the ticks that they give.

    Args:
        con: A DuckDB, in UTC.
        relation: SQL of a relation with symbol, timestamp (s), open, high, low, close; one row a
            symbol and minute.
        choice: Which of them.
    """

    def __init__(
        self, con: "duckdb.DuckDBPyConnection", relation: str, choice: Choice | None = None
    ) -> None:
        """Nothing is read yet."""
        self._con = con
        # Without it DuckDB hands over Arrow batches in any order, whatever the query says.
        con.execute("set preserve_insertion_order = true")
        self._rows = f"(from {relation} where {(choice or Choice()).sql()})"
        found = con.execute(
            f"select count(*), min(timestamp), max(timestamp) from {self._rows}"
        ).fetchone()
        assert found is not None
        self.count: int = found[0]
        self.first_s: int = found[1] or 0
        self.last_s: int = found[2] or 0

    def symbols(self) -> list[str]:
        """Their trading pairs, in order."""
        found = self._con.execute(f"select distinct symbol from {self._rows} order by 1")
        return [row[0] for row in found.fetchall()]

    @property
    def cycle_ms(self) -> int:
        """By how much a repetition is later: the whole days that they touch."""
        first, last = self.first_s * 1000 // _DAY_MS, self.last_s * 1000 // _DAY_MS
        return (last - first + 1) * _DAY_MS

    def ticks(self, shift_ms: int = 0, after: Mapping[str, Mark] | None = None) -> Iterator[Ticks]:
        """Their ticks in order of (time, symbol), a month of candles in memory at most.

        Args:
            shift_ms: Added to each time.
            after: By symbol, the mark that its ticks must be behind; one without has no such bound.

        Yields:
            Batches, not empty.
        """
        for begin_s, end_s in self._months():
            month = f"(from {self._rows} where timestamp >= {begin_s} and timestamp < {end_s})"
            ticks = self._con.sql(_sql(month, shift_ms, after or {}))
            for batch in ticks.to_arrow_reader(_BATCH) if ticks else ():
                yield Ticks(*_lists(batch))

    def _months(self) -> list[tuple[int, int]]:
        """Start and end of each month that has candles, epoch s."""
        begin = "date_trunc('month', make_timestamp(timestamp * 1000000))"
        found = self._con.execute(
            f"select distinct epoch({begin})::bigint, "
            f"epoch({begin} + interval 1 month)::bigint from {self._rows} order by 1"
        )
        return [(row[0], row[1]) for row in found.fetchall()]


def _lists(batch: Any) -> tuple[list[int], list[tuple[bytes, bytes]]]:
    import polars as pl

    frame = pl.DataFrame(batch)
    keys, values = (frame[name].cast(pl.Binary).to_list() for name in ("symbol", "value"))
    return frame["at_ms"].to_list(), list(zip(keys, values, strict=True))


def _sql(candles: str, shift_ms: int, after: Mapping[str, Mark]) -> str:
    """The messages of candles. DuckDB writes a double as the shortest text that reads as it."""
    marks = " ".join(
        f"when {text_literal(symbol)} then (at_ms, symbol) > "
        f"({mark.time_ms}::bigint, {text_literal(mark.symbol)})"
        for symbol, mark in after.items()
    )
    behind = f"case symbol {marks} else true end" if marks else "true"
    return f"""
        with ticks as (
            select symbol,
                timestamp * 1000 + unnest([0, 20000, 40000, 59999]) + {shift_ms} as at_ms,
                unnest(if(close >= open, [open, low, high, close], [open, high, low, close]))
                    as price
            from {candles}
        )
        select symbol, at_ms,
            '{{"symbol": "' || symbol || '", "price": ' || price::varchar || ', "timestamp": '
                || at_ms::varchar || '}}' as value
        from ticks where {behind} order by at_ms, symbol
    """


@contextmanager
def from_lake(lake: Lake, choice: Choice, memory_limit_mb: int = 1024) -> Iterator[Candles]:
    """The candles of ``crypto.raw_candles``.

    Raises:
        InputError: There are none of that choice.
    """
    from tidemill.engines.duck import connection

    snapshot = lake.snapshot(RAW_CANDLES)
    if choice.symbols:
        snapshot = snapshot.within([{"symbol": symbol} for symbol in choice.symbols])
    with connection(memory_limit_mb) as con:
        candles = Candles(con, snapshot.scan(), choice)
        if not candles.count:
            raise InputError(
                "crypto.raw_candles holds no such candles to replay: 'tidemill ingest crypto FILE' "
                "and 'tidemill run crypto' make some, or name a file to replay"
            )
        yield candles


@contextmanager
def from_files(
    paths: Sequence[Path], choice: Choice, symbol: str | None = None, memory_limit_mb: int = 1024
) -> Iterator[Candles]:
    """The candles of files that ``ingest`` takes, checked and cleaned as there; none lands.

    Args:
        paths: The files; of two rows for a minute the first counts.
        choice: Which of their candles.
        symbol: The trading pair of files without a column for it.
        memory_limit_mb: What DuckDB may hold before it spills, MiB.

    Raises:
        InputError: A file cannot be used, or has no one-minute candle of that choice.
    """
    from tidemill.crypto import transforms
    from tidemill.engines.base import compiled
    from tidemill.engines.duck import connection

    with TemporaryDirectory(prefix="tidemill-replay-") as name, connection(memory_limit_mb) as con:
        home = Path(name)
        lake = Lake(home / "lake", home / "catalogue.duckdb", (LANDED_FILES, REJECTED_ROWS))
        landing = Landing(lake, home / "landing", memory_limit_mb)
        for path in paths:
            landing.land_file(path, None if symbol is None or _names_pairs(path) else symbol)
        landed = [row for row in landing.ledger() if row["path"]]
        minutes = [row for row in landed if row["interval_s"] == MINUTE_S]
        shown = ", ".join(str(path) for path in paths)
        if not minutes:
            raise InputError(
                f"{shown}: expected one-minute candles to replay, found bars of "
                f"{', '.join(sorted({str(row['interval_s']) for row in landed}))} s"
            )
        con.execute(f"create view landed as {_landed(landing.folder, minutes)}")
        sql = compiled(transforms.raw_candles, {"landed": _LANDED}, "duckdb")
        con.execute(f"create temp table candles as {sql}")
        candles = Candles(con, "candles", choice)
        if not candles.count:
            spans = con.execute(
                "select symbol, make_timestamp(min(timestamp) * 1000000), "
                "make_timestamp(max(timestamp) * 1000000) from candles group by 1 order by 1"
            ).fetchall()
            there = ", ".join(f"{name} from {first} to {last}" for name, first, last in spans)
            raise InputError(
                f"{shown}: no candles of that symbol and time to replay; there is {there}"
            )
        yield candles


def _names_pairs(path: Path) -> bool:
    """Whether a file has a column of trading pairs."""
    with source.plain(path) as text:
        return "symbol" in files.layout(text).roles


def _landed(folder: Path, ledger: Sequence[Mapping[str, Any]]) -> str:
    """SQL of what landed, as the transform of ``raw_candles`` reads it."""
    names = ", ".join(name for name in _LANDED if name not in ("symbol", "is_seed"))
    return " union all ".join(
        f"select {text_literal(row['symbol'])} as symbol, {names}, false as is_seed "
        f"from read_parquet({text_literal(str(folder / row['path']))}, hive_partitioning=false)"
        for row in ledger
    )
