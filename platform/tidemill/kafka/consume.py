"""Consumes spans of a topic into the feed's tables, each message exactly once.

A span is read in chunks of bounded size; the rows of each are written as files that no version of a
table names yet. At the end one commit of the ledger takes the offsets, and ``feed.roll_forward``
brings rows and dead letters to the same place, each with its offsets in the same commit.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidemill.kafka import batch as batches
from tidemill.kafka import reader
from tidemill.kafka.batch import Batch, taken
from tidemill.kafka.decode import decode
from tidemill.kafka.feed import Feed
from tidemill.kafka.judge import between, judge, nothing, taken_sql
from tidemill.kafka.ledger import Account
from tidemill.kafka.spans import Span, Standing, refuse_another
from tidemill.kafka.topics import LAST_MS
from tidemill.lake.contracts import text_literal
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@dataclass(frozen=True)
class Consumed:
    """What a run of ``consume`` did.

    Attributes:
        accounts: A span each; none where another had consumed them before.
        rows: Rows added to the feed's table.
        size: Bytes of them.
        seconds: From the first message to the last commit.
        dates: UTC days that have new rows, ISO.
        files: Of the rows, relative to the table's folder.
    """

    accounts: tuple[Account, ...] = ()
    rows: int = 0
    size: int = 0
    seconds: float = 0.0
    dates: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def total(self, name: str) -> int:
        """The sum of one of the accounts' figures."""
        return sum(getattr(account, name) for account in self.accounts)


def consume(
    lake: Lake,
    feed: Feed,
    config: Mapping[str, Any],
    held: Standing,
    spans: Sequence[Span],
    memory_limit_mb: int = 1024,
    known_keys: Sequence[str] = (),
) -> Consumed:
    """Read spans and commit what they hold; what was committed before is left out.

    Args:
        lake: Where the tables are.
        feed: What goes where.
        config: How clients connect, in librdkafka's names.
        held: What the topic holds; its id names the offsets in the lake.
        spans: At most one a partition; each must begin where the ledger stands or before.
        memory_limit_mb: What DuckDB may hold before it spills.
        known_keys: Message keys that are known, besides those in the feed's table.

    Raises:
        OffsetsLost: The broker no longer holds some of it.
        TidemillError: The broker fails, or the ledger stands before a span's start.
    """
    started = time.perf_counter()

    def fill(batch: Batch) -> None:
        chunked = Chunks(batch, batches.known_keys(lake, feed, known_keys))
        for chunk in reader.chunks(config, feed.topic.name, batch.spans):
            chunked.take(chunk)
        refuse_another(config, held)

    batch = taken(lake, feed, held, spans, memory_limit_mb, fill)
    if batch is None:
        return Consumed()
    seconds = time.perf_counter() - started
    rows = sum(file.rows for file in batch.rows)
    size = sum(file.size for file in batch.rows)
    dates = tuple(sorted({str(file.partition["date"]) for file in batch.rows}))
    files = tuple(file.relative for file in batch.rows)
    return Consumed(tuple(batch.accounts.values()), rows, size, seconds, dates, files)


def refuse_new_keys(con: "duckdb.DuckDBPyConnection", feed: Feed, known: set[str]) -> None:
    """Admit new message keys to ``known`` as long as there is room; others' messages are dead."""
    if feed.max_keys is None:
        return
    key = f'"{feed.topic.key}"'
    come = con.execute(f"select distinct {key} from decoded where error is null")
    strange = {name for (name,) in come.fetchall()} - known
    if not strange:
        return
    new = con.execute(
        f"select {key} from decoded where error is null and {key} in (select unnest(?)) "
        'group by 1 order by min("partition"), min("offset")',
        [list(strange)],
    ).fetchall()
    room = max(0, feed.max_keys - len(known))
    known |= {name for (name,) in new[:room]}
    if new[room:]:
        con.execute(
            f"""
            update decoded set error = {text_literal(feed.no_room)} || {key},
                key = raw.key, value = raw.value
            from raw_messages raw
            where error is null and {key} in (select unnest(?))
                and raw."partition" = decoded."partition" and raw."offset" = decoded."offset"
            """,
            [[name for (name,) in new[room:]]],
        )


@dataclass
class Chunks:
    """The messages of a batch, a bounded number at a time.

    Attributes:
        batch: What they are written for.
        known: Message keys that may come; those admitted are added.
    """

    batch: Batch
    known: set[str]

    def take(self, chunk: "pl.DataFrame") -> None:
        """Write the rows and the dead letters of some messages, and count them."""
        batch, con, feed = self.batch, self.batch.con, self.batch.feed
        decode(con, feed.topic, chunk)
        refuse_new_keys(con, feed, self.known)
        present = self._present() if feed.topic.event_key else nothing(feed)
        closed = "null" if batch.closed_ms is None else str(batch.closed_ms)
        judge(con, feed, batch.held, present, batch.newest(), batch.began_ms, closed)
        batch.rows += batch.write(feed.table, taken_sql(feed))
        self._bury()
        self._count()

    def _present(self) -> str:
        """SQL of the rows that are in, committed or written by this batch, of the same time."""
        batch, table = self.batch, self.batch.feed.table
        found = batch.con.execute(
            "select min(event_ms), max(event_ms) from decoded where error is null"
        ).fetchone()
        low, high = found if found and found[0] is not None else (0, 0)
        now = batch.lake.snapshot(table)
        mine = tuple(file.added(batch.lake.folder(table)) for file in batch.rows)
        within = between(replace(now, files=now.files + mine), low, high)
        return (
            f"select * from {within.scan()} "
            f"where event_time between epoch_ms({low}) and epoch_ms({high})"
        )

    def _bury(self) -> None:
        """Write the messages that cannot be used, as they came."""
        batch = self.batch
        topic, topic_id = text_literal(batch.held.topic), text_literal(batch.held.topic_id)
        batch.dead += batch.write(
            batch.feed.dead,
            f'select {topic} as topic, {topic_id} as topic_id, "partition", "offset", '
            f"epoch_ms(least(greatest(produced_ms, 0), {LAST_MS})) as produced_at, key, value, "
            "error, "
            "null as replayed_at from decoded where error is not null",
        )

    def _count(self) -> None:
        """Add the chunk to the accounts."""
        counted = self.batch.con.execute(
            """
            with told as (
                select "partition", count(*) as consumed, count(error) as dead
                from decoded group by 1
            ), sorted as (
                select "partition",
                       count_if(not is_duplicate and not is_late) as good,
                       count_if(not is_duplicate and is_late) as late,
                       count_if(is_duplicate) as duplicate, max(event_ms) as newest_ms
                from judged group by 1
            )
            select told.*, coalesce(good, 0), coalesce(late, 0), coalesce(duplicate, 0), newest_ms
            from told left join sorted using ("partition")
            """
        ).fetchall()
        for partition, *counts in counted:
            self.batch.accounts[partition].add(*counts)
