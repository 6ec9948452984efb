"""The live assets of crypto: ticks out of Kafka, with their ledger and their dead letters."""

import dagster as dg

from assets import report, topic
from tidemill.crypto import checks, checks_live
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.kafka import audit
from tidemill.kafka.subscription import Subscription

GROUP = "crypto"
TAKEN = "live_prices"
"""Name of the step that reads Kafka."""


live_prices = topic.taken(
    TAKEN,
    tables=(c.LIVE_PRICES, c.CONSUMED_SPANS, c.DEAD_LETTERS),
    group=GROUP,
    resource="prices",
    pool="live",
    description="Every tick of the spans once, with the ledger of the spans and what could not be "
    "used.",
)


@dg.asset(
    key=report.key(c.LIVE_DAILY_OHLC),
    deps=[report.key(c.LIVE_PRICES), report.key(c.CONSUMED_SPANS)],
    description=c.LIVE_DAILY_OHLC.meaning,
    check_specs=[report.contract_spec(c.LIVE_DAILY_OHLC)],
    group_name=GROUP,
    kinds={"duckdb", "spark", "delta"},
    metadata=report.described(c.LIVE_DAILY_OHLC),
    pool="live",
)
def live_daily_ohlc(
    context: dg.AssetExecutionContext, crypto: dg.ResourceParam[Crypto]
) -> dg.MaterializeResult:
    """The days that wait, and none else; a symbol that is new gets its partitions."""
    asked = crypto.live()
    with report.tried_again():
        done = [crypto.live_daily_ohlc(asked.dates)] if asked.dates else []
    context.instance.add_dynamic_partitions("symbol", list(asked.symbols))
    partitions = [{"date": str(day)} for day in asked.dates]
    return report.written(crypto.lake, c.LIVE_DAILY_OHLC, done, partitions)


@dg.asset_check(asset=live_daily_ohlc)
def counts_every_tick(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """Each day counts the ticks of live_prices, and these are what the ledger took in."""
    return report.answer(checks.ticks_not_counted(crypto))


@dg.asset_check(asset=live_daily_ohlc)
def equals_batch(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """The days made last are what one pass over all their ticks gives, row for row."""
    return report.answer(checks.days_not_replayed(crypto))


@dg.asset_check(asset=live_daily_ohlc)
def equals_topic(
    crypto: dg.ResourceParam[Crypto], prices: dg.ResourceParam[Subscription]
) -> dg.AssetCheckResult:
    """The topic, read again as a batch, gives the same days, row for row."""
    return report.answer(checks_live.replay_differs(crypto, prices))


@dg.asset_check(asset=report.key(c.CONSUMED_SPANS))
def ledger_adds_up(prices: dg.ResourceParam[Subscription]) -> dg.AssetCheckResult:
    """Every span ever consumed adds up, none leaves a hole or overlaps, and the rows are there."""
    return report.answer(audit.faults(prices.lake, prices.feed))


live_job = dg.define_asset_job(
    "crypto_live",
    selection=dg.AssetSelection.assets(live_prices, live_daily_ohlc).without_checks()
    | dg.AssetSelection.checks(*live_prices.check_keys, *live_daily_ohlc.check_keys),
    description="New ticks out of Kafka, and the days that they are of.",
)
audit_job = dg.define_asset_job(
    "crypto_audit",
    selection=dg.AssetSelection.checks(
        ledger_adds_up, counts_every_tick, equals_batch, equals_topic
    ),
    description="Looks whether the live tables hold what the ledger says, all of it.",
)
whole = [live_daily_ohlc]
whole_checks = [counts_every_tick, equals_batch]
