"""Deletes what only older versions of a table need: after their retention, or at once."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tidemill.errors import TidemillError
from tidemill.lake import catalog, lease
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import take
from tidemill.lake.store import Lake

PATIENCE_S = 60.0
_PAUSE_S = 0.05


def vacuum(lake: Lake, table: Table, retention_hours: int = 168) -> list[str]:
    """Delete files that no version inside the retention and no reader's lease needs.

    Args:
        lake: Where the table is.
        table: What to clean.
        retention_hours: Versions younger than this stay readable; at least 1, since a reader
            without a lease (any DuckDB on the catalogue) may be that far behind.

    Returns:
        The files deleted, relative to the table's folder.

    Raises:
        TidemillError: The retention is under an hour.
    """
    if retention_hours < 1:
        raise TidemillError(
            f"vacuum keeps at least 1 hour for readers at work, {retention_hours} asked for"
        )
    # A writer killed before it published leaves a catalogue that shows an older version.
    shown = {} if lake.catalogue is None else catalog.shown(lake.catalogue)
    lake.publish()
    with lease.held(lake.root, table) as versions:
        # Opened at the gate: from here on, no rollback brings back a version unseen.
        delta = lake.open(table)
        if delta is None:
            return []
        current = delta.version()
        kept = {*versions, shown.get(table.id, current), current}
        clean = partial(
            delta.vacuum,
            retention_hours=retention_hours,
            enforce_retention_duration=False,
            full=not lease.is_written(lake.root, table),
            keep_versions=sorted(v for v in kept if 0 <= v <= current),
        )
        # Files that an earlier vacuum deleted are listed too, and some by their whole path.
        listed = {lake.folder(table) / name for name in clean(dry_run=True)}
        there = sorted(path for path in listed if path.exists())
        if there:
            clean(dry_run=False)
    lake.publish()
    return [str(path.relative_to(lake.folder(table))) for path in there]


def purge(
    lake: Lake,
    table: Table,
    settle: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> int:
    """Delete every file that neither the current version nor a later one names, whatever its age.

    It waits for whoever writes to the table, whose files no version names yet, and keeps others
    from beginning; and for whoever holds a lease on an older version. The catalogue shows the
    current version before anything goes. A reader without a lease that is at work on older files
    (any DuckDB that has the catalogue open) fails, and has to open it again.

    Args:
        lake: Where the table is.
        table: What to clean.
        settle: Called while nobody writes: commits the files that a ledger names and the table does
            not have yet.
        patience_s: How long to wait.

    Returns:
        How many files were deleted.

    Raises:
        TidemillError: Somebody wrote, or read an older version, all the time; nothing was deleted.
    """
    if lake.open(table) is None:
        return 0
    since = lake.snapshot(table).version
    deadline = time.monotonic() + patience_s
    while True:
        with lease.alone(lake.root, table) as is_alone:
            if is_alone:
                settle()
                lake.publish()
                done = _purged(lake, table, since)
                if done is not None:
                    return done
        if time.monotonic() > deadline:
            who = "reads an older version of it" if is_alone else "writes to it"
            raise TidemillError(
                f"{table.id}: some process still {who} after {patience_s:.0f} s, so files of older "
                "versions stay; ask again when it has ended"
            )
        time.sleep(_PAUSE_S)


def _purged(lake: Lake, table: Table, since: int) -> int | None:
    """Files deleted; None where somebody holds a version before ``since``, and nothing was done."""
    folder = lake.folder(table)
    with lease.held(lake.root, table) as versions:
        if any(version < since for version in versions):
            return None
        # Opened at the gate: from here on, no rollback brings back a version unseen.
        delta = lake.open(table)
        kept: set[Path] = set()
        for version in sorted({*versions, delta.version()}, reverse=True):
            delta.load_as_version(version)
            kept |= {file.path for file in take(table, folder, delta).files}
        log = folder / "_delta_log"
        there = {p for p in folder.rglob("*") if p.is_file() and not p.is_relative_to(log)}
        if lacking := kept - there:
            raise TidemillError(
                f"{table.id}: expected {len(kept)} files that its versions name, {len(lacking)} "
                f"are not there, the first {min(lacking)}; nothing was deleted. 'tidemill lake "
                "rollback' makes the table what it was at a version that is whole"
            )
        gone = there - kept
        for path in gone:
            path.unlink(missing_ok=True)
    return len(gone)
