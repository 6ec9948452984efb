"""The hourly backfill: what an exchange has and the lake has not."""

import time

import dagster as dg
from pydantic import Field

from resources.exchange import ExchangeResource
from tidemill.crypto.build import Crypto
from tidemill.errors import InputError, TidemillError

DAY_S = 86_400


class Wanted(dg.Config):
    """What to fetch.

    Attributes:
        symbols: Trading pairs, as the exchange names them.
        days: How far back to look for minutes that have not landed.
    """

    symbols: list[str] = Field(default_factory=lambda: ["BTCUSDT", "ETHUSDT"])
    days: int = 7


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60, backoff=dg.Backoff.EXPONENTIAL))
def fetch_missing(
    context: dg.OpExecutionContext,
    config: Wanted,
    crypto: dg.ResourceParam[Crypto],
    exchange: ExchangeResource,
) -> None:
    """Land the minutes of the last days that have not landed; sensors do the rest.

    Each symbol has its turn, whatever became of the one before it.

    Raises:
        dg.Failure: Symbols failed; tried again unless a repeat can change none of them.
    """
    from tidemill.crypto.backfill import backfill

    now = int(time.time())
    client = exchange.client()
    failed: dict[str, TidemillError] = {}
    for symbol in config.symbols:
        done = backfill(crypto.landing, client, symbol, now - config.days * DAY_S, now)
        context.log.info(f"{symbol}: {done.rows} minutes fetched, {done.good} new")
        if done.error:
            failed[symbol] = done.error
    if failed:
        raise dg.Failure(
            "; ".join(f"{symbol}: {error}" for symbol, error in failed.items()),
            allow_retries=not all(isinstance(error, InputError) for error in failed.values()),
        )


@dg.job(description="Fetches the minutes that have not landed from the exchange.")
def crypto_backfill() -> None:
    """One op: landing is one writer's work."""
    fetch_missing()


hourly_backfill = dg.ScheduleDefinition(
    name="hourly_backfill",
    job=crypto_backfill,
    cron_schedule="7 * * * *",
    execution_timezone="UTC",
    description="Off until somebody turns it on: it asks an exchange on the internet.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
