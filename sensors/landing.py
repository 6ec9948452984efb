"""What comes into the landing folder becomes rows, and what has landed becomes runs."""

import time

import dagster as dg

from assets import report
from assets.crypto import OUTSIDE, monthly_job
from assets.partitions import symbols
from tidemill.crypto.build import Crypto
from tidemill.crypto.contracts import RAW_CANDLES
from tidemill.crypto.intake import inbox

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


class Inbox(dg.Config):
    """Names of files in the inbox."""

    files: list[str]


@dg.op
def take_inbox(
    context: dg.OpExecutionContext, config: Inbox, crypto: dg.ResourceParam[Crypto]
) -> None:
    """Land files of the inbox; one that is refused is kept beside its reason."""
    for name in config.files:
        context.log.info(inbox.take(crypto.landing, name))


@dg.job(description="Lands the files that were dropped into landing/crypto/inbox.")
def crypto_inbox() -> None:
    """One op: landing is one writer's work."""
    take_inbox()


@dg.sensor(
    job=crypto_inbox,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def dropped_files(
    context: dg.SensorEvaluationContext, crypto: dg.ResourceParam[Crypto]
) -> dg.SensorResult:
    """Asks for a run over the files that lie settled in the inbox."""
    settled = inbox.settled(crypto.landing, time.time())
    if not settled:
        return dg.SensorResult(skip_reason=f"no settled file in {inbox.folder(crypto.landing)}")
    key = " ".join(f"{path.name}@{path.stat().st_mtime_ns}" for path in settled)
    config = dg.RunConfig(ops={"take_inbox": Inbox(files=[path.name for path in settled])})
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, run_config=config)])


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
    away, needs no cursor. The run key is the file's position in the ledger, its symbol, and the
    version of the minutes that lack it. The cursor is the last position that the asset graph was
    told of.
    """
    pending = crypto.pending()
    if not pending:
        return dg.SensorResult(skip_reason="all that has landed is in daily_ohlc")
    told = int(context.cursor or -1)
    version = crypto.lake.snapshot(RAW_CANDLES).version
    newest = max(position for position, _, _ in pending)
    known = set(context.instance.get_dynamic_partitions("symbol"))
    new = sorted({symbol for _, symbol, _ in pending} - known)
    return dg.SensorResult(
        dynamic_partitions_requests=[symbols.build_add_request(new)] if new else [],
        asset_events=report.landed(crypto.lake, OUTSIDE) if newest > told else [],
        run_requests=[
            dg.RunRequest(
                run_key=f"{position} {symbol} {version}",
                tags={
                    RANGE_START: f"{months.first}|{symbol}",
                    RANGE_END: f"{months.last}|{symbol}",
                },
            )
            for position, symbol, months in pending
        ],
        cursor=str(max(told, newest)),
    )
