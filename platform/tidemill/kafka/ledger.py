"""Writes spans down in a feed's ledger, which takes their offsets."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tidemill.errors import TidemillError
from tidemill.kafka.feed import Feed, pack, roll_forward
from tidemill.kafka.spans import Span, Standing
from tidemill.lake import checks, duck, files, lease, stream
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.files import NewFile, Staged
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

EPOCH = datetime(1970, 1, 1)
NEVER_MS = -9_223_372_036_854_775_807


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
    lost: int = 0

    @property
    def absent(self) -> int:
        """Offsets that hold no message."""
        return self.stop - self.start - self.consumed - self.lost

    def add(
        self, consumed: int, dead: int, good: int, late: int, duplicate: int, newest_ms: int | None
    ) -> None:
        """Count some messages, the newest of whose events is of ``newest_ms``."""
        self.consumed += consumed
        self.dead += dead
        self.good += good
        self.late += late
        self.duplicate += duplicate
        known = [ms for ms in (self.newest_ms, newest_ms) if ms is not None]
        self.newest_ms = max(known, default=None)


@dataclass(frozen=True)
class Closing:
    """What a batch says of windows that are closed for good.

    Attributes:
        before_ms: Where they were closed up to when it was read, epoch ms.
        after_ms: Where they are from now on.
        stood: The next offset of every partition when it was read; it counts only where none of
            them has moved since, as the others' messages would not know what it closes.
    """

    before_ms: int | None
    after_ms: int | None
    stood: Mapping[int, int]


def _instant(ms: int | None) -> datetime | None:
    return None if ms is None else EPOCH + timedelta(milliseconds=ms)


def newest(lake: Lake, feed: Feed, held: Standing) -> dict[int, int | None]:
    """The newest event of each partition that the ledger knows, in epoch milliseconds."""
    ledger = lake.snapshot(feed.spans).scan()
    with duck.cursor() as con:
        found = con.execute(
            f'select "partition", max(epoch_ms(newest_event_at)) from {ledger} where '
            f"topic = {text_literal(held.topic)} and topic_id = {text_literal(held.topic_id)} "
            "group by 1"
        )
        return dict(found.fetchall())


@dataclass(frozen=True)
class Heard:
    """When messages of a topic came, by the clock, epoch ms.

    Attributes:
        first_ms: When it was first read; None before.
        last_ms: When a partition last had one with an event, by the clock of its commit; those
            without are left out. A dead letter is none: it tells no event time to wait for.
    """

    first_ms: int | None
    last_ms: Mapping[int, int]


def heard(lake: Lake, feed: Feed, held: Standing) -> Heard:
    """When messages of a topic came."""
    with duck.cursor() as con:
        found = con.execute(
            'select "partition", min(epoch_ms(committed_at)), '
            "max(epoch_ms(committed_at)) filter (consumed > dead) "
            f"from {lake.snapshot(feed.spans).scan()} where consumed > 0 "
            f"and topic = {text_literal(held.topic)} "
            f"and topic_id = {text_literal(held.topic_id)} group by 1"
        ).fetchall()
    firsts = [first for _, first, _ in found]
    lasts = {part: last for part, _, last in found if last is not None}
    return Heard(min(firsts, default=None), lasts)


def closed_ms(
    lake: Lake, feed: Feed, topic: str, reached: Mapping[tuple[str, int], int] | None = None
) -> int | None:
    """Up to where the windows of a topic are closed, epoch ms; None where nothing is.

    A topic that is made anew under its name goes on with the same windows.

    Args:
        lake: Where the ledger is.
        feed: Whose ledger.
        topic: Its name.
        reached: By topic id and partition, the offset up to which messages were seen: what later
            ones close is left out, and nothing is closed that one of them may still change. All
            were seen of a place that is not in it.
    """
    each = " or ".join(
        f'(topic_id = {text_literal(ident)} and "partition" = {part} and "stop" > {at})'
        for (ident, part), at in (reached or {}).items()
    )
    seen = f"(not ({each or 'false'}))"
    with duck.cursor() as con:
        found: tuple[int | None, int | None, int] | None = con.execute(
            f"""
            select max(epoch_ms(closed_after)) filter ({seen}),
                   min(coalesce(epoch_ms(closed_before), {NEVER_MS}))
                       filter (not ({seen}) and consumed > 0),
                   count_if(not ({seen}) and consumed > 0)
            from {lake.snapshot(feed.spans).scan()} where topic = {text_literal(topic)}
            """
        ).fetchone()
    closed, unseen, n = found or (None, None, 0)
    if closed is None:
        return None
    if not n or unseen is None:
        return closed  # nothing is still to come
    # Those still to come were judged by what was closed before them.
    return None if unseen == NEVER_MS else min(int(closed), int(unseen))


def write(
    lake: Lake, table: Table, con: "duckdb.DuckDBPyConnection", query: str
) -> tuple[NewFile, ...]:
    """Write rows as files that no version of their table names yet.

    Raises:
        ContractError: They break its contract.
    """
    staged = files.write(table, con, query, lake.folder(table))
    asked = {tuple(str(v) for v in file.partition.values()) for file in staged.files}
    checks.refuse_files(table, staged.files, asked)
    return staged.files


def record(
    lake: Lake,
    feed: Feed,
    held: Standing,
    accounts: Iterable[Account],
    dead: Sequence[NewFile],
    rows: Sequence[NewFile],
    named: Callable[[bool], None] = lambda _: None,
    closing: Closing | None = None,
) -> None:
    """Write accounts down in one commit; it says which files are the rows of these offsets.

    Args:
        lake: Where the tables are.
        feed: Whose ledger.
        held: The topic, by its id.
        accounts: A span each.
        dead: The files of their dead letters.
        rows: The files of their rows.
        named: Told whether the ledger may name these files: yes before the commit is tried, no
            where it surely failed.
        closing: Of a topic whose windows are closed for good.

    Raises:
        Overtaken: Another took some of them meanwhile; nothing is kept.
    """
    accounts = list(accounts)
    batch, packed = uuid.uuid4().hex, pack(dead, rows)
    now = datetime.now(UTC).replace(tzinfo=None)
    empty = lake.snapshot(feed.spans).only(lambda _: False).scan()
    with duck.cursor() as con:
        con.execute(f"create or replace temp table spans as select * from {empty}")
        for a in accounts:
            values: list[object] = [
                held.topic,
                held.topic_id,
                a.partition,
                a.start,
                a.stop,
                a.absent,
                a.lost,
            ]
            values += [a.consumed, a.good, a.late, a.duplicate, a.dead]
            values += [
                _instant(a.newest_ms),
                _instant(closing.before_ms if closing else None),
                _instant(closing.after_ms if closing else None),
                batch,
                packed,
                now,
            ]
            con.execute(f"insert into spans values ({', '.join('?' * len(values))})", values)
        ledger = write(lake, feed.spans, con, "from spans")
    moves = _unseen(lake, feed, held)
    if closing is not None:
        moves |= {held.app_id(p): stream.Move(at, at) for p, at in closing.stood.items()}
    moves |= {held.app_id(a.partition): stream.Move(a.start, a.stop) for a in accounts}
    named(True)
    try:
        stream.add(lake, feed.spans, ledger, moves, is_first=True)
    except TidemillError:  # no commit was made; after any other error one may have been
        Staged(lake.folder(feed.spans), ledger).discard()
        named(False)
        raise


def _unseen(lake: Lake, feed: Feed, held: Standing) -> dict[str, stream.Move]:
    """Where each partition begins of which nothing is written down yet.

    From the topic's first commit on, so that what retention takes of a partition before it is read
    for the first time is seen to be lost.
    """
    names = {held.app_id(partition): low for partition, (low, _) in held.marks.items()}
    known = stream.reached(lake, feed.spans, names)
    return {n: stream.Move(low, low) for n, low in names.items() if n not in known}


def accept_loss(lake: Lake, feed: Feed, held: Standing) -> list[Span]:
    """Give up the offsets that retention took before they were read, and write them down as lost.

    Args:
        lake: Where the tables are.
        feed: What reads the topic.
        held: What the topic holds now.

    Returns:
        What was given up, by partition; the next run begins behind it.

    Raises:
        Overtaken: A run took offsets of the topic meanwhile; nothing was written.
    """
    gone = lost(lake, feed, held)
    if not gone:
        return []
    known = newest(lake, feed, held)
    accounts = [Account(*s, newest_ms=known.get(s.partition), lost=s.stop - s.start) for s in gone]
    lake.folder(feed.spans).mkdir(parents=True, exist_ok=True)
    with lease.writing(lake.root, feed.spans):
        record(lake, feed, held, accounts, (), ())
    roll_forward(lake, feed)
    lake.publish()
    return gone


def lost(lake: Lake, feed: Feed, held: Standing) -> list[Span]:
    """The offsets that the ledger wants next and the broker no longer holds, by partition."""
    names = {held.app_id(partition): partition for partition in held.marks}
    at = stream.reached(lake, feed.spans, names)
    return sorted(
        Span(names[name], start, held.marks[names[name]][0])
        for name, start in at.items()
        if start < held.marks[names[name]][0]
    )
