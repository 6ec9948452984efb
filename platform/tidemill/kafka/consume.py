"""Consumes spans of a topic into the feed's tables, each message exactly once.

A span is read in chunks of bounded size; the rows of each are written as files that no version of a
table names yet. At the end one commit of the ledger takes the offsets, and ``feed.roll_forward``
brings rows and dead letters to the same place, each with its offsets in the same commit.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import compiled
from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka import reader
from tidemill.kafka.decode import decode
from tidemill.kafka.feed import Feed, pack, roll_forward
from tidemill.kafka.spans import Span, Standing
from tidemill.lake import checks, files, lease, stream
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.files import NewFile, Staged
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import polars as pl

TRIES = 5
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1)


@dataclass
class Account:
    """What became of a span: consumed = good + late + duplicate + dead."""

    partition: int
    start: int
    stop: int
    consumed: int = 0
    good: int = 0
    late: int = 0
    duplicate: int = 0
    dead: int = 0
    newest_ms: int | None = None


@dataclass(frozen=True)
class Consumed:
    """What a run of ``consume`` did.

    Attributes:
        accounts: A span each; none where another had consumed them before.
        rows: Rows added to the feed's table.
        size: Bytes of them.
        seconds: From the first message to the last commit.
        dates: UTC days that have new rows, ISO.
    """

    accounts: tuple[Account, ...] = ()
    rows: int = 0
    size: int = 0
    seconds: float = 0.0
    dates: tuple[str, ...] = ()

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
    roll_forward(lake, feed)
    for left in reversed(range(TRIES)):
        wanted = _unread(lake, feed, held, spans)
        if not wanted:
            return Consumed()
        try:
            with _Batch(lake, feed, held, wanted, memory_limit_mb, known_keys) as batch:
                for chunk in reader.chunks(config, feed.topic.name, wanted):
                    batch.take(chunk)
                batch.refuse_gaps()
                batch.commit()
            break
        except Overtaken:
            if not left:
                raise
    roll_forward(lake, feed)
    lake.publish()
    seconds = time.perf_counter() - started
    rows = sum(file.rows for file in batch.rows)
    size = sum(file.size for file in batch.rows)
    dates = tuple(sorted({str(file.partition["date"]) for file in batch.rows}))
    return Consumed(tuple(batch.accounts.values()), rows, size, seconds, dates)


def _unread(lake: Lake, feed: Feed, held: Standing, spans: Sequence[Span]) -> list[Span]:
    """The parts of spans that the ledger does not have.

    Raises:
        TidemillError: It stands before a span's start; to go on would leave a hole.
    """
    names = {span.partition: held.app_id(span.partition) for span in spans}
    at = stream.reached(lake, feed.spans, names.values())
    found = []
    for span in spans:
        start = at.get(names[span.partition], span.start)
        if start < span.start:
            raise TidemillError(
                f"{feed.topic.name}, partition {span.partition}: offsets {start} to "
                f"{span.start - 1} come before {span.start} and were not consumed; ask for a span "
                f"from {start} on"
            )
        if start < span.stop:
            found.append(Span(span.partition, start, span.stop))
    return found


@dataclass
class _Batch:
    """Files written for one commit, and the account of the messages in them."""

    lake: Lake
    feed: Feed
    held: Standing
    spans: Sequence[Span]
    memory_limit_mb: int
    known_keys: Sequence[str]
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    accounts: dict[int, Account] = field(default_factory=dict)
    rows: list[NewFile] = field(default_factory=list)
    dead: list[NewFile] = field(default_factory=list)

    def __enter__(self) -> "_Batch":
        self._held = ExitStack()
        for table in (self.feed.spans, self.feed.dead, self.feed.table):
            self.lake.folder(table).mkdir(parents=True, exist_ok=True)
            self._held.enter_context(lease.writing(self.lake.root, table))
        self.con = self._held.enter_context(connection(self.memory_limit_mb))
        self.accounts = {s.partition: Account(*s) for s in self.spans}
        self.is_committed = False
        self._recall()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._held.close()
        if kind is not None and not self.is_committed:
            Staged(self.lake.folder(self.feed.table), tuple(self.rows)).discard()
            Staged(self.lake.folder(self.feed.dead), tuple(self.dead)).discard()

    def _recall(self) -> None:
        """What came before: the newest event of each partition, and the keys that are known."""
        topic, topic_id = text_literal(self.held.topic), text_literal(self.held.topic_id)
        ledger = self.lake.snapshot(self.feed.spans).scan()
        self.con.execute(
            'create temp table newest as select "partition", '
            f"max(epoch_ms(newest_event_at)) as newest_ms from {ledger} "
            f"where topic = {topic} and topic_id = {topic_id} group by 1"
        )
        for partition, newest_ms in self.con.execute("from newest").fetchall():
            if partition in self.accounts:
                self.accounts[partition].newest_ms = newest_ms
        self.known = set(self.known_keys)
        if self.feed.max_keys is not None:
            rows = self.lake.snapshot(self.feed.table).scan()
            came = self.con.execute(f'select distinct "{self.feed.topic.key}" from {rows}')
            self.known |= {name for (name,) in came.fetchall()}

    def take(self, chunk: "pl.DataFrame") -> None:
        """Write the rows and the dead letters of some messages, and count them."""
        decode(self.con, self.feed.topic, chunk)
        self._refuse_new_keys()
        self._judge()
        inputs = self.feed.inputs()
        rows = compiled(self.feed.taken, {"judged": inputs["judged"]}, "duckdb")
        self.rows += self._write(self.feed.table, rows)
        self._bury()
        self._count()

    def _refuse_new_keys(self) -> None:
        """Admit new message keys as long as there is room; the messages of others are dead."""
        if self.feed.max_keys is None:
            return
        key = f'"{self.feed.topic.key}"'
        come = self.con.execute(f"select distinct {key} from decoded where error is null")
        strange = {name for (name,) in come.fetchall()} - self.known
        if not strange:
            return
        new = self.con.execute(
            f"select {key} from decoded where error is null and {key} in (select unnest(?)) "
            'group by 1 order by min("partition"), min("offset")',
            [list(strange)],
        ).fetchall()
        room = max(0, self.feed.max_keys - len(self.known))
        self.known |= {name for (name,) in new[:room]}
        if new[room:]:
            told = text_literal(
                f"{self.feed.topic.key}: expected one of the {self.feed.max_keys} that may be "
                "registered (TIDEMILL_MAX_SYMBOLS), found the new one "
            )
            self.con.execute(
                f"update decoded set error = {told} || {key} "
                f"where error is null and {key} in (select unnest(?))",
                [[name for (name,) in new[room:]]],
            )

    def _judge(self) -> None:
        """Make ``judged``: the messages without error, with is_late and is_duplicate."""
        topic, topic_id = text_literal(self.held.topic), text_literal(self.held.topic_id)
        self.con.execute(
            f"create or replace temp view messages as select {topic} as topic, "
            f"{topic_id} as topic_id, * exclude (error, key, value) "
            "from decoded where error is null"
        )
        self.con.execute(f"create or replace temp view present as {self._present()}")
        inputs = {name: self.feed.inputs()[name] for name in ("messages", "present", "newest")}
        sql = compiled(self.feed.judged, inputs, "duckdb")
        self.con.execute(f"create or replace temp table judged as {sql}")

    def _present(self) -> str:
        """SQL of the rows that are in, committed or written by this batch, of the same time."""
        found = self.con.execute("select min(event_ms), max(event_ms) from messages").fetchone()
        low, high = found if found and found[0] is not None else (0, 0)
        first, last = (date.fromtimestamp(0) + timedelta(ms // DAY_MS) for ms in (low, high))
        table = self.feed.table
        now = self.lake.snapshot(table)
        mine = tuple(file.added(self.lake.folder(table)) for file in self.rows)
        within = replace(now, files=now.files + mine).only(
            lambda file: str(first) <= file.partition["date"] <= str(last)
        )
        return (
            f"select * from {within.scan()} "
            f"where event_time between epoch_ms({low}) and epoch_ms({high})"
        )

    def _bury(self) -> None:
        """Write the messages that cannot be used, as they came."""
        topic, topic_id = text_literal(self.held.topic), text_literal(self.held.topic_id)
        self.dead += self._write(
            self.feed.dead,
            f'select {topic} as topic, {topic_id} as topic_id, "partition", "offset", '
            "epoch_ms(greatest(produced_ms, 0)) as produced_at, key, value, error, "
            "null as replayed_at from decoded where error is not null",
        )

    def _write(self, table: Table, query: str) -> tuple[NewFile, ...]:
        staged = files.write(table, self.con, query, self.lake.folder(table))
        asked = {tuple(str(v) for v in file.partition.values()) for file in staged.files}
        checks.refuse_files(table, staged.files, asked)
        return staged.files

    def _count(self) -> None:
        """Add the chunk to the accounts, and move the newest event of each partition on."""
        counted = self.con.execute(
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
        for partition, consumed, dead, good, late, duplicate, newest_ms in counted:
            account = self.accounts[partition]
            account.consumed += consumed
            account.dead += dead
            account.good += good
            account.late += late
            account.duplicate += duplicate
            known = [ms for ms in (account.newest_ms, newest_ms) if ms is not None]
            account.newest_ms = max(known, default=None)
        self.con.execute(
            "create or replace temp table newest (partition integer, newest_ms bigint)"
        )
        for account in self.accounts.values():
            if account.newest_ms is not None:
                self.con.execute(
                    "insert into newest values (?, ?)", [account.partition, account.newest_ms]
                )

    def refuse_gaps(self) -> None:
        """See that every offset held a message, where the topic has no other ones.

        Raises:
            TidemillError: Some did not; nothing is kept.
        """
        for a in self.accounts.values():
            absent = a.stop - a.start - a.consumed
            if absent and not self.feed.topic.has_gaps:
                raise TidemillError(
                    f"{self.feed.topic.name}, partition {a.partition}: {absent} of the offsets "
                    f"{a.start} to {a.stop - 1} hold no message. Producers with transactions, and "
                    "compaction, leave such gaps: if they are in use, declare the topic with "
                    "has_gaps; else messages were lost"
                )

    def commit(self) -> None:
        """Write the spans down in the ledger, which takes their offsets.

        Raises:
            Overtaken: Another took some of them meanwhile; nothing is kept.
        """
        now = datetime.now(UTC).replace(tzinfo=None)
        self.con.execute(
            "create or replace temp table spans as select * from "
            f"{self.lake.snapshot(self.feed.spans).only(lambda _: False).scan()}"
        )
        packed = pack(self.dead, self.rows)
        for a in self.accounts.values():
            newest_at = a.newest_ms and EPOCH + timedelta(milliseconds=a.newest_ms)
            absent = a.stop - a.start - a.consumed
            self.con.execute(
                f"insert into spans values ({', '.join('?' * 16)})",
                [
                    self.held.topic,
                    self.held.topic_id,
                    a.partition,
                    a.start,
                    a.stop,
                    absent,
                    0,
                    a.consumed,
                    a.good,
                    a.late,
                    a.duplicate,
                    a.dead,
                    newest_at,
                    self.name,
                    packed,
                    now,
                ],
            )
        ledger = self._write(self.feed.spans, "from spans")
        moves = {
            self.held.app_id(a.partition): stream.Move(a.start, a.stop)
            for a in self.accounts.values()
        }
        try:
            stream.add(self.lake, self.feed.spans, ledger, moves, is_first=True)
        except Overtaken:
            Staged(self.lake.folder(self.feed.spans), ledger).discard()
            raise
        self.is_committed = True
