"""Tables that follow a feed's table: each new row is in them once, whatever ends a run.

A table's commit holds the offsets that its rows reach, as the feed's own tables do it. So a run
that is killed between two tables leaves one behind, and the next run takes it from there.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tidemill import progress
from tidemill.engines.base import Engine, Source, compiled, spark_ddl
from tidemill.errors import TidemillError
from tidemill.kafka.feed import Feed, unpack
from tidemill.kafka.ledger import closed_ms as closed_in_ledger
from tidemill.kafka.spans import app_id
from tidemill.lake import checks, duck, lease, stream
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, Type, text_literal
from tidemill.lake.files import Staged
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake, Written
from tidemill.windows.declare import Windows
from tidemill.windows.fold import advanced

TRIES = 5
CLOSING = {"closed_ms": Type.BIGINT}


@dataclass(frozen=True, eq=False)
class Follower:
    """A table that follows a feed's.

    Attributes:
        table: What it is; rows of a part with ``is_final`` false are replaced each time.
        advanced: The table's new rows (Ibis) from open_windows (those to be replaced), rows (the
            feed's new ones) and closing (one row, closed_ms).
    """

    table: Table
    advanced: Callable[[Any, Any, Any], Any]

    @property
    def has_open(self) -> bool:
        """Whether some of its rows are replaced."""
        return "is_final" in self.table.partition_by

    def open_part(self, snapshot: Snapshot) -> Snapshot:
        """The rows that are to be replaced."""
        return snapshot.only(lambda f: self.has_open and f.partition["is_final"] == "false")


def of_windows(windows: Windows) -> Follower:
    """The table of some windows."""
    return Follower(windows.table, partial(advanced, windows))


def of_rows(table: Table, transform: Callable[[Any], Any]) -> Follower:
    """A table that gets the transform of each new row, for good."""

    def added(open_windows: Any, rows: Any, closing: Any) -> Any:
        return transform(rows)

    return Follower(table, added)


@dataclass(frozen=True)
class Ledger:
    """What a feed's table has, by the ledger of its offsets.

    Attributes:
        names: Topic id and partition by application name.
        reached: The next offset that the table wants, by application name.
        firsts: Where each began.
    """

    names: Mapping[str, tuple[str, int]]
    reached: Mapping[str, int]
    firsts: Mapping[str, int]

    def behind(self, at: Mapping[str, int]) -> dict[str, stream.Move]:
        """The offsets that another table lacks which stands at ``at``."""
        moves = {
            n: stream.Move(at.get(n, self.firsts[n]), stop) for n, stop in self.reached.items()
        }
        return {name: move for name, move in moves.items() if move.start < move.stop}


def follow(
    lake: Lake, feed: Feed, followers: Sequence[Follower], engine: Engine
) -> dict[str, Written]:
    """Bring every follower to where the feed's table stands.

    Args:
        lake: Where the tables are.
        feed: Whose table is followed.
        followers: Each goes on from where it is itself.
        engine: What runs the transforms.

    Returns:
        What was written, by table id; those left out that had everything.

    Raises:
        Overtaken: Another process was faster ``TRIES`` times.
    """
    done = {}
    come = _Come(lake, feed)
    for follower in followers:
        for left in reversed(range(TRIES)):
            try:
                written = _Step(come, follower, engine).take()
                break
            except Overtaken:
                if not left:
                    raise
                come = _Come(lake, feed)
        if written is not None:
            done[follower.table.id] = written
    if done:
        lake.publish()
    return done


def standing(lake: Lake, feed: Feed) -> Ledger:
    """What the feed's table has."""
    with duck.cursor() as con:
        found = con.execute(
            f'select topic_id, "partition", min("start") from {lake.snapshot(feed.spans).scan()} '
            f"where topic = {text_literal(feed.topic.name)} group by all"
        ).fetchall()
    names = {app_id(feed.topic.name, ident, part): (ident, part) for ident, part, _ in found}
    firsts = {app_id(feed.topic.name, ident, part): first for ident, part, first in found}
    return Ledger(names, stream.reached(lake, feed.table, names), firsts)


def closed_ms(
    lake: Lake, feed: Feed, names: Mapping[str, tuple[str, int]], reached: Mapping[str, int]
) -> int | None:
    """Up to where windows are closed (epoch ms) by what was read up to some offsets.

    Args:
        lake: Where the ledger is.
        feed: Whose ledger.
        names: Topic id and partition by application name.
        reached: The offset reached, by application name.
    """
    at = {place: reached.get(name, -1) for name, place in names.items()}
    return closed_in_ledger(lake, feed, feed.topic.name, at)


class _Come:
    """What has come to a feed's table, asked once for all who follow it.

    Attributes:
        ledger: Up to where.
        closing: Up to where windows are closed by it.
    """

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self.lake = lake
        self.feed = feed
        while True:
            version = lake.snapshot(feed.spans).version
            self.ledger = standing(lake, feed)
            reached = self.ledger.reached
            self.closing = _Closing(closed_ms(lake, feed, self.ledger.names, reached))
            if lake.snapshot(feed.spans).version == version:  # so both are of that
                break
        self._staged: dict[str, list[str]] = {}

    def held(self, moves: Mapping[str, stream.Move]) -> Snapshot:
        """The feed's table, which still has the rows of some offsets, by application name.

        Raises:
            Overtaken: It was rolled back, or begun again, since the ledger was asked.
        """
        now, at = stream.standing(self.lake, self.feed.table, moves)
        if any(at.get(name, -1) < move.stop for name, move in moves.items()):
            raise Overtaken(f"{self.feed.table.id} no longer has the offsets that it had")
        return now

    def rows(self, moves: Mapping[str, stream.Move]) -> "_Files":
        """The rows of some offsets, by application name, out of the files that they came in.

        Where one of these is no longer in the table, as it was joined with others, or rewritten
        without a user who was erased, out of all files.

        Raises:
            Overtaken: They are no longer there.
        """
        table = self.feed.table
        named = {self.ledger.names[name]: move for name, move in moves.items()}
        inside = " or ".join(
            f'(topic_id = {text_literal(ident)} and "partition" = {part} '
            f'and "offset" >= {move.start} and "offset" < {move.stop})'
            for (ident, part), move in named.items()
        )
        touched = " or ".join(
            f'(topic_id = {text_literal(ident)} and "partition" = {part} '
            f'and "stop" > {move.start} and "start" < {move.stop})'
            for (ident, part), move in named.items()
        )
        whose = f"topic = {text_literal(self.feed.topic.name)}"
        folder = self.lake.folder(table)
        staged = self._asked(f"{whose} and ({touched})")
        came = [file.added(folder) for packed in staged for file in unpack(packed)[1]]
        now = self.held(moves)
        snapshot = Snapshot(table, now.version, tuple(came))
        if not {file.relative for file in came} <= {file.relative for file in now.files}:
            snapshot = now
        columns = {column.name: column.type for column in table.columns}
        return _Files(snapshot, f"{whose} and ({inside})", columns)

    def _asked(self, where: str) -> list[str]:
        """What the ledger has of the files of some batches."""
        if where not in self._staged:
            spans = self.lake.snapshot(self.feed.spans).scan()
            with duck.cursor() as con:
                found = con.execute(f"select distinct staged from {spans} where {where}").fetchall()
            self._staged[where] = [packed for (packed,) in found]
        return self._staged[where]


@dataclass
class _Step:
    """One follower brought up to what has come."""

    come: _Come
    follower: Follower
    engine: Engine

    def take(self) -> Written | None:
        started, table, lake = time.perf_counter(), self.follower.table, self.come.lake
        ledger = self.come.ledger
        snapshot, at = stream.standing(lake, table, ledger.names)
        moves = ledger.behind(at)
        if not moves:
            return None
        columns = {column.name: column.type for column in table.columns}
        sources: dict[str, Source] = {
            "open_windows": _Files(self.follower.open_part(snapshot), "true", columns),
            "rows": self.come.rows(moves),
            "closing": self.come.closing,
        }
        lake.folder(table).mkdir(parents=True, exist_ok=True)
        with lease.writing(lake.root, table), lease.reading(lake.root, self._read()):
            staged = self.engine.stage(lake, table, self.follower.advanced, sources)
            version = self._commit(staged, moves)
        progress.tell(table.id, 1, staged.rows)
        seconds = time.perf_counter() - started
        sql = compiled(self.follower.advanced, {n: s.columns for n, s in sources.items()}, "duckdb")
        names = tuple(file.relative for file in staged.files)
        return Written(table.id, version, staged.rows, staged.size, seconds, sql, names)

    def _read(self) -> list[tuple[Table, int]]:
        tables = (self.come.feed.table, self.follower.table)
        return [(table, self.come.lake.snapshot(table).version) for table in tables]

    def _commit(self, staged: Staged, moves: Mapping[str, stream.Move]) -> int:
        table = self.follower.table
        asked = {tuple(str(v) for v in file.partition.values()) for file in staged.files}
        try:
            checks.refuse_files(table, staged.files, asked)
            self.come.held(moves)
            return stream.advance(
                self.come.lake, table, staged.files, moves, self.follower.open_part
            )
        except TidemillError:  # no commit was made; after any other error one may have been
            staged.discard()
            raise


@dataclass(frozen=True)
class _Files:
    """Rows of exactly some files of a table."""

    snapshot: Snapshot
    where: str
    columns: Mapping[str, Type]

    def duckdb(self) -> str:
        return f"(select * from {self.snapshot.scan()} where {self.where})"

    def spark(self, session: Any) -> Any:
        files = self.snapshot.files
        if not files:
            return session.createDataFrame([], spark_ddl(self.columns))
        folder = str(files[0].path).removesuffix(files[0].relative)
        reader = session.read.schema(spark_ddl(self.columns)).option("basePath", folder)
        rows = reader.parquet(*[str(file.path) for file in files])
        return rows.where(self.where.replace('"', "`"))

    def state(self) -> Hashable:
        return tuple(file.relative for file in self.snapshot.files)


@dataclass(frozen=True)
class _Closing:
    """One row: up to where windows are closed, epoch ms."""

    closed_ms: int | None

    @property
    def columns(self) -> Mapping[str, Type]:
        return CLOSING

    def duckdb(self) -> str:
        return f"(select {self._value()} as closed_ms)"

    def spark(self, session: Any) -> Any:
        return session.sql(f"select {self._value()} as closed_ms")

    def state(self) -> Hashable:
        return self.closed_ms

    def _value(self) -> str:
        return f"cast({'null' if self.closed_ms is None else self.closed_ms} as bigint)"
