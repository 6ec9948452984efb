"""The hourly upkeep of tables that grow by a small file with every batch of messages."""

import dagster as dg

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto

MANY_FILES = 50
"""From so many files on, those that share a partition are joined."""


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
def join_small_files(context: dg.OpExecutionContext, crypto: dg.ResourceParam[Crypto]) -> None:
    """Join the small files of the live tables; readers see the same rows before and after."""
    for table in (c.LIVE_PRICES, c.CONSUMED_SPANS, c.DEAD_LETTERS):
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


hourly_upkeep = dg.ScheduleDefinition(
    name="hourly_upkeep",
    job=crypto_upkeep,
    cron_schedule="37 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
