"""``kill -9`` of ``tidemill run``: each partition is old or new, and the next run is whole."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tidemill import compose
from tidemill.crypto import contracts as c
from tidemill.crypto import simulator
from tidemill.settings import Settings

KILLS = int(os.environ.get("TIDEMILL_FAULTS", "2"))
MADE = [t for t in c.TABLES if t not in (c.LANDED_FILES, c.REJECTED_ROWS, *c.LIVE)]
FAULTS = simulator.Faults(
    gaps=4,
    longest_gap_minutes=300,
    null_rows=10,
    exact_duplicates=5,
    conflicting_duplicates=5,
    crashes=1,
)
State = dict[str, dict[tuple[Any, ...], tuple[int, int]]]


def run(home: Path, wait: bool = True) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill", "run", "crypto", "--no-forecasts"],
        env=os.environ | {"TIDEMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if wait:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    return process


def state(home: Path) -> State:
    """Rows and their hash, by table and partition, as any DuckDB reads them."""
    found: State = {}
    with duckdb.connect(str(home / "tidemill.duckdb"), read_only=True) as con:
        for table in MADE:
            by = ", ".join(table.partition_by)
            rows = con.execute(
                f"select {by}, count(*), sum(hash(t)::HUGEINT) from {table.id} t group by {by}"
            ).fetchall()
            n = len(table.partition_by)
            found[table.name] = {row[:n]: (row[n], row[n + 1]) for row in rows}
    return found


def commits(home: Path) -> set[Path]:
    """The files of all commits of the lake."""
    return set((home / "lake").glob("*/*/_delta_log/*.json"))


def land(home: Path, folder: Path, months: int, seed: int) -> None:
    crypto = compose.crypto(Settings.current(home))
    for symbol in ("AAAUSDT", "BBBUSDT"):
        market = simulator.Market(symbol, date(2024, 1, 1), months * 30 * 1440, 50.0, "kaggle_btc")
        path = folder / f"{symbol}_{seed}.csv"
        simulator.simulate(path, market, FAULTS, seed)
        crypto.landing.land_file(path)


@pytest.mark.integration
def test_a_killed_run_leaves_each_partition_old_or_new(tmp_path: Path) -> None:
    home, saved = tmp_path / "home", tmp_path / "saved"
    land(home, tmp_path, 3, seed=1)
    run(home)
    old = state(home)
    land(home, tmp_path, 4, seed=2)  # fills gaps of the months made before, and adds a month
    shutil.copytree(home, saved)
    before, started = commits(home), time.time()
    run(home)
    takes = time.time() - started
    times = [log.stat().st_mtime for log in commits(home) - before]
    commits_take = max(times) - min(times)
    new = state(home)
    changed = {name for name in old if old[name] != new[name]}
    assert {"raw_candles", "daily_ohlc", "filled_series"} <= changed

    rng = random.Random(11)
    seen_between = 0
    for number in range(KILLS):
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        process = run(home, wait=False)
        if number % 2:
            time.sleep(rng.uniform(0.2, 1.0) * takes)
        else:  # among the commits, however long the machine takes to get there
            while commits(home) <= before and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.8) * commits_take)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed = state(home)
        for name, partitions in killed.items():
            for key in {*partitions, *old[name], *new[name]}:
                rows = partitions.get(key)
                assert rows in (old[name].get(key), new[name].get(key)), (name, key)
        seen_between += killed not in (old, new)
        run(home)
        assert state(home) == new
    assert KILLS < 3 or seen_between, "no kill fell between the first commit and the last"
