"""The embedded broker is a real one: it keeps what it was given, whatever ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tidemill import compose
from tidemill.errors import TidemillError
from tidemill.kafka import jars, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Column, Type
from tidemill.processes import free_port

pytestmark = pytest.mark.integration

TICKS = Topic(
    "ticks",
    "A tick.",
    (Column("n", Type.BIGINT, "Number."),),
    key="n",
    event_key=("n",),
    event_time="n",
    partitions=2,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "kafka", free_port())
    yield broker
    broker.stop()


def config(broker: Broker) -> dict[str, Any]:
    return {"bootstrap.servers": broker.servers}


def produce(broker: Broker, numbers: range) -> None:
    producer = Producer(config(broker) | {"acks": "all", "enable.idempotence": True})
    for n in numbers:
        producer.produce(TICKS.name, key=str(n), value=json.dumps({"n": n}))
    assert producer.flush(30) == 0


def consumed(broker: Broker, count: int) -> list[int]:
    settings = {"group.id": "test", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(config(broker) | settings)
    consumer.subscribe([TICKS.name])
    found = []
    for message in consumer.consume(count, timeout=30):
        assert message.error() is None
        value = message.value()
        assert value is not None
        found.append(json.loads(value)["n"])
    consumer.close()
    return sorted(found)


def test_what_was_acknowledged_is_there_after_a_stop_and_after_a_kill(broker: Broker) -> None:
    first = broker.start()
    assert broker.start() == first
    assert topics.ensure(config(broker), [TICKS]) == ["ticks"]
    assert topics.ensure(config(broker), [TICKS]) == []
    assert topics.described(config(broker)) == {"ticks": 2}
    produce(broker, range(50))

    assert broker.stop()
    assert not broker.stop()
    assert not psutil.pid_exists(first.pid)
    second = broker.start()
    produce(broker, range(50, 100))
    os.kill(second.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(second.pid)] if psutil.pid_exists(second.pid) else [])
    assert broker.status() is None

    broker.start()
    assert topics.ensure(config(broker), [TICKS]) == []
    ends = topics.offsets(config(broker), TICKS.name, TICKS.partitions)
    assert sum(after - start for start, after in ends) == 100
    assert consumed(broker, 100) == list(range(100))


def test_it_listens_on_loopback_alone(broker: Broker) -> None:
    pid = broker.start().pid
    listening = [c for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]
    assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}
    assert {c.laddr.port for c in listening} == {broker.port, broker.controller_port}


def test_a_topic_keeps_its_messages_as_long_as_it_says(broker: Broker) -> None:
    broker.start()
    topics.ensure(config(broker), [replace(TICKS, name="short", retention=timedelta(hours=2))])
    client = AdminClient(config(broker))
    resource = ConfigResource(ResourceType.TOPIC, "short")
    (future,) = client.describe_configs([resource]).values()
    assert future.result()["retention.ms"].value == str(2 * 3600 * 1000)


def test_a_port_that_is_taken_is_told(broker: Broker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", broker.controller_port))
        taken.listen()
        with pytest.raises(TidemillError, match=rf"port {broker.controller_port} is in use"):
            broker.start()
    assert broker.status() is None


def test_a_broker_that_does_not_answer_is_told(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "TIMEOUT_S", 1)
    with pytest.raises(TidemillError, match="'tidemill broker start' starts the embedded one"):
        topics.ensure(config(broker) | {"log_level": 0}, [TICKS])


def test_kafka_that_cannot_be_fetched_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(jars, "_IVY", jars._IVY.replace(jars.VERSION, "0.0.0"))
    with pytest.raises(TidemillError, match="could not be fetched from Maven"):
        jars.fetched()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def tidemill(home: Path, *arguments: str, settings: Mapping[str, str], code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", "broker", *arguments],
        env=os.environ | {"TIDEMILL_HOME": str(home), **settings},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr


def test_the_command_line_starts_shows_and_stops_it(tmp_path: Path) -> None:
    settings = {"TIDEMILL_KAFKA_PORT": str(free_port())}
    started = tidemill(tmp_path, "start", settings=settings)
    try:
        assert all(topic.name in started for topic in compose.TOPICS)
        pid = tidemill(tmp_path, "status", "--json", settings=settings)["pid"]
        assert psutil.pid_exists(pid)
        found = tidemill(tmp_path, "topics", "--json", settings=settings)
        assert {topic["topic"] for topic in found} == {topic.name for topic in compose.TOPICS}
        for topic in found:
            assert topic["messages"] == 0
            assert topic["next_offsets"] == [0] * topic["partitions"]
    finally:
        tidemill(tmp_path, "stop", settings=settings)
    assert not psutil.pid_exists(pid)


def test_another_broker_is_used_where_the_settings_name_one(tmp_path: Path) -> None:
    other = {"TIDEMILL_KAFKA_SERVERS": "kafka.example:9093"}
    told = tidemill(tmp_path, "status", "--json", settings=other)
    assert told == {"servers": "kafka.example:9093", "embedded": False, "pid": None}
    assert "unset it" in tidemill(tmp_path, "start", code=2, settings=other)
    wrong = {"TIDEMILL_KAFKA_OPTIONS": "security.protocol"}
    with pytest.raises(AssertionError, match="expected name=value"):
        tidemill(tmp_path, "status", "--json", settings=wrong)
