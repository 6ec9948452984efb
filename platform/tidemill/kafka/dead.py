"""Dead letters that today's rules take, sent again to their topic as they were."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka.batch import known_keys
from tidemill.kafka.consume import refuse_new_keys
from tidemill.kafka.decode import decode
from tidemill.kafka.subscription import Subscription
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb
    import polars as pl

HEADER = "tidemill-replay"
PATIENCE_S = 60.0
BATCH_ROWS = 50_000
BATCH_BYTES = 64 << 20
TRIES = 20


@dataclass(frozen=True)
class Replayed:
    """What became of the dead letters of a topic that had not been replayed.

    Attributes:
        sent: Sent again, acknowledged and marked.
        left: How many cannot be used still, by reason.
    """

    sent: int
    left: Mapping[str, int]


def replay(subscription: Subscription) -> Replayed:
    """Send again the dead letters that today's rules take, and mark them as replayed.

    They keep key, value and, where there still is one of that number, partition; the header
    ``tidemill-replay`` says ``topic_id/partition/offset`` of the first one. All are acknowledged
    before any is marked, so one that is sent and not marked is sent again, and is a duplicate then.

    Raises:
        TidemillError: The broker did not take all of them; none is marked.
    """
    held = subscription.held()
    left: Counter[str] = Counter()
    with connection(subscription.memory_limit_mb) as con:
        con.execute(
            'create temp table sent (topic_id varchar, "partition" integer, "offset" bigint)'
        )
        known = known_keys(subscription.lake, subscription.feed, subscription.known_keys())
        sender = _Sender(subscription.config, held.topic, frozenset(held.marks))
        for letters in _batches(con, subscription, left):
            decode(con, subscription.feed.topic, letters)
            refuse_new_keys(con, subscription.feed, known)
            judged = con.execute('select error from decoded order by "offset"').fetchall()
            good = [error is None for (error,) in judged]
            left.update(error for (error,) in judged if error is not None)
            usable = letters.filter(good)
            sender.send(usable)
            con.register("usable", usable.select("topic_id", "from_partition", "from_offset"))
            con.execute("insert into sent from usable")
        sender.wait()
        if sender.sent:
            _mark(con, subscription)
    return Replayed(sender.sent, dict(left.most_common()))


def _batches(
    con: "duckdb.DuckDBPyConnection", subscription: Subscription, left: "Counter[str]"
) -> "Iterator[pl.DataFrame]":
    """The letters of the topic that were not replayed, as messages that came just now.

    Those too long to be taken are counted in ``left`` and not read.
    """
    import polars as pl

    topic = subscription.feed.topic
    letters = (
        f"(from {subscription.lake.snapshot(subscription.feed.dead).scan()} "
        f"where topic = {text_literal(topic.name)} and replayed_at is null)"
    )
    is_short = f"coalesce(octet_length(value), 0) <= {topic.max_bytes}"
    long = f"select error, count(*) from {letters} where not {is_short} group by 1"
    left.update(Counter(dict(con.execute(long).fetchall())))
    asked = f"select coalesce(max(octet_length(value)), 1) from {letters} where {is_short}"
    ((longest,),) = con.execute(asked).fetchall()
    now = int(time.time() * 1000)
    reading = con.cursor()  # the connection itself is for what is done with a batch meanwhile
    rows = reading.sql(
        f"""
        select topic_id, "partition" as from_partition, "offset" as from_offset, key, value
        from {letters} where {is_short} order by all
        """
    )
    at_once = max(1, min(BATCH_ROWS, BATCH_BYTES // longest))
    for batch in rows.to_arrow_reader(at_once):
        yield pl.DataFrame(batch).with_columns(
            partition=pl.lit(0, pl.Int32),
            offset=pl.int_range(pl.len(), dtype=pl.Int64),
            produced_ms=pl.lit(now, pl.Int64),
            key=pl.col("key").cast(pl.Binary),
            value=pl.col("value").cast(pl.Binary),
        )


class _Sender:
    """Sends letters and hears of each."""

    def __init__(self, config: Mapping[str, Any], topic: str, partitions: frozenset[int]) -> None:
        from confluent_kafka import Producer

        settings = {"acks": "all", "enable.idempotence": True, "log_level": 0}
        # Where a key goes: as Java's clients say, not as librdkafka does by default.
        settings |= {"partitioner": "murmur2_random", "message.timeout.ms": int(PATIENCE_S * 1000)}
        self._producer = Producer(settings | dict(config) | {"on_delivery": self._hear})
        self._topic = topic
        self._partitions = partitions
        self._failed: list[str] = []
        self.sent = 0

    def send(self, letters: "pl.DataFrame") -> None:
        """Hand letters over; waits while the queue is full."""
        columns: Sequence[str] = ("topic_id", "from_partition", "from_offset", "key", "value")
        for topic_id, partition, offset, key, value in letters.select(columns).iter_rows():
            header = (HEADER, f"{topic_id}/{partition}/{offset}".encode())
            place = partition if partition in self._partitions else -1
            while not self._handed(value, key, place, header):
                self._producer.poll(0.1)
            self._producer.poll(0)
            self.sent += 1

    def _handed(
        self, value: bytes, key: bytes | None, place: int, header: tuple[str, bytes]
    ) -> bool:
        from confluent_kafka import KafkaException

        try:
            self._producer.produce(self._topic, value, key, place, headers=[header])
        except BufferError:
            return False
        except KafkaException as error:
            self._failed.append(error.args[0].str())
        return True

    def wait(self) -> None:
        """Wait until all of them are acknowledged.

        Raises:
            TidemillError: Some are not.
        """
        waiting = self._producer.flush(2 * PATIENCE_S)
        if waiting or self._failed:
            reason = self._failed[0] if self._failed else "no answer"
            raise TidemillError(
                f"{self._topic}: expected {self.sent} dead letters to be acknowledged, "
                f"{waiting + len(self._failed)} were not ({reason}); none is marked as replayed. "
                "See that the broker runs ('tidemill broker status') and ask again: those that "
                "are there are counted as duplicates then"
            )

    def _hear(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())


def _mark(con: "duckdb.DuckDBPyConnection", subscription: Subscription) -> None:
    """Note in the table that the letters in ``sent`` were replayed now.

    Raises:
        Overtaken: Others wrote to the table again and again meanwhile.
    """
    lake, table = subscription.lake, subscription.feed.dead
    topic = text_literal(subscription.feed.topic.name)
    con.execute("create temp table marked as select now()::timestamp as instant")
    for left in reversed(range(TRIES)):
        before = lake.snapshot(table)
        query = f"""
            select d.* replace (
                case when s."offset" is null then replayed_at else (select instant from marked) end
                as replayed_at)
            from {before.scan()} d left join sent s
                on d.topic = {topic} and d.topic_id = s.topic_id
                and d."partition" = s."partition" and d."offset" = s."offset"
        """
        try:
            lake.replace(
                table,
                con,
                query,
                [{}],
                {"replayed": subscription.feed.topic.name},
                still=partial(_stands, lake, table, before.version),
            )
            return
        except Overtaken:
            if not left:
                raise


def _stands(lake: Lake, table: Table, version: int) -> bool:
    return lake.snapshot(table).version == version
