"""What has landed becomes runs: new symbols are registered, touched months are made again."""

import dagster as dg

from assets.crypto import monthly_job
from assets.partitions import symbols
from tidemill.crypto.build import Crypto

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


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
    away, needs no cursor; the run key is the file's position in the ledger and its symbol.
    """
    pending = crypto.pending()
    if not pending:
        return dg.SensorResult(skip_reason="all that has landed is in daily_ohlc")
    known = set(context.instance.get_dynamic_partitions("symbol"))
    new = sorted({symbol for _, symbol, _ in pending} - known)
    return dg.SensorResult(
        dynamic_partitions_requests=[symbols.build_add_request(new)] if new else [],
        run_requests=[
            dg.RunRequest(
                run_key=f"{position} {symbol}",
                tags={
                    RANGE_START: f"{months.first}|{symbol}",
                    RANGE_END: f"{months.last}|{symbol}",
                },
            )
            for position, symbol, months in pending
        ],
    )
