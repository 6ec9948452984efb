"""What is shown of which report beside its rows."""

from typing import TYPE_CHECKING

from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.lake import duck
from tidemill.lake.contracts import Table

if TYPE_CHECKING:
    import polars as pl

STEPS_S = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 7200, 6 * 3600, 86_400)
"""Lengths of a step of the chart of rates, and then whole days."""
MOST_STEPS = 600
OUTSIDE, STRETCH = 0.01, 4
"""The share of the first and of the last events that may be left out; by how much they stretch."""
DAY_S = 86_400


def charts(events: Events, table: Table) -> dict[str, bytes]:
    """PNG charts by title, one a source; none for a table without a chart."""
    from tidemill.events.reports import charts as draw

    if table is r.ANOMALIES:
        return {f"events a second {source}": _rates(events, source) for source in _sources(events)}
    title = {
        r.FUNNEL.name: "funnel",
        r.PROFILE_PRICES.name: "price bands",
        r.BRAND_REPORT.name: "top brands",
        r.PROFILE_COLUMNS.name: "completeness",
        r.COHORTS.name: "retention",
    }.get(table.name)
    if title is None:
        return {}
    drawn: dict[str, bytes] = {}
    for (source,), rows in sorted(events.read(table).partition_by("source", as_dict=True).items()):
        if table is r.FUNNEL:
            png = draw.funnel(rows, source)
        elif table is r.PROFILE_PRICES:
            png = draw.price_bands(rows, source)
        elif table is r.BRAND_REPORT:
            png = draw.top_brands(rows, source)
        elif table is r.PROFILE_COLUMNS:
            png = draw.completeness(rows, _filled(rows), source)
        else:
            png = draw.retention(rows, source)
        drawn[f"{title} {source}"] = png
    return drawn


def step_s(span_s: int) -> int:
    """The shortest length of a step, in seconds, that cuts a span into few enough of them."""
    fit = (step for step in STEPS_S if span_s <= step * MOST_STEPS)
    return next(fit, -(-span_s // (MOST_STEPS * DAY_S)) * DAY_S)


def _filled(columns: "pl.DataFrame") -> float:
    """Cells with a value / all cells."""
    rows, missing = int(columns["rows"].sum()), int(columns["missing"].sum())
    return (rows - missing) / rows


def _sources(events: Events) -> list[str]:
    with duck.cursor() as con:
        found = con.sql(f"select distinct source from {events.union()} order by 1").fetchall()
    return [source for (source,) in found]


def span(minutes: "pl.DataFrame") -> tuple[int, int]:
    """What a chart of events shows: all, or the bulk of them where a few lie far from it.

    Args:
        minutes: ``minute`` (since 1970) and ``count`` of those that have events, in order.

    Returns:
        The first minute and the last one. At least 98 % of the events are in them, and all of them
        if that takes no more than ``STRETCH`` times as long.
    """
    before = minutes["count"].cum_sum()
    outside = int(before[-1] * OUTSIDE)
    low = minutes["minute"][int((before > outside).arg_max() or 0)]
    high = minutes["minute"][int((before >= before[-1] - outside).arg_max() or 0)]
    first, last = minutes["minute"][0], minutes["minute"][-1]
    return (first, last) if last - first + 1 <= STRETCH * (high - low + 1) else (low, high)


def _rates(events: Events, source: str) -> bytes:
    import polars as pl

    from tidemill.events.reports import charts as draw

    mine = f"(select * from {events.union()} where source = $source)"
    told: dict[str, object] = {"source": source}
    with duck.cursor() as con:
        found = con.sql(
            f"select (epoch_ms(event_timestamp) // 60000)::BIGINT as minute, count(*) as count "
            f"from {mine} group by 1 order by 1",
            params=told,
        ).to_arrow_table()
        minutes = pl.DataFrame(found)
        if minutes.is_empty():
            return draw.rates(minutes, 1, source)
        low, high = span(minutes)
        step = step_s(60 * (high + 1 - low))
        left_out = int(minutes.filter(~pl.col("minute").is_between(low, high))["count"].sum())
        counts = con.sql(
            f"select time_bucket(interval '{step} seconds', event_timestamp) as at, event_type, "
            f"count(*) as count from {mine} "
            "where epoch_ms(event_timestamp) // 60000 between $low and $high "
            "group by all order by all",
            params=told | {"low": low, "high": high},
        ).to_arrow_table()
    return draw.rates(pl.DataFrame(counts), step, source, left_out)
