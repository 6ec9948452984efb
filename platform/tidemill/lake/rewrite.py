"""Rows changed where they stand: the files that hold them are written again, in one commit."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import TidemillError
from tidemill.lake import checks, commit, files, lease
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

TRIES = 10
"""Of a rewrite whose files another one replaces meanwhile."""


def listed(paths: Iterable[Path]) -> str:
    """An SQL relation (DuckDB) of Parquet files, with the ``filename`` of each row."""
    names = ", ".join(text_literal(str(path)) for path in paths)
    return f"read_parquet([{names}], hive_partitioning=false, filename=true)"


def holding(snapshot: Snapshot, con: "duckdb.DuckDBPyConnection", where: str) -> Snapshot:
    """Only the files that have a row for which ``where`` holds, a condition on their columns."""
    if not snapshot.files:
        return snapshot
    relation = listed(file.path for file in snapshot.files)
    found = con.execute(f"select distinct filename from {relation} where {where}").fetchall()
    names = {name for (name,) in found}
    return snapshot.only(lambda file: str(file.path) in names)


def rewrite(
    lake: Lake,
    table: Table,
    con: "duckdb.DuckDBPyConnection",
    wanted: Callable[[Snapshot], Snapshot],
    query: Callable[[str], str],
    note: Callable[[str], dict[str, str]],
) -> int | None:
    """Write some files of a table again, with their rows changed and none more or fewer.

    Others may add to the table meanwhile, and what they record of offsets stays. Where one replaces
    these very files, it is all done again.

    Args:
        lake: Where the table is.
        table: What to change.
        con: Where the queries can run.
        wanted: Of the current version, the files to write again.
        query: SQL of the changed rows, from an SQL relation of the rows.
        note: For the commit's audit trail, from the same relation.

    Returns:
        The version made; None where no file was wanted.

    Raises:
        ContractError: The changed rows break the contract.
        TidemillError: They are not as many, or others were faster ``TRIES`` times.
    """
    for left in reversed(range(TRIES)):
        try:
            return _rewrite(lake, table, con, wanted, query, note)
        except commit.Overtaken:
            if not left:
                raise
    raise AssertionError("unreachable")


def _rewrite(
    lake: Lake,
    table: Table,
    con: "duckdb.DuckDBPyConnection",
    wanted: Callable[[Snapshot], Snapshot],
    query: Callable[[str], str],
    note: Callable[[str], dict[str, str]],
) -> int | None:
    now = lake.snapshot(table)
    with lease.writing(lake.root, table), lease.reading(lake.root, [(table, now.version)]):
        old = wanted(now)
        if not old.files:
            return None
        names = {file.relative for file in old.files}

        def still(latest: Snapshot) -> Snapshot:
            if names <= {file.relative for file in latest.files}:
                return old
            raise commit.Overtaken(f"{table.id}: rows were replaced while they were changed")

        told = note(old.scan())
        staged = files.write(table, con, query(old.scan()), lake.folder(table))
        try:
            asked = {tuple(f.partition[name] for name in table.partition_by) for f in old.files}
            checks.refuse_files(table, staged.files, asked)
            if staged.rows != old.rows:
                raise TidemillError(
                    f"{table.id}: expected {old.rows} changed rows, found {staged.rows}"
                )
            version = lake.swap(table, staged, still, commit.strict(told))
        except TidemillError:  # no commit was made; after any other error one may have been
            staged.discard()
            raise
    lake.publish()
    return version
