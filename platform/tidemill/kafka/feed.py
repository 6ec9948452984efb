"""A topic and the tables that it fills, and where each of them stands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.errors import TidemillError
from tidemill.kafka.classify import classified
from tidemill.kafka.spans import Standing, app_id
from tidemill.kafka.topics import Topic
from tidemill.lake import duck, stream
from tidemill.lake.contracts import Table, Type, text_literal
from tidemill.lake.files import NewFile
from tidemill.lake.store import Lake

Moves = dict[str, stream.Move]
"""Offsets by application name."""


MESSAGE = {
    "topic": Type.STRING,
    "topic_id": Type.STRING,
    "partition": Type.INT,
    "offset": Type.BIGINT,
    "produced_ms": Type.BIGINT,
    "event_ms": Type.BIGINT,
    "ingested_ms": Type.BIGINT,
    "closed_ms": Type.BIGINT,
}
"""What every good message has beside its topic's fields; times are epoch milliseconds.

``ingested_ms`` is when it was read, ``closed_ms`` up to where windows were closed by then.
"""


@dataclass(frozen=True, eq=False)
class Feed:
    """A topic and the tables that it fills.

    Attributes:
        topic: What is read.
        table: Where good and late messages go; partitioned by ``date``, the UTC day of the event.
            Where the topic has an event key, its ``event_time`` is when.
        rows: The table's rows (Ibis) from messages: ``MESSAGE``, the topic's fields, watermark_ms
            and is_late.
        keys: The event key of each of the table's rows (Ibis), named as the topic's fields; None
            where the topic has none.
        spans: The ledger.
        dead: Where messages go that cannot be used.
        max_keys: How many different message keys may come; None: any number.
    """

    topic: Topic
    table: Table
    rows: Callable[[Any], Any]
    keys: Callable[[Any], Any] | None
    spans: Table
    dead: Table
    max_keys: int | None = None

    @property
    def no_room(self) -> str:
        """What is said of a message whose key is one too many, before the key itself."""
        return (
            f"{self.topic.key}: expected one of the {self.max_keys} that may be registered "
            "(TIDEMILL_MAX_SYMBOLS), found the new one "
        )

    def judged(self, messages: Any, present: Any, newest: Any) -> Any:
        """The messages with is_late, is_duplicate and watermark_ms, as an Ibis table.

        Args:
            messages: ``MESSAGE`` and the topic's fields, all without error.
            present: Rows of the feed's table, at least those whose event one of them may tell.
            newest: partition, newest_ms: the newest event of each partition before them.
        """
        seen = None if self.keys is None else self.keys(present)
        return classified(self.topic, messages, seen, newest)

    def taken(self, judged: Any) -> Any:
        """The table's rows of the messages that tell a new event."""
        return self.rows(judged.filter(~judged.is_duplicate))

    def inputs(self) -> dict[str, dict[str, Type]]:
        """The columns of what ``judged`` and ``taken`` read."""
        messages = MESSAGE | {column.name: column.type for column in self.topic.value}
        return {
            "messages": messages,
            "present": {column.name: column.type for column in self.table.columns},
            "newest": {"partition": Type.INT, "newest_ms": Type.BIGINT},
            "judged": messages
            | {
                "watermark_ms": Type.BIGINT,
                "is_late": Type.BOOLEAN,
                "is_duplicate": Type.BOOLEAN,
            },
        }


def reached(lake: Lake, feed: Feed, held: Standing) -> dict[int, int]:
    """The next offset that the feed's table wants of each partition; those never seen left out.

    Of a partition of which the table has nothing, it is where the ledger saw it begin.
    """
    names = {held.app_id(partition): partition for partition in held.marks}
    found = stream.reached(lake, feed.spans, names) | stream.reached(lake, feed.table, names)
    return {names[name]: at for name, at in found.items()}


def roll_forward(lake: Lake, feed: Feed) -> int:
    """Bring rows and dead letters to where the ledger stands.

    A batch is first written down in the ledger, with the files that its rows are in; then the rows
    and the dead letters are committed. What a crash left undone between is done here, by whoever
    comes next.

    Returns:
        How many batches were behind.
    """
    behind = _behind(lake, feed)
    firsts = _firsts(lake, feed) if behind else {}
    done = 0
    while behind:
        ready = [b for b, moves in behind.items() if _follows(lake, feed, moves, firsts)]
        if not ready:
            raise TidemillError(
                f"{feed.table.id}: the ledger has {len(behind)} batches more, and none of them "
                f"follows what is in the table; the next one begins with {_first(behind)}"
            )
        for batch in ready:
            moves = behind.pop(batch)
            packed = _staged(lake, feed, batch)
            for table, files in zip((feed.dead, feed.table), unpack(packed), strict=True):
                stream.add(lake, table, files, moves)
            done += 1
    return done


def pack(dead: Sequence[NewFile], rows: Sequence[NewFile]) -> str:
    """The files of a batch, for the ledger."""
    return f"{stream.as_json(dead)}\n{stream.as_json(rows)}"


def unpack(packed: str) -> list[list[NewFile]]:
    """The files of dead letters, and of rows, that ``pack`` told of."""
    return [stream.from_json(text) for text in packed.splitlines()]


def _behind(lake: Lake, feed: Feed) -> dict[str, Moves]:
    """The offsets of each batch in the ledger that rows or dead letters have not reached."""
    relation = lake.snapshot(feed.spans).scan()
    places = _query(
        f'select distinct topic_id, "partition" from {relation} '
        f"where topic = {text_literal(feed.topic.name)}"
    )
    names = {app_id(feed.topic.name, topic_id, part): (topic_id, part) for topic_id, part in places}
    tables = [stream.reached(lake, table, names) for table in (feed.table, feed.dead)]
    # The ledger keeps every span for good, and all but the last ones are in both tables.
    late = " or ".join(
        f'(topic_id = {text_literal(topic_id)} and "partition" = {part} '
        f'and "stop" > {min(at.get(name, -1) for at in tables)})'
        for name, (topic_id, part) in names.items()
    )
    found: dict[str, Moves] = {}
    for batch, topic_id, part, start, stop in _ledger(lake, feed, late or "false"):
        name = app_id(feed.topic.name, topic_id, part)
        if any(at.get(name, -1) < stop for at in tables):
            found.setdefault(batch, {})[name] = stream.Move(start, stop)
    return found


def _ledger(lake: Lake, feed: Feed, where: str) -> list[Any]:
    """Batch, topic_id, partition, start and stop of some spans, in the order of their commits."""
    relation = lake.snapshot(feed.spans).scan()
    return _query(
        f'select batch, topic_id, "partition", "start", "stop" from {relation} '
        f"where topic = {text_literal(feed.topic.name)} and ({where}) order by committed_at"
    )


def _firsts(lake: Lake, feed: Feed) -> dict[str, int]:
    """Where the first span of each partition begins: the one that a table without any wants."""
    found = _query(
        f'select topic_id, "partition", min("start") from {lake.snapshot(feed.spans).scan()} '
        f"where topic = {text_literal(feed.topic.name)} group by all"
    )
    return {app_id(feed.topic.name, topic_id, part): first for topic_id, part, first in found}


def _follows(lake: Lake, feed: Feed, moves: Moves, firsts: Mapping[str, int]) -> bool:
    """Whether a batch begins where both tables stand, or is behind them, as a rival went on."""
    for table in (feed.table, feed.dead):
        at = dict(firsts) | stream.reached(lake, table, moves)
        if any(at[name] != m.start and at[name] < m.stop for name, m in moves.items()):
            return False
    return True


def _first(behind: Mapping[str, Moves]) -> str:
    moves = next(iter(behind.values()))
    return ", ".join(f"{name} at {move.start}" for name, move in moves.items())


def _staged(lake: Lake, feed: Feed, batch: str) -> str:
    relation = lake.snapshot(feed.spans).scan()
    (found,) = _query(f"select distinct staged from {relation} where batch = {text_literal(batch)}")
    return str(found[0])


def _query(sql: str) -> list[Any]:
    with duck.cursor() as con:
        return con.execute(sql).fetchall()
