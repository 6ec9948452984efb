"""What a transform may read, and what every engine can do with it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from tidemill.errors import TidemillError
from tidemill.lake import commit, origin
from tidemill.lake.contracts import IBIS_TYPES, Table, Type, text_literal
from tidemill.lake.files import Staged
from tidemill.lake.snapshot import Partition, Snapshot
from tidemill.lake.store import Lake, Written


class Source(Protocol):
    """Rows that a transform reads, under the name of its argument."""

    @property
    def columns(self) -> Mapping[str, Type]:
        """Name and type of each column."""

    def duckdb(self) -> str:
        """An SQL relation for DuckDB."""

    def spark(self, session: Any) -> Any:
        """A Spark DataFrame."""

    def state(self) -> Hashable:
        """What it reads at this moment; as long as this is the same, so are the rows."""


@dataclass(frozen=True)
class TableSource:
    """Rows of a table's current version, or of one that was taken before.

    Attributes:
        lake: Where the table is.
        table: What to read.
        partitions: Read these alone; a partition may name the first columns alone.
        where: SQL condition that DuckDB and Spark both understand.
        taken: Read this version; None for the one that is current at each question.
    """

    lake: Lake
    table: Table
    partitions: Sequence[Partition] | None = None
    where: str = "true"
    taken: Snapshot | None = None

    @property
    def columns(self) -> Mapping[str, Type]:
        """The contract's columns."""
        return {column.name: column.type for column in self.table.columns}

    def duckdb(self) -> str:
        """The exact files of the partitions, filtered."""
        return f"(select * from {self._within().scan()} where {self.where})"

    def state(self) -> Hashable:
        """The files of the partitions."""
        return tuple(file.relative for file in self._within().files)

    def _within(self) -> Snapshot:
        snapshot = self._whole()
        return snapshot if self.partitions is None else snapshot.within(self.partitions)

    def _whole(self) -> Snapshot:
        return self.lake.snapshot(self.table) if self.taken is None else self.taken

    def spark(self, session: Any) -> Any:
        """The same version through Spark's own Delta reader."""
        snapshot = self._whole()
        if snapshot.version < 0:
            return session.createDataFrame([], spark_ddl(self.columns))
        reader = session.read.format("delta").option("versionAsOf", snapshot.version)
        frame = reader.load(str(self.lake.folder(self.table)))
        if self.partitions is not None:
            frame = frame.where(predicate(self.table, self.partitions))
        return frame.where(self.where)


@dataclass(frozen=True)
class ParquetSource:
    """Rows of Parquet files outside the lake.

    Attributes:
        paths: The files.
        columns: Name and type of each column given out.
        select: SQL expression of each column, understood by DuckDB and Spark; ``filename`` is
            the file that a row is in.
        where: SQL condition, likewise.
    """

    paths: Sequence[Path]
    columns: Mapping[str, Type]
    select: Mapping[str, str]
    where: str = "true"

    def duckdb(self) -> str:
        """All the files as one relation."""
        if not self.paths:
            nothing = ", ".join(f'null::{t.value} as "{n}"' for n, t in self.columns.items())
            return f"(select {nothing} where false)"
        listed = ", ".join(text_literal(str(path)) for path in self.paths)
        chosen = ", ".join(
            f'({self.select[name]})::{type_.value} as "{name}"'
            for name, type_ in self.columns.items()
        )
        rows = f"read_parquet([{listed}], hive_partitioning=false, filename=true)"
        return f"(select {chosen} from {rows} where {self.where})"

    def spark(self, session: Any) -> Any:
        """All the files as one frame."""
        if not self.paths:
            return session.createDataFrame([], spark_ddl(self.columns))
        frame = session.read.parquet(*[str(path) for path in self.paths])
        frame = frame.selectExpr("*", "input_file_name() as filename")
        chosen = [
            f"cast({self.select[name]} as {spark_type(type_)}) as `{name}`"
            for name, type_ in self.columns.items()
        ]
        return frame.where(self.where).selectExpr(*chosen)

    def state(self) -> Hashable:
        """The files."""
        return tuple(self.paths)


def spark_type(type_: Type) -> str:
    """The type's name in Spark SQL."""
    other = {Type.STRING: "STRING", Type.TIMESTAMP: "TIMESTAMP_NTZ", Type.BLOB: "BINARY"}
    return other.get(type_, type_.value)


def spark_ddl(columns: Mapping[str, Type]) -> str:
    """Columns as Spark's schemas are written."""
    return ", ".join(f"`{name}` {spark_type(type_)}" for name, type_ in columns.items())


def predicate(table: Table, partitions: Sequence[Partition]) -> str:
    """SQL that holds for exactly these partitions of ``table``.

    It stays short where partitions are many, years of months say, as Spark compiles it to code that
    must not pass 64 KB: values that go with the same rest are listed together.
    """
    names = [name for name in table.partition_by if all(name in p for p in partitions)]
    return _listed(names, [tuple(p[name] for name in names) for p in partitions]) or "true"


def _listed(names: Sequence[str], rows: Sequence[tuple[str | int, ...]]) -> str:
    if not names:
        return ""
    rests: dict[str | int, list[tuple[str | int, ...]]] = {}
    for row in dict.fromkeys(rows):
        rests.setdefault(row[0], []).append(row[1:])
    together: dict[str, list[str | int]] = {}
    for value, rest in rests.items():
        together.setdefault(_listed(names[1:], sorted(rest, key=str)), []).append(value)
    clauses = []
    for rest_sql, values in together.items():
        chosen = ", ".join(text_literal(v) if isinstance(v, str) else str(v) for v in values)
        clauses.append(f"({names[0]} in ({chosen})" + (f" and {rest_sql})" if rest_sql else ")"))
    return "(" + " or ".join(clauses) + ")"


class Engine(Protocol):
    """Runs a transform over sources and replaces partitions of a table by its rows."""

    name: str

    def write(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
        partitions: Sequence[Partition],
        still: Callable[[], bool],
    ) -> Written:
        """Replace exactly ``partitions`` of ``table`` by ``transform`` over the sources.

        The commit says the version of each source that was taken; see ``lake.origin``.

        Args:
            lake: Where to write.
            table: What to write.
            transform: Takes one Ibis table for each source, by name; gives the table's rows.
            sources: What each argument reads.
            partitions: One mapping of every partition column each.
            still: Asked before the commit whether the sources are as they were.

        Raises:
            ContractError: The rows break the contract, or lie outside ``partitions``.
            Overtaken: ``still`` said no; nothing was written.
        """

    def stage(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
    ) -> Staged:
        """Write the rows of ``transform`` as files that no version of ``table`` names yet.

        Raises:
            ContractError: A value cannot have its column's type.
        """

    def close(self) -> None:
        """Let go of what the engine holds."""


def properties(engine: str, sources: Mapping[str, Source]) -> Any:
    """Of the commit of what an engine made: which one, and the versions that were taken."""
    tables = (source for source in sources.values() if isinstance(source, TableSource))
    taken = [source.taken for source in tables if source.taken is not None]
    return commit.strict({"engine": engine}, origin.told(taken))


def compiled(
    transform: Callable[..., Any], inputs: Mapping[str, Mapping[str, Type]], dialect: str
) -> str:
    """The SQL of a transform over relations with these columns, each called as its argument.

    A table that is made a symbol at a time is compiled once.
    """
    return _compiled(transform, tuple((n, tuple(c.items())) for n, c in inputs.items()), dialect)


@lru_cache(maxsize=256)
def _compiled(
    transform: Callable[..., Any],
    inputs: tuple[tuple[str, tuple[tuple[str, Type], ...]], ...],
    dialect: str,
) -> str:
    import ibis

    tables = {
        name: ibis.table({n: IBIS_TYPES[t] for n, t in columns}, name=name)
        for name, columns in inputs
    }
    return str(ibis.to_sql(transform(**tables), dialect=dialect))


def named(name: str, memory_limit_mb: int, spark_master: str) -> Engine:
    """The engine called ``duckdb`` or ``spark``; nothing starts before its first transform.

    Raises:
        TidemillError: There is no such engine.
    """
    if name == "duckdb":
        from tidemill.engines.duck import DuckEngine

        return DuckEngine(memory_limit_mb)
    if name == "spark":
        from tidemill.engines.spark import SparkEngine

        return SparkEngine(spark_master)
    raise TidemillError(f"there is no engine {name!r}: use 'duckdb' or 'spark'")
