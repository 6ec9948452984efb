"""The DuckDB catalogue: one schema a domain, one view a table, no data.

A view names the exact files of its table's current version, so a reader sees one version whole. The
file is written beside and moved into place: a reader has the old file or the new one open, and
never waits for a lock.
"""

import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from filelock import FileLock

from tidemill.lake import duck
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot

_Stamp = tuple[int, int, int]

_last: "dict[Path, tuple[_Stamp, Mapping[str, str]]]" = {}
"""What this process published last: the file's stamp, and the SQL of each table's view."""


def publish(path: Path, read: "Iterable[Snapshot]") -> None:
    """Replace the catalogue at ``path``; ``read`` is consumed while its lock is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 32}*"):
            left.unlink(missing_ok=True)  # by a publisher that was killed
        mark = uuid.uuid4().hex
        beside = path.with_name(f".{path.name}.{mark}")
        snapshots = list(read)
        made = {snapshot.table.id: _view(snapshot) for snapshot in snapshots}
        try:
            there = _copied(path, beside, made)
            changed = [sql for table, sql in made.items() if there.get(table) != sql]
            _make(beside, f"made_{mark}", _at_once([*changed, _versions(snapshots)]))
            # Whoever opened the old file to write leaves a log that would not fit the new one.
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            beside.replace(path)
            _last[path] = _stamp(path), made
        finally:
            beside.unlink(missing_ok=True)


def _copied(path: Path, target: Path, tables: Mapping[str, str]) -> Mapping[str, str]:
    """Start from a copy of the catalogue, if it is as this process left it and of these tables.

    Returns:
        The SQL of each view in the copy; empty where there is none and all is to be made.
    """
    stamp, views = _last.get(path, (None, {}))
    if not path.exists() or _stamp(path) != stamp or views.keys() != tables.keys():
        return {}
    shutil.copyfile(path, target)
    return views


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


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
    read = list(snapshots)
    return _at_once([*map(_view, read), _versions(read)])


def _at_once(statements: Iterable[str]) -> str:
    return ";\n".join(["begin", *statements, "commit"])


def _view(snapshot: Snapshot) -> str:
    """SQL that makes a table's schema, view and comments."""
    table = snapshot.table
    name = f'"{table.domain}"."{table.name}"'
    statements = [
        f'create schema if not exists "{table.domain}"',
        f"create or replace view {name} as select * from {snapshot.scan()}",
        f"comment on view {name} is {text_literal(table.meaning)}",
        *(
            f'comment on column {name}."{c.name}" is {text_literal(c.comment)}'
            for c in table.columns
        ),
    ]
    return ";\n".join(statements)


def _versions(snapshots: Iterable[Snapshot]) -> str:
    """SQL that makes ``versions()``, the version of each table that the views show."""
    versions = [f"({text_literal(s.table.id)}, {s.version})" for s in snapshots]
    listed = ", ".join(versions) or "(null::varchar, null::bigint)"
    return (
        "create or replace macro versions() as table "
        f'select * from (values {listed}) as t("table", version) where version is not null'
    )
