"""What changed in the live days becomes runs over the series of the symbols that it touches."""

import time

import dagster as dg

from assets.crypto import series_job
from assets.partitions import symbols
from sensors.landing import AT_WORK, RANGE_END, RANGE_START
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto

RETRY_S = 60
"""What a run left undone is asked for again after this long, if nothing new comes sooner."""


@dg.sensor(
    job=series_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_days(
    context: dg.SensorEvaluationContext, crypto: dg.ResourceParam[Crypto]
) -> dg.SensorResult:
    """Asks for one run over the symbols whose live days the series lacks, one at a time.

    The lake itself says which they are, whoever wrote the ticks. As a run takes a range of symbols,
    those between the first and the last are made with them.
    """
    if context.instance.get_runs_count(dg.RunsFilter(job_name=series_job.name, statuses=AT_WORK)):
        return dg.SensorResult(skip_reason="a run over the series before is at work")
    changed = crypto.unmerged()
    if not changed:
        return dg.SensorResult(skip_reason="the series has all live days")
    known = list(context.instance.get_dynamic_partitions("symbol"))
    new = [symbol for symbol in changed if symbol not in known]
    order = [symbol for symbol in known + new if symbol in changed]
    version = crypto.lake.snapshot(c.LIVE_DAILY_OHLC).version
    return dg.SensorResult(
        dynamic_partitions_requests=[symbols.build_add_request(new)] if new else [],
        run_requests=[
            dg.RunRequest(
                run_key=f"{order[0]} {order[-1]} {version} {time.time() // RETRY_S:.0f}",
                tags={RANGE_START: order[0], RANGE_END: order[-1]},
            )
        ],
    )
