"""Claims about rollback, compaction and vacuum: no row is lost, and no reader's version."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from tidemill.errors import TidemillError
from tidemill.lake import commit, compaction, lease
from tidemill.lake.compaction import compact
from tidemill.lake.contracts import Column, Table, Type
from tidemill.lake.purge import vacuum
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

POINTS = Table(
    "d",
    "points",
    "Points.",
    (
        Column("x", Type.BIGINT, "To the right."),
        Column("y", Type.BIGINT, "Up."),
        Column("part", Type.STRING, "Where."),
    ),
    key=("part", "x", "y"),
    partition_by=("part",),
)

HOLDER = """
import sys
from pathlib import Path
from tidemill.lake import lease
from tidemill.lake.contracts import Column, Table, Type
table = Table("d", "points", "Points.", (Column("x", Type.BIGINT, "To the right."),), key=("x",))
with lease.reading(Path(sys.argv[1]), [(table, int(sys.argv[2]))]):
    print("held", flush=True)
    sys.stdin.read()
"""


def points(part: str, *xs: int) -> pl.DataFrame:
    return pl.DataFrame({"x": xs, "y": xs}, schema={"x": pl.Int64, "y": pl.Int64}).with_columns(
        part=pl.lit(part)
    )


def xs(lake: Lake, at: Snapshot | None = None) -> list[int]:
    relation = (at or Lake(lake.root).snapshot(POINTS)).scan()
    return [x for (x,) in duckdb.execute(f"select x from {relation} order by x").fetchall()]


def parquet(lake: Lake) -> set[Path]:
    return set(lake.folder(POINTS).rglob("*.parquet"))


def hours_ago(monkeypatch: pytest.MonkeyPatch, hours: float, lake: Lake, ids: Sequence[int]) -> int:
    """Replace partition A as if some hours ago; returns the version."""
    with monkeypatch.context() as patched:
        clock = SimpleNamespace(time=lambda: time.time() - hours * 3600, sleep=time.sleep)
        patched.setattr(commit, "time", clock)
        return lake.replace_frame(POINTS, points("A", *ids), [{"part": "A"}]).version


def grow_old(path: Path, hours: float = 5) -> None:
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", tmp_path / "tidemill.duckdb", [POINTS])


def test_a_rollback_brings_the_rows_back_as_a_new_version(lake: Lake) -> None:
    first = lake.replace_frame(POINTS, points("A", 1, 2), [{"part": "A"}]).version
    lake.replace_frame(POINTS, points("A", 3), [{"part": "A"}])
    version = lake.rollback(POINTS, first)
    assert version == lake.snapshot(POINTS).version == first + 2
    assert xs(lake) == [1, 2]
    assert xs(lake, lake.snapshot(POINTS, first + 1)) == [3]
    lake.replace_frame(POINTS, points("A", 4), [{"part": "A"}])
    assert xs(lake) == [4]


def test_a_rollback_to_the_current_version_changes_nothing(lake: Lake) -> None:
    version = lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}]).version
    assert lake.rollback(POINTS, version) == version == lake.snapshot(POINTS).version


@pytest.mark.parametrize("at", [-1, 7])
def test_a_rollback_to_no_version_is_refused(lake: Lake, at: int) -> None:
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    with pytest.raises(TidemillError, match=f"no version at {at}: it has 0 to 1"):
        lake.rollback(POINTS, at)


def test_a_rollback_takes_the_offsets_back_with_the_rows(lake: Lake) -> None:
    lake.append(POINTS, points("A", 1), "topic/0", 10)
    then = lake.snapshot(POINTS).version
    lake.append(POINTS, points("A", 2), "topic/0", 20)
    lake.append(POINTS, points("A", 3), "topic/1", 5)
    lake.rollback(POINTS, then)
    assert (lake.reached(POINTS, "topic/0"), lake.reached(POINTS, "topic/1")) == (10, None)
    assert lake.append(POINTS, points("A", 1), "topic/0", 10) is None
    assert lake.append(POINTS, points("A", 2), "topic/0", 20) is not None
    assert lake.append(POINTS, points("A", 3), "topic/1", 5) is not None
    assert xs(lake) == [1, 2, 3]


def test_a_rollback_beaten_by_a_rival_is_done_over_what_the_rival_did(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}]).version
    lake.replace_frame(POINTS, points("A", 2), [{"part": "A"}])
    real = commit.rewound
    calls: list[int] = []

    def rival_comes(*args: Any) -> dict[str, int]:
        if not calls:
            Lake(lake.root).append(POINTS, points("A", 9), "topic/0", 1)
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(commit, "rewound", rival_comes)
    lake.rollback(POINTS, first)
    assert (xs(lake), len(calls)) == ([1], 2)
    assert lake.reached(POINTS, "topic/0") is None


def test_compaction_keeps_the_rows_and_joins_the_files(lake: Lake) -> None:
    for number in range(6):
        lake.append(POINTS, points("AB"[number % 2], number), "topic/0", number + 1)
    before = lake.snapshot(POINTS)
    assert len(before.files) == 6
    assert compact(lake, POINTS) == {"numFilesAdded": 2, "numFilesRemoved": 6}
    assert [f.partition["part"] for f in lake.snapshot(POINTS).files] == ["A", "B"]
    assert xs(lake) == [0, 1, 2, 3, 4, 5]
    assert xs(lake, before) == [0, 1, 2, 3, 4, 5]
    assert lake.reached(POINTS, "topic/0") == 6


def test_z_order_puts_what_is_near_in_both_columns_together(lake: Lake) -> None:
    grid = pl.DataFrame({"x": [i // 64 for i in range(4096)], "y": [i % 64 for i in range(4096)]})
    rows = grid.with_columns(part=pl.lit("A")).sample(fraction=1, shuffle=True, seed=7)
    lake.replace_frame(POINTS, rows, [{"part": "A"}])
    compact(lake, POINTS, ["x", "y"])
    (file,) = lake.snapshot(POINTS).files
    quarter = pl.read_parquet(file.path).head(1024)
    spans = [quarter[c].cast(pl.Int64).max() - quarter[c].min() for c in "xy"]  # type: ignore[operator]
    assert spans == [31, 31]
    assert lake.snapshot(POINTS).rows == 4096


def test_compaction_by_a_column_that_is_in_no_file_is_refused(lake: Lake) -> None:
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    for column in ("part", "nope"):
        with pytest.raises(TidemillError, match=f"Z-ordered by x, y, not by {column}"):
            compact(lake, POINTS, [column])


def test_compacting_what_was_never_written_or_is_empty_does_nothing(lake: Lake) -> None:
    for _ in range(2):
        assert compact(lake, POINTS, ["x"]) == {"numFilesAdded": 0, "numFilesRemoved": 0}
        assert compact(lake, POINTS) == {"numFilesAdded": 0, "numFilesRemoved": 0}
        lake.open(POINTS, create=True)
    assert lake.snapshot(POINTS).version == 0


@pytest.mark.parametrize("part", ["~", "a b", "%20", "a/b", "it's"])
def test_an_odd_partition_value_does_not_keep_a_table_from_being_compacted(
    lake: Lake, part: str
) -> None:
    for number in (1, 2):
        lake.append(POINTS, points(part, number), "topic/0", number)
    assert compact(lake, POINTS) == {"numFilesAdded": 1, "numFilesRemoved": 2}
    assert lake.snapshot(POINTS).values("part") == [part]
    assert xs(lake) == [1, 2]


def test_compacting_again_finds_nothing_to_do(lake: Lake) -> None:
    for number in range(3):
        lake.append(POINTS, points("A", number), "topic/0", number + 1)
    compact(lake, POINTS)
    version = lake.snapshot(POINTS).version
    assert compact(lake, POINTS) == {"numFilesAdded": 0, "numFilesRemoved": 0}
    assert lake.snapshot(POINTS).version == version


RIVALS: dict[str, tuple[Callable[[Lake], Any], list[int]]] = {
    "appends": (lambda rival: rival.append(POINTS, points("A", 9), "topic/1", 1), [0, 1, 2, 9]),
    "compacts": (lambda rival: compact(rival, POINTS, ["x"]), [0, 1, 2]),
    "replaces": (
        lambda rival: rival.replace_frame(POINTS, points("A", 7), [{"part": "A"}]),
        [7],
    ),
    "rolls back": (lambda rival: rival.rollback(POINTS, 1), [0]),
    "writes elsewhere": (
        lambda rival: rival.replace_frame(POINTS, points("B", 5), [{"part": "B"}]),
        [0, 1, 2, 5],
    ),
    "compacts as delta-rs does": (
        lambda rival: DeltaTable(str(rival.folder(POINTS))).optimize.compact(),
        [0, 1, 2],
    ),
}


@pytest.mark.parametrize(("rival", "left"), RIVALS.values(), ids=RIVALS)
@pytest.mark.parametrize("z_order", [(), ("x", "y")], ids=["plain", "z-order"])
def test_a_rival_beside_a_compaction_neither_loses_nor_doubles_rows(
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    z_order: tuple[str, ...],
    rival: Callable[[Lake], Any],
    left: list[int],
) -> None:
    for number in range(3):
        lake.append(POINTS, points("A", number), "topic/0", number + 1)
    real = commit.commit_files
    calls: list[int] = []

    def rival_comes(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            rival(Lake(lake.root))
        real(*args)

    monkeypatch.setattr(commit, "commit_files", rival_comes)
    compact(lake, POINTS, z_order)
    assert xs(lake) == left
    files = {file.path for file in lake.snapshot(POINTS).files}
    assert {path for path in parquet(lake) if path.name.startswith("p-")} >= {
        path for path in files if path.name.startswith("p-")
    }


def test_a_compaction_that_reads_fewer_rows_than_there_were_is_not_committed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        lake.append(POINTS, points("A", number), "topic/0", number + 1)
    real = compaction.joined
    monkeypatch.setattr(
        compaction, "joined", lambda *args: (f"{real(*args)[0]} limit 2", real(*args)[1])
    )
    before = parquet(lake)
    with pytest.raises(TidemillError, match="2 of 3 rows compacted"):
        compact(lake, POINTS)
    assert parquet(lake) == before
    assert xs(lake) == [0, 1, 2]


def test_vacuum_deletes_what_is_older_than_the_retention_and_nothing_younger(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = hours_ago(monkeypatch, 9, lake, [1])
    old = hours_ago(monkeypatch, 5, lake, [2])  # from here on, 1 is in no version
    young = hours_ago(monkeypatch, 0, lake, [3])
    assert len(vacuum(lake, POINTS, 4)) == 1
    with pytest.raises(TidemillError, match=f"version {oldest} is gone: vacuum deleted 1 of its 1"):
        lake.snapshot(POINTS, oldest)
    with pytest.raises(TidemillError, match=f"version {oldest} is gone"):
        lake.rollback(POINTS, oldest)
    assert xs(lake, lake.snapshot(POINTS, old)) == [2]
    assert xs(lake, lake.snapshot(POINTS, young)) == [3]
    assert xs(lake) == [3]


def test_vacuum_never_deletes_the_current_version_however_old(lake: Lake) -> None:
    lake.replace_frame(POINTS, points("a b%", 1), [{"part": "a b%"}])
    lake.append(POINTS, points("a b%", 2), "topic/0", 1)
    for path in parquet(lake):
        grow_old(path, 10_000)
    assert vacuum(lake, POINTS, 1) == []
    assert xs(lake) == [1, 2]


@pytest.mark.parametrize("hours", [0, -1])
def test_vacuum_refuses_a_retention_under_an_hour(lake: Lake, hours: int) -> None:
    with pytest.raises(TidemillError, match="at least 1 hour"):
        vacuum(lake, POINTS, hours)


def test_vacuum_keeps_what_another_process_reads_until_that_is_killed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hours_ago(monkeypatch, 9, lake, [1])
    hours_ago(monkeypatch, 8, lake, [2])
    hours_ago(monkeypatch, 7, lake, [3])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lake.root), str(held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "held\n"
        assert len(vacuum(lake, POINTS, 1)) == 1
        assert xs(lake, lake.snapshot(POINTS, held)) == [1]
        reader.kill()
        reader.wait()
    assert len(vacuum(lake, POINTS, 1)) == 1
    assert xs(lake) == [3]


def test_a_lease_on_a_table_that_was_begun_again_does_not_stop_vacuum(lake: Lake) -> None:
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    with lease.reading(lake.root, [(POINTS, 99)]):
        assert vacuum(lake, POINTS, 1) == []


def test_vacuum_brings_the_catalogue_up_to_date_and_keeps_what_it_showed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours_ago(monkeypatch, 9, lake, [1])
    assert lake.catalogue is not None
    with duckdb.connect(str(lake.catalogue), read_only=True) as reader:
        silent = Lake(lake.root)  # as a writer killed between its commit and publishing
        hours_ago(monkeypatch, 8, silent, [2])
        assert vacuum(lake, POINTS, 1) == []
        assert reader.execute("select x from d.points").fetchall() == [(1,)]
    with duckdb.connect(str(lake.catalogue), read_only=True) as reader:
        assert reader.execute("select x from d.points").fetchall() == [(2,)]
    assert len(vacuum(lake, POINTS, 1)) == 1


def test_files_of_a_killed_write_vanish_once_they_are_old(lake: Lake) -> None:
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    (folder,) = {path.parent for path in parquet(lake)}
    old = [folder / "p-killed.parquet", folder / "tmp_p-killed.parquet", lake.folder(POINTS) / "p-"]
    for path in old:
        path.write_bytes(b"half a file")
        grow_old(path)
    young = folder / "p-at-work.parquet"
    young.write_bytes(b"half a file")
    assert len(vacuum(lake, POINTS, 1)) == 3
    assert not any(path.exists() for path in old)
    assert young.exists()
    assert xs(lake) == [1]


def test_files_of_a_long_write_are_kept_while_it_is_at_work(lake: Lake) -> None:
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    slow = lake.folder(POINTS) / "part=A" / "p-slow.parquet"
    slow.write_bytes(b"half a file")
    grow_old(slow)
    with lease.writing(lake.root, POINTS):
        assert vacuum(lake, POINTS, 1) == []
    assert slow.exists()
    assert len(vacuum(lake, POINTS, 1)) == 1


def test_a_replace_says_that_it_is_writing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real = commit.commit_files
    seen: list[bool] = []

    def look(*args: Any) -> None:
        seen.append(lease.is_written(lake.root, POINTS))
        real(*args)

    monkeypatch.setattr(commit, "commit_files", look)
    lake.replace_frame(POINTS, points("A", 1), [{"part": "A"}])
    assert seen == [True]
    assert not lease.is_written(lake.root, POINTS)


def test_a_version_that_a_rollback_brings_back_while_vacuum_waits_is_kept(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hours_ago(monkeypatch, 9, lake, [1])
    hours_ago(monkeypatch, 8, lake, [2])
    cleaner = threading.Thread(target=lambda: vacuum(Lake(lake.root), POINTS, 1))
    with lease.held(lake.root, POINTS):  # vacuum waits at the gate
        cleaner.start()
        time.sleep(0.2)
        DeltaTable(str(lake.folder(POINTS))).restore(first)
    cleaner.join(10)
    assert xs(lake) == [1]
