"""A topic of its own on a real broker, a lake of its own, and the count of what is in both."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from confluent_kafka import Producer

from tests.unit.kafka.messages import NOON_MS, tick
from tidemill.crypto import contracts as c
from tidemill.crypto import live
from tidemill.crypto.topics import PRICES
from tidemill.kafka import audit, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.consume import Consumed
from tidemill.kafka.feed import Feed
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.topics import Topic
from tidemill.lake.store import Lake
from tidemill.processes import free_port

TABLES = (c.LIVE_PRICES, c.DEAD_LETTERS, c.CONSUMED_SPANS)
Message = tuple[bytes | None, bytes | None]


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """A broker that ends with the block."""
    broker = Broker(folder, free_port())
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def feed_of(topic: Topic, max_symbols: int = 50) -> Feed:
    """The feed of live prices, from another topic."""
    return replace(live.feed(max_symbols), topic=topic)


@dataclass(frozen=True)
class Desk:
    """A topic, and what consumes it into a lake."""

    servers: str
    lake: Lake
    feed: Feed

    @classmethod
    def at(cls, broker: Broker, home: Path, max_symbols: int = 50, **declared: Any) -> "Desk":
        """A new topic with a name that nobody had, as live prices but for what is ``declared``."""
        name = f"prices_{uuid.uuid4().hex[:8]}"
        # The messages have times of their own, long ago, by which retention would delete them.
        ours: dict[str, Any] = {"name": name, "partitions": 2, "retention": timedelta(days=36_500)}
        topic = replace(PRICES, **(ours | declared))
        desk = cls(
            broker.servers,
            Lake(home / "lake", home / "tidemill.duckdb", TABLES),
            feed_of(topic, max_symbols),
        )
        topics.ensure(desk.config, [topic])
        return desk

    @property
    def config(self) -> dict[str, Any]:
        """How clients connect."""
        return {"bootstrap.servers": self.servers}

    @property
    def subscription(self) -> Subscription:
        """What reads the topic."""
        return Subscription(self.lake, self.feed, self.config, 512)

    def produce(
        self, messages: Iterable[Message], partition: int = 0, at_ms: int = NOON_MS
    ) -> None:
        """Send keys and values, and wait until they are there."""
        settings = {"enable.idempotence": True, "message.max.bytes": 20_000_000}
        settings |= {"queue.buffering.max.kbytes": 1 << 21}
        producer = Producer(self.config | settings)
        for key, value in messages:
            while len(producer) > 50_000:
                producer.poll(0.01)
            producer.produce(self.feed.topic.name, value, key, partition, timestamp=at_ms)
        assert producer.flush(60) == 0

    def ticks(self, numbers: range, partition: int = 0, symbol: str = "BTCUSDT") -> None:
        """Send one good tick a number, a millisecond apart."""
        values = (tick(symbol, 1.0 + n, NOON_MS + n) for n in numbers)
        self.produce(((symbol.encode(), value) for value in values), partition)

    def catch_up(self, limit: int = 1_000_000) -> list[Consumed]:
        """Consume until nothing is unread, at most ``limit`` messages of a partition at once."""
        done = []
        while spans := self.subscription.unread(held := self.subscription.held(), limit):
            done.append(self.subscription.consume(held, spans))
        return done

    def faults(self) -> list[dict[str, Any]]:
        """What the audit finds."""
        return audit.faults(self.lake, self.feed)

    def query(self, sql: str) -> list[Any]:
        """Ask DuckDB; ``{rows}``, ``{dead}`` and ``{spans}`` are the feed's tables."""
        tables = {"rows": self.feed.table, "dead": self.feed.dead, "spans": self.feed.spans}
        found = {name: self.lake.snapshot(table).scan() for name, table in tables.items()}
        with duckdb.connect() as con:
            con.execute("set timezone = 'UTC'")
            return con.execute(sql.format(**found)).fetchall()

    def counted(self) -> dict[str, int]:
        """What the lake has of each sort, in the ledger's words; rows are good + late."""
        names = ("consumed", "good", "late", "duplicate", "dead", "absent", "lost")
        sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in names)
        (found,) = self.query(f"select {sums} from {{spans}}")
        return dict(zip(names, found, strict=True))

    def prove(self) -> dict[str, int]:
        """Assert that each offset the broker gave out is in the lake once, and nothing else is."""
        assert self.faults() == []
        counted = self.counted()
        key = 'topic, topic_id, "partition", "offset"'
        for name, expected in (
            ("rows", counted["good"] + counted["late"]),
            ("dead", counted["dead"]),
        ):
            found = self.query(f"select count(*), count(distinct ({key})) from {{{name}}}")
            assert found == [(expected, expected)]
        events = self.query("select count(distinct (symbol, event_time)) from {rows}")
        assert events == [(counted["good"] + counted["late"],)]
        (ends,) = self.query("select count(*) from (select distinct topic_id from {spans})")
        if ends == (1,):
            marks = self.subscription.held().marks
            given = sum(high for _, high in marks.values())
            assert counted["consumed"] + counted["absent"] + counted["lost"] == given
        return counted
