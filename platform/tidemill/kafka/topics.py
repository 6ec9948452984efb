"""Topics: what each holds, declared once and created where it is missing."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tidemill.errors import ContractError, TidemillError
from tidemill.kafka.spans import standing
from tidemill.lake.contracts import Column

TIMEOUT_S = 30

YEARS = "the years 1900 to 2200"
"""Of events: windows, dates and charts around them are still dates to every engine and library."""
FIRST_MS, LAST_MS = -2_208_988_800_000, 7_289_654_399_999
"""Their first and last millisecond."""


@dataclass(frozen=True, eq=False)
class Topic:
    """A topic of JSON messages: one object each, whose fields keep this contract.

    Attributes:
        name: As Kafka knows it.
        meaning: What a message says.
        value: The fields that a message must have; others are let be.
        key: The field that is also the message's key, so that its messages keep their order.
        event_key: The fields that together name one event; a second message of it is a duplicate.
            Empty: each message is an event of its own.
        event_time: The field with the event's time.
        event_ms: SQL (DuckDB) of that time in epoch milliseconds, over the fields; NULL where it is
            none. Empty where the field is that number.
        times: What is said to be expected where ``event_ms`` is NULL.
        loose: Text fields that may come as numbers.
        rules: Name and SQL condition that every message keeps.
        partitions: How many.
        retention: How long messages are kept.
        grace_ms: How far the watermark stays behind the newest event of a partition.
        idle_ms: After how long by the clock without an event windows stop to wait for a partition;
            None: nothing waits for a watermark of all partitions.
        ahead_ms: How far an event's time may be after the message's own.
        max_bytes: The longest message taken.
        has_gaps: Whether offsets may hold no message, as where producers use transactions, whose
            marks take offsets, or the topic is compacted. Else a gap is a loss, and an error.
    """

    name: str
    meaning: str
    value: tuple[Column, ...]
    key: str
    event_key: tuple[str, ...]
    event_time: str
    event_ms: str = ""
    times: str = ""
    loose: tuple[str, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    partitions: int = 3
    retention: timedelta = timedelta(days=7)
    grace_ms: int = 3_600_000
    idle_ms: int | None = None
    ahead_ms: int = 3_600_000
    max_bytes: int = 1 << 20
    has_gaps: bool = False

    def __post_init__(self) -> None:
        """Refuse a declaration that names fields it does not have."""
        names = [column.name for column in self.value]
        for name in (self.key, self.event_time, *self.event_key, *self.loose):
            if name not in names:
                raise ContractError(f"topic {self.name}: {name!r} is none of its fields {names}")


def ensure(config: Mapping[str, Any], topics: Sequence[Topic]) -> list[str]:
    """Create the topics that are not there; one that is stays as it is.

    Args:
        config: How clients connect, in librdkafka's names.
        topics: What should be there.

    Returns:
        The names of those created.

    Raises:
        TidemillError: No broker answers, or it refuses one.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    client = AdminClient(dict(config))  # destroyed with its futures if nothing names it
    known = described(config)
    made = []
    for topic in topics:
        if topic.name in known:
            continue
        settings = {"retention.ms": str(topic.retention // timedelta(milliseconds=1))}
        # A producer whose own clock runs ahead is refused, as it would close windows early.
        guarded = settings | {"message.timestamp.after.max.ms": str(topic.ahead_ms)}
        for config_of_topic in (guarded, settings):
            wanted = NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=-1,  # the broker's own default
                config=config_of_topic,
            )
            asked = client.create_topics([wanted], request_timeout=TIMEOUT_S)
            try:
                asked[topic.name].result()
                made.append(topic.name)
                break
            except KafkaException as error:
                fault = error.args[0]
                if fault.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # a rival was faster
                    break
                if fault.code() == KafkaError.INVALID_CONFIG and config_of_topic is guarded:
                    continue  # Kafka before 3.6 does not know it
                raise TidemillError(
                    f"topic {topic.name} cannot be created: {fault.str()}"
                ) from error
    return made


def delete(config: Mapping[str, Any], name: str) -> None:
    """Delete a topic, where it is there, and wait until it is gone.

    Raises:
        TidemillError: No broker answers, or it refuses, or does not do it in time.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient(dict(config))
    try:
        client.delete_topics([name], operation_timeout=TIMEOUT_S)[name].result()
    except KafkaException as error:
        fault = error.args[0]
        if fault.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TidemillError(f"topic {name} cannot be deleted: {fault.str()}") from error
    until = time.monotonic() + TIMEOUT_S
    while name in described(config):
        if time.monotonic() > until:
            raise TidemillError(f"topic {name} was deleted, but is there after {TIMEOUT_S} s")
        time.sleep(0.1)


def described(config: Mapping[str, Any]) -> dict[str, int]:
    """The number of partitions of each topic that is there, but Kafka's own.

    Raises:
        TidemillError: No broker answers.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient(dict(config))
    try:
        found = client.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise TidemillError(
            f"no Kafka broker answers at {config['bootstrap.servers']} "
            f"({error.args[0].str()}): 'tidemill broker start' starts the embedded one"
        ) from error
    return {name: len(t.partitions) for name, t in found.items() if not name.startswith("__")}


def offsets(config: Mapping[str, Any], name: str, partitions: int) -> list[tuple[int, int]]:
    """The first offset kept and the next one to be written, of each partition of a topic.

    Raises:
        TidemillError: No broker answers, or there is no such topic, or it has fewer partitions.
    """
    marks = standing(config, name, TIMEOUT_S).marks
    if len(marks) < partitions:
        raise TidemillError(f"topic {name}: expected {partitions} partitions, found {len(marks)}")
    return [marks[number] for number in range(partitions)]
