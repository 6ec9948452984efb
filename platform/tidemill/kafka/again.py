"""The last part of a topic read once more, as its feed's table would have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.kafka import reread
from tidemill.kafka.spans import Span, Standing
from tidemill.kafka.subscription import Subscription
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Again:
    """Offsets of a topic that the lake has, and that are to be read once more.

    Attributes:
        con: Where the rows go.
        subscription: What reads the topic.
        held: What the topic holds.
        rows: The feed's table.
        spans: At most one a partition; they begin where spans of the ledger do.
    """

    con: "duckdb.DuckDBPyConnection"
    subscription: Subscription
    held: Standing
    rows: Snapshot
    spans: Sequence[Span]

    @classmethod
    def of(
        cls,
        con: "duckdb.DuckDBPyConnection",
        subscription: Subscription,
        held: Standing,
        rows: Snapshot,
        reached: Mapping[int, int],
        limit: int,
    ) -> "Again":
        """What the broker still holds of the offsets that the lake has.

        Args:
            con: Where the rows go.
            subscription: What reads the topic.
            held: What the topic holds.
            rows: The feed's table.
            reached: The next offset that it wants, by partition.
            limit: Messages of a partition to read, about: it begins with a span of the ledger.
        """
        found = con.execute(
            f'select "partition", "start" from {_ledger(subscription, held)} '
            'and lost = 0 order by "start"'
        ).fetchall()
        spans: dict[int, Span] = {}
        for partition, start in found:
            stop = reached.get(partition, 0)
            first = max(held.marks[partition][0], stop - limit) if partition in held.marks else stop
            if partition not in spans and first <= start < stop:
                spans[partition] = Span(partition, start, stop)
        return cls(con, subscription, held, rows, list(spans.values()))

    def read(self) -> str:
        """Read them into a temporary table with the columns of the feed's table; its name.

        Raises:
            OffsetsLost: The broker no longer holds some of it.
            TidemillError: The broker fails, or there are no spans.
        """
        sub, topic = self.subscription, self.subscription.feed.topic
        dead = sub.lake.snapshot(sub.feed.dead).scan()
        present = f"from {self.rows.scan()} where not ({self.is_within()})"
        ledger = _ledger(sub, self.held)
        closed = (
            f'select "partition", "start", epoch_ms(closed_before) as closed_then from {ledger}'
        )
        return reread.read(
            self.con,
            sub.feed,
            sub.config,
            self.held,
            self.spans,
            present=present if topic.event_key else None,
            newest=self._newest(),
            without=f'select "partition", "offset" from {dead} '
            f"where topic_id = {text_literal(self.held.topic_id)}",
            closed=None if topic.idle_ms is None else closed,
        )

    def is_within(self) -> str:
        """SQL of whether a row of the feed's table comes from these offsets."""
        each = " or ".join(
            f'"partition" = {s.partition} and "offset" between {s.start} and {s.stop - 1}'
            for s in self.spans
        )
        return f"topic_id = {text_literal(self.held.topic_id)} and ({each or 'false'})"

    def _newest(self) -> dict[int, int]:
        """The newest event before each span, epoch ms."""
        each = " or ".join(
            f'"partition" = {s.partition} and "stop" <= {s.start}' for s in self.spans
        )
        found: list[Any] = self.con.execute(
            'select "partition", max(epoch_ms(newest_event_at)) '
            f"from {_ledger(self.subscription, self.held)} and ({each or 'false'}) group by 1"
        ).fetchall()
        return {partition: ms for partition, ms in found if ms is not None}


def _ledger(subscription: Subscription, held: Standing) -> str:
    """SQL of the ledger's rows of a topic, as ``relation where condition``."""
    relation = subscription.lake.snapshot(subscription.feed.spans).scan()
    return (
        f"{relation} where topic = {text_literal(held.topic)} "
        f"and topic_id = {text_literal(held.topic_id)}"
    )
