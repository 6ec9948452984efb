"""Read-only SQL over the catalogue, for anyone who may read the lake and nothing else."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tidemill.errors import InputError, TidemillError
from tidemill.lake import catalog, duck, lease
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

FORMATS = ("table", "csv", "json", "parquet")
READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}


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
        as_of: Show every table as it was at a version or an instant.

    Raises:
        InputError: It does more than read, or it is no SQL.
        TidemillError: A table that it reads has no version ``as_of``.
    """
    with _sandbox(lake, sql, as_of) as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        types = [str(column[1]) for column in found.description or ()]
        return Answer(names, types, found.fetchall())


def save(lake: Lake, sql: str, path: Path, form: str, as_of: int | datetime | None = None) -> int:
    """Write a SELECT's rows to a file; returns how many.

    Args:
        lake: With its catalogue.
        sql: One statement that only reads.
        path: Where to write; a file that is there is replaced.
        form: ``csv``, ``json`` (a list of objects) or ``parquet``.
        as_of: As in ``ask``.

    Raises:
        InputError: The file cannot be written.
    """
    import duckdb

    with _sandbox(lake, sql, as_of) as con:
        rows = con.sql(sql).to_arrow_table()
    more = {"csv": ", header", "json": ", array true"}.get(form, "")
    with duck.cursor() as out:
        out.register("rows", rows)
        try:
            out.execute(f"copy rows to {text_literal(str(path))} (format {form}{more})")
        except duckdb.IOException as error:
            told = str(error).partition("\n")[0]
            raise InputError(f"{path}: cannot be written ({told})") from error
    return int(rows.num_rows)


@contextmanager
def _sandbox(
    lake: Lake, sql: str, as_of: int | datetime | None
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection that sees the lake's tables and no other file, for SQL that only reads."""
    import duckdb

    _check_reads_only(sql)
    # In memory, with views of its own: DuckDB may not be told to lock a file that others replace.
    snapshots = [_at(lake, table, as_of) for table in lake.tables]
    held = [(s.table, s.version) for s in snapshots if s.version >= 0]
    with (
        lease.reading(lake.root, held),
        TemporaryDirectory(prefix="tidemill-spill-") as spill,
        duckdb.connect() as con,
    ):
        if as_of is not None:
            snapshots = [_still(snapshot) for snapshot in snapshots]
        # The exact files: a folder would let in what a link in it leads to, and a file to write.
        seen = ", ".join(text_literal(str(file.path)) for s in snapshots for file in s.files)
        con.execute(catalog.views(snapshots))
        con.execute("set timezone = 'UTC'")
        con.execute(f"set temp_directory = {text_literal(spill)}")
        con.execute(f"set allowed_paths = [{seen}]")
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
        try:
            yield con
        except duckdb.Error as error:
            for snapshot in snapshots:
                if snapshot.lacking and snapshot.lacking in str(error):
                    raise TidemillError(snapshot.lacking) from error
            raise InputError(_told(error)) from error


def _at(lake: Lake, table: Table, as_of: int | datetime | None) -> Snapshot:
    """A table ``as_of``; one that did not exist then stands in the way only of who reads it."""
    if as_of is None:
        return lake.snapshot(table)
    try:
        return lake.snapshot(table, as_of)
    except TidemillError as error:
        return Snapshot(table, -1, lacking=str(error))


def _still(snapshot: Snapshot) -> Snapshot:
    """An old version, now that vacuum keeps it; it may have come before."""
    try:
        snapshot.require()
    except TidemillError as error:
        return Snapshot(snapshot.table, -1, lacking=str(error))
    return snapshot


def _check_reads_only(sql: str) -> None:
    """Admit one SELECT; DuckDB's own sandbox still lets COPY write to an allowed file."""
    import duckdb

    with duck.cursor() as con:
        try:
            statements = con.extract_statements(sql)
        except duckdb.Error as error:
            raise InputError(_told(error)) from error
        if len(statements) != 1:
            raise InputError(f"expected one SELECT, found {len(statements)} statements")
        kind = statements[0].type
        if kind is duckdb.StatementType.EXPLAIN:
            # EXPLAIN ANALYZE runs what it explains, so that is held to the same.
            body = re.sub(
                r"(?is)^\s*explain(\s+analyze\b|\s*\([^()]*\)(?=\s*\w))?", "", sql, count=1
            )
            if body == sql:
                raise InputError("expected EXPLAIN at the start of the query")
            return _check_reads_only(body)
        if kind is duckdb.StatementType.MULTI and re.search(r"(?i)\bpivot", sql):
            # DuckDB would first write a type of the values, and gives no tree of it to look at.
            raise InputError(
                "PIVOT: name the values that become columns, as in "
                "pivot TABLE on COLUMN in ('a', 'b') using sum(VALUE)"
            )
        if kind is not duckdb.StatementType.SELECT:
            raise InputError(f"expected a SELECT, found {kind.name}: tables are only read here")
        found = con.execute("select json_serialize_sql(?::varchar)", [sql]).fetchone()
    parsed = json.loads(found[0]) if found else {"error": True}
    if parsed["error"]:
        raise InputError(f"expected a SELECT: {parsed.get('error_message', 'found nothing')}")
    _check_tree(parsed)


def _check_tree(tree: Any) -> None:
    """Admit a parsed SELECT of which no part writes, as COPY or DELETE in a WITH clause would."""
    parts = [tree]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            if "cte_map" in part and part["type"] not in READING:
                kind = part["type"].removesuffix("_QUERY_NODE")
                raise InputError(
                    f"expected a SELECT, found {kind} in it: tables are only read here"
                )
            if part.get("function_name") == "json_execute_serialized_sql":
                raise InputError("json_execute_serialized_sql could run more than a SELECT")


def _told(error: Exception) -> str:
    return str(error).split("\n\nLINE")[0]
