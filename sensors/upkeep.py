"""The hourly upkeep of tables that grow by a small file with every batch of messages."""

import dagster as dg

from assets.live import audit_job
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.kafka.feed import roll_forward
from tidemill.kafka.subscription import Subscription

MANY_FILES = 50
"""From so many files on, those that share a partition are joined."""


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
def join_small_files(
    context: dg.OpExecutionContext,
    crypto: dg.ResourceParam[Crypto],
    prices: dg.ResourceParam[Subscription],
) -> None:
    """Join the small files of the live tables, and delete those that nothing needs any more.

    Readers see the same rows before and after.
    """
    roll_forward(crypto.lake, prices.feed)  # of what only the ledger names, no file may go
    for table in (c.LIVE_PRICES, c.CONSUMED_SPANS, c.DEAD_LETTERS):
        gone = crypto.lake.vacuum(table)
        context.log.info(f"{table.id}: {len(gone)} files deleted that no version needs")
        before = len(crypto.lake.snapshot(table).files)
        if before < MANY_FILES:
            context.log.info(f"{table.id}: {before} files, left as they are")
            continue
        done = crypto.lake.compact(table)
        context.log.info(
            f"{table.id}: {done['numFilesRemoved']} of {before} files joined into "
            f"{done['numFilesAdded']}"
        )


@dg.job(description="Joins the small files of the live tables.")
def crypto_upkeep() -> None:
    """One op: a table at a time."""
    join_small_files()


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
