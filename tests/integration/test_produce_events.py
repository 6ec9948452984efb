"""``tidemill produce events`` against a real broker: what it says it sent is what is there."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.test_broker import config
from tests.integration.test_producer import held
from tidemill.commands import produce_events
from tidemill.commands.produce_events import Order
from tidemill.errors import InputError
from tidemill.events.simulator import Clickstream, simulate
from tidemill.events.topics import EVENTS, TYPES
from tidemill.kafka import resume, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.topics import Topic
from tidemill.settings import Settings

pytestmark = pytest.mark.integration

ROWS = 4000
START_MS = 1_790_000_000_000
DRIVER = """
import sys
from dataclasses import replace
from tidemill.events import topics
topics.EVENTS = replace(topics.EVENTS, name=sys.argv.pop(1))
from tidemill.cli import main
main()
"""
"""The command line, with a topic of a test's own."""


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.csv"
    simulate(path, Clickstream(events=ROWS), START_MS)
    return path


@dataclass
class Desk:
    """A topic of its own, and the command that fills it."""

    broker: Broker
    home: Path
    topic: Topic

    def produce(self, *files: Path, **order: Any) -> dict[str, Any]:
        settings = replace(Settings.current(self.home), kafka_servers=self.broker.servers)
        report, error = produce_events.produce(settings, Order(files, **order), self.topic)
        assert error is None
        assert report["sent"] == report["acknowledged"] and report["failed"] == 0
        return report

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", DRIVER, self.topic.name, "produce", "events", *arguments]
        servers = {"TIDEMILL_HOME": str(self.home), "TIDEMILL_KAFKA_SERVERS": self.broker.servers}
        return subprocess.Popen(
            line,
            env=os.environ | servers,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def held(self) -> dict[int, list[tuple[bytes, bytes]]]:
        return held(self.broker, self.topic.name, self.topic.partitions)

    def values(self) -> list[dict[str, Any]]:
        return [json.loads(value) for pairs in self.held().values() for _, value in pairs]

    def size(self) -> int:
        if self.topic.name not in topics.described(config(self.broker)):
            return 0
        ends = topics.offsets(config(self.broker), self.topic.name, self.topic.partitions)
        return sum(after for _, after in ends)


_numbers = count()


@pytest.fixture
def desk(broker: Broker, tmp_path: Path) -> Desk:
    topic = replace(EVENTS, name=f"clicks-{next(_numbers)}")
    topics.ensure(config(broker), [topic])
    return Desk(broker, tmp_path, topic)


def test_a_file_is_sent_row_by_row_keyed_and_accounted_for(desk: Desk, clicks: Path) -> None:
    clicks_and_one = desk.home / "clicks.csv"
    clicks_and_one.write_text(clicks.read_text() + "cut,short\n")
    report = desk.produce(clicks_and_one, rate="max")
    partitions = desk.held()
    values = [json.loads(value) for pairs in partitions.values() for _, value in pairs]
    assert report["sent"] == ROWS and report["skipped"] == 1
    assert sorted(value["n"] for value in values) == list(range(ROWS))
    assert report["by_type"] == Counter(value["event_type"] for value in values)
    assert sum(report["faults"].values()) == 0 and report["warning"] is None
    for number, pairs in partitions.items():
        told = [json.loads(value) for _, value in pairs]
        assert [value["n"] for value in told] == sorted(value["n"] for value in told)
        for (key, _), value in zip(pairs, told, strict=True):
            assert key.decode() == value["event_type"]
            assert resume.partition_of(key, desk.topic.partitions) == number
    assert not any("cycle" in value for value in values)


def test_rows_that_are_no_events_are_counted_as_far_as_a_replay_goes(desk: Desk) -> None:
    path = desk.home / "some.csv"
    simulate(path, Clickstream(events=10), START_MS)
    header, *rows = path.read_text().splitlines(keepends=True)
    bad = rows[0].replace("view", " ")
    path.write_text("".join([header, bad, bad, *rows[:4], bad, *rows[4:], bad]))
    for limit, told in ((4, (4, 2)), (5, (5, 3)), (10, (10, 3)), (None, (10, 4))):
        report = desk.produce(path, rate="max", limit=limit)
        assert (report["sent"], report["skipped"]) == told
    (line,) = report["left_out"]
    assert line.startswith(f"{path}: 4 of its 14 rows cannot be used: event_type: expected one")


def test_by_user_all_that_a_user_does_is_in_one_partition(desk: Desk, clicks: Path) -> None:
    desk.produce(clicks, rate="max", key="user_id")
    users = [{json.loads(value)["user_id"] for _, value in pairs} for pairs in desk.held().values()]
    assert all(users) and sum(map(len, users)) == len(set.union(*users))
    for pairs in desk.held().values():
        assert all(key == b"%d" % json.loads(value)["user_id"] for key, value in pairs)


@pytest.mark.parametrize("key", ["event_type", "user_id"])
def test_the_faults_that_are_told_are_those_that_are_there(desk: Desk, key: str) -> None:
    report = desk.produce(
        rate="4000", limit=24_000, key=key, faults="late=0.05,duplicates=0.04,broken=0.03"
    )
    found: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for pairs in desk.held().values():
        seen, newest = set(), 0
        for _, value in pairs:
            event = usable(value)
            if event is None:
                found["broken"] += 1
                continue
            types[event["event_type"]] += 1
            columns = tuple(event.get(column.name) for column in EVENTS.value)
            found["duplicates"] += columns in seen
            seen.add(columns)
            at = ms(event["event_time"])
            found["behind"] += at < newest - 10_000
            newest = max(newest, at)
    told = report["faults"]
    assert report["sent"] == 24_000 == sum(types.values()) + told["broken"]
    assert report["by_type"] == types and set(types) == set(TYPES)
    assert {name: told[name] for name in found} == found
    assert 0 < told["behind"] < told["late"] < 2 * 0.05 * 24_000


def usable(value: bytes) -> dict[str, Any] | None:
    """A message as an event, if it is one."""
    try:
        event: dict[str, Any] = json.loads(value)
    except ValueError:
        return None
    is_price = not isinstance(event["price"], str) and event["price"] >= 0
    return event if is_price and "-13-" not in event["event_time"] else None


def ms(text: str) -> int:
    return int(np.datetime64(text.removesuffix(" UTC"), "ms").astype(int))


def test_a_simulated_event_is_not_sent_before_it_happens_nor_stamped_before_it_is_asked_for(
    desk: Desk,
) -> None:
    before = time.time_ns() // 1_000_000
    desk.produce(rate="500", limit=1000)
    after = time.time_ns() // 1_000_000
    values = desk.values()
    assert len(values) == 1000
    for value in values:
        assert before <= ms(value["event_time"]) <= value["produced_at"] <= after


def test_killed_again_and_again_a_resumed_loop_sends_every_row_of_every_round_once(
    desk: Desk, clicks: Path
) -> None:
    rng = random.Random(11)
    for _ in range(4):
        process = desk.start(str(clicks), "--loop", "--rate", "6000", "--resume")
        before = grown = desk.size()
        while grown == before and process.poll() is None:
            time.sleep(0.05)
            grown = desk.size()
        time.sleep(rng.uniform(0, 1.2))
        assert process.poll() is None, process.stderr and process.stderr.read()
        process.kill()
        process.communicate()
    time.sleep(2)  # what a killed producer has on its way may still arrive
    had = desk.size()
    rounds = 1 + had // ROWS
    most = max(value["cycle"] for value in desk.values()) + 1
    desk.produce(
        clicks, is_endless=True, is_resumed=True, rate="max", limit=(most + 1) * ROWS - had
    )
    found = [(value["cycle"], value["n"]) for value in desk.values()]
    assert len(found) == len(set(found)) == (most + 1) * ROWS
    assert set(found) == {(cycle, n) for cycle in range(most + 1) for n in range(ROWS)}
    assert rounds > 1
    for pairs in desk.held().values():
        places = [(told["cycle"], told["n"]) for told in (json.loads(v) for _, v in pairs)]
        assert places == sorted(places)


def test_a_replay_that_is_complete_has_nothing_to_resume(desk: Desk, clicks: Path) -> None:
    assert desk.produce(clicks, rate="max", is_resumed=True)["sent"] == ROWS
    assert desk.produce(clicks, rate="max", is_resumed=True)["sent"] == 0


def test_what_is_not_of_a_file_is_not_resumed(desk: Desk, clicks: Path) -> None:
    desk.produce(rate="max", limit=10)
    with pytest.raises(InputError, match="no event of a file"):
        desk.produce(clicks, is_resumed=True)


def test_events_older_than_what_the_topic_has_are_warned_of_and_restamped_are_not(
    desk: Desk, clicks: Path
) -> None:
    assert desk.produce(clicks, rate="max")["warning"] is None
    desk.produce(rate="max", limit=1000)
    assert "--restamp moves the times" in str(desk.produce(clicks, rate="max")["warning"])
    moved = desk.produce(clicks, rate="max", is_restamped=True)
    assert moved["warning"] is None and moved["sent"] == ROWS
    looped = desk.produce(clicks, rate="max", is_endless=True, is_restamped=True, limit=10)
    assert looped["sent"] == 10


def test_events_that_would_be_ahead_of_their_time_are_not_sent(desk: Desk) -> None:
    path = desk.home / "hours.csv"
    simulate(path, Clickstream(events=200, rate=0.01), START_MS)
    settings = replace(Settings.current(desk.home), kafka_servers=desk.broker.servers)
    order = Order((path,), rate="max", is_restamped=True)
    report, error = produce_events.produce(settings, order, desk.topic)
    assert report["sent"] == desk.size() == 0
    assert "takes 60: send them with --speed 1x" in str(error)


def test_ctrl_c_ends_an_endless_clickstream_with_the_account(desk: Desk) -> None:
    process = desk.start("--rate", "2000", "--json")
    while desk.size() < 500 and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["sent"] == told["acknowledged"] == desk.size() == sum(told["by_type"].values())


def test_a_file_at_the_speed_of_its_times_sends_the_same(desk: Desk, clicks: Path) -> None:
    report = desk.produce(clicks, speed="100x")
    assert report["sent"] == ROWS
    assert sorted(value["n"] for value in desk.values()) == list(range(ROWS))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--loop",), "--loop: for files of events alone"),
        (("--speed", "1x", "--resume"), "--speed, --resume: for files"),
        (("FILE", "--faults", "late=0.1"), "--faults are for simulated events"),
        (("--faults", "lost=0.1"), "expected shares of late, duplicates, broken"),
        (("--key", "brand"), "expected event_type or user_id"),
        (("--rate", "fast"), "expected a number of messages a second, or max"),
        (("--symbol", "BTCUSDT"), "produce events has no --symbol"),
        (("gone.csv",), "gone.csv: there is no such file"),
        (("CUT.zip",), "the zip file is damaged"),
        (("CUT.gz",), "the gzip file is damaged or cut short"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_one_line(
    desk: Desk, clicks: Path, arguments: tuple[str, ...], told: str
) -> None:
    packed = desk.home / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(clicks, "clicks.csv")
    (desk.home / "CUT.zip").write_bytes(packed.read_bytes()[:-40])
    (desk.home / "CUT.gz").write_bytes(gzip.compress(clicks.read_bytes())[:-40])
    files = {"FILE": str(clicks)} | {name: str(desk.home / name) for name in ("CUT.zip", "CUT.gz")}
    process = desk.start(*(files.get(word, word) for word in arguments))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told in err and len(err.splitlines()) == 1
    assert desk.size() == 0
