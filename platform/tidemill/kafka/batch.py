"""A batch of messages on its way into the lake, whatever engine writes its files.

Every engine counts with the same accounts and commits through the same ledger, so that none of them
can repeat or pass over what another one took.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka import ledger
from tidemill.kafka.closing import Mark, closes
from tidemill.kafka.feed import Feed, roll_forward
from tidemill.kafka.ledger import Account
from tidemill.kafka.spans import Span, Standing
from tidemill.lake import duck, lease, stream
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table
from tidemill.lake.files import NewFile, Staged
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

TRIES = 5
"""Of a batch whose offsets another one takes meanwhile."""


def unread(lake: Lake, feed: Feed, held: Standing, spans: Sequence[Span]) -> list[Span]:
    """The parts of spans that the ledger does not have.

    Raises:
        TidemillError: It stands before a span's start; to go on would leave a hole.
    """
    names = {span.partition: held.app_id(span.partition) for span in spans}
    at = stream.reached(lake, feed.spans, names.values())
    found = []
    for span in spans:
        low, _ = held.marks.get(span.partition, (span.start, span.stop))
        start = at.get(names[span.partition], min(low, span.start))
        if start < span.start:
            raise TidemillError(
                f"{feed.topic.name}, partition {span.partition}: offsets {start} to "
                f"{span.start - 1} come before {span.start} and were not consumed; ask for a span "
                f"from {start} on"
            )
        if start < span.stop:
            found.append(Span(span.partition, start, span.stop))
    return found


def known_keys(lake: Lake, feed: Feed, others: Sequence[str]) -> set[str]:
    """The message keys that came before, and others that are known; none where any may come."""
    if feed.max_keys is None:
        return set()
    with duck.cursor() as con:
        rows = lake.snapshot(feed.table).scan()
        came = con.execute(f'select distinct "{feed.topic.key}" from {rows}').fetchall()
    return {*others, *(name for (name,) in came)}


@dataclass
class Batch:
    """Files written for one commit, and the account of the messages in them.

    It is entered before the first file is written, and ends with ``commit``; files of a batch that
    did not come so far are deleted.

    Attributes:
        lake: Where the tables are.
        feed: What goes where.
        held: What the topic holds; its id names the offsets in the lake.
        spans: What is taken, as ``unread`` gives it.
        memory_limit_mb: What DuckDB may hold before it spills.
        accounts: By partition; each knows the newest event before its span.
        rows: Files of the feed's table.
        dead: Files of the dead letters.
        began_ms: When it was entered, epoch ms.
        closed_ms: Where windows were closed up to by then, epoch ms.
        con: The batch's own DuckDB.
    """

    lake: Lake
    feed: Feed
    held: Standing
    spans: Sequence[Span]
    memory_limit_mb: int
    accounts: dict[int, Account] = field(default_factory=dict)
    rows: list[NewFile] = field(default_factory=list)
    dead: list[NewFile] = field(default_factory=list)
    began_ms: int = field(default=0, init=False)
    closed_ms: int | None = field(default=None, init=False)

    def __enter__(self) -> "Batch":
        """Say that files are written, and recall what came before."""
        self._held = ExitStack()
        for table in (self.feed.spans, self.feed.dead, self.feed.table):
            self.lake.folder(table).mkdir(parents=True, exist_ok=True)
            self._held.enter_context(lease.writing(self.lake.root, table))
        self.con: duckdb.DuckDBPyConnection = self._held.enter_context(
            connection(self.memory_limit_mb)
        )
        self.accounts = {s.partition: Account(*s) for s in self.spans}
        self.is_named = False
        self.began_ms = int(time.time() * 1000)
        self._recall()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Delete the files of a batch that no ledger names."""
        self._held.close()
        if kind is not None and not self.is_named:
            Staged(self.lake.folder(self.feed.table), tuple(self.rows)).discard()
            Staged(self.lake.folder(self.feed.dead), tuple(self.dead)).discard()

    def _recall(self) -> None:
        """The newest event of each partition so far, and where windows are closed up to."""
        names = {self.held.app_id(partition): partition for partition in self.held.marks}
        at = stream.reached(self.lake, self.feed.spans, names)  # before what is told of them
        self._stood = {names[name]: offset for name, offset in at.items()}
        self._known = ledger.newest(self.lake, self.feed, self.held)
        self.closed_ms = ledger.closed_ms(self.lake, self.feed, self.held.topic)
        self._heard = ledger.heard(self.lake, self.feed, self.held)
        for account in self.accounts.values():
            account.newest_ms = self._known.get(account.partition)

    def newest(self) -> list[tuple[int, int]]:
        """Partition and newest event (epoch ms) of those that have had one."""
        return [
            (account.partition, account.newest_ms)
            for account in self.accounts.values()
            if account.newest_ms is not None
        ]

    def write(self, table: Table, query: str) -> tuple[NewFile, ...]:
        """Write the rows of a query in ``con`` beside a table's files.

        Raises:
            ContractError: They break the table's contract.
        """
        return ledger.write(self.lake, table, self.con, query)

    def refuse_gaps(self) -> None:
        """See that every offset held a message, where the topic has no other ones.

        Raises:
            TidemillError: Some did not; nothing is kept.
        """
        for a in self.accounts.values():
            if a.absent and not self.feed.topic.has_gaps:
                raise TidemillError(
                    f"{self.feed.topic.name}, partition {a.partition}: {a.absent} of the offsets "
                    f"{a.start} to {a.stop - 1} hold no message. Producers with transactions, and "
                    "compaction, leave such gaps: if they are in use, declare the topic with "
                    "has_gaps; else messages were lost"
                )

    def commit(self) -> None:
        """Write the spans down in the ledger, which takes their offsets.

        Raises:
            Overtaken: Another took some of them meanwhile; nothing is kept.
        """

        def named(may_be: bool) -> None:
            self.is_named = may_be

        accounts = list(self.accounts.values())
        closing = None
        if self.feed.topic.idle_ms is not None:
            closing = ledger.Closing(self.closed_ms, self._closes(), self._stood)
        ledger.record(
            self.lake, self.feed, self.held, accounts, self.dead, self.rows, named, closing
        )

    def _closes(self) -> int | None:
        """Where windows are closed up to behind this batch, epoch ms."""
        ends = self._stood | {p: a.stop for p, a in self.accounts.items()}
        newest = self._known | {p: a.newest_ms for p, a in self.accounts.items()}
        told = {p: self.began_ms for p, a in self.accounts.items() if a.consumed > a.dead}
        first_ms = self.began_ms if self._heard.first_ms is None else self._heard.first_ms
        heard = {**self._heard.last_ms, **told}
        marks = [
            Mark(newest.get(p), ends.get(p, low) >= high, self.began_ms - heard.get(p, first_ms))
            for p, (low, high) in self.held.marks.items()
        ]
        return closes(self.feed.topic, marks, self.closed_ms)


def taken(
    lake: Lake,
    feed: Feed,
    held: Standing,
    spans: Sequence[Span],
    memory_limit_mb: int,
    fill: Callable[[Batch], None],
) -> Batch | None:
    """Take what the ledger does not have of some spans, and bring rows and dead letters after it.

    Args:
        lake: Where the tables are.
        feed: What goes where.
        held: What the topic holds; its id names the offsets in the lake.
        spans: At most one a partition; each must begin where the ledger stands or before.
        memory_limit_mb: What DuckDB may hold before it spills.
        fill: Writes the batch's files and counts its messages; asked again, with what is left,
            where another was faster.

    Returns:
        The batch that was committed; None where another had taken all of it.

    Raises:
        TidemillError: The ledger stands before a span's start, or offsets hold no message.
        Overtaken: Others were faster ``TRIES`` times.
    """
    for left in reversed(range(TRIES)):
        wanted = unread(lake, feed, held, spans)
        # Not before the ledger was read: a rival's rows must be in before theirs are told again.
        roll_forward(lake, feed)
        if not wanted:
            return None
        try:
            with Batch(lake, feed, held, wanted, memory_limit_mb) as batch:
                fill(batch)
                batch.refuse_gaps()
                batch.commit()
            break
        except Overtaken:
            if not left:
                raise
    roll_forward(lake, feed)
    lake.publish()
    return batch
