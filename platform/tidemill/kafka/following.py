"""A consumer that follows a topic from some offsets on, and notices when it is another topic."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError
from tidemill.kafka.spans import Standing
from tidemill.kafka.topics import Topic

if TYPE_CHECKING:
    import polars as pl

AT_ONCE = 50_000
WAIT_S = 0.05
ASK_S = 1.0
ANSWER_S = 10
_SETTINGS = {
    "group.id": "tidemill-tail",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "queued.max.messages.kbytes": 16_384,
    "fetch.message.max.bytes": 8 << 20,
    # A broker that comes back is found at once, which is what a tail is for.
    "reconnect.backoff.max.ms": 1000,
    "log_level": 0,
}


class Follower:
    """Reads a topic on and on, each message once and in the order of its partition.

    Args:
        config: How clients connect, in librdkafka's names.
        topic: What is read.
        held: What the topic holds; another id or number of partitions is another topic.
        start: The first offset of each partition to read.
    """

    def __init__(
        self, config: Mapping[str, Any], topic: Topic, held: Standing, start: Mapping[int, int]
    ) -> None:
        """Connect and begin to fetch."""
        from confluent_kafka import Consumer, TopicPartition
        from confluent_kafka.admin import AdminClient

        self.topic = topic
        self.held = held
        self.position = dict(start)
        self._ends = {partition: high for partition, (_, high) in held.marks.items()}
        self._consumer = Consumer(dict(config) | _SETTINGS)
        self._admin = AdminClient(dict(config) | {"log_level": 0, "reconnect.backoff.max.ms": 1000})
        self._asked: Future[Any] | None = None
        self._asked_at = time.monotonic()
        self._is_out = False
        self._consumer.assign([TopicPartition(topic.name, p, at) for p, at in start.items()])

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def skip(self, reached: Mapping[int, int]) -> None:
        """Pass over messages before some offsets, which are known from elsewhere."""
        for partition, at in reached.items():
            self.position[partition] = max(at, self.position[partition])

    def ends(self) -> dict[int, int]:
        """The offset after the last message of each partition, as last told by the broker."""
        from confluent_kafka import TopicPartition

        for partition, at in self.position.items():
            told = self._consumer.get_watermark_offsets(
                TopicPartition(self.topic.name, partition), cached=True
            )
            known = self._ends.get(partition, 0)
            self._ends[partition] = max(at, known, told[1] if told is not None else 0)
        return dict(self._ends)

    def take(self) -> "pl.DataFrame | None":
        """The messages that came, or None; waits for a moment, so that they come by the handful.

        Returns:
            What ``reader.chunks`` gives.

        Raises:
            TidemillError: The broker refuses, or does not give every offset.
        """
        batch = self._consumer.consume(AT_ONCE, timeout=WAIT_S)
        self._hear([m for m in batch if m.error() is not None])
        good: list[Any] = [m for m in batch if m.error() is None]
        good = [m for m in good if m.offset() >= self.position[m.partition()]]
        if not good:
            return None
        for partition, first, last, count in _spans(good):
            wanted = self.position[partition]
            if not self.topic.has_gaps and (first, last) != (wanted, wanted + count - 1):
                raise TidemillError(
                    f"{self.topic.name}, partition {partition}: expected each offset from {wanted} "
                    f"on, found {count} of those from {first} to {last}"
                )
            self.position[partition] = last + 1
        return _frame(good)

    def is_another(self) -> bool:
        """Whether the topic is not the one that it was; asked now and then, never waited for.

        Raises:
            TidemillError: It is gone.
        """
        from confluent_kafka import KafkaError, KafkaException, TopicCollection

        if self._is_out:
            return True
        if self._asked is None:
            if time.monotonic() > self._asked_at + ASK_S:
                self._asked_at = time.monotonic()
                names = TopicCollection([self.topic.name])
                asked = self._admin.describe_topics(names, request_timeout=ANSWER_S)
                self._asked = asked[self.topic.name]
            return False
        if not self._asked.done():
            return False
        asked_for, self._asked = self._asked, None
        try:
            found = asked_for.result()
        except KafkaException as error:
            # Without an answer the windows stay as they are until there is one.
            return bool(error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
        is_same = str(found.topic_id) == self.held.topic_id
        return not is_same or {part.id for part in found.partitions} != set(self.held.marks)

    def _hear(self, events: Sequence[Any]) -> None:
        """What is wrong: an offset that is gone begins anew, which tells whether it is lost."""
        from confluent_kafka import KafkaError

        anew = (
            KafkaError._AUTO_OFFSET_RESET,
            KafkaError.OFFSET_OUT_OF_RANGE,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._UNKNOWN_TOPIC,
            KafkaError._UNKNOWN_PARTITION,
        )
        passing = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)
        for event in events:
            error = event.error()
            if error.code() in anew:
                self._is_out = True
            elif error.fatal() or (not error.retriable() and error.code() not in passing):
                raise TidemillError(f"{self.topic.name}: {error.str()}")


def _spans(messages: Sequence[Any]) -> list[tuple[int, int, int, int]]:
    """Partition, first and last offset, and the number of messages of each."""
    found: dict[int, tuple[int, int, int]] = {}
    for message in messages:
        partition, at = message.partition(), message.offset()
        first, _, count = found.get(partition, (at, at, 0))
        found[partition] = (first, at, count + 1)
    return [(partition, *span) for partition, span in found.items()]


def _frame(messages: Sequence[Any]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(
        {
            "partition": pl.Series([m.partition() for m in messages], dtype=pl.Int32),
            "offset": pl.Series([m.offset() for m in messages], dtype=pl.Int64),
            "produced_ms": pl.Series([m.timestamp()[1] for m in messages], dtype=pl.Int64),
            "key": pl.Series([m.key() for m in messages], dtype=pl.Binary),
            "value": pl.Series([m.value() for m in messages], dtype=pl.Binary),
        }
    )
