"""Whether the topic, read again as a batch, gives the days that the stream gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.checks import Differences, days_not_replayed
from tidemill.engines.duck import connection
from tidemill.kafka import reread
from tidemill.kafka.spans import Span, Standing
from tidemill.kafka.subscription import Subscription
from tidemill.lake import stream
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb

MESSAGES = 2_000_000
"""Messages of a partition that one look takes about, the last ones."""


def replay_differs(crypto: Crypto, prices: Subscription, limit: int = MESSAGES) -> Differences:
    """Live days that are not what the topic gives, read again in one pass and folded in one go.

    Only days whose ticks all come from the offsets read again are compared, and none that got ticks
    meanwhile. Dead letters are passed over: they are accounted for. Where an event comes twice with
    different values in two partitions, which of them stays is a matter of arrival, and is told.

    Args:
        crypto: Has the days.
        prices: Has the topic.
        limit: Messages of a partition to read, about: a span that was consumed is read whole.

    Returns:
        Each row that only one side has, with the side.

    Raises:
        TidemillError: The broker fails.
    """
    lake, held = prices.lake, prices.held()
    names = {held.app_id(partition): partition for partition in held.marks}
    ticks, at = stream.standing(lake, c.LIVE_PRICES, names)
    days = lake.snapshot(c.LIVE_DAILY_OHLC)
    reached = {names[name]: stop for name, stop in at.items()}
    with connection(prices.memory_limit_mb) as con, TemporaryDirectory(prefix="tidemill-") as made:
        again = _Again(con, prices, held, ticks, _spans(con, prices, held, reached, limit))
        if not again.spans:
            return []
        path = Path(made) / "replayed.parquet"
        again.read(path)
        settled = [day for day in again.dates() if _is_counted(con, ticks, days, day)]
        found = days_not_replayed(crypto, f"read_parquet({text_literal(str(path))})", settled)
    return [row for row in found if not _has_changed(crypto, ticks, days, row["date"])]


def _spans(
    con: "duckdb.DuckDBPyConnection",
    prices: Subscription,
    held: Standing,
    reached: dict[int, int],
    limit: int,
) -> list[Span]:
    """What the broker still holds of the offsets that the lake has, from the start of a span on."""
    found = con.execute(
        f'select "partition", "start", "stop" from {prices.lake.snapshot(c.CONSUMED_SPANS).scan()} '
        f"where topic = {text_literal(held.topic)} and topic_id = {text_literal(held.topic_id)} "
        'and lost = 0 order by "start"'
    ).fetchall()
    spans = {}
    for partition, start, _ in found:
        stop = reached.get(partition, 0)
        first = max(held.marks[partition][0], stop - limit)
        if partition not in spans and first <= start < stop:
            spans[partition] = Span(partition, start, stop)
    return list(spans.values())


@dataclass
class _Again:
    """A part of a topic that is read once more."""

    con: "duckdb.DuckDBPyConnection"
    prices: Subscription
    held: Standing
    ticks: Snapshot
    spans: Sequence[Span]

    def read(self, path: Path) -> None:
        """Write the rows of the feed's table into a Parquet file."""
        lake, feed = self.prices.lake, self.prices.feed
        topic_id = text_literal(self.held.topic_id)
        dead = lake.snapshot(c.DEAD_LETTERS).scan()
        rows = reread.read(
            self.con,
            feed,
            self.prices.config,
            self.held,
            self.spans,
            present=f"from {self.ticks.scan()} where not ({self._is_within()})",
            newest=self._newest(),
            without=f'select "partition", "offset" from {dead} where topic_id = {topic_id}',
        )
        self.con.execute(f"copy {rows} to {text_literal(str(path))} (format parquet)")

    def _is_within(self) -> str:
        """SQL of whether a row comes from the offsets that are read again."""
        each = " or ".join(
            f'"partition" = {s.partition} and "offset" between {s.start} and {s.stop - 1}'
            for s in self.spans
        )
        return f"topic_id = {text_literal(self.held.topic_id)} and ({each})"

    def _newest(self) -> dict[int, int]:
        """The newest event before each span, epoch ms."""
        ledger = self.prices.lake.snapshot(c.CONSUMED_SPANS).scan()
        each = " or ".join(
            f'"partition" = {s.partition} and "stop" <= {s.start}' for s in self.spans
        )
        found = self.con.execute(
            f'select "partition", max(epoch_ms(newest_event_at)) from {ledger} where topic_id = '
            f"{text_literal(self.held.topic_id)} and ({each}) group by 1"
        ).fetchall()
        return {partition: ms for partition, ms in found if ms is not None}

    def dates(self) -> list[date]:
        """The days that have ticks, and only from the offsets that are read again, sorted."""
        found = self.con.execute(
            f"select date from {self.ticks.scan()} group by 1 having bool_and({self._is_within()}) "
            f"union (select date from {reread.ROWS} except select date from {self.ticks.scan()}) "
            "order by 1"
        )
        return [day for (day,) in found.fetchall()]


def _is_counted(
    con: "duckdb.DuckDBPyConnection", ticks: Snapshot, days: Snapshot, day: date
) -> bool:
    """Whether a day's bars were made of all its ticks."""
    within = [{"date": str(day)}]
    (made,) = con.execute(
        f"select coalesce(sum(ticks), 0) from {days.within(within).scan()}"
    ).fetchone() or (0,)
    return int(made) == ticks.within(within).rows


def _has_changed(crypto: Crypto, ticks: Snapshot, days: Snapshot, day: date) -> bool:
    """Whether a day got other ticks or other bars since it was looked at."""
    within = [{"date": str(day)}]
    return any(
        crypto.lake.snapshot(was.table).within(within).files != was.within(within).files
        for was in (ticks, days)
    )
