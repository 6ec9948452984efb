"""Parquet files that DuckDB writes into a table's folder; a commit makes them part of the table."""

import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tidemill.errors import ContractError
from tidemill.lake.contracts import Column, Range, Table, Type, text_literal
from tidemill.lake.snapshot import File

if TYPE_CHECKING:
    import duckdb

LONGEST_BOUND = 32
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?")


@dataclass(frozen=True)
class NewFile:
    """A file that no version of the table names yet.

    Attributes:
        relative: Path inside the table's folder.
        rows: Rows in it.
        size: Bytes.
        partition: Its value of each partition column, as text; None for an empty one.
        ranges: What its statistics say of each column, partition columns included; of a personal
            column only how many values are missing.
        modified_ms: When its rows were written, epoch ms; None for now.
    """

    relative: str
    rows: int
    size: int
    partition: Mapping[str, str | None]
    ranges: Mapping[str, Range]
    modified_ms: int | None = None

    def added(self, folder: Path) -> File:
        """As a version that names it would have it."""
        known = {name: str(value) for name, value in self.partition.items()}
        return File(self.relative, folder / self.relative, known, self.rows, self.size, 0)

    def action(self, table: Table, data_change: bool) -> Any:
        """The Delta action that adds it, with the statistics by which readers skip files."""
        from deltalake.transaction import AddAction

        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        nulls: dict[str, int] = {}
        for column in table.data_columns:
            known = self.ranges.get(column.name)
            if known is None:
                continue
            nulls[column.name] = known.nulls
            bounds = _bounds(column.type, known)
            if bounds:
                low[column.name], high[column.name] = bounds
        stats = {"numRecords": self.rows, "minValues": low, "maxValues": high, "nullCount": nulls}
        return AddAction(
            path=self.relative,
            size=self.size,
            partition_values=dict(self.partition),
            modification_time=self.modified_ms or int(time.time() * 1000),
            data_change=data_change,
            # delta-rs reads an escaped character beyond 16 bits as another one.
            stats=json.dumps(stats, ensure_ascii=False, allow_nan=False),
        )


@dataclass(frozen=True)
class Staged:
    """The files of one write.

    Attributes:
        folder: The table's folder.
        files: Those that have rows.
    """

    folder: Path
    files: tuple[NewFile, ...]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def discard(self) -> None:
        """Delete the files, which must not have been committed."""
        for file in self.files:
            with suppress(OSError):
                (self.folder / file.relative).unlink()


def write(
    table: Table, con: "duckdb.DuckDBPyConnection", query: str, folder: Path, order: str = ""
) -> Staged:
    """Write the rows of ``query`` as Parquet beside the table's files.

    Args:
        table: Its contract.
        con: Where ``query`` can run.
        query: SQL that gives the contract's columns, and maybe others.
        folder: The table's folder.
        order: SQL of the order of the rows, instead of the contract's.

    Raises:
        ContractError: A value cannot have its column's type; no file stays.
    """
    import duckdb

    mark = f"p-{uuid.uuid4().hex}"
    try:
        found = con.execute(_copy(table, query, folder, mark, order)).fetchall()
    except BaseException as error:
        for path in folder.rglob(f"*{mark}*"):
            with suppress(OSError):
                path.unlink()
        if isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException):
            raise ContractError(f"{table.id}: {str(error).splitlines()[0]}") from error
        raise
    files = []
    for name, rows, size, _footer, statistics, keys, *_ in found:
        path = Path(name)
        if rows == 0:
            path.unlink(missing_ok=True)
            continue
        partition = {by: keys[by] or None for by in table.partition_by}
        ranges = _ranges(table, statistics) | {
            by: _constant(table.column(by), text, rows) for by, text in partition.items()
        }
        files.append(NewFile(str(path.relative_to(folder)), rows, size, partition, ranges))
    return Staged(folder, tuple(files))


def adopted(table: Table, con: "duckdb.DuckDBPyConnection", written: Path, folder: Path) -> Staged:
    """Move Parquet files that another engine wrote beside the table's files.

    Args:
        table: Its contract.
        con: Reads them, as their rows and ranges are not known yet.
        written: A folder of the same file system: files, under ``column=value`` folders where the
            table has partitions.
        folder: The table's folder.
    """
    mark, files = f"p-{uuid.uuid4().hex}", []
    for n, path in enumerate(sorted(written.rglob("*.parquet"))):
        parts = (part.partition("=") for part in path.relative_to(written).parts[:-1])
        partition = {name: unquote(value) for name, _, value in parts}
        rows, ranges = _measured(table, con, path)
        if not rows:
            continue
        target = folder / path.relative_to(written).parent / f"{mark}-{n}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size
        path.replace(target)
        ranges |= {by: _constant(table.column(by), text, rows) for by, text in partition.items()}
        files.append(NewFile(str(target.relative_to(folder)), rows, size, partition, ranges))
    return Staged(folder, tuple(files))


def _measured(
    table: Table, con: "duckdb.DuckDBPyConnection", path: Path
) -> tuple[int, dict[str, Range]]:
    """The rows of a file and the range of each column, read."""
    told = ["count(*)"]
    for c in table.data_columns:
        name = f'"{c.name}"'
        has_nan = f"coalesce(bool_or(isnan({name})), false)" if c.type is Type.DOUBLE else "false"
        told += [f"count(*) - count({name})", f"min({name})::VARCHAR", f"max({name})::VARCHAR"]
        told.append(has_nan)
    source = f"read_parquet({text_literal(str(path))}, hive_partitioning=false)"
    rows, *found = con.execute(f"select {', '.join(told)} from {source}").fetchone() or (0,)
    ranges = {}
    for n, c in enumerate(table.data_columns):
        nulls, low, high, has_nan = found[4 * n : 4 * n + 4]
        ends = (None, None) if c.is_personal else (low, high)
        known = [None if end is None else _typed(c.type, end) for end in ends]
        ranges[c.name] = Range(nulls, known[0], known[1], has_nan)
    return int(rows), ranges


def _copy(table: Table, query: str, folder: Path, mark: str, order: str) -> str:
    columns = ", ".join(f'"{c.name}"::{c.type.value} as "{c.name}"' for c in table.columns)
    order = order or ", ".join(f'"{name}"' for name in table.sort_by)
    rows = f"select {columns} from ({query})" + (f" order by {order}" if order else "")
    target, options = folder / f"{mark}.parquet", ""
    if table.partition_by:
        by = ", ".join(f'"{name}"' for name in table.partition_by)
        target = folder
        options = f"partition_by ({by}), filename_pattern '{mark}-{{uuid}}', append true, "
    return (
        f"copy ({rows}) to {text_literal(str(target))} "
        f"(format parquet, compression zstd, {options}return_stats true)"
    )


def _ranges(table: Table, statistics: Mapping[str, Mapping[str, str]]) -> dict[str, Range]:
    """DuckDB's text by statistic by quoted column name, typed."""
    ranges = {}
    for column in table.data_columns:
        known = statistics.get(f'"{column.name}"', {})
        if "null_count" not in known:
            continue
        is_exact = known.get("min_is_exact") == known.get("max_is_exact") == "true"
        is_told = is_exact and not column.is_personal
        ranges[column.name] = Range(
            nulls=int(known["null_count"]),
            low=_typed(column.type, known["min"]) if is_told else None,
            high=_typed(column.type, known["max"]) if is_told else None,
            has_nan=known.get("has_nan") == "true",
        )
    return ranges


def _constant(column: Column, text: str | None, rows: int) -> Range:
    """The range of a partition column; Delta reads an empty text there as NULL."""
    if not text:
        return Range(nulls=rows)
    value = _typed(column.type, text)
    return Range(nulls=0, low=value, high=value)


def _typed(type_: Type, text: str) -> float | str | None:
    if type_ in (Type.INT, Type.BIGINT):
        return int(text)
    if type_ is Type.DOUBLE:
        return float(text)
    return None if type_ in (Type.BOOLEAN, Type.BLOB) else text


def _bounds(type_: Type, known: Range) -> tuple[float | str, float | str] | None:
    """Smallest and largest value as the Delta log writes them; None where it cannot."""
    low, high = known.low, known.high
    if low is None or high is None or known.has_nan:
        return None
    if isinstance(low, str) or isinstance(high, str):
        return _text_bounds(type_, str(low), str(high))
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    # Readers that order by bits would skip 0.0 in a file of -0.0, and the other way round.
    return (-0.0 if low == 0 and type_ is Type.DOUBLE else low, high + 0 if high == 0 else high)


def _text_bounds(type_: Type, low: str, high: str) -> tuple[str, str] | None:
    if type_ is Type.DATE:
        return (low, high) if _DAY.fullmatch(low) and _DAY.fullmatch(high) else None
    if type_ is Type.TIMESTAMP:
        if _INSTANT.fullmatch(low) and _INSTANT.fullmatch(high):
            return low.replace(" ", "T"), high.replace(" ", "T")
        return None
    return (low, high) if max(len(low), len(high)) <= LONGEST_BOUND else None
