"""What must hold across the reports of events; each answers with the differences, if any.

They are held against the events by a query that shares nothing with the transforms. Events that
came after a report was made wait for the next, and are not told of here.
"""

from typing import Any

from tidemill.events import contracts as c
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import INPUTS, Events
from tidemill.lake import duck
from tidemill.lake.contracts import Table

Differences = list[dict[str, Any]]

CENT = 0.01
_STEPS = ("views", "carts", "purchases")
_COUNTED = """
    count(*) as events, count_if(event_type = 'view') as views,
    count_if(event_type = 'cart') as carts, count_if(event_type = 'purchase') as purchases,
    coalesce(sum(price::decimal(28, 9)) filter (event_type = 'purchase'), 0)::double as revenue
"""
_SUMS = ", ".join(
    f"sum({name})::{type_} as {name}"
    for name, type_ in [(n, "BIGINT") for n in ("events", *_STEPS)] + [("revenue", "DOUBLE")]
)


def reports_add_up(events: Events) -> Differences:
    """Where a report's counts or revenue, added up, are not those of the events.

    Returns:
        A row for each table, source and measure that differs: what was expected, what was found.
    """
    union = events.union()
    want = _by_source(f"select source, {_COUNTED} from {union} group by 1")
    found: Differences = []
    for table in (r.BRAND_REPORT, r.CATEGORY_REPORT):
        if not _waits(events, table):
            has = _by_source(f"select source, {_SUMS} from {_scan(events, table)} group by 1")
            found += _differences(table, want, has)
    if not _waits(events, r.FUNNEL):
        steps = {source: {n: row[n] for n in _STEPS} for source, row in want.items()}
        has = _by_source(
            f"select source, {', '.join(_STEPS)} from {_scan(events, r.FUNNEL)} "
            "where level = 'events'"
        )
        found += _differences(r.FUNNEL, steps, has)
    rows = {source: {"events": row["events"]} for source, row in want.items()}
    for table, sql in (
        (r.PROFILE_OVERALL, "select source, rows as events from {scan}"),
        (r.PROFILE_COLUMNS, "select source, avg(rows)::BIGINT as events from {scan} group by 1"),
        (r.PROFILE_NUMBERS, "select source, count as events from {scan} where event_type = 'all'"),
        (
            r.PROFILE_PRICES,
            "select source, sum(count)::BIGINT as events from {scan} where event_type = 'all' "
            "group by 1",
        ),
        (
            r.PROFILE_VALUES,
            "select source, sum(count)::BIGINT as events from {scan} where dimension = 'hour' "
            "group by 1",
        ),
    ):
        if not _waits(events, table):
            found += _differences(table, rows, _by_source(sql.format(scan=_scan(events, table))))
    return found


def sessions_add_up(events: Events) -> Differences:
    """Where sessions or visits, added up, are not the events that have a session or a user.

    Returns:
        As ``reports_add_up``; the funnel's sessions are held against the table of sessions.
    """
    union = events.union()
    found: Differences = []
    for table, name in ((r.SESSIONS, "user_session"), (c.VISITS, "user_id")):
        if not _waits(events, table):
            want = _by_source(
                f"select source, {_COUNTED} from {union} where {name} is not null group by 1"
            )
            has = _by_source(f"select source, {_SUMS} from {_scan(events, table)} group by 1")
            found += _differences(table, want, has)
    if not _waits(events, r.FUNNEL) and not _waits(events, r.SESSIONS):
        having = ", ".join(f"count_if({step} > 0) as {step}" for step in _STEPS)
        want = _by_source(f"select source, {having} from {_scan(events, r.SESSIONS)} group by 1")
        has = _by_source(
            f"select source, {', '.join(_STEPS)} from {_scan(events, r.FUNNEL)} "
            "where level = 'sessions' and views + carts + purchases > 0"
        )
        some = {source: row for source, row in want.items() if any(row.values())}
        found += _differences(r.FUNNEL, some, has)
    return found


def _waits(events: Events, table: Table) -> bool:
    """Whether events came, or were erased, after the table was made, or it was never made."""
    made = max((f.modified_ms for f in events.lake.snapshot(table).files), default=0)
    files = [f for t in INPUTS for f in events.lake.snapshot(t).files]
    return made <= max((f.modified_ms for f in files), default=0)


def _scan(events: Events, table: Table) -> str:
    return events.lake.snapshot(table).scan()


def _differences(
    table: Table, want: dict[str, dict[str, Any]], has: dict[str, dict[str, Any]]
) -> Differences:
    found = []
    for source in sorted(want.keys() | has.keys()):
        expected, told = want.get(source, {}), has.get(source, {})
        for measure in expected or told:
            one, other = expected.get(measure, 0), told.get(measure, 0)
            if abs(one - other) >= (CENT / 2 if measure == "revenue" else 1):
                row = {"table": table.id, "source": source, "measure": measure}
                found.append(row | {"expected": one, "found": other})
    return found


def _by_source(sql: str) -> dict[str, dict[str, Any]]:
    """The row of each source, without its name."""
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {row.pop("source"): row for row in rows}
