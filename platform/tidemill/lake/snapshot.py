"""One version of one table: the exact files, and the SQL relation over them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tidemill.lake.contracts import Table, text_literal

Partition = Mapping[str, str | int]


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
    """What a table held at one version; ``version`` is -1 where nothing was ever written."""

    table: Table
    version: int
    files: tuple[File, ...]

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

    def values(self, column: str) -> list[str]:
        """The values that a partition column has, sorted."""
        return sorted({file.partition[column] for file in self.files})

    def scan(self) -> str:
        """An SQL relation of these rows with the contract's columns and types, for DuckDB."""
        if not self.files:
            nothing = ", ".join(f'null::{c.type.value} as "{c.name}"' for c in self.table.columns)
            return f"(select {nothing} where false)"
        columns = ", ".join(f'"{c.name}"' for c in self.table.columns)
        listed = ", ".join(text_literal(str(file.path)) for file in self.files)
        by = ", ".join(
            f"'{name}': {self.table.column(name).type.value}" for name in self.table.partition_by
        )
        hive = f"hive_partitioning=true, hive_types={{{by}}}" if by else "hive_partitioning=false"
        return f"(select {columns} from read_parquet([{listed}], {hive}))"


def take(table: Table, folder: Path, delta: Any) -> Snapshot:
    """The snapshot that an open ``deltalake.DeltaTable`` stands at."""
    import polars as pl

    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
    parts = {name: f"partition.{name}" for name in table.partition_by}
    files = tuple(
        File(
            relative=unquote(row["path"]),
            path=folder / unquote(row["path"]),
            partition={name: str(row[column]) for name, column in parts.items()},
            rows=row["num_records"],
            size=row["size_bytes"],
            modified_ms=int(row["modification_time"]),
        )
        for row in actions.iter_rows(named=True)
    )
    return Snapshot(table, delta.version(), tuple(sorted(files, key=lambda f: f.relative)))
