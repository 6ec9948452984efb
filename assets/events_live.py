"""The live assets of events: what comes out of Kafka, its windows, and the topic of final ones."""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets import report, topic
from tidemill.events import checks_live, checks_replay
from tidemill.events import contracts as c
from tidemill.events.following import FOLLOWERS, PUBLISHED, published, windowed
from tidemill.events.reports.build import Events
from tidemill.events.topics import ANALYTICS
from tidemill.kafka import audit
from tidemill.kafka.subscription import Subscription
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, Written

GROUP = "events"
POOL = "live_events"
TAKEN = "raw_events"
"""Name of the step that reads Kafka."""
FOLLOWING = [follower.table for follower in FOLLOWERS]

raw_events = topic.taken(
    TAKEN,
    tables=(c.RAW_EVENTS, c.CONSUMED_SPANS, c.DEAD_LETTERS),
    group=GROUP,
    resource="clicks",
    pool=POOL,
    description="Every event of the spans once, with the ledger of the spans and what could not be "
    "used.",
)


@dg.multi_asset(
    name="event_windows",
    specs=[
        dg.AssetSpec(
            report.key(table),
            deps=[report.key(c.RAW_EVENTS), report.key(c.CONSUMED_SPANS)],
            group_name=GROUP,
            description=table.meaning,
            metadata=report.described(table),
            kinds={"duckdb", "spark", "delta"},
        )
        for table in FOLLOWING
    ],
    check_specs=[report.contract_spec(table) for table in FOLLOWING],
    pool=POOL,
)
def event_windows(
    events: dg.ResourceParam[Events], clicks: dg.ResourceParam[Subscription]
) -> Iterator[dg.MaterializeResult]:
    """The windows brought to where raw_events stands: what is final is added, the rest replaced."""
    with report.tried_again():
        done = windowed(clicks, events.engine)
    for table in FOLLOWING:
        made = [done[table.id]] if table.id in done else []
        yield report.written(clicks.lake, table, made, _partitions(clicks.lake, table, made))


def _partitions(lake: Lake, table: Table, made: Sequence[Written]) -> list[Partition]:
    """The partitions that have files of what was written."""
    names = {name for written in made for name in written.files}
    files = lake.snapshot(table).only(lambda file: file.relative in names).files
    found = {tuple(file.partition[name] for name in table.partition_by) for file in files}
    return [dict(zip(table.partition_by, values, strict=True)) for values in sorted(found)]


@dg.asset(
    key=[GROUP, "ecommerce_analytics"],
    deps=[report.key(windows.table) for windows in PUBLISHED],
    description=f"The topic {ANALYTICS.name}. {ANALYTICS.meaning}",
    group_name=GROUP,
    kinds={"kafka"},
    pool=POOL,
)
def ecommerce_analytics(clicks: dg.ResourceParam[Subscription]) -> dg.MaterializeResult:
    """The final windows that the topic lacks, in the order of their ends."""
    return dg.MaterializeResult(metadata={"windows sent": published(clicks)})


@dg.asset_check(asset=report.key(c.CONSUMED_SPANS), name="ledger_adds_up")
def ledger_adds_up(clicks: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """Every span ever consumed adds up, none leaves a hole or overlaps, and the rows are there."""
    return report.answer(audit.faults(clicks.lake, clicks.feed))


@dg.asset_check(asset=report.key(c.EVENT_COUNTS))
def counts_every_event(clicks: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """Windows, added up, are the events but those too late for them, and revenue to the cent."""
    return report.answer(checks_live.counts_every_event(clicks))


@dg.asset_check(asset=report.key(c.EVENT_COUNTS))
def equals_topic(clicks: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """The topic, read again as a batch, gives the same events and windows, row for row."""
    return report.answer(checks_replay.replay_differs(clicks))


@dg.asset_check(asset=report.key(c.LATE_EVENTS))
def tells_every_late_event(clicks: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """Every row of raw_events that came behind the watermark is here, with how late it was."""
    return report.answer(checks_live.late_not_told(clicks))


@dg.asset_check(asset=ecommerce_analytics)
def published_once(clicks: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """The topic holds each final window once, as the tables have it."""
    return report.answer(checks_live.published_differs(clicks))


checks = [
    ledger_adds_up,
    counts_every_event,
    equals_topic,
    tells_every_late_event,
    published_once,
]
live_job = dg.define_asset_job(
    "events_live",
    selection=dg.AssetSelection.assets(
        raw_events, event_windows, ecommerce_analytics
    ).without_checks()
    | dg.AssetSelection.checks(*raw_events.check_keys, *event_windows.check_keys),
    description="New events out of Kafka, their windows, and the topic of final ones.",
)
audit_job = dg.define_asset_job(
    "events_audit",
    selection=dg.AssetSelection.checks(*checks),
    description="Looks whether the live tables hold what the ledger and the topic say, all of it.",
)
