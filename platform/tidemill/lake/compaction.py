"""Compaction: the rows of several files in one, in an order by which readers can skip.

delta-rs has one, which is not used: two of them at once both land and double the rows, it cannot
find a file whose partition has a tilde, and its Z-order takes four bits in the wrong order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill.errors import TidemillError
from tidemill.lake import commit, files, lease
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import File, Snapshot
from tidemill.lake.store import Lake

BITS = 10


def compact(lake: Lake, table: Table, z_order: Sequence[str] = ()) -> dict[str, int]:
    """Join small files of each partition, with the rows Z-ordered by some columns.

    Returns:
        How many files came and went, as Delta's metrics name them.

    Raises:
        TidemillError: A column to order by is none of those in the files.
    """
    for left in reversed(range(commit.RIVAL_RETRIES)):
        try:
            done = _compacted(lake, table, z_order)
            break
        except commit.Overtaken:
            if not left:
                raise
    lake.publish()
    return done


def _compacted(lake: Lake, table: Table, z_order: Sequence[str]) -> dict[str, int]:
    old = worthwhile(lake.snapshot(table), z_order)
    if not old.files:
        return {"numFilesAdded": 0, "numFilesRemoved": 0}
    names = {file.relative for file in old.files}

    def still(now: Snapshot) -> Snapshot:
        if names <= {file.relative for file in now.files}:
            return old
        raise commit.Overtaken(f"{table.id}: rows were replaced while they were compacted")

    note = {"compacted": ", ".join(z_order) or "true"}
    with lease.writing(lake.root, table):
        staged = rewrite(old, z_order, lake.folder(table))
        try:
            lake.swap(table, staged, still, commit.strict(note), data_change=False)
        except TidemillError:
            staged.discard()
            raise
    return {"numFilesAdded": len(staged.files), "numFilesRemoved": len(old.files)}


def worthwhile(snapshot: Snapshot, z_order: Sequence[str]) -> Snapshot:
    """The files to rewrite: all for a Z-order, else those that share a partition.

    Raises:
        TidemillError: A column to order by is none of those in the files.
    """
    known = [column.name for column in snapshot.table.data_columns]
    if not set(z_order) <= set(known):
        raise TidemillError(
            f"{snapshot.table.id} can be Z-ordered by {', '.join(known)}, not by "
            f"{', '.join(z_order)}"
        )
    if z_order:
        return snapshot
    beside = Counter(_place(snapshot.table, file) for file in snapshot.files)
    return snapshot.only(lambda file: beside[_place(snapshot.table, file)] > 1)


def _place(table: Table, file: File) -> tuple[str, ...]:
    return tuple(file.partition[name] for name in table.partition_by)


def rewrite(old: Snapshot, z_order: Sequence[str], folder: Path) -> files.Staged:
    """Write the rows of some files again, beside them.

    Raises:
        TidemillError: Some rows were not read; no file stays.
    """
    import duckdb

    query, order = joined(old, z_order)
    with TemporaryDirectory(prefix="tidemill-spill-") as spill, duckdb.connect() as con:
        con.execute(f"set temp_directory = {text_literal(spill)}")
        con.execute("set threads = 1")  # several would mix what they sorted in one file
        staged = files.write(old.table, con, query, folder, order)
    if staged.rows != old.rows:
        staged.discard()
        raise TidemillError(f"{old.table.id}: {staged.rows} of {old.rows} rows compacted")
    return replace(staged, files=tuple(_as_old(old, file) for file in staged.files))


def _as_old(old: Snapshot, new: files.NewFile) -> files.NewFile:
    """A new file as old as the newest rows of its partition: who asks what is newer sees no change.

    Args:
        old: What was rewritten.
        new: The file.
    """
    place = {name: str(value) for name, value in new.partition.items()}
    times = [file.modified_ms for file in old.files if dict(file.partition) == place]
    return replace(new, modified_ms=max(times, default=None))


def joined(snapshot: Snapshot, z_order: Sequence[str]) -> tuple[str, str]:
    """SQL of the snapshot's rows, and SQL of their order.

    On a Z-order curve, rows near in every one of its columns are near in the file. A column's place
    on the curve is the rank of its value in the partition, so that skew does no harm.
    """
    order = ", ".join(f'"{name}"' for name in snapshot.table.sort_by)
    if not z_order:
        return f"select * from {snapshot.scan()}", order
    bits = min(BITS, 63 // len(z_order))
    part = ", ".join(f'"{name}"' for name in snapshot.table.partition_by)
    by = f"partition by {part}" if part else ""
    ranks = ", ".join(
        f'((rank() over ({by} order by "{name}" nulls first) - 1) * {2**bits} '
        f"// count(*) over ({by}))::bigint as _rank{number}"
        for number, name in enumerate(z_order)
    )
    curve = " | ".join(
        f"(((_rank{number} >> {bit}) & 1) << {bit * len(z_order) + number})"
        for bit in range(bits)
        for number in range(len(z_order))
    )
    return (
        f"select *, {curve} as _curve from (select *, {ranks} from {snapshot.scan()})",
        ", ".join(filter(None, ["_curve", order])),
    )
