"""``kill -9`` of a consumer at random moments: each message is in the lake once in the end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.desk import Desk, running
from tests.unit.kafka.messages import NOON_MS, tick

KILLS = int(os.environ.get("TIDEMILL_FAULTS", "3"))
ROUND = 3000
SPAN = 500

CONSUMER = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.integration.desk import TABLES, Desk, feed_of
from tidemill.crypto.topics import PRICES
from tidemill.lake.store import Lake

servers, name, home, limit = sys.argv[1:]
lake = Lake(Path(home) / "lake", Path(home) / "tidemill.duckdb", TABLES)
desk = Desk(servers, lake, feed_of(replace(PRICES, name=name, partitions=2)))
print("ready", flush=True)
desk.catch_up(int(limit))
"""


def consumer(desk: Desk, home: Path) -> "subprocess.Popen[str]":
    """A process that consumes in small spans, begun when it has imported all it needs."""
    command = [sys.executable, "-c", CONSUMER, desk.servers, desk.feed.topic.name, str(home)]
    process = subprocess.Popen([*command, str(SPAN)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.integration
def test_a_killed_consumer_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    with running(tmp_path / "kafka") as broker:
        desk = Desk.at(broker, tmp_path)
        sent, takes = 0, 3.0
        for number in range(KILLS):
            desk.ticks(range(sent, sent + ROUND))
            desk.ticks(range(sent, sent + ROUND), partition=1, symbol="ETHUSDT")
            desk.produce([(None, b"x"), (b"BTCUSDT", tick(at=NOON_MS + sent))])
            sent += ROUND
            # Two at once, so that one overtakes the other; some kills fall on both.
            processes = [consumer(desk, tmp_path) for _ in range(1 + number % 2)]
            time.sleep(rng.uniform(0.1, 0.9) * takes)
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            if rng.random() < 0.5:  # else the next one finds what two of them left
                started = time.monotonic()
                desk.catch_up(SPAN)
                takes = max(0.5, min(10.0, 0.5 * takes + 0.5 * (time.monotonic() - started)))
                desk.prove()
        desk.catch_up()
        counted = desk.prove()
        assert counted["good"] + counted["late"] == 2 * sent
        assert (counted["duplicate"], counted["dead"]) == (KILLS, KILLS)
