"""The sender against a real broker: every message is there once, or told to be unsent."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.integration.test_broker import TICKS, config
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.producer import Report, Sender, UnsentError
from tidemill.processes import free_port

pytestmark = pytest.mark.integration


def topic(broker: Broker, name: str, partitions: int = 2) -> str:
    """A new topic."""
    topics.ensure(config(broker), [replace(TICKS, name=name, partitions=partitions)])
    return name


def held(broker: Broker, name: str, partitions: int = 2) -> dict[int, list[tuple[Any, Any]]]:
    """Key and value of every message, by partition, in order of offset."""
    settings = {"group.id": "test", "enable.auto.commit": False}
    consumer = Consumer(config(broker) | settings)
    found: dict[int, list[tuple[Any, Any]]] = {}
    for number, (first, after) in enumerate(topics.offsets(config(broker), name, partitions)):
        found[number] = []
        consumer.assign([TopicPartition(name, number, first)])
        while len(found[number]) < after - first:
            messages = consumer.consume(after - first - len(found[number]), timeout=10)
            assert messages
            found[number] += [(message.key(), message.value()) for message in messages]
    consumer.close()
    return found


def kill(broker: Broker) -> None:
    status = broker.status()
    assert status is not None
    process = psutil.Process(status.pid)
    os.kill(status.pid, signal.SIGKILL)
    process.wait(30)


def numbered(count: int) -> list[tuple[bytes | None, bytes]]:
    return [(b"key %d" % (n % 7), b"%d" % n) for n in range(count)]


def test_every_message_is_there_once_in_order_and_accounted_for(broker: Broker) -> None:
    name, pairs = topic(broker, "plain"), numbered(20_000)
    with Sender(config(broker), name) as sender:
        sender.send(*pairs[0])
        assert sender.send_all(pairs[1:]) == 19_999
        assert sender.flush().acknowledged == 20_000
    assert sender.close() == Report(20_000, 20_000, 0, 0, {})
    partitions = held(broker, name)
    assert sorted(pair for pairs in partitions.values() for pair in pairs) == sorted(pairs)
    for messages in partitions.values():
        numbers = [int(value) for _, value in messages]
        assert numbers and numbers == sorted(numbers)


def test_a_queue_that_is_full_waits_and_never_grows(broker: Broker) -> None:
    name = topic(broker, "narrow")
    with Sender(config(broker) | {"queue.buffering.max.messages": 10}, name) as sender:
        assert sender.send_all(numbered(500)) == 500
    assert sender.report == Report(500, 500, 0, 0, {})


def test_a_message_too_long_fails_alone(broker: Broker) -> None:
    name = topic(broker, "long")
    with Sender(config(broker), name) as sender:
        sender.send_all([(b"a", b"1"), (b"a", b"x" * 2_000_000), (b"a", b"2")])
    report = sender.report
    assert (report.sent, report.acknowledged, report.failed) == (3, 2, 1)
    assert sum(report.errors.values()) == 1 and "too large" in str(report.errors)
    assert sorted(pair for messages in held(broker, name).values() for pair in messages) == [
        (b"a", b"1"),
        (b"a", b"2"),
    ]


def test_a_topic_that_is_not_there_is_told_and_nothing_goes_on(broker: Broker) -> None:
    impatient = {"topic.metadata.propagation.max.ms": 500}
    sender = Sender(config(broker) | impatient, "nowhere")
    with pytest.raises(UnsentError, match="tidemill broker topics"):
        sender.send(b"a", b"1")
        sender.flush()
    report = sender.close()
    assert (report.sent, report.acknowledged, report.failed) == (1, 0, 1)


def test_a_broker_killed_midway_and_started_again_has_every_message_once(
    broker: Broker,
) -> None:
    name, pairs = topic(broker, "killed"), numbered(60_000)
    sender = Sender(config(broker) | {"queue.buffering.max.messages": 2000}, name)
    sender.send_all(pairs[:20_000])

    def restart() -> None:
        kill(broker)
        broker.start()

    starter = threading.Thread(target=restart)
    starter.start()
    assert sender.send_all(pairs[20_000:]) == 40_000
    report = sender.close()
    starter.join()
    assert (report.sent, report.acknowledged, report.failed) == (60_000, 60_000, 0)
    assert report.retried > 0
    partitions = held(broker, name)
    assert sorted(pair for messages in partitions.values() for pair in messages) == sorted(pairs)
    for messages in partitions.values():
        numbers = [int(value) for _, value in messages]
        assert numbers == sorted(numbers)


def test_what_a_broker_that_stays_away_did_not_acknowledge_has_failed(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()
    name = topic(broker, "gone")
    sender = Sender(config(broker), name, patience_s=10)
    sender.send_all(numbered(100))
    assert sender.flush() == Report(100, 100, sender.report.retried, 0, {})
    kill(broker)
    sender.patience_s = 1
    sender.send_all(numbered(50))
    with pytest.raises(UnsentError, match="nothing was acknowledged for 1 s, so 50 messages"):
        sender.wait(30)
    report = sender.close()
    assert (report.sent, report.acknowledged, report.failed) == (150, 100, 50)
    assert sum(report.errors.values()) == 50
    broker.stop()
