"""One version of one table: the exact files, and the SQL relation over them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tidemill.errors import TidemillError
from tidemill.lake.contracts import Table, Type, text_literal

Partition = Mapping[str, str | int]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_VALUE = {
    Type.STRING: "''",
    Type.INT: "0",
    Type.BIGINT: "0",
    Type.DATE: "date '1970-01-01'",
    Type.BOOLEAN: "false",
}


@dataclass(frozen=True)
class File:
    """A Parquet file of a table.

    Attributes:
        relative: Path inside the table's folder.
        path: Where it is.
        partition: Its value of each partition column, as text.
        rows: Rows in it.
        size: Bytes.
        modified_ms: When it was written, epoch ms.
    """

    relative: str
    path: Path
    partition: Mapping[str, str]
    rows: int
    size: int
    modified_ms: int


@dataclass(frozen=True)
class Snapshot:
    """What a table held at one version.

    Attributes:
        table: Its contract.
        version: -1 where nothing was ever written.
        files: What it consists of.
        lacking: Why it cannot be read: SQL that reads it fails with these words.
    """

    table: Table
    version: int
    files: tuple[File, ...] = ()
    lacking: str | None = None

    @property
    def rows(self) -> int:
        """Rows in all its files."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    def within(self, partitions: Iterable[Partition]) -> "Snapshot":
        """Only the files of these partitions; a partition may name the first columns alone."""
        wanted = [{k: str(v) for k, v in partition.items()} for partition in partitions]
        if all(len(w) == len(self.table.partition_by) for w in wanted):
            exact = {tuple(w[name] for name in self.table.partition_by) for w in wanted}
            names = self.table.partition_by
            kept = [f for f in self.files if tuple(f.partition[n] for n in names) in exact]
        else:
            kept = [f for f in self.files if any(w.items() <= f.partition.items() for w in wanted)]
        return replace(self, files=tuple(kept))

    def only(self, wanted: Callable[[File], bool]) -> "Snapshot":
        """Only the files that are ``wanted``."""
        return replace(self, files=tuple(file for file in self.files if wanted(file)))

    def require(self) -> None:
        """See that its files are there.

        Raises:
            TidemillError: Vacuum took some of them.
        """
        gone = sum(not file.path.exists() for file in self.files)
        if gone:
            raise TidemillError(
                f"{self.table.id} version {self.version} is gone: vacuum deleted {gone} of its "
                f"{len(self.files)} files"
            )

    def values(self, column: str) -> list[str]:
        """The values that a partition column has, sorted."""
        return sorted({file.partition[column] for file in self.files})

    def scan(self) -> str:
        """An SQL relation of these rows with the contract's columns and types, for DuckDB."""
        if self.lacking is not None:
            # In every column and in the filter, or the optimizer would find the answer empty.
            fail = f"error({text_literal(self.lacking)})"
            return f"(select {self._each(fail)} where {fail})"
        if not self.files:
            return f"(select {self._each('null')} where false)"
        by = self.table.partition_by
        # DuckDB 2.0 fails on two windows partitioned by a column that it took from a path, unless
        # an expression hides where it comes from; files are still skipped by it.
        columns = ", ".join(
            f'coalesce("{c.name}", {_NO_VALUE[c.type]}) as "{c.name}"'
            if c.name in by
            else f'"{c.name}"'
            for c in self.table.columns
        )
        listed = ", ".join(text_literal(str(file.path)) for file in self.files)
        types = ", ".join(f"'{name}': {self.table.column(name).type.value}" for name in by)
        hive = (
            f"hive_partitioning=true, hive_types={{{types}}}" if by else "hive_partitioning=false"
        )
        return f"(select {columns} from read_parquet([{listed}], {hive}))"

    def _each(self, value: str) -> str:
        return ", ".join(f'{value}::{c.type.value} as "{c.name}"' for c in self.table.columns)


def take(table: Table, folder: Path, delta: Any) -> Snapshot:
    """The snapshot that an open ``deltalake.DeltaTable`` stands at."""
    import polars as pl

    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
    parts = {name: f"partition.{name}" for name in table.partition_by}
    files = tuple(
        File(
            relative=unquote(row["path"]),
            path=folder / unquote(row["path"]),
            partition={name: _as_text(row[column]) for name, column in parts.items()},
            rows=row["num_records"],
            size=row["size_bytes"],
            modified_ms=int(row["modification_time"]),
        )
        for row in actions.iter_rows(named=True)
    )
    return Snapshot(table, delta.version(), tuple(sorted(files, key=lambda f: f.relative)))


def _as_text(value: Any) -> str:
    """A partition's value as paths have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def past(table: Table, folder: Path, delta: Any, at: int | datetime) -> Snapshot:
    """The snapshot of an open table ``at`` a version or an instant (UTC), its files all there.

    Raises:
        TidemillError: The table has no such version, or vacuum took some of its files.
    """
    from deltalake.exceptions import DeltaError, TableNotFoundError

    last = delta.version()
    version = at if isinstance(at, int) else _version_at(delta, at)
    logs = (folder / "_delta_log").glob("[0-9]*.*")
    first = min(int(log.name.split(".")[0]) for log in logs)
    refusal = TidemillError(f"{table.id} has no version at {at}: it has {first} to {last}")
    if version is None or not first <= version <= last:
        raise refusal
    try:
        delta.load_as_version(version)
    except (DeltaError, TableNotFoundError) as error:
        raise refusal from error
    taken = take(table, folder, delta)
    taken.require()
    return taken


def _version_at(delta: Any, at: datetime) -> int | None:
    """The newest version that was there ``at`` an instant, by the commits' own clocks.

    delta-rs would go by the times of the log's files, which copying the lake changes, and would
    give the first version for any time before it.
    """
    instant = at if at.tzinfo else at.replace(tzinfo=UTC)
    at_ms = (instant - EPOCH) // timedelta(milliseconds=1)
    known = (c["version"] for c in delta.history() if c.get("timestamp", at_ms + 1) <= at_ms)
    return next(known, None)
