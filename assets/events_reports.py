"""The assets of the batch reports of events."""

from collections.abc import Callable

import dagster as dg

from assets import report
from tidemill.events import contracts as c
from tidemill.events.reports import checks, exhibits
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.lake.contracts import Table
from tidemill.lake.store import Written

GROUP = "events"
ALL_EVENTS = [report.key(c.FILE_EVENTS), report.key(c.RAW_EVENTS)]


OUTSIDE = (c.LANDED_FILES, c.FILE_EVENTS, c.REJECTED_ROWS)
"""Tables that `tidemill ingest` makes."""
landed_files, file_events, rejected_rows = (
    report.outside(table, GROUP, "by `tidemill ingest events`") for table in OUTSIDE
)


def of_events(table: Table, make: Callable[[Events], Written]) -> dg.AssetsDefinition:
    """An asset that is made anew from all events."""

    @dg.asset(
        key=report.key(table),
        deps=ALL_EVENTS,
        description=table.meaning,
        check_specs=[report.contract_spec(table)],
        group_name=GROUP,
        kinds={"duckdb", "spark", "delta"},
        metadata=report.described(table),
        pool="lake",
    )
    def made(events: dg.ResourceParam[Events]) -> dg.MaterializeResult:
        with report.tried_again():
            done = make(events)
        partitions = events.partitions(table)
        charts = exhibits.charts(events, table)
        return report.written(events.lake, table, [done], partitions, charts)

    return made


brand_report = of_events(r.BRAND_REPORT, Events.brand_report)
category_report = of_events(r.CATEGORY_REPORT, Events.category_report)
funnel = of_events(r.FUNNEL, Events.funnel)
sessions = of_events(r.SESSIONS, Events.sessions)
visits = of_events(c.VISITS, Events.visits)
cohorts = of_events(r.COHORTS, Events.cohorts)
anomalies = of_events(r.ANOMALIES, Events.anomalies)
profile_columns = of_events(r.PROFILE_COLUMNS, Events.profile_columns)
profile_overall = of_events(r.PROFILE_OVERALL, Events.profile_overall)
profile_numbers = of_events(r.PROFILE_NUMBERS, Events.profile_numbers)
profile_prices = of_events(r.PROFILE_PRICES, Events.profile_prices)
profile_values = of_events(r.PROFILE_VALUES, Events.profile_values)

reports = [
    brand_report,
    category_report,
    funnel,
    sessions,
    visits,
    cohorts,
    anomalies,
    profile_columns,
    profile_overall,
    profile_numbers,
    profile_prices,
    profile_values,
]


@dg.asset_check(
    asset=brand_report,
    additional_deps=[
        category_report,
        funnel,
        profile_columns,
        profile_overall,
        profile_numbers,
        profile_prices,
        profile_values,
    ],
)
def reports_add_up(events: dg.ResourceParam[Events]) -> dg.AssetCheckResult:
    """Each report has the counts of the events it was made from, and their revenue to the cent."""
    return report.answer(checks.reports_add_up(events))


@dg.asset_check(asset=sessions, additional_deps=[visits, funnel, cohorts])
def sessions_add_up(events: dg.ResourceParam[Events]) -> dg.AssetCheckResult:
    """Sessions, visits and cohorts have every event of a session and of a user they are made of."""
    return report.answer(checks.sessions_add_up(events))


@dg.asset_check(asset=anomalies)
def anomalies_add_up(events: dg.ResourceParam[Events]) -> dg.AssetCheckResult:
    """Each minute told of scores as its events say; of the last day all that do are told of."""
    return report.answer(checks.anomalies_add_up(events))


reports_job = dg.define_asset_job(
    "events_reports",
    selection=dg.AssetSelection.assets(*(asset.key for asset in reports)),
    description="Every batch report of events, from all events of the files and the topic.",
)
report_checks = [reports_add_up, sessions_add_up, anomalies_add_up]
