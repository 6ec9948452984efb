"""The hourly upkeep of tables that grow by a small file with every batch of messages."""

from collections.abc import Sequence

import dagster as dg

from assets import events_live
from assets.live import audit_job
from tidemill.crypto import contracts as c
from tidemill.events.following import FOLLOWERS, behind
from tidemill.kafka.feed import roll_forward
from tidemill.kafka.subscription import Subscription
from tidemill.lake.compaction import compact
from tidemill.lake.contracts import Table
from tidemill.lake.purge import vacuum

MANY_FILES = 50
"""From so many files on, those that share a partition are joined."""


def _joined(context: dg.OpExecutionContext, topic: Subscription, tables: Sequence[Table]) -> None:
    """Join the small files of tables, and delete those that nothing needs any more.

    Readers see the same rows before and after.
    """
    lake = topic.lake
    roll_forward(lake, topic.feed)  # of what only the ledger names, no file may go
    for table in tables:
        gone = vacuum(lake, table)
        context.log.info(f"{table.id}: {len(gone)} files deleted that no version needs")
        before = len(lake.snapshot(table).files)
        if before < MANY_FILES:
            context.log.info(f"{table.id}: {before} files, left as they are")
            continue
        done = compact(lake, table)
        context.log.info(
            f"{table.id}: {done['numFilesRemoved']} of {before} files joined into "
            f"{done['numFilesAdded']}"
        )


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
def join_small_files(
    context: dg.OpExecutionContext, prices: dg.ResourceParam[Subscription]
) -> None:
    """Those of live prices."""
    _joined(context, prices, (c.LIVE_PRICES, c.CONSUMED_SPANS, c.DEAD_LETTERS))


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
def join_small_events(
    context: dg.OpExecutionContext, clicks: dg.ResourceParam[Subscription]
) -> None:
    """Those of live events, once their windows have them."""
    feed = clicks.feed
    following = () if behind(clicks) else tuple(follower.table for follower in FOLLOWERS)
    _joined(context, clicks, (feed.table, feed.spans, feed.dead, *following))


@dg.job(description="Joins the small files of the live tables of crypto.")
def crypto_upkeep() -> None:
    """One op: a table at a time."""
    join_small_files()


@dg.job(description="Joins the small files of the live tables of events.")
def events_upkeep() -> None:
    """One op: a table at a time."""
    join_small_events()


hourly_audit = dg.ScheduleDefinition(
    name="hourly_audit",
    job=audit_job,
    cron_schedule="52 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Holds the live tables against their ledger, and against the topic read again.",
)
hourly_upkeep = dg.ScheduleDefinition(
    name="hourly_upkeep",
    job=crypto_upkeep,
    cron_schedule="37 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
events_audit = dg.ScheduleDefinition(
    name="events_hourly_audit",
    job=events_live.audit_job,
    cron_schedule="54 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Holds the live tables of events against their ledger.",
)
events_hourly_upkeep = dg.ScheduleDefinition(
    name="events_hourly_upkeep",
    job=events_upkeep,
    cron_schedule="41 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
