"""``tidemill produce`` as a user runs it, against a real broker."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.integration.test_broker import config
from tests.integration.test_producer import held
from tests.unit.crypto.exchange_server import market
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.crypto.topics import PRICES
from tidemill.kafka import resume, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.producer import Sender
from tidemill.processes import free_port

pytestmark = pytest.mark.integration

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
MINUTES = 1440
PRICES_TOLD = [{"symbol": "AAAUSDT", "price": "1.5"}, {"symbol": "BBBUSDT", "price": "2.50000000"}]


@pytest.fixture
def fresh(broker: Broker) -> Iterator[Broker]:
    """The broker, with a topic of prices that holds nothing."""
    client = AdminClient(config(broker))
    if PRICES.name in topics.described(config(broker)):
        client.delete_topics([PRICES.name])[PRICES.name].result()
        while PRICES.name in topics.described(config(broker)):
            time.sleep(0.1)
    topics.ensure(config(broker), [PRICES])
    for _ in range(100):
        try:
            assert ends_of(broker) == [(0, 0)] * PRICES.partitions
            break
        except KafkaException:  # it has no leader yet
            time.sleep(0.1)
    yield broker


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day of four pairs in one file, 4 * 1440 candles."""
    folder = tmp_path_factory.mktemp("day")
    whole = folder / "day.csv"
    clean = Faults(0, 1, 0, 0, 0, 0)
    with whole.open("w") as file:
        file.write("symbol,timestamp,open,high,low,close,volume\n")
        for symbol in SYMBOLS:
            path = folder / f"{symbol}.csv"
            market = Market(symbol, date(2026, 1, 30), MINUTES, 50.0, "kaggle_eth")
            simulate(path, market, clean)
            file.writelines(
                f"{symbol},{line}" for line in path.read_text().splitlines(keepends=True)[1:]
            )
    return whole


def command(broker: Broker, home: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "tidemill", "produce", "crypto", *arguments], os.environ | {
        "TIDEMILL_HOME": str(home),
        "TIDEMILL_KAFKA_SERVERS": broker.servers,
    }


def produce(broker: Broker, home: Path, *arguments: str, code: int = 0) -> Any:
    line, environment = command(broker, home, *arguments, "--json")
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def produce_told(broker: Broker, home: Path, *arguments: str, code: int) -> str:
    """What it says on standard error."""
    line, environment = command(broker, home, *arguments)
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def prices(broker: Broker) -> dict[int, list[tuple[Any, Any]]]:
    return held(broker, PRICES.name, PRICES.partitions)


def test_keys_go_where_the_broker_has_them(broker: Broker) -> None:
    topics.ensure(config(broker), [replace(PRICES, name="keys", partitions=5)])
    rng = random.Random(3)
    keys = [bytes(rng.randrange(256) for _ in range(length)) for length in range(1, 60)]
    with Sender(config(broker), "keys") as sender:
        sender.send_all([(key, b"") for key in keys])
    found = {key: p for p, pairs in held(broker, "keys", 5).items() for key, _ in pairs}
    assert found == {key: resume.partition_of(key, 5) for key in keys}


def test_the_messages_and_their_order_are_the_same_at_any_speed(
    fresh: Broker, day: Path, tmp_path: Path
) -> None:
    found = []
    span = ("--since", "2026-01-30T00:00", "--until", "2026-01-30T00:04")
    for speed in ("max", "240x", "60x"):
        ends = topics.offsets(config(fresh), PRICES.name, PRICES.partitions)
        told = produce(fresh, tmp_path, str(day), "--speed", speed, *span)
        assert (told["sent"], told["acknowledged"], told["failed"]) == (64, 64, 0)
        now = prices(fresh)
        found.append({p: pairs[ends[p][1] :] for p, pairs in now.items()})
    assert found[0] == found[1] == found[2]
    assert sum(len(pairs) for pairs in found[0].values()) == 64
    assert len([p for p in found[0].values() if p]) > 1


def test_killed_again_and_again_a_resumed_replay_sends_every_event_once(
    fresh: Broker, day: Path, tmp_path: Path
) -> None:
    line, environment = command(fresh, tmp_path, str(day), "--rate", "4000", "--resume")
    rng = random.Random(11)
    kills = 0
    while kills < 4:
        process = subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = grown = sum(after for _, after in ends_of(fresh))
        while grown == before and process.poll() is None:
            time.sleep(0.05)
            grown = sum(after for _, after in ends_of(fresh))
        time.sleep(rng.uniform(0, 0.6))
        assert process.poll() is None
        process.kill()
        process.wait()
        kills += 1
    sent = produce(fresh, tmp_path, str(day), "--resume")["sent"]
    found = [pair for pairs in prices(fresh).values() for pair in pairs]
    assert 0 < sent < len(SYMBOLS) * MINUTES * 4
    assert len(found) == len(set(found)) == len(SYMBOLS) * MINUTES * 4
    for pairs in prices(fresh).values():
        times = [json.loads(value)["timestamp"] for _, value in pairs]
        assert times == sorted(times)
    assert produce(fresh, tmp_path, str(day), "--resume")["sent"] == 0


def ends_of(broker: Broker) -> list[tuple[int, int]]:
    return topics.offsets(config(broker), PRICES.name, PRICES.partitions)


def test_a_replay_behind_something_else_is_not_resumed(
    fresh: Broker, day: Path, tmp_path: Path
) -> None:
    with Sender(config(fresh), PRICES.name) as sender:
        sender.send(b"AAAUSDT", b"no tick")
    told = produce(fresh, tmp_path, str(day), "--resume", code=2)
    assert "ends with b'no tick'" in told and "without --resume" in told


def test_ctrl_c_ends_it_with_the_account(fresh: Broker, day: Path, tmp_path: Path) -> None:
    line, environment = command(fresh, tmp_path, str(day), "--speed", "60x", "--loop", "--json")
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
    while not sum(after for _, after in ends_of(fresh)):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert told["sent"] == told["acknowledged"] == sum(after for _, after in ends_of(fresh))


def test_a_loop_goes_on_with_later_times_and_a_limit_ends_it(
    fresh: Broker, day: Path, tmp_path: Path
) -> None:
    one = ("--since", "2026-01-30T00:00", "--until", "2026-01-30T00:01", "--symbol", "AAAUSDT")
    told = produce(fresh, tmp_path, str(day), *one, "--loop", "--limit", "10")
    assert told["sent"] == 10
    values = [json.loads(value) for pairs in prices(fresh).values() for _, value in pairs]
    times = [value["timestamp"] for value in values]
    assert (
        times
        == [
            1769731200000 + cycle * 86_400_000 + at
            for cycle in range(3)
            for at in (0, 20_000, 40_000, 59_999)
        ][:10]
    )


def test_live_prices_are_sent_each_second_until_the_limit(
    fresh: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with market({}) as server:
        server.prices = [*PRICES_TOLD, {"symbol": "CCCUSDT", "price": "gone"}]
        monkeypatch.setenv("TIDEMILL_EXCHANGE_URL", server.url)
        pairs = [word for name in "ABC" for word in ("--symbol", f"{name * 3}USDT")]
        told = produce(fresh, tmp_path, *pairs, "--limit", "5")
        assert "refuses NOPEUSDT" in produce_told(fresh, tmp_path, "--symbol", "NOPEUSDT", code=1)
    assert (told["sent"], told["acknowledged"], told["skipped"]) == (5, 5, 3)
    values = [json.loads(value) for pairs in prices(fresh).values() for _, value in pairs]
    assert sorted(value["symbol"] for value in values) == ["AAAUSDT"] * 3 + ["BBBUSDT"] * 2
    assert len({value["timestamp"] for value in values}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["produce", "crypto", "DAY"],
        ["stream", "events", "--once"],
        ["replay-dead-letters"],
        ["accept-loss", "crypto_prices", "--yes"],
    ],
)
def test_without_a_broker_one_message_names_the_command(
    arguments: list[str], tmp_path: Path, day: Path
) -> None:
    told = [str(day) if word == "DAY" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", *told],
        env=os.environ | {"TIDEMILL_HOME": str(tmp_path), "TIDEMILL_KAFKA_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "'tidemill broker start'" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_is_for_a_replay_alone_is_refused_for_live_prices(
    broker: Broker, tmp_path: Path
) -> None:
    assert "add a file or --speed" in produce(broker, tmp_path, "--loop", code=2)
    assert "--speed fast" in produce(broker, tmp_path, "--speed", "fast", code=2)
