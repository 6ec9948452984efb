"""Whether the topic of events, read again as a batch, gives the windows that the stream gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import compiled
from tidemill.engines.duck import connection
from tidemill.events import contracts as c
from tidemill.events.checks_live import Differences, Followed, sides
from tidemill.events.windows import LIVE
from tidemill.kafka import reread
from tidemill.kafka.again import Again
from tidemill.kafka.subscription import Subscription
from tidemill.lake import stream
from tidemill.lake.contracts import Table, Type, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.windows.declare import Windows
from tidemill.windows.fold import merged, unit_parts, whole
from tidemill.windows.follow import closed_ms

if TYPE_CHECKING:
    import duckdb

MESSAGES = 2_000_000
"""Messages of a partition that one look takes about, the last ones."""


def replay_differs(clicks: Subscription, limit: int = MESSAGES) -> Differences:
    """Windows and events that are not what the topic gives, read again and folded in one go.

    Late events are judged as they were when they came, by the marks that the ledger kept; dead
    letters are passed over: they are accounted for. Windows are compared up to the offsets that
    their table has reached, and only those whose events all come from the offsets read again. Who
    it was is not compared, as the lake may have been told to forget it.

    Args:
        clicks: Has the lake and the topic.
        limit: Messages of a partition to read, about: a span that was consumed is read whole.

    Returns:
        Each window, and each row of ``raw_events``, that only one side has: its table, the side,
        and what it says.

    Raises:
        TidemillError: The broker fails.
    """
    held = clicks.held()
    names = {held.app_id(partition): partition for partition in held.marks}
    # Before the events, which so have all that the windows were made of.
    followed = [(windows, Followed(clicks, windows.table)) for windows in LIVE]
    for _, table in followed:
        table.snapshot  # noqa: B018 (taken here)
    rows, at = stream.standing(clicks.lake, clicks.feed.table, names)
    reached = {names[name]: stop for name, stop in at.items()}
    with connection(clicks.memory_limit_mb) as con:
        again = Again.of(con, clicks, held, rows, reached, limit)
        if not again.spans:
            return []
        again.read()
        found = _rows_differ(again, clicks.feed.table)
        for windows, table in followed:
            found += _Compared(again, windows, table).differences()
    return found


def _rows_differ(again: Again, table: Table) -> Differences:
    """Rows of the feed's table that are not those of the topic."""
    told = [x for x in table.columns if not x.is_personal and x.name != "ingested_at"]
    columns = ", ".join(f'"{column.name}"' for column in told)
    return _sides(
        again.con,
        table,
        f"select {columns} from {reread.ROWS}",
        f"select {columns} from {again.rows.scan()} where {again.is_within()}",
    )


@dataclass
class _Compared:
    """A table of windows beside those of the rows that were read again."""

    again: Again
    windows: Windows
    followed: Followed

    def differences(self) -> Differences:
        """Each window that only one side has, with the side."""
        con, table = self.again.con, self.windows.table
        dates = self._dates()
        con.execute(f"create or replace temp view rows as {self._elsewhere(dates)}")
        con.execute(f"create or replace temp table others as {_parts_sql(self.windows)}")
        con.execute(f"create or replace temp view rows as {self._replayed()}")
        lake, feed = self.again.subscription.lake, self.again.subscription.feed
        closed = closed_ms(lake, feed, self.followed.names, self.followed.reached)
        known = "null" if closed is None else str(closed)
        con.execute(f"create or replace temp table closing as select {known}::bigint as closed_ms")
        had = _of_days(self.followed.snapshot, dates)
        return _sides(
            con,
            table,
            f"select * from ({_whole_sql(self.windows)}) made where {self._is_settled('made')}",
            f"select * from {had.scan()} made where {self._is_settled('made')}",
        )

    def _replayed(self) -> str:
        """SQL of the rows read again that the table has seen."""
        return f"select * from {reread.ROWS} where {self.followed.is_before()}"

    def _elsewhere(self, dates: Sequence[date]) -> str:
        """SQL of the rows that it has seen besides, of the days that these windows touch."""
        near = {day + timedelta(days=n) for day in dates for n in (0, 1)}
        rows = _of_days(self.again.rows, sorted(near))
        return (
            f"select * from {rows.scan()} "
            f"where {self.followed.is_before()} and not ({self.again.is_within()})"
        )

    def _dates(self) -> list[date]:
        """The days on which windows of the rows read again begin: theirs, and those before."""
        found = self.again.con.execute(
            "select distinct (date + n::integer)::date "
            f"from {reread.ROWS}, range(-1, 1) days(n) order by 1"
        ).fetchall()
        return [day for (day,) in found]

    def _is_settled(self, made: str) -> str:
        """SQL of whether a window has events from the offsets read again alone."""
        same = " and ".join(f'o."{k}" is not distinct from {made}."{k}"' for k in self.windows.keys)
        return (
            f"not exists (from others o where o.start_ms = epoch_ms({made}.window_start) "
            f"and {same})"
        )


def _of_days(snapshot: Snapshot, dates: Sequence[date]) -> Snapshot:
    return snapshot.within([{"date": str(day)} for day in dates])


def _columns(table: Table) -> Mapping[str, Type]:
    return {column.name: column.type for column in table.columns}


@lru_cache
def _whole_sql(windows: Windows) -> str:
    inputs = {"rows": _columns(c.RAW_EVENTS), "closing": {"closed_ms": Type.BIGINT}}
    return compiled(partial(whole, windows), inputs, "duckdb")


@lru_cache
def _parts_sql(windows: Windows) -> str:
    return compiled(partial(_parts, windows), {"rows": _columns(c.RAW_EVENTS)}, "duckdb")


def _parts(windows: Windows, rows: Any) -> Any:
    return merged(windows, unit_parts(windows, rows))


def _sides(con: "duckdb.DuckDBPyConnection", table: Table, want: str, has: str) -> Differences:
    """Rows of a table that only one query has, with the table and the side."""
    named = f'select {text_literal(table.id)} as "table", * from'
    return sides(f"{named} ({want})", f"{named} ({has})", "all", con)
