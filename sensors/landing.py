"""What comes into the landing folder becomes rows, and what has landed becomes runs."""

import time
from collections.abc import Sequence

import dagster as dg

from assets import report
from assets.crypto import OUTSIDE, monthly_job
from assets.partitions import symbols
from tidemill.crypto.build import Crypto
from tidemill.crypto.pending import Pending
from tidemill.errors import TidemillError
from tidemill.events.intake.landing import EventLanding
from tidemill.intake import inbox

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
AT_WORK = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
RETRY_S = 600
"""A file that failed to land for another reason than itself is tried again after this long."""


class Inbox(dg.Config):
    """Names of files in the inbox."""

    files: list[str]


def _taken(context: dg.OpExecutionContext, landing: inbox.Landing, names: Sequence[str]) -> None:
    """Land files of the inbox; one that is refused is kept beside its reason.

    Raises:
        dg.Failure: Some could not be landed for a reason that is not theirs; they stay.
    """
    failed = []
    for name in names:
        try:
            context.log.info(inbox.take(landing, name))
        except TidemillError as error:
            failed.append(f"{name}: {error}")
    if failed:
        raise dg.Failure("; ".join(failed), allow_retries=False)


def _asked(landing: inbox.Landing, op: str) -> dg.SensorResult:
    """A run of an op over the files that lie settled in the inbox."""
    now_s = time.time()
    settled = inbox.settled(landing, now_s)
    if not settled:
        return dg.SensorResult(skip_reason=f"no settled file in {inbox.folder(landing)}")
    files = " ".join(f"{path.name}@{path.stat().st_mtime_ns}" for path in settled)
    key = f"{files} {now_s // RETRY_S:.0f}"
    config = dg.RunConfig(ops={op: Inbox(files=[path.name for path in settled])})
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, run_config=config)])


@dg.op
def take_inbox(
    context: dg.OpExecutionContext, config: Inbox, crypto: dg.ResourceParam[Crypto]
) -> None:
    """Land files of the inbox of crypto."""
    _taken(context, crypto.landing, config.files)


@dg.op
def take_events(
    context: dg.OpExecutionContext, config: Inbox, shop_files: dg.ResourceParam[EventLanding]
) -> None:
    """Land files of the inbox of events."""
    _taken(context, shop_files, config.files)


@dg.job(description="Lands the files that were dropped into landing/crypto/inbox.")
def crypto_inbox() -> None:
    """One op: landing is one writer's work."""
    take_inbox()


@dg.job(description="Lands the files that were dropped into landing/events/inbox.")
def events_inbox() -> None:
    """One op: landing is one writer's work."""
    take_events()


@dg.sensor(
    job=crypto_inbox,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def dropped_files(
    context: dg.SensorEvaluationContext, crypto: dg.ResourceParam[Crypto]
) -> dg.SensorResult:
    """Asks for a run over the files that lie settled in the inbox of crypto."""
    return _asked(crypto.landing, "take_inbox")


@dg.sensor(
    job=events_inbox,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def dropped_events(
    context: dg.SensorEvaluationContext, shop_files: dg.ResourceParam[EventLanding]
) -> dg.SensorResult:
    """Asks for a run over the files that lie settled in the inbox of events."""
    return _asked(shop_files, "take_events")


@dg.sensor(
    job=monthly_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def landed_candles(
    context: dg.SensorEvaluationContext, crypto: dg.ResourceParam[Crypto]
) -> dg.SensorResult:
    """Asks for the months that a landed file touches; one run a file and symbol.

    The lake itself says what is still to be made, so a run made elsewhere, or a daemon that was
    away, needs no cursor. A symbol is left alone while a run of it is queued or at work, and the
    same want is asked for once. The cursor is when that landed of which the asset graph was told.
    """
    pending = crypto.pending()
    if not pending:
        return dg.SensorResult(skip_reason="all that has landed is in daily_ohlc")
    told, newest = context.cursor or "", max(needed.landed_at for needed in pending).isoformat()
    busy = _symbols_at_work(context.instance)
    known = set(context.instance.get_dynamic_partitions("symbol"))
    new = sorted({needed.symbol for needed in pending} - known)
    return dg.SensorResult(
        dynamic_partitions_requests=[symbols.build_add_request(new)] if new else [],
        asset_events=report.landed(crypto.lake, OUTSIDE) if newest > told else [],
        run_requests=[_request(needed) for needed in pending if needed.symbol not in busy],
        cursor=max(told, newest),
    )


def _request(needed: Pending) -> dg.RunRequest:
    months = needed.months
    return dg.RunRequest(
        run_key=f"{needed.symbol} {months.first} {months.last} {needed.landed_at.isoformat()}",
        tags={
            RANGE_START: f"{months.first}|{needed.symbol}",
            RANGE_END: f"{months.last}|{needed.symbol}",
        },
    )


def _symbols_at_work(instance: dg.DagsterInstance) -> set[str]:
    """The symbols whose months a queued or started run makes."""
    runs = instance.get_runs(dg.RunsFilter(job_name=monthly_job.name, statuses=AT_WORK))
    return {run.tags[RANGE_START].partition("|")[2] for run in runs if RANGE_START in run.tags}
