"""The daily forecasts: what has whole days after those that its forecasts know is made again."""

import dagster as dg

from assets.forecasts import forecast_job
from sensors.landing import RANGE_END, RANGE_START
from tidemill.crypto.build import Crypto


@dg.schedule(
    job=forecast_job,
    cron_schedule="23 1 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_forecasts(
    context: dg.ScheduleEvaluationContext, crypto: dg.ResourceParam[Crypto]
) -> dg.RunRequest | dg.SkipReason:
    """Studies the models anew where days have come, and keeps the champion unless one is better.

    As a run takes a range of symbols, those between the first and the last are made with them.
    """
    from tidemill.crypto.forecasting import build

    known = list(context.instance.get_dynamic_partitions("symbol"))
    stale = set(build.stale(crypto.lake, known))
    order = [symbol for symbol in known if symbol in stale]
    if not order:
        return dg.SkipReason("every forecast knows the last whole day of its symbol")
    return dg.RunRequest(tags={RANGE_START: order[0], RANGE_END: order[-1]})
