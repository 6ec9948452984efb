"""What must hold across the tables that follow the topic of events; each answers with differences.

A table that follows ``raw_events`` may be behind it, so each is held against the rows below the
offsets that its own version has reached. The queries share nothing with the windows' transforms.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tidemill.events import contracts as c
from tidemill.events.following import PUBLISHED
from tidemill.events.topics import ANALYTICS
from tidemill.events.windows import RATE, SIZE
from tidemill.kafka import reader, spans
from tidemill.kafka.spans import Span
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.topics import Topic
from tidemill.lake import duck, lease, stream
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import File, Snapshot
from tidemill.windows import publish
from tidemill.windows.follow import standing
from tidemill.windows.publish import messages_sql

if TYPE_CHECKING:
    import duckdb

Differences = list[dict[str, Any]]

DAY_S = 86_400
MESSAGES = 200_000
"""Published windows that one look takes at most, the last ones."""
PATIENCE_S = 300.0

_FIXED = "sum(round(price * 10000)::bigint)"
_BOUGHT = f"coalesce({_FIXED} filter (event_type = 'purchase'), 0)::bigint"
_SUMMED = "sum(round({} * 10000)::bigint)::bigint"
_AT, _MARK = "epoch_ms(event_timestamp)", "epoch_ms(watermark)"


def _open_windows(size_ms: int, slide_ms: int) -> str:
    """SQL of how many windows of an event are not over by the watermark that it came with."""
    pane = f"{_AT} - ({_AT} % {slide_ms} + {slide_ms}) % {slide_ms}"
    each = f"range(1, {size_ms // slide_ms} + 1)"
    return (
        f"case when watermark is null then {size_ms // slide_ms} else "
        f"len(list_filter({each}, lambda n: {pane} + n * {slide_ms} > {_MARK})) end"
    )


@dataclass(frozen=True)
class _Claim:
    """What a table's windows add up to, and what the events do.

    Attributes:
        table: The windows.
        by: SQL of the group, of windows and of events.
        has: SQL of each measure of the windows of a group.
        want: The same of the events of a group that count.
        weight: SQL of in how many windows an event counts.
    """

    table: Table
    by: str
    has: Mapping[str, str]
    want: Mapping[str, str]
    weight: str = _open_windows(SIZE.size_ms, SIZE.slide_ms)


_STEPS = {"views": "view", "carts": "cart", "purchases": "purchase"}
_CLAIMS = (
    _Claim(
        c.EVENT_COUNTS,
        "event_type",
        {
            "event_count": "sum(event_count)::bigint",
            "total_value_fixed": _SUMMED.format("total_value"),
        },
        {"event_count": "count(*)", "total_value_fixed": f"{_FIXED}::bigint"},
    ),
    _Claim(
        c.BRAND_METRICS,
        "event_type",
        {
            "event_count": "sum(event_count)::bigint",
            "total_value_fixed": _SUMMED.format("total_value"),
            "revenue_fixed": _SUMMED.format("revenue"),
        },
        {
            "event_count": "count(*)",
            "total_value_fixed": f"{_FIXED}::bigint",
            "revenue_fixed": _BOUGHT,
        },
    ),
    _Claim(
        c.CATEGORY_METRICS,
        "'all'",
        {name: f"sum({name})::bigint" for name in ("events", *_STEPS)}
        | {"revenue_fixed": _SUMMED.format("revenue")},
        {"events": "count(*)"}
        | {name: f"count_if(event_type = '{kind}')" for name, kind in _STEPS.items()}
        | {"revenue_fixed": _BOUGHT},
    ),
    _Claim(
        c.EVENT_RATES,
        "event_type",
        {"event_count": "sum(event_count)::bigint"},
        {"event_count": "sum(weight)::bigint"},
        _open_windows(RATE.size_ms, RATE.slide_ms),
    ),
)


@dataclass(frozen=True)
class Followed:
    """One moment's rows of a table that follows a feed's, and the rows that it was made of.

    Attributes:
        clicks: The feed and its lake.
        table: What follows.
    """

    clicks: Subscription
    table: Table

    @cached_property
    def names(self) -> Mapping[str, tuple[str, int]]:
        """Topic id and partition by application name."""
        return standing(self.clicks.lake, self.clicks.feed).names

    @cached_property
    def _standing(self) -> tuple[Snapshot, dict[str, int]]:
        return stream.standing(self.clicks.lake, self.table, self.names)

    @property
    def snapshot(self) -> Snapshot:
        """The table's rows."""
        return self._standing[0]

    @property
    def reached(self) -> Mapping[str, int]:
        """The next offset that it wants, by application name."""
        return self._standing[1]

    def is_before(self) -> str:
        """SQL of whether a row of the feed's table is one of those that the table has seen."""
        each = " or ".join(
            f'(topic_id = {text_literal(ident)} and "partition" = {part} '
            f'and "offset" < {self.reached.get(name, 0)})'
            for name, (ident, part) in self.names.items()
        )
        return f"topic = {text_literal(self.clicks.feed.topic.name)} and ({each or 'false'})"

    def rows(self) -> str:
        """SQL of those rows."""
        self.snapshot  # noqa: B018 (before the feed's table, which then has all that it saw)
        feed = self.clicks.feed
        return f"(from {self.clicks.lake.snapshot(feed.table).scan()} where {self.is_before()})"


def counts_every_event(clicks: Subscription) -> Differences:
    """Where the windows of a table, added up, are not the events that it was made of.

    Events that came when all their windows were over are in none; every other one counts once in
    each that was open still. Money is compared in ten-thousandths, exactly.

    Returns:
        A row for each table, group (event type, or all) and measure that differs: what was
        expected, what was found.
    """
    found: Differences = []
    for claim in _CLAIMS:
        followed = Followed(clicks, claim.table)
        rows = f"(select *, {claim.weight} as weight from {followed.rows()})"
        want = _by_group(f"{rows} where weight > 0", claim.by, claim.want)
        has = _by_group(followed.snapshot.scan(), claim.by, claim.has)
        nothing = dict.fromkeys(claim.has, 0)
        found += [
            {
                "table": claim.table.id,
                "group": group,
                "measure": name,
                "expected": want.get(group, nothing)[name],
                "found": has.get(group, nothing)[name],
            }
            for group in sorted(want.keys() | has.keys())
            for name in claim.has
            if want.get(group, nothing)[name] != has.get(group, nothing)[name]
        ]
    return found


def late_not_told(clicks: Subscription) -> Differences:
    """Where ``late_events`` are not the late rows of ``raw_events``, with how late they were.

    Who it was is not compared, as the two tables forget it one after the other.

    Returns:
        Each row that only one side has, with the side.
    """
    followed = Followed(clicks, c.LATE_EVENTS)
    columns = ", ".join(f'"{x.name}"' for x in c.LATE_EVENTS.columns if not x.is_personal)
    return sides(
        f"""
        select {columns} from (
            select *, {_MARK} - {_AT} as late_ms, {_CLAIMS[0].weight} > 0 as is_counted
            from {followed.rows()} where is_late)
        """,
        f"select {columns} from {followed.snapshot.scan()}",
        'topic_id, "partition", "offset"',
    )


def published_differs(
    clicks: Subscription,
    topic: Topic = ANALYTICS,
    limit: int = MESSAGES,
    patience_s: float = PATIENCE_S,
) -> Differences:
    """Where the topic of final windows does not hold each of them once, as the tables have it.

    Final windows behind the last one that was published are on their way, and not told of before
    ``patience_s``.

    Args:
        clicks: Has the tables and the broker.
        topic: Where the windows were published.
        limit: Messages to look at, the last ones.
        patience_s: How long after it was committed a final window may be on its way.

    Returns:
        Each message or window that only one side has, with the side: table, key and window_end in
        epoch ms, and what is said of it.

    Raises:
        TidemillError: The broker fails, or there is no such topic.
    """
    import polars as pl

    low, high = spans.standing(clicks.config, topic.name).marks[0]
    first = max(low, high - limit)
    place = 'row(end_ms, "table", "key")'
    with duck.cursor() as con:
        con.execute("create temp table messages (value blob)")
        if first < high:
            found = reader.chunks(clicks.config, topic.name, [Span(0, first, high)])
            con.register("read", pl.concat(found).to_arrow())
            con.execute("insert into messages select value from read")
        con.execute(_SENT)
        ends = con.execute("select min(end_ms), max(end_ms) from sent").fetchone() or (None, None)
        last = f"(select max({place}) from sent)"
        if first == high and high and (sent := publish.last_sent(clicks.lake, topic)):
            # Retention took all of them; the lake has noted which one was the last.
            last = f"row({sent[0]}::bigint, {text_literal(sent[1])}, {text_literal(sent[2])})"
        with _final(clicks, *ends) as between, _overdue(clicks, ends[1], patience_s) as overdue:
            return sides(
                f"from {between} where {place} between (select min({place}) from sent) and {last} "
                f"union all from {overdue} where ({place} > {last}) is not false",
                "from sent",
                'end_ms, "table", "key"',
                con,
            )


_SENT = """
    create temp table sent as
    select (value ->> 'window_end')::bigint as end_ms, value ->> 'table' as "table",
           value ->> 'key' as "key", value::varchar as value
    from (select try(decode(value)::json) as value from messages)
"""


@contextmanager
def _final(clicks: Subscription, low_ms: int | None, high_ms: int | None) -> Iterator[str]:
    """SQL of final windows as messages, at least those that end between two instants."""
    since, until = (
        str(datetime.fromtimestamp((ms or 0) / 1000 - before_s, UTC).date())
        for ms, before_s in ((low_ms, DAY_S), (high_ms, 0))  # none is longer than a day
    )

    def is_near(file: File) -> bool:
        return file.partition["is_final"] == "true" and since <= file.partition["date"] <= until

    with _messages(clicks, is_near) as found:
        yield found


@contextmanager
def _overdue(clicks: Subscription, since_ms: int | None, patience_s: float) -> Iterator[str]:
    """SQL of final windows as messages: those that end after an instant, committed long ago."""
    since = str(datetime.fromtimestamp((since_ms or 0) / 1000 - DAY_S, UTC).date())
    before_ms = (time.time() - patience_s) * 1000

    def is_old(file: File) -> bool:
        is_after = since_ms is None or file.partition["date"] >= since
        return file.partition["is_final"] == "true" and is_after and file.modified_ms < before_ms

    with _messages(clicks, is_old) as found:
        yield found


@contextmanager
def _messages(clicks: Subscription, is_wanted: Callable[[File], bool]) -> Iterator[str]:
    """SQL of the windows of some files as messages."""
    found = [(windows, clicks.lake.snapshot(windows.table)) for windows in PUBLISHED]
    parts = [messages_sql(windows, snapshot.only(is_wanted).scan()) for windows, snapshot in found]
    with lease.reading(clicks.lake.root, [(w.table, s.version) for w, s in found]):
        yield f"({' union all '.join(parts)})"


def _by_group(relation: str, by: str, measures: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Each measure by group."""
    named = ", ".join(f"{sql} as {name}" for name, sql in measures.items())
    with duck.cursor() as con:
        found = con.execute(f"select {by} as by, {named} from {relation} group by 1").fetchall()
    return {group: dict(zip(measures, values, strict=True)) for group, *values in found}


def sides(
    want: str, has: str, order: str, con: "duckdb.DuckDBPyConnection | None" = None
) -> Differences:
    """The rows of two queries that only one of them has, with the side.

    Args:
        want: SQL of the rows that there should be.
        has: SQL of those that there are; its columns are the same.
        order: SQL of what to sort by.
        con: Where to ask.
    """
    sql = (
        f"with want as materialized ({want}), has as materialized ({has}) "
        "select 'missing' as side, * from (from want except all from has) union all "
        f"select 'too many' as side, * from (from has except all from want) order by {order}"
    )
    with nullcontext(con) if con is not None else duck.cursor() as at:
        found = at.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
