"""``kill -9`` of what makes windows of events and publishes them: each window is there once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.desk import running
from tests.integration.shop import NOON_MS, Shop, click
from tidemill.events import contracts as c
from tidemill.events.checks_live import counts_every_event, late_not_told, published_differs
from tidemill.events.checks_replay import replay_differs
from tidemill.events.following import PUBLISHED
from tidemill.lake.store import Lake

KILLS = int(os.environ.get("TIDEMILL_FAULTS", "3"))
ROUND = 1_000
SPAN = 200
PARTITIONS = 3

WORKER = """
import sys
from pathlib import Path
from tests.faults.test_event_windows import FOREVER_MS
from tests.integration.shop import Shop

servers, name, home, limit = sys.argv[1:]
shop = Shop.of(servers, Path(home), name, idle_ms=FOREVER_MS)
print("ready", flush=True)
while True:
    shop.take(limit=int(limit))
    shop.publish()
"""
FOREVER_MS = 1 << 40
"""No partition is ever idle, so that what is closed hangs on no one's pace."""


def worker(shop: Shop, home: Path) -> "subprocess.Popen[str]":
    """A process that takes, makes windows and publishes, begun when it has imported all."""
    servers = shop.clicks.config["bootstrap.servers"]
    command = [sys.executable, "-c", WORKER, servers, shop.clicks.feed.topic.name, str(home)]
    process = subprocess.Popen([*command, str(SPAN)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def values(numbers: range, partition: int) -> Iterator[bytes]:
    """Events 20 ms apart, of all sorts, some of them late, and what is none."""
    rng = random.Random(numbers.start * PARTITIONS + partition)
    for n in numbers:
        late_ms = rng.choice([9_000, 14_000, 40_000]) if rng.random() < 0.02 else 0
        yield click(
            NOON_MS + 20 * n - late_ms,
            rng.choice(["view", "view", "cart", "purchase", "remove_from_cart"]),
            brand=rng.choice([None, "a", "b", "O'B\n<b>"]),
            category_code=rng.choice([None, "a.b", "c"]),
            price=rng.randrange(100_000) / 100,
        )
        if rng.random() < 0.01:
            yield b"no JSON"


def fill(shop: Shop, numbers: range) -> None:
    for partition in range(PARTITIONS):
        shop.send(values(numbers, partition), partition)


def places(message: dict[str, Any]) -> tuple[str, int, str]:
    return message["table"], message["window_start"], message["key"]


@pytest.mark.integration
@pytest.mark.timeout(120 + 60 * KILLS)
def test_killed_makers_of_windows_lose_none_and_make_none_twice(tmp_path: Path) -> None:
    rng = random.Random(7)
    with running(tmp_path / "kafka") as broker:
        shop = Shop.at(broker, tmp_path, idle_ms=FOREVER_MS)
        fill(shop, range(10))
        shop.take()  # every partition has been seen, so that none of them is waited for
        sent = 10
        for number in range(KILLS):
            # Two at once, so that they overtake each other; some kills fall on both.
            workers = [worker(shop, tmp_path) for _ in range(1 + number % 2)]
            fill(shop, range(sent, sent + ROUND))
            sent += ROUND
            time.sleep(rng.uniform(0.1, 3.0))
            for process in workers:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        while shop.clicks.unread(shop.clicks.held()):
            shop.take(limit=5 * SPAN)
            shop.publish()
        fill(shop, range(sent, sent + 10))
        shop.take()
        shop.publish()

        shop.prove()
        for check in (counts_every_event, late_not_told, replay_differs):
            assert check(shop.clicks) == []
        _are_those_of_one_pass(shop, tmp_path / "fresh")
        _are_published_once(shop)


def _are_those_of_one_pass(shop: Shop, home: Path) -> None:
    """The windows are those of a lake that reads the topic in one piece."""
    lake = Lake(home / "lake", None, c.TABLES)
    fresh = replace(shop, clicks=replace(shop.clicks, lake=lake))
    fresh.take()
    for table in (*c.WINDOWS, c.LATE_EVENTS):
        rows = shop.rows(table)
        assert rows
        assert rows == fresh.rows(table), table.id


def _are_published_once(shop: Shop) -> None:
    """Every final window is in the topic once, with what its table says."""
    sent = shop.analysed()
    assert published_differs(shop.clicks, shop.analytics) == []
    assert max(Counter(map(places, sent)).values()) == 1
    names = {
        "event_counts": "event_count",
        "brand_metrics": "event_count",
        "category_metrics": "events",
    }
    for windows in PUBLISHED:
        table = windows.table
        key = ", ".join(windows.keys)
        told = f"epoch_ms(window_start), {key}, {names[table.name]}"
        final = shop.query(table, f"select {told} from {{}} where is_final order by all")
        assert final
        mine = [m for m in sent if m["table"] == table.name]
        found = [(m["window_start"], *json.loads(m["key"]), m[names[table.name]]) for m in mine]
        assert sorted(found, key=str) == sorted(final, key=str), table.id
