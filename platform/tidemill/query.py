"""Read-only SQL over the catalogue, for anyone who may read the lake and nothing else."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import InputError
from tidemill.lake import catalog, lease
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

FORMATS = ("table", "csv", "json", "parquet")


@dataclass(frozen=True)
class Answer:
    """The rows of a query.

    Attributes:
        names: Column names.
        types: SQL type of each column.
        rows: Values.
    """

    names: Sequence[str]
    types: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


def ask(lake: Lake, sql: str, as_of: int | datetime | None = None) -> Answer:
    """Run one SELECT over the lake's tables.

    Args:
        lake: With its catalogue.
        sql: One statement that only reads.
        as_of: Show every table that ``sql`` names as it was at a version or an instant.

    Raises:
        InputError: It does more than read, or it is no SQL.
        TidemillError: A table has no version ``as_of``.
    """
    with _sandbox(lake, sql, as_of) as con:
        try:
            found = con.execute(sql)
            names = [column[0] for column in found.description or ()]
            types = [str(column[1]) for column in found.description or ()]
            return Answer(names, types, found.fetchall())
        except _duckdb_error() as error:
            raise InputError(_told(error)) from error


def save(lake: Lake, sql: str, path: Path, form: str, as_of: int | datetime | None = None) -> int:
    """Write a SELECT's rows to a file; returns how many.

    Args:
        lake: With its catalogue.
        sql: One statement that only reads.
        path: Where to write; a file that is there is replaced.
        form: ``csv``, ``json`` (a list of objects) or ``parquet``.
        as_of: As in ``ask``.
    """
    import duckdb

    with _sandbox(lake, sql, as_of) as con:
        try:
            rows = con.sql(sql).to_arrow_table()
        except _duckdb_error() as error:
            raise InputError(_told(error)) from error
    options = {"csv": "format csv, header", "json": "format json, array true"}.get(form, form)
    with duckdb.connect() as out:
        out.register("rows", rows)
        out.execute(f"copy rows to {text_literal(str(path))} ({options})")
    return int(rows.num_rows)


@contextmanager
def _sandbox(
    lake: Lake, sql: str, as_of: int | datetime | None
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection that sees the lake's tables and no other file, checked to only read."""
    import duckdb

    _check_reads_only(sql)
    # In memory, with views of its own: DuckDB may not be told to lock a file that others replace.
    snapshots = [_at(lake, table, sql, as_of) for table in lake.tables]
    held = [(s.table, s.version) for s in snapshots if s.version >= 0]
    with lease.reading(lake.root, held), duckdb.connect() as con:
        con.execute(catalog.views(snapshots))
        con.execute("set timezone = 'UTC'")
        con.execute(f"set allowed_directories = [{text_literal(str(lake.root) + '/')}]")
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
        yield con


def _at(lake: Lake, table: Table, sql: str, as_of: int | datetime | None) -> Snapshot:
    if as_of is None or table.name not in sql:
        return lake.snapshot(table)
    return lake.snapshot(table, as_of)


def _check_reads_only(sql: str) -> None:
    """Admit one SELECT; DuckDB's own sandbox still lets COPY write inside an allowed folder."""
    import duckdb

    with duckdb.connect() as con:
        try:
            statements = con.extract_statements(sql)
        except _duckdb_error() as error:
            raise InputError(_told(error)) from error
    if len(statements) != 1:
        raise InputError(f"expected one SELECT, found {len(statements)} statements")
    kind = statements[0].type
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise InputError(f"expected a SELECT, found {kind.name}: tables are only read here")
    if kind is duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, so that is held to the same.
        body = re.sub(r"(?is)^\s*explain\s+(analyze\s+)?", "", sql, count=1)
        if body == sql:
            raise InputError("expected EXPLAIN at the start of the query")
        _check_reads_only(body)


def _duckdb_error() -> type[Exception]:
    import duckdb

    error: type[Exception] = duckdb.Error
    return error


def _told(error: Exception) -> str:
    return str(error).split("\n\nLINE")[0]
