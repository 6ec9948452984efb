"""Spans of offsets: what a topic holds, and which of it is to be read next."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidemill.errors import TidemillError

SETTLING_S = 10
"""How long a topic just made may have no leader."""
ASK_S = 5.0
"""How long a broker may take to say what a topic holds."""
UNKNOWN_S = 2
"""How long a broker may not yet know a topic just made, before it is taken for missing."""

Marks = tuple[int, int]
"""The first offset that a partition still holds, and the one after its last."""


class OffsetsLost(TidemillError):
    """The broker no longer holds, or never held, offsets that are still to be read."""


class Span(NamedTuple):
    """Messages of one partition, from ``start`` up to, not including, ``stop``."""

    partition: int
    start: int
    stop: int


@dataclass(frozen=True)
class Standing:
    """What a topic holds at one moment.

    Attributes:
        topic: Its name.
        topic_id: Kafka's id of it; a topic deleted and created again has another.
        marks: By partition.
    """

    topic: str
    topic_id: str
    marks: Mapping[int, Marks]

    def app_id(self, partition: int) -> str:
        """The name under which the lake records offsets of a partition."""
        return app_id(self.topic, self.topic_id, partition)


def app_id(topic: str, topic_id: str, partition: int) -> str:
    """The name under which the lake records offsets of a partition."""
    return f"{topic}:{topic_id}/{partition}"


def standing(config: Mapping[str, Any], topic: str, ask_s: float = ASK_S) -> Standing:
    """Ask the broker what a topic holds; no message is read.

    Args:
        config: How clients connect, in librdkafka's names.
        topic: Its name.
        ask_s: How long the broker may take to answer.

    Raises:
        TidemillError: No broker answers, or there is no such topic.
    """
    from confluent_kafka import Consumer, KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient(dict(config) | {"log_level": 0})
    consumer = Consumer(dict(config) | {"group.id": "tidemill", "log_level": 0})
    asked = time.monotonic()
    try:
        while True:
            try:
                return _asked(client, consumer, topic, ask_s)
            except KafkaException as error:
                fault = error.args[0]
                if time.monotonic() > asked + _patience(fault):
                    raise TidemillError(
                        f"topic {topic} at {config['bootstrap.servers']}: {fault.str()}; "
                        "'tidemill broker start' starts the embedded broker and creates the topics"
                    ) from error
                time.sleep(0.2)
    finally:
        consumer.close()


def _patience(fault: Any) -> int:
    """How long, in seconds, a failure may be the broker's settling."""
    from confluent_kafka import KafkaError

    # What tells of watermarks never calls itself retriable.
    leaderless = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)
    unknown = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)
    if fault.code() in unknown:
        return UNKNOWN_S
    return SETTLING_S if fault.retriable() or fault.code() in leaderless else 0


def _asked(client: Any, consumer: Any, topic: str, ask_s: float) -> Standing:
    from confluent_kafka import TopicCollection, TopicPartition

    asked = client.describe_topics(TopicCollection([topic]), request_timeout=ask_s)
    found = asked[topic].result()
    marks = {
        part.id: consumer.get_watermark_offsets(TopicPartition(topic, part.id), ask_s)
        for part in found.partitions
    }
    return Standing(topic, str(found.topic_id), marks)


def refuse_another(config: Mapping[str, Any], held: Standing) -> None:
    """See that what was read is the topic that was asked for.

    Raises:
        TidemillError: It was deleted and created again meanwhile.
    """
    now = standing(config, held.topic).topic_id
    if now != held.topic_id:
        raise TidemillError(
            f"{held.topic} was deleted and created again: expected the topic with the id "
            f"{held.topic_id}, found {now}; the next run reads the new one from its start"
        )


def plan(reached: Mapping[int, int], held: Standing, limit: int) -> list[Span]:
    """Choose the next spans to read, at most ``limit`` messages a partition.

    Args:
        reached: Next unread offset by partition; one not in it was never seen, and starts at the
            first that it still holds.
        held: What the topic holds.
        limit: Offsets, > 0.

    Returns:
        One span for each partition that has something new, by partition; none is empty.

    Raises:
        OffsetsLost: Retention passed an unread offset, or the topic ends before what was read.
    """
    spans = []
    for partition, (low, high) in sorted(held.marks.items()):
        start = reached.get(partition, low)
        if start < low:
            raise OffsetsLost(
                f"{held.topic}, partition {partition}: offsets {start} to {low - 1} were not read "
                "before the topic's retention deleted them; if they can be done without, "
                f"'tidemill accept-loss {held.topic}' writes them down as lost and goes on"
            )
        if start > high:
            raise OffsetsLost(
                f"{held.topic}, partition {partition}: {start} offsets were read, but the broker "
                f"holds {high}: it lost data, or another broker answers; set "
                "TIDEMILL_KAFKA_SERVERS to the one that has them, or delete and create the topic, "
                "which is then read anew"
            )
        if start < high:
            spans.append(Span(partition, start, min(high, start + limit)))
    return spans
