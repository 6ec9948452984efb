"""DuckDB as an engine: in this process, no JVM, spilling to disk when memory runs out."""

import atexit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import Source, compiled, properties
from tidemill.errors import TidemillError
from tidemill.lake import files
from tidemill.lake.contracts import Table
from tidemill.lake.files import Staged
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, Written

if TYPE_CHECKING:
    import duckdb


@contextmanager
def connection(memory_limit_mb: int = 1024) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB in memory, in UTC, that spills beyond ``memory_limit_mb`` MiB."""
    import duckdb

    with TemporaryDirectory(prefix="tidemill-spill-") as spill, duckdb.connect() as con:
        con.execute(f"set memory_limit = '{memory_limit_mb}MiB'")
        con.execute(f"set temp_directory = '{spill}'")
        con.execute("set timezone = 'UTC'")
        con.execute("set preserve_insertion_order = false")
        con.execute("set enable_progress_bar = false")
        con.execute("create macro sum_in_order(value, key) as sum(value order by key)")
        yield con


@contextmanager
def shortage_told(memory_limit_mb: int, shown: str) -> Iterator[None]:
    """Say in one line what DuckDB is short of while the block runs.

    Args:
        memory_limit_mb: What it may hold, MiB.
        shown: What messages call what is worked on.

    Raises:
        TidemillError: Memory or disk does not suffice.
    """
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise TidemillError(
            f"{memory_limit_mb} MiB are too few ({first_line(error)}); "
            "allow more with TIDEMILL_MEMORY_MB"
        ) from error
    except duckdb.IOException as error:
        raise TidemillError(f"{shown}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error of DuckDB says first; the rest is hints."""
    return str(error).partition("\n")[0]


class DuckEngine:
    """Runs transforms in DuckDB."""

    name = "duckdb"

    def __init__(self, memory_limit_mb: int = 1024) -> None:
        """Nothing starts before the first transform."""
        self.memory_limit_mb = memory_limit_mb
        self._held = ExitStack()
        self._con: duckdb.DuckDBPyConnection | None = None

    def write(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
        partitions: Sequence[Partition],
        still: Callable[[], bool],
    ) -> Written:
        """As ``Engine.write`` says."""
        con, sql = self._ready(transform, sources)

        def stage() -> Staged:
            return files.write(table, con, sql, lake.folder(table))

        told = properties(self.name, sources)
        return lake.replace_by(table, stage, sql, partitions, told, still)

    def stage(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
    ) -> Staged:
        """As ``Engine.stage`` says."""
        con, sql = self._ready(transform, sources)
        return files.write(table, con, sql, lake.folder(table))

    def _ready(
        self, transform: Callable[..., Any], sources: Mapping[str, Source]
    ) -> "tuple[duckdb.DuckDBPyConnection, str]":
        """Where the sources are views, and the transform's SQL over them."""
        sql = compiled(transform, {n: s.columns for n, s in sources.items()}, "duckdb")
        if self._con is None:
            self._con = self._held.enter_context(connection(self.memory_limit_mb))
            atexit.register(self.close)  # the binding complains of what is open after that
        for name, source in sources.items():
            rows = f"select * from {source.duckdb()}"
            self._con.execute(f'create or replace temp view "{name}" as {rows}')
        return self._con, sql

    def close(self) -> None:
        """Let go of the DuckDB that transforms run in; the next one opens another."""
        atexit.unregister(self.close)
        self._con = None
        self._held.close()
