"""Dead letters that today's rules take, sent again to their topic as they were, each once."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka import resent
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

PATIENCE_S = 60.0
BATCH_ROWS = 50_000
BATCH_BYTES = 64 << 20
TRIES = 20


@dataclass(frozen=True)
class Replayed:
    """What became of the dead letters of a topic that had not been replayed.

    Attributes:
        sent: Sent again, acknowledged and marked; with those that a replay before, which came to no
            end, had sent and not marked.
        left: How many cannot be used still, by reason.
    """

    sent: int
    left: Mapping[str, int]


def replay(subscription: Subscription) -> Replayed:
    """Send again the dead letters that today's rules take, and mark them as replayed.

    They keep key, value and, where there still is one of that number, partition; the header
    ``tidemill-replay`` says ``topic_id/partition/offset`` of the first one. All are acknowledged
    before any is marked. Where a replay came to no end between, the next one looks into the topic
    for what it sent, and marks that first: no letter is sent twice. Another replay into the same
    topic meanwhile waits for this one.

    Raises:
        TidemillError: The broker did not take all of them, and none is marked; or the topic no
            longer holds what a replay that came to no end sent.
    """
    with (
        connection(subscription.memory_limit_mb) as con,
        resent.alone(subscription.lake, subscription.feed.topic.name) as note,
    ):
        con.execute(
            'create temp table sent (topic_id varchar, "partition" integer, "offset" bigint)'
        )
        found = _found(con, subscription, note) if note.exists() else 0
        sent, left = _sent(con, subscription, note)
        if sent:
            _mark(con, subscription)
        note.unlink(missing_ok=True)
    return Replayed(found + sent, dict(left.most_common()))


def _found(con: "duckdb.DuckDBPyConnection", subscription: Subscription, note: Path) -> int:
    """Mark what a replay that came to no end has sent; how many letters it had not marked."""
    topic = subscription.feed.topic.name
    for letters in resent.letters(subscription.config, topic, note):
        con.register("letters", letters)
        con.execute("insert into sent from letters")
    query = f"""
        select count(*) from {subscription.lake.snapshot(subscription.feed.dead).scan()} d
        semi join sent s on {_is_sent(topic)} where replayed_at is null
    """
    ((found,),) = con.execute(query).fetchall()
    if found:
        _mark(con, subscription)
    con.execute("delete from sent")
    return int(found)


def _sent(
    con: "duckdb.DuckDBPyConnection", subscription: Subscription, note: Path
) -> tuple[int, "Counter[str]"]:
    """Send what can be used, and wait until all of it is there; what is left, by reason."""
    held = subscription.held()
    left: Counter[str] = Counter()
    known = known_keys(subscription.lake, subscription.feed, subscription.known_keys())
    with _Sender(subscription.config, held.topic, frozenset(held.marks)) as sender:
        for letters in _batches(con, subscription, left):
            decode(con, subscription.feed.topic, letters)
            refuse_new_keys(con, subscription.feed, known)
            judged = con.execute('select error from decoded order by "offset"').fetchall()
            good = [error is None for (error,) in judged]
            left.update(error for (error,) in judged if error is not None)
            usable = letters.filter(good)
            if usable.height and not sender.sent:
                resent.begin(note, held)
            sender.send(usable)
            con.register("usable", usable.select("topic_id", "from_partition", "from_offset"))
            con.execute("insert into sent from usable")
        sender.wait()
    return sender.sent, left


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
    """Sends letters and hears of each; what was not sent by the end of the block never is."""

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

    def __enter__(self) -> "_Sender":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forget what is still queued: who looks into the topic next must not be overtaken."""
        self._producer.purge()

    def send(self, letters: "pl.DataFrame") -> None:
        """Hand letters over; waits while the queue is full."""
        columns: Sequence[str] = ("topic_id", "from_partition", "from_offset", "key", "value")
        for topic_id, partition, offset, key, value in letters.select(columns).iter_rows():
            header = resent.header(topic_id, partition, offset)
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
                "are there are found, and not sent twice"
            )

    def _hear(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())


def _mark(con: "duckdb.DuckDBPyConnection", subscription: Subscription) -> None:
    """Note in the table that the letters in ``sent`` were replayed now, if they were not before.

    Raises:
        Overtaken: Others wrote to the table again and again meanwhile.
    """
    lake, table = subscription.lake, subscription.feed.dead
    is_sent = _is_sent(subscription.feed.topic.name)
    con.execute("create or replace temp table marked as select now()::timestamp as instant")
    for left in reversed(range(TRIES)):
        before = lake.snapshot(table)
        query = f"""
            select d.* replace (
                case when s."offset" is null then replayed_at
                else coalesce(replayed_at, (select instant from marked)) end as replayed_at)
            from {before.scan()} d left join (select distinct * from sent) s on {is_sent}
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


def _is_sent(topic: str) -> str:
    """SQL of whether a letter ``d`` of a topic is the one that ``s`` tells of."""
    return (
        f"d.topic = {text_literal(topic)} and d.topic_id = s.topic_id "
        'and d."partition" = s."partition" and d."offset" = s."offset"'
    )


def _stands(lake: Lake, table: Table, version: int) -> bool:
    return lake.snapshot(table).version == version
