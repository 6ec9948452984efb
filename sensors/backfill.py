"""The hourly backfill: what an exchange has and the lake has not."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from resources.exchange import ExchangeResource
from tidemill.crypto.build import Crypto
from tidemill.errors import InputError, TidemillError

DAY_S = 86_400
RETRIES = 2
RETRY_S = 90
FIRST = ["BTCUSDT", "ETHUSDT"]
"""What a home where nothing has landed begins with."""


class Wanted(dg.Config):
    """What to fetch.

    Attributes:
        symbols: Trading pairs, as the exchange names them; empty means each that has landed
            minutes and that the exchange has, or ``FIRST`` where nothing has landed.
        days: How far back to look at most, for symbols that stood still or have not landed.
    """

    symbols: list[str] = Field(default_factory=list)
    days: int = 30


@dg.op
def fetch_missing(
    context: dg.OpExecutionContext,
    config: Wanted,
    crypto: dg.ResourceParam[Crypto],
    exchange: ExchangeResource,
) -> None:
    """Land the minutes after each symbol's last landed one; sensors do the rest.

    Each symbol has its turn, whatever became of the one before it.

    Raises:
        dg.Failure: Symbols failed, and a repeat can change none of them.
        dg.RetryRequested: One may do better. A policy would try again, too, what somebody ended.
    """
    from tidemill.crypto.backfill import backfill, landed_until
    from tidemill.crypto.exchange import UnknownSymbolError

    client = exchange.client()
    now = int(client.clock())
    earliest = now - config.days * DAY_S
    ends = landed_until(crypto.landing)
    failed: dict[str, TidemillError] = {}
    for symbol in config.symbols or list(ends) or FIRST:
        since = ends.get(symbol, earliest)
        if since < earliest:
            context.log.warning(_cut(symbol, since, earliest, config.days))
        done = backfill(crypto.landing, client, symbol, max(since, earliest), now)
        if isinstance(done.error, UnknownSymbolError) and not config.symbols:
            context.log.info(f"{symbol}: not on {client.base_url}, left out")
            continue
        context.log.info(f"{symbol}: {done.rows} minutes fetched, {done.good} new")
        if done.error:
            failed[symbol] = done.error
    if failed:
        told = "; ".join(f"{symbol}: {error}" for symbol, error in failed.items())
        failure = dg.Failure(told, allow_retries=False)
        if all(isinstance(error, InputError) for error in failed.values()):
            raise failure
        raise dg.RetryRequested(RETRIES, RETRY_S) from failure


def _cut(symbol: str, since_s: int, earliest_s: int, days: int) -> str:
    since, earliest = (
        f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}" for at in (since_s, earliest_s)
    )
    return (
        f"{symbol}: landed until {since}, but 'days' is {days}, so {since} to {earliest} UTC is "
        f"left out; to fetch it: tidemill backfill crypto --symbol {symbol} --since {since}"
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
