"""The DuckDB catalogue: one schema a domain, one view a table, no data.

A view names the exact files of its table's current version, so a reader sees one version whole. The
file is written beside and moved into place: a reader has the old file or the new one open, and
never waits for a lock.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from tidemill.lake import duck
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot


def publish(path: Path, read: "Iterable[Snapshot]") -> None:
    """Replace the catalogue at ``path``; ``read`` is consumed while its lock is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 32}*"):
            left.unlink(missing_ok=True)  # by a publisher that was killed
        mark = uuid.uuid4().hex
        beside = path.with_name(f".{path.name}.{mark}")
        try:
            _make(beside, f"made_{mark}", views(read))
            # Whoever opened the old file to write leaves a log that would not fit the new one.
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _make(path: Path, name: str, sql: str) -> None:
    with duck.cursor() as outer:
        outer.execute(f"attach {text_literal(str(path))} as {name}")
        try:
            with duck.cursor() as con:
                con.execute(f"use {name}")
                con.execute(sql)
        finally:
            outer.execute(f"detach {name}")


def shown(path: Path) -> dict[str, int]:
    """The version of each table that the catalogue at ``path`` shows, by table id."""
    import duckdb

    if not path.exists():
        return {}
    with duckdb.connect(str(path), read_only=True) as con:
        return dict(con.execute('select "table", version from versions()').fetchall())


def views(snapshots: Iterable[Snapshot]) -> str:
    """SQL that makes the schemas, views and comments for these snapshots, and ``versions()``."""
    statements = []
    versions = []
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
        versions.append(f"({text_literal(table.id)}, {snapshot.version})")
    listed = ", ".join(versions) or "(null::varchar, null::bigint)"
    statements.append(
        "create or replace macro versions() as table "
        f'select * from (values {listed}) as t("table", version) where version is not null'
    )
    return ";\n".join(["begin", *statements, "commit"])
