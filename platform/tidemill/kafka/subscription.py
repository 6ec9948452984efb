"""A feed, the lake that it fills and the broker that it reads: what runs and reports ask for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.kafka import feed as feeds
from tidemill.kafka.consume import Consumed, consume
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Span, Standing, plan, standing
from tidemill.lake.store import Lake

RUN_MESSAGES = 2_000_000
"""Messages of a partition that one run takes at most; what is left is the next run's."""


@dataclass(frozen=True)
class Lag:
    """How far the lake is behind a partition of a topic.

    Attributes:
        topic: Its name.
        partition: Its number.
        first: The first offset that the broker still holds.
        end: The offset after the last message.
        reached: The next offset that the lake wants; None where nothing was read.
    """

    topic: str
    partition: int
    first: int
    end: int
    reached: int | None

    @property
    def messages(self) -> int:
        """Messages still to be read, without those that retention took before."""
        return self.end - max(self.first, self.reached or 0)


@dataclass(frozen=True)
class Subscription:
    """A feed, the lake that it fills and the broker that it reads.

    Attributes:
        lake: Where the tables are.
        feed: What goes where.
        config: How clients connect, in librdkafka's names.
        memory_limit_mb: What DuckDB may hold before it spills.
        known_keys: Message keys that are known from elsewhere, asked when a run starts.
    """

    lake: Lake
    feed: Feed
    config: Mapping[str, Any]
    memory_limit_mb: int = 1024
    known_keys: Callable[[], Sequence[str]] = tuple

    def held(self) -> Standing:
        """What the topic holds now.

        Raises:
            TidemillError: No broker answers, or there is no such topic.
        """
        return standing(self.config, self.feed.topic.name)

    def unread(self, held: Standing, limit: int = RUN_MESSAGES) -> list[Span]:
        """What the feed's table does not have yet.

        Raises:
            OffsetsLost: The broker no longer holds some of it.
        """
        return plan(feeds.reached(self.lake, self.feed, held), held, limit)

    def consume(self, held: Standing, spans: Sequence[Span]) -> Consumed:
        """Take spans into the tables; see ``consume.consume``."""
        return consume(
            self.lake,
            self.feed,
            self.config,
            held,
            spans,
            self.memory_limit_mb,
            self.known_keys(),
        )

    def lags(self, held: Standing) -> list[Lag]:
        """How far the lake is behind, by partition."""
        at = feeds.reached(self.lake, self.feed, held)
        return [
            Lag(held.topic, partition, low, high, at.get(partition))
            for partition, (low, high) in sorted(held.marks.items())
        ]
