"""A topic of events of its own on a real broker, a lake of its own, and what is in both."""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from tidemill.engines.base import Engine
from tidemill.engines.duck import DuckEngine
from tidemill.events import contracts as c
from tidemill.events.following import published, windowed
from tidemill.events.live import FEED
from tidemill.events.topics import ANALYTICS, EVENTS
from tidemill.kafka import audit, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.topics import Topic
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

NOON_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""


def click(at_ms: int = NOON_MS, kind: str = "view", **fields: Any) -> bytes:
    """A message, as a producer sends it."""
    event = {
        "event_time": at_ms,
        "event_type": kind,
        "product_id": 1,
        "category_id": 2,
        "category_code": "electronics.phone",
        "brand": "acme",
        "price": 9.99,
        "user_id": 7,
        "user_session": "s",
    }
    return json.dumps(event | fields).encode()


@dataclass(frozen=True)
class Shop:
    """A topic, and what consumes it into a lake."""

    clicks: Subscription
    analytics: Topic

    @classmethod
    def at(cls, broker: Broker, home: Path, **declared: Any) -> "Shop":
        """A new topic with a name that nobody had, as ``EVENTS`` but for what is ``declared``."""
        return cls.on(broker.servers, home, **declared)

    @classmethod
    def on(cls, servers: str, home: Path, **declared: Any) -> "Shop":
        """The same, on the broker at an address."""
        shop = cls.of(servers, home, f"events_{uuid.uuid4().hex[:8]}", **declared)
        topics.ensure(shop.clicks.config, [shop.clicks.feed.topic])
        return shop

    @classmethod
    def of(cls, servers: str, home: Path, name: str, **declared: Any) -> "Shop":
        """That of a topic that is there, with the same lake."""
        # The messages have times of their own, long ago, by which retention would delete them.
        ours: dict[str, Any] = {"name": name, "retention": timedelta(days=36_500)}
        ours |= {"ahead_ms": 3_600_000}
        clicks = Subscription(
            Lake(home / "lake", home / "catalogue.duckdb", c.TABLES),
            replace(FEED, topic=replace(EVENTS, **(ours | declared))),
            {"bootstrap.servers": servers},
        )
        return cls(clicks, replace(ANALYTICS, name=f"windows_of_{name}"))

    @property
    def lake(self) -> Lake:
        return self.clicks.lake

    def send(self, values: Iterable[bytes | None], partition: int = 0, at_ms: int = 0) -> None:
        """Send messages to a partition, with a time of their own or that of their sending."""
        producer = Producer(dict(self.clicks.config))
        for value in values:
            producer.produce(
                self.clicks.feed.topic.name, value, partition=partition, timestamp=at_ms or NOON_MS
            )
        assert producer.flush(30) == 0

    def take(self, engine: Engine | None = None, limit: int = 1_000_000) -> None:
        """Take what is new, and make the windows of it."""
        held = self.clicks.held()
        self.clicks.consume(held, self.clicks.unread(held, limit))
        windowed(self.clicks, engine or DuckEngine())

    def publish(self) -> int:
        return published(self.clicks, self.analytics)

    def query(self, table: Table, sql: str) -> list[Any]:
        """Rows of a query; ``{}`` stands for the table."""
        with duck.cursor() as con:
            return con.execute(sql.format(self.lake.snapshot(table).scan())).fetchall()

    def rows(self, table: Table) -> list[Any]:
        """All rows, sorted."""
        return self.query(table, "select * from {} order by all")

    def analysed(self) -> list[dict[str, Any]]:
        """What the topic of final windows holds, in its order."""
        name = self.analytics.name
        [(first, after)] = topics.offsets(self.clicks.config, name, 1)
        consumer = Consumer(dict(self.clicks.config) | {"group.id": "shop"})
        try:
            consumer.assign([TopicPartition(name, 0, first)])
            found = consumer.consume(after - first, 30) if after > first else []
        finally:
            consumer.close()
        return [json.loads(message.value() or b"") for message in found]

    def prove(self) -> None:
        """Every offset is accounted for, and the windows hold what the rows say."""
        assert audit.faults(self.lake, self.clicks.feed) == []
        counted = self.query(
            c.RAW_EVENTS,
            "select event_type, count(*) from {} where watermark is null or "
            "time_bucket(interval 2 second, event_timestamp) + interval 2 second > watermark "
            "group by 1 order by 1",
        )
        windows = "select event_type, sum(event_count)::bigint from {} group by 1 order by 1"
        assert self.query(c.EVENT_COUNTS, windows) == counted
        assert self.query(c.BRAND_METRICS, windows) == counted
