"""Claims about the DuckDB catalogue: what it shows, and how one takes another's place."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tidemill.lake import catalog
from tidemill.lake.compaction import compact
from tidemill.lake.contracts import Column, Table, Type, polars_schema
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

BARS = Table(
    "crypto",
    "bars",
    "Bars; it's one a minute.",
    (
        Column("start", Type.TIMESTAMP, "Start, UTC."),
        Column("price", Type.DOUBLE, "Last price.", unit="EUR"),
        Column("symbol", Type.STRING, "Who's pair."),
        Column("year", Type.INT, "UTC year."),
    ),
    key=("symbol", "start"),
    partition_by=("symbol", "year"),
    sort_by=("start",),
)
SALES = Table("retail", "sales", "Sales.", (Column("id", Type.BIGINT, "Number."),), key=("id",))
NOON = datetime(2024, 6, 1, 12)


def bars(symbol: str, *prices: float) -> pl.DataFrame:
    rows = [(NOON.replace(minute=n), price, symbol, 2024) for n, price in enumerate(prices)]
    return pl.DataFrame(rows, schema=polars_schema(BARS), orient="row")


def put(lake: Lake, symbol: str, *prices: float) -> None:
    lake.replace_frame(BARS, bars(symbol, *prices), [{"symbol": symbol, "year": 2024}])


def query(path: Path, sql: str, setup: str = "") -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as con:
        con.execute(setup)
        return con.execute(sql).fetchall()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", tmp_path / "it's" / "tidemill.duckdb", [BARS, SALES])


@pytest.fixture
def path(lake: Lake) -> Path:
    assert lake.catalogue is not None
    return lake.catalogue


def test_every_contract_is_a_view_even_one_never_written(lake: Lake, path: Path) -> None:
    lake.publish()
    assert query(path, "from crypto.bars") == []
    put(lake, "A", 1.0)
    views = "select schema_name, view_name from duckdb_views() where not internal order by all"
    assert query(path, views) == [("crypto", "bars"), ("retail", "sales")]
    assert query(path, "select count(*) from retail.sales") == [(0,)]
    tables = "select count(*) from duckdb_tables()"
    assert query(path, tables) == [(0,)]


def test_meanings_and_units_are_comments(lake: Lake, path: Path) -> None:
    lake.publish()
    comments = (
        "select column_name, data_type, comment from duckdb_columns() "
        "where table_name = 'bars' order by column_index"
    )
    expected = [(c.name, c.type.value, c.comment) for c in BARS.columns]
    assert query(path, comments) == expected
    put(lake, "A", 1.0)
    assert query(path, comments) == expected
    assert query(path, "select comment from duckdb_views() where view_name = 'bars'") == [
        ("Bars; it's one a minute.",)
    ]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_times_are_utc_in_any_session(lake: Lake, path: Path, zone: str) -> None:
    put(lake, "A", 1.0)
    shown = query(path, "select start, start::varchar from crypto.bars", f"set timezone = '{zone}'")
    assert shown == [(NOON, "2024-06-01 12:00:00")]


def test_a_commit_is_seen_as_soon_as_it_is_made(lake: Lake, path: Path) -> None:
    for price in (1.0, 2.0):
        put(lake, "A B", price)
        assert query(path, "select symbol, price from crypto.bars") == [("A B", price)]
    lake.rollback(BARS, 1)
    assert query(path, "select price from crypto.bars") == [(1.0,)]
    lake.append(BARS, bars("B", 5.0), "t/0", 1)
    assert query(path, "select price from crypto.bars order by 1") == [(1.0,), (5.0,)]


def test_versions_tells_which_version_of_each_table_is_shown(lake: Lake, path: Path) -> None:
    assert catalog.shown(path) == {}
    put(lake, "A", 1.0)
    assert catalog.shown(path) == {"crypto.bars": 1, "retail.sales": -1}
    assert dict(query(path, "from versions()")) == catalog.shown(path)


def test_a_reader_with_the_old_catalogue_open_goes_on_reading_the_old_version(
    lake: Lake, path: Path
) -> None:
    put(lake, "A", 1.0)
    with duckdb.connect(str(path), read_only=True) as con:
        lake.replace_frame(BARS, bars("A", 2.0), [{"symbol": "A", "year": 2024}])
        compact(lake, BARS, ["start"])
        assert con.execute("select price from crypto.bars").fetchall() == [(1.0,)]
    assert query(path, "select price from crypto.bars") == [(2.0,)]


def test_a_partition_filter_opens_only_that_partitions_files(lake: Lake, path: Path) -> None:
    for symbol in ("A", "B", "C"):
        put(lake, symbol, 1.0)
    where = "where symbol = 'B' and year = 2024"
    ((_, plan),) = query(path, f"explain analyze select sum(price) from crypto.bars {where}")
    assert "Scanning Files: 1/3" in plan


def test_windows_over_a_partition_column_in_two_orders_work(lake: Lake, path: Path) -> None:
    for symbol in ("A", "B"):
        put(lake, symbol, 3.0, 1.0, 2.0)
    windows = (
        "select symbol, price, rank() over (partition by symbol order by price), "
        "rank() over (partition by symbol order by start), "
        "count(*) over (partition by symbol, year order by price desc) from crypto.bars "
        "order by symbol, start"
    )
    found = [
        (symbol, *row) for symbol in "AB" for row in ((3, 3, 1, 1), (1, 1, 2, 3), (2, 2, 3, 2))
    ]
    assert query(path, windows) == found


def test_a_catalogue_without_tables_is_one(tmp_path: Path) -> None:
    catalog.publish(tmp_path / "c.duckdb", [])
    assert catalog.shown(tmp_path / "c.duckdb") == {}


def test_a_publisher_that_fails_leaves_the_old_catalogue_and_nothing_else(
    lake: Lake, path: Path
) -> None:
    put(lake, "A", 1.0)

    def broken() -> Iterator[Snapshot]:
        yield lake.snapshot(BARS)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        catalog.publish(path, broken())
    assert query(path, "select price from crypto.bars") == [(1.0,)]
    assert {p.name for p in path.parent.iterdir()} <= {path.name, f".{path.name}.lock"}


def test_a_publisher_fails_on_a_table_whose_files_are_gone_and_works_again_after(
    lake: Lake, path: Path
) -> None:
    put(lake, "A", 1.0)
    (file,) = lake.snapshot(BARS).files
    file.path.rename(file.path.with_suffix(".away"))
    os.utime(path, (0, 0))  # as if another had written it, so that nothing of it is kept
    with pytest.raises(duckdb.Error, match="No files found"):
        lake.publish()
    file.path.with_suffix(".away").rename(file.path)
    lake.publish()
    assert query(path, "select price from crypto.bars") == [(1.0,)]
    assert {p.name for p in path.parent.iterdir()} <= {path.name, f".{path.name}.lock"}


def test_what_a_killed_publisher_left_is_cleared(lake: Lake, path: Path) -> None:
    lake.publish()
    half = path.with_name(f".{path.name}.{'0123456789abcdef' * 2}")
    log = half.with_name(f"{half.name}.wal")
    for left in (half, log):
        left.write_bytes(b"half")
    lake.publish()
    assert not half.exists()
    assert not log.exists()


def test_whoever_opened_the_catalogue_to_write_does_not_break_the_next_one(
    lake: Lake, path: Path
) -> None:
    put(lake, "A", 1.0)
    code = (
        "import duckdb, os, sys\n"
        "con = duckdb.connect(sys.argv[1])\n"
        "con.execute('create table mine as select 1')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name(f"{path.name}.wal").exists()
    put(lake, "A", 2.0)
    assert query(path, "select price from crypto.bars") == [(2.0,)]


def test_a_publisher_reads_the_versions_only_when_it_is_its_turn(lake: Lake, path: Path) -> None:
    put(lake, "A", 1.0)
    first_reads, may_finish = threading.Event(), threading.Event()

    def slowly() -> Iterator[Snapshot]:
        yield lake.snapshot(BARS)  # version 1, about to grow old
        first_reads.set()
        assert may_finish.wait(10)

    slow = threading.Thread(target=catalog.publish, args=(path, slowly()))
    slow.start()
    assert first_reads.wait(10)
    rival = Lake(lake.root, path, lake.tables)
    second = threading.Thread(target=put, args=(rival, "A", 2.0))
    second.start()
    while Lake(lake.root).snapshot(BARS).version < 2:
        time.sleep(0.01)
    second.join(0.5)
    assert second.is_alive()  # committed, and waiting to publish
    may_finish.set()
    slow.join(10)
    second.join(10)
    assert query(path, "select price from crypto.bars") == [(2.0,)]


def test_the_catalogue_is_read_from_any_folder(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        lake = Lake(Path("lake"), Path("tidemill.duckdb"), [BARS])
        put(lake, "A", 1.0)
    finally:
        os.chdir(here)
    assert query(tmp_path / "tidemill.duckdb", "select price from crypto.bars") == [(1.0,)]
