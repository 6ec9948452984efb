"""Claims about many processes on one lake at once, and about processes killed at any moment.

Each process is this file, run with a role. ``TIDEMILL_FAULTS=N`` makes N times as much of it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tidemill.lake import compaction
from tidemill.lake.contracts import Column, Table, Type
from tidemill.lake.store import Lake
from tidemill.query import ask

MORE = int(os.environ.get("TIDEMILL_FAULTS", "1"))
ROWS = 40
BATCH = 3

EVENTS = Table(
    "d",
    "events",
    "Events, appended by range.",
    (
        Column("number", Type.BIGINT, "Offset.", low=0),
        Column("source", Type.STRING, "Topic partition."),
    ),
    key=("source", "number"),
)
PARTS = Table(
    "d",
    "parts",
    "Partitions of ROWS rows, each written whole by one writer at a time.",
    (
        Column("row", Type.BIGINT, "Number in the partition."),
        Column("generation", Type.BIGINT, "Which write it came with."),
        Column("writer", Type.BIGINT, "Who wrote it."),
        Column("symbol", Type.STRING, "Partition."),
    ),
    key=("symbol", "row"),
    partition_by=("symbol",),
    sort_by=("row",),
)


def opened(home: Path) -> Lake:
    return Lake(home / "lake", home / "tidemill.duckdb", [EVENTS, PARTS])


def batch(source: str, start: int, stop: int) -> pl.DataFrame:
    return pl.DataFrame({"number": range(start, stop)}).with_columns(source=pl.lit(source))


def part(symbol: str, generation: int, writer: int) -> pl.DataFrame:
    return pl.DataFrame({"row": range(ROWS)}).with_columns(
        generation=pl.lit(generation), writer=pl.lit(writer), symbol=pl.lit(symbol)
    )


# Roles: what a process does, from its home and its arguments.


def append(home: Path, source: str, batches: str) -> None:
    """Append ranges of one source, in order, as many as there are batches."""
    lake = opened(home)
    for number in range(int(batches)):
        rows = batch(source, number * BATCH, (number + 1) * BATCH)
        lake.append(EVENTS, rows, source, (number + 1) * BATCH)


def replace(home: Path, writer: str, times: str, *symbols: str) -> None:
    """Replace some partitions again and again, all in one commit."""
    lake = opened(home)
    for generation in range(1, int(times) + 1):
        rows = pl.concat([part(symbol, generation, int(writer)) for symbol in symbols])
        lake.replace_frame(PARTS, rows, [{"symbol": symbol} for symbol in symbols])


def compact(home: Path, times: str, *z_order: str) -> None:
    """Compact both tables again and again."""
    lake = opened(home)
    for _ in range(int(times)):
        compaction.compact(lake, EVENTS, z_order)
        compaction.compact(lake, PARTS)


def consume(home: Path, source: str) -> None:
    """Append ranges from where the lake has got to, and replace a partition, until killed."""
    lake = opened(home)
    while True:
        start = lake.reached(EVENTS, source) or 0
        lake.append(EVENTS, batch(source, start, start + BATCH), source, start + BATCH)
        both = [part(symbol, start, 0) for symbol in ("A", "B")]
        lake.replace_frame(PARTS, pl.concat(both), [{"symbol": "A"}, {"symbol": "B"}])
        print(start, flush=True)


def look(home: Path, how: str) -> None:
    """Query the catalogue until told to stop; every answer must be of whole generations."""
    sql = (
        "select symbol, count(*), count(distinct row), min(generation), max(generation), "
        "count(distinct writer) from d.parts group by symbol"
    )
    seen: dict[str, int] = {}
    answers = 0
    while not (home / "stop").exists():
        if how == "ask":
            rows = ask(opened(home), sql).rows
        else:
            with duckdb.connect(str(home / "tidemill.duckdb"), read_only=True) as con:
                rows = con.execute(sql).fetchall()
        answers += 1
        time.sleep(0.03)  # or ten readers leave two processors no time to write
        for symbol, count, distinct, low, high, writers in rows:
            assert (count, distinct, low, writers) == (ROWS, ROWS, high, 1), rows
            if symbol != "shared":
                assert low >= seen.get(symbol, 0), f"{symbol} went back to {low}"
                seen[symbol] = low
    print(answers, sorted(seen), flush=True)


ROLES: dict[str, Callable[..., None]] = {
    f.__name__: f for f in (append, replace, compact, consume, look)
}


# The test's side.


@contextmanager
def process(home: Path, *role: str | int) -> "Iterator[subprocess.Popen[str]]":
    """A process that has opened everything and waits for ``go``."""
    started = subprocess.Popen(
        [sys.executable, __file__, str(home), *map(str, role)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n", started.communicate()[1]
        yield started
    finally:
        started.kill()
        started.communicate()


def together(home: Path, *roles: Sequence[str | int]) -> list[str]:
    """Run processes that all begin at once, to their end; returns what they told."""
    with ExitStack() as stack:
        running = [stack.enter_context(process(home, *role)) for role in roles]
        go(*running)
        return [told(each) for each in running]


def go(*running: "subprocess.Popen[str]") -> None:
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def told(ended: "subprocess.Popen[str]") -> str:
    out, error = ended.communicate(timeout=300)
    assert ended.returncode == 0, error
    return out


def events(home: Path) -> list[tuple[str, int]]:
    relation = Lake(home / "lake").snapshot(EVENTS).scan()
    found = duckdb.execute(f"select source, number from {relation} order by all").fetchall()
    return [(source, number) for source, number in found]


def generations(home: Path) -> dict[str, tuple[int, int]]:
    """Generation and writer of each partition, which must be whole and of one write."""
    relation = Lake(home / "lake").snapshot(PARTS).scan()
    found = duckdb.execute(
        "select symbol, count(*), count(distinct row), min(generation), max(generation), "
        f"min(writer), max(writer) from {relation} group by symbol"
    ).fetchall()
    for row in found:
        assert (row[1], row[2], row[3], row[5]) == (ROWS, ROWS, row[4], row[6]), row
    return {row[0]: (row[3], row[5]) for row in found}


def every(sources: Sequence[str], batches: int) -> list[tuple[str, int]]:
    return [(source, number) for source in sources for number in range(batches * BATCH)]


def test_eight_processes_appending_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    batches = 25 * MORE
    sources = [f"topic/{number}" for number in range(8)]
    together(tmp_path, *(("append", source, batches) for source in sources))
    assert events(tmp_path) == every(sources, batches)
    lake = opened(tmp_path)
    assert {lake.reached(EVENTS, source) for source in sources} == {batches * BATCH}


def test_eight_processes_appending_the_same_ranges_write_each_once(tmp_path: Path) -> None:
    batches = 10 * MORE
    together(tmp_path, *[("append", "topic/0", batches)] * 8)
    assert events(tmp_path) == every(["topic/0"], batches)


@pytest.mark.parametrize("begins", ["empty", "filled"])
def test_of_three_writers_of_one_partition_one_wins_whole(tmp_path: Path, begins: str) -> None:
    if begins == "filled":
        opened(tmp_path).replace_frame(PARTS, part("A", 0, 9), [{"symbol": "A"}])
    times = 4 * MORE
    together(
        tmp_path,
        ("replace", 1, times, "A"),
        ("replace", 2, times, "A", "B"),
        ("replace", 3, times, "C"),
    )
    found = generations(tmp_path)
    assert set(found) == {"A", "B", "C"}
    assert found["A"][0] == found["B"][0] == found["C"][0] == times
    assert (found["B"][1], found["C"][1]) == (2, 3)
    assert found["A"][1] in (1, 2)


def test_no_reader_fails_or_sees_half_a_write_while_two_writers_replace_and_publish(
    tmp_path: Path,
) -> None:
    opened(tmp_path).publish()
    times = 8 * MORE
    with ExitStack() as stack:
        roles = [("look", "catalogue")] * 8 + [("look", "ask")] * 2
        readers = [stack.enter_context(process(tmp_path, *role)) for role in roles]
        writers = [
            stack.enter_context(process(tmp_path, "replace", n, times, f"own {n}", "shared"))
            for n in (1, 2)
        ]
        go(*readers, *writers)
        for writer in writers:
            told(writer)
        (tmp_path / "stop").touch()
        answers = [told(reader).split(maxsplit=1) for reader in readers]
    assert all(int(count) >= 3 for count, _ in answers), answers
    assert {seen for _, seen in answers} == {"['own 1', 'own 2']\n"}
    assert {generation for generation, _ in generations(tmp_path).values()} == {times}


def test_compaction_beside_appends_and_replaces_loses_and_doubles_nothing(tmp_path: Path) -> None:
    batches, times = 12 * MORE, 4 * MORE
    sources = ["topic/0", "topic/1"]
    together(
        tmp_path,
        *(("append", source, batches) for source in sources),
        ("replace", 1, times, "A"),
        ("compact", times, "number"),
        ("compact", times),
    )
    assert events(tmp_path) == every(sources, batches)
    assert generations(tmp_path) == {"A": (times, 1)}


def test_a_writer_killed_at_any_moment_leaves_old_or_new_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    moments = random.Random(7)
    for _ in range(6 * MORE):
        with process(tmp_path, "consume", "topic/0") as writer:
            go(writer)
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.25))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        lake = opened(tmp_path)
        reached = lake.reached(EVENTS, "topic/0")
        assert reached is not None
        assert events(tmp_path) == [("topic/0", number) for number in range(reached)]
        found = generations(tmp_path)
        assert found["A"] == found["B"]
        # Rows and ranges are of the last loop or of the one before it.
        assert found["A"][0] in (reached - BATCH, reached - 2 * BATCH)
        catalogue = ask(lake, "select count(*) from d.events").rows
        assert catalogue == [(reached,)]
        with duckdb.connect(str(tmp_path / "tidemill.duckdb"), read_only=True) as con:
            assert con.execute("select count(*) % 40 from d.parts").fetchall() == [(0,)]
    lake.replace_frame(PARTS, part("A", 10**6, 1), [{"symbol": "A"}])
    assert generations(tmp_path)["A"] == (10**6, 1)
    assert list(ask(lake, "select distinct generation from d.parts where symbol = 'A'").rows) == [
        (10**6,)
    ]


if __name__ == "__main__":
    import deltalake

    assert deltalake and duckdb
    print("ready", flush=True)
    sys.stdin.readline()
    ROLES[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
