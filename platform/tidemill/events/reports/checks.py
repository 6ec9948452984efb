"""What must hold across the reports of events; each answers with the differences, if any.

A report is held against exactly those versions of the events that its commit says it was made from,
by a query that shares nothing with the transforms. So events that came since make no difference,
and hide none. A report that was never made is passed over. One whose events can no longer be read
is told of too, as nothing is known of it until it is made again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tidemill.errors import TidemillError
from tidemill.events import contracts as c
from tidemill.events.reports import contracts as r
from tidemill.events.reports.anomalies import NORMAL
from tidemill.events.reports.build import INPUTS, Events
from tidemill.events.reports.contracts import HISTORY, LEAST_HISTORY, THRESHOLD
from tidemill.lake import duck, lease, origin
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Snapshot

Differences = list[dict[str, Any]]
BySource = dict[str, dict[str, Any]]

CENT = 0.01
AGAIN = "'tidemill run events' makes the report again"

_STEPS = ("views", "carts", "purchases")
_MEASURES = ("events", *_STEPS, "revenue")
_COUNTED = """
    count(*) as events, count_if(event_type = 'view') as views,
    count_if(event_type = 'cart') as carts, count_if(event_type = 'purchase') as purchases,
    coalesce(sum(round(price * 10000)::bigint) filter (event_type = 'purchase'), 0)::double / 10000
        as revenue
"""
_SUMS = ", ".join(
    f"sum({name})::{'DOUBLE' if name == 'revenue' else 'BIGINT'} as {name}" for name in _MEASURES
)
_ADDED = f"select source, {_SUMS} from {{rows}} group by 1"
_WITH = tuple(f"sessions_with_{step}" for step in _STEPS)
_HAVING = ", ".join(
    f"count_if({step} > 0) as {name}" for step, name in zip(_STEPS, _WITH, strict=True)
)
_SESSIONS = f"select source, {_SUMS}, count(*) as sessions, {_HAVING} from {{rows}} group by 1"
"""Of rows that are a session each."""

_OF_EVENTS = f"select source, {_COUNTED} from {{rows}} group by 1"
_OF_USERS = f"select source, {_COUNTED} from {{rows}} where user_id is not null group by 1"
_OF_SESSIONS = _SESSIONS.format(
    rows=f"(select source, user_session, {_COUNTED} from {{rows}} "
    "where user_session is not null group by 1, 2)"
)

_USERS = """
    select source, count(distinct user_id) as users, count(*) as active from (
        select distinct source, user_id, date_trunc('week', event_timestamp)
        from {rows} where user_id is not null)
    group by 1
"""
_COHORTS = """
    select source, sum(users) filter (week_number = 0)::BIGINT as users,
        sum(active)::BIGINT as active
    from {rows} group by 1
"""
_MINUTES = f"""
    with minutes as (
        select source, event_type, date_trunc('minute', event_timestamp) as minute,
            count(*) as count
        from {{rows}} group by all),
    spans as (select source, min(minute) as first, max(minute) as last from minutes group by 1),
    told as (select *, unnest(range(history + 1)) as back from {{report}}),
    around as (
        select told.*, coalesce(minutes.count, 0) as n from told left join minutes
            on minutes.source = told.source and minutes.event_type = told.event_type
            and minute = window_start - to_minutes(back)),
    each as (
        select source, event_type, window_start, count, median, mad, history, score,
            max(n) filter (back = 0) as n, list(n) filter (back > 0) as before
        from around group by all),
    again as (
        select each.*, last, n - list_median(before) as off, list_median(before) as middle,
            list_median([abs(x - list_median(before)) for x in before]) as spread,
            least({HISTORY}, date_diff('minute', first, window_start)) as minutes_before
        from each join spans using (source)),
    agreed as (
        select source, count(*) as number,
            count_if(window_start < last - interval 1 day) as before_last_day
        from again
        where count = n and median = middle and mad = spread and history = minutes_before
            and abs(score - off * {NORMAL} / greatest(spread, sqrt(middle), 1)) < 1e-6
        group by 1),
    wanted as (
        select source, event_type, last,
            unnest(generate_series(greatest(first, last - interval 25 hours), last,
                interval 1 minute)) as minute
        from (
            select source, event_type, first, last from minutes join spans using (source)
            where minute >= last - interval 25 hours
            group by all having max(count) >= {THRESHOLD / NORMAL})),
    held as (
        select source, minute, last, coalesce(count, 0) as count, list(coalesce(count, 0)) over (
            partition by source, event_type order by minute
            rows between {HISTORY} preceding and 1 preceding) as before
        from wanted left join minutes using (source, event_type, minute)),
    scored as (
        select source, count - list_median(before) as off, list_median(before) as middle,
            list_median([abs(x - list_median(before)) for x in before]) as spread
        from held
        where minute >= last - interval 1 day and minute < last and len(before) >= {LEAST_HISTORY}),
    found as (
        select source, count(*) as number from scored
        where abs(off) * {NORMAL} / greatest(spread, sqrt(middle), 1) >= {THRESHOLD} group by 1)
    select source, coalesce(agreed.number, 0) as right_minutes,
        coalesce(before_last_day, 0) + coalesce(found.number, 0) as minutes
    from spans left join agreed using (source) left join found using (source)
"""
"""No type that has fewer events in each of its minutes can score enough."""
_ANOMALIES = "select source, count(*) as minutes, count(*) as right_minutes from {rows} group by 1"


def reports_add_up(events: Events) -> Differences:
    """Where a report's counts or revenue, added up, are not those of the events it was made from.

    Returns:
        A row for each table, source and measure that differs: what was expected, what was found.
        One without a source, of the measure ``made from``, for a report whose events are not known
        or gone.
    """
    look = _Look(events)
    found: Differences = []
    for table in (r.BRAND_REPORT, r.CATEGORY_REPORT):
        found += look.differences(table, _OF_EVENTS, _ADDED, _MEASURES)
    steps = f"select source, {', '.join(_STEPS)} from {{rows}} where level = 'events'"
    found += look.differences(r.FUNNEL, _OF_EVENTS, steps, _STEPS)
    for table, sql in (
        (r.PROFILE_OVERALL, "select source, rows as events from {rows}"),
        (r.PROFILE_COLUMNS, "select source, avg(rows)::BIGINT as events from {rows} group by 1"),
        (r.PROFILE_NUMBERS, "select source, count as events from {rows} where event_type = 'all'"),
        (
            r.PROFILE_PRICES,
            "select source, sum(count)::BIGINT as events from {rows} where event_type = 'all' "
            "group by 1",
        ),
        (
            r.PROFILE_VALUES,
            "select source, sum(count)::BIGINT as events from {rows} where dimension = 'hour' "
            "group by 1",
        ),
    ):
        found += look.differences(table, _OF_EVENTS, sql, ["events"])
    return found


def sessions_add_up(events: Events) -> Differences:
    """Where sessions, visits or cohorts, added up, are not the events with a session or a user.

    Returns:
        As ``reports_add_up``; of the funnel, its sessions; of cohorts, users and the weeks in which
        each was active.
    """
    look = _Look(events)
    named = ", ".join(f"{step} as {name}" for step, name in zip(_STEPS, _WITH, strict=True))
    steps = f"select source, {named} from {{rows}} where level = 'sessions'"
    return [
        *look.differences(r.SESSIONS, _OF_SESSIONS, _SESSIONS, (*_MEASURES, "sessions", *_WITH)),
        *look.differences(c.VISITS, _OF_USERS, _ADDED, _MEASURES),
        *look.differences(r.FUNNEL, _OF_SESSIONS, steps, _WITH),
        *look.differences(r.COHORTS, _USERS, _COHORTS, ("users", "active")),
    ]


def anomalies_add_up(events: Events) -> Differences:
    """Where the minutes that ``anomalies`` tells of are not what the events give.

    Each told minute's count, its hour before (length, median, deviation) and its score are held
    against the events; brands are not. Of the last day of a source it is looked whether all
    minutes are told of that should be.

    Returns:
        As ``reports_add_up``: ``right_minutes``, of which all are as the events give them, expected
        to be all that were found; and ``minutes``.
    """
    measures = ("right_minutes", "minutes")
    return _Look(events).differences(r.ANOMALIES, _MINUTES, _ANOMALIES, measures)


@dataclass
class _Look:
    """One look at the reports; what was asked of one version of the events is asked once."""

    events: Events
    _known: dict[tuple[str, tuple[int, ...]], BySource] = field(default_factory=dict)

    def differences(
        self, table: Table, want: str, has: str, measures: Sequence[str]
    ) -> Differences:
        """Where a report does not have what its events give.

        Args:
            table: The report.
            want: SQL of source and measures, of ``{rows}``, the events; and of ``{report}``.
            has: The same of the report's rows.
            measures: The columns to compare.
        """
        rows, versions = origin.standing(self.events.lake, table, INPUTS)
        if versions is None:
            found = f"{rows.rows} rows that do not say it; {AGAIN}"
            return [_unknown(table, "a version of each table", found)] if rows.rows else []
        try:
            expected = self._expected(want.replace("{report}", _braced(rows.scan())), versions)
        except TidemillError as error:
            told = zip(INPUTS, versions, strict=True)
            read = " and ".join(f"{each.id} version {version}" for each, version in told)
            return [_unknown(table, read, f"{error}; {AGAIN}")]
        return _differences(table, measures, expected, _by_source(has.format(rows=rows.scan())))

    def _expected(self, want: str, versions: tuple[int, ...]) -> BySource:
        if (want, versions) not in self._known:
            with self._as_of(versions) as union:
                self._known[want, versions] = _by_source(want.format(rows=union))
        return self._known[want, versions]

    @contextmanager
    def _as_of(self, versions: tuple[int, ...]) -> Iterator[str]:
        """The events of these versions, which nobody deletes while the block runs.

        Raises:
            TidemillError: There is no such version, or vacuum took some of its files.
        """
        lake = self.events.lake
        inputs = [
            lake.snapshot(table, version) if version >= 0 else Snapshot(table, version)
            for table, version in zip(INPUTS, versions, strict=True)
        ]
        held = [(each.table, each.version) for each in inputs if each.version >= 0]
        with lease.reading(lake.root, held):
            for each in inputs:
                each.require()
            yield self.events.union(inputs)


def _braced(sql: str) -> str:
    """As ``str.format`` leaves it whole."""
    return sql.replace("{", "{{").replace("}", "}}")


def _unknown(table: Table, expected: str, found: str) -> dict[str, Any]:
    return {"table": table.id, "measure": "made from", "expected": expected, "found": found}


def _differences(
    table: Table, measures: Sequence[str], want: BySource, has: BySource
) -> Differences:
    found = []
    for source in sorted(want.keys() | has.keys()):
        for measure in measures:
            one, other = (side.get(source, {}).get(measure, 0) for side in (want, has))
            if abs(one - other) >= (CENT / 2 if measure == "revenue" else 1):
                row = {"table": table.id, "source": source, "measure": measure}
                found.append(row | {"expected": one, "found": other})
    return found


def _by_source(sql: str) -> BySource:
    """The row of each source, without its name."""
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {row.pop("source"): row for row in rows}
