"""Reads exactly some spans of a topic, in frames of bounded size."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError
from tidemill.kafka.spans import OffsetsLost, Span

if TYPE_CHECKING:
    import polars as pl

CHUNK_MESSAGES = 100_000
"""Few enough that one chunk is read while the one before is worked on, in a batch of a run too."""
CHUNK_BYTES = 64 << 20
AT_ONCE = 10_000
WAIT_S = 0.05
SILENCE_S = 60.0
"""How long a broker that owes messages may say nothing."""

FETCHING = {
    "group.id": "tidemill",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": CHUNK_BYTES >> 10,
    "fetch.message.max.bytes": 8 << 20,
    "log_level": 0,
}


def chunks(
    config: Mapping[str, Any], topic: str, spans: Sequence[Span], header: str = ""
) -> "Iterator[pl.DataFrame]":
    """Read the spans once each, in the order of offsets within a partition.

    A thread reads ahead while the caller works on what it was given, by one chunk at most.

    Offsets that hold no message (Kafka's transaction marks, compacted ones) are passed over.

    Args:
        config: How clients connect, in librdkafka's names.
        topic: Its name.
        spans: At most one a partition.
        header: The header that is wanted too.

    Yields:
        partition (Int32), offset (Int64), produced_ms (Int64, the message's own time), key and
        value (Binary, nullable), and header (Binary, nullable) where one is wanted; a row a
        message: at most about ``CHUNK_MESSAGES`` rows or ``CHUNK_BYTES``, but at least one.

    Raises:
        OffsetsLost: The broker no longer holds some of it.
        TidemillError: The broker fails, or owes messages and is silent.
    """
    with ThreadPoolExecutor(1, "kafka-reader") as thread:
        found = _chunks(config, topic, spans, header)
        coming = thread.submit(next, found, None)
        try:
            while (chunk := coming.result()) is not None:
                coming = thread.submit(next, found, None)
                yield chunk
        finally:
            thread.submit(found.close).result()


def _chunks(
    config: Mapping[str, Any], topic: str, spans: Sequence[Span], header: str
) -> "Generator[pl.DataFrame, None, None]":
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(dict(config) | FETCHING)
    try:
        consumer.assign([TopicPartition(topic, span.partition, span.start) for span in spans])
        owed = {span.partition: span for span in spans if span[1] < span[2]}
        reading = _Reading(topic, owed, header)
        while reading.owed:
            reading.take(consumer)
            if reading.is_full() or (not reading.owed and reading.values):
                yield reading.frame()
    finally:
        consumer.close()


class _Reading:
    """The messages taken since the last frame, and what is still owed."""

    def __init__(self, topic: str, owed: dict[int, Span], header: str) -> None:
        self.topic = topic
        self.owed = owed
        self.header = header
        self.heard = time.monotonic()
        self.largest = CHUNK_BYTES // 100
        self._clear()

    def _clear(self) -> None:
        self.partitions: list[int] = []
        self.offsets: list[int] = []
        self.times: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[bytes | None] = []
        self.size = 0

    def is_full(self) -> bool:
        return len(self.values) >= CHUNK_MESSAGES or self.size >= CHUNK_BYTES

    def take(self, consumer: Any) -> None:
        """Take what the consumer has; few at a time where messages are large."""
        room = max(1, (CHUNK_BYTES - self.size) // self.largest)
        room = min(AT_ONCE, room, CHUNK_MESSAGES - len(self.values))
        batch = consumer.consume(room, timeout=WAIT_S)
        if batch:
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > SILENCE_S:
            left = ", ".join(f"{s.partition}/{s.start} to {s.stop - 1}" for s in self.owed.values())
            raise TidemillError(
                f"{self.topic}: the broker was silent for {SILENCE_S:.0f} s, though it owes "
                f"offsets {left}"
            )
        good = [m for m in batch if m.error() is None]
        events = [m for m in batch if m.error() is not None] if len(good) < len(batch) else []
        ends = {p: span.stop for p, span in self.owed.items()}
        last: dict[int, int] = {}
        parts = [m.partition() for m in good]
        offsets = [m.offset() for m in good]
        last.update(zip(parts, offsets, strict=True))
        if any(p not in ends or at >= ends[p] for p, at in last.items()):
            kept = [
                (m, p, at)
                for m, p, at in zip(good, parts, offsets, strict=True)
                if p in ends and at < ends[p]
            ]
            good = [m for m, _, _ in kept]
            parts = [p for _, p, _ in kept]
            offsets = [at for _, _, at in kept]
        values = [m.value() for m in good]
        self.partitions += parts
        self.offsets += offsets
        self.times += [m.timestamp()[1] for m in good]
        self.values += values
        keys = [m.key() for m in good]
        self.keys += keys
        if self.header:
            self.headers += [dict(m.headers() or ()).get(self.header) for m in good]
        sizes = [len(value) for value in values if value is not None]
        sizes += [len(key) for key in keys if key is not None]
        self.size += sum(sizes)
        self.largest = max(max(sizes, default=0), self.largest // 2, 256)
        for partition, at in last.items():
            if partition in self.owed and at >= ends[partition] - 1:
                self._done(partition)
        self._hear(events)  # an end comes behind the messages before it

    def _hear(self, events: Sequence[Any]) -> None:
        """End of a partition, or a failure."""
        from confluent_kafka import KafkaError

        for event in events:
            error = event.error()
            span = self.owed.get(event.partition())
            if error.code() == KafkaError._PARTITION_EOF:
                if span is not None and event.offset() >= span.stop:
                    self._done(span.partition)
                continue
            if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                if span is None:
                    continue
                raise OffsetsLost(
                    f"{self.topic}, partition {span.partition}: the broker does not hold offsets "
                    f"{span.start} to {span.stop - 1}: {error.str()}"
                )
            if error.fatal() or not error.retriable():
                if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                    continue  # it connects again; silence is what ends it
                raise TidemillError(f"{self.topic}: {error.str()}")

    def _done(self, partition: int) -> None:
        self.owed.pop(partition, None)

    def frame(self) -> "pl.DataFrame":
        import polars as pl

        frame = pl.DataFrame(
            {
                "partition": pl.Series(self.partitions, dtype=pl.Int32),
                "offset": pl.Series(self.offsets, dtype=pl.Int64),
                "produced_ms": pl.Series(self.times, dtype=pl.Int64),
                "key": pl.Series(self.keys, dtype=pl.Binary),
                "value": pl.Series(self.values, dtype=pl.Binary),
            }
        )
        if self.header:
            frame = frame.with_columns(header=pl.Series(self.headers, dtype=pl.Binary))
        self._clear()
        return frame
