"""The DuckDB catalogue: one schema a domain, one view a table, no data.

A view names the exact files of its table's current version, so a reader sees one version whole. The
file is written beside and moved into place: a reader has the old file or the new one open, and
never waits for a lock.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot


def publish(path: Path, read: "Iterable[Snapshot]") -> None:
    """Replace the catalogue at ``path``; ``read`` is consumed while its lock is held."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with duckdb.connect(str(beside)) as con:
                con.execute(views(read))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def views(snapshots: Iterable[Snapshot]) -> str:
    """SQL that makes the schemas, views and comments for these snapshots."""
    statements = []
    for snapshot in snapshots:
        table = snapshot.table
        name = f'"{table.domain}"."{table.name}"'
        statements += [
            f'create schema if not exists "{table.domain}"',
            f"create or replace view {name} as select * from {snapshot.scan()}",
            f"comment on view {name} is {text_literal(table.meaning)}",
        ]
        statements += [
            f'comment on column {name}."{c.name}" is {text_literal(c.comment)}'
            for c in table.columns
        ]
    return ";\n".join(["begin", *statements, "commit"])
