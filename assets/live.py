"""The live assets of crypto: ticks out of Kafka, with their ledger and their dead letters."""

from collections.abc import Iterator, Sequence

import dagster as dg
from pydantic import Field

from assets import report
from tidemill.crypto import checks, checks_live
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.kafka import audit
from tidemill.kafka.consume import Consumed
from tidemill.kafka.spans import Span
from tidemill.kafka.subscription import Subscription
from tidemill.lake.contracts import Table
from tidemill.lake.store import Written

GROUP = "crypto"
TAKEN = "live_prices"
"""Name of the step that reads Kafka."""


class Reading(dg.Config):
    """What to read.

    Attributes:
        topic_id: Kafka's id of the topic that the spans are of.
        spans: partition, first offset and offset after the last; empty means all that is new.
    """

    topic_id: str = ""
    spans: list[list[int]] = Field(default_factory=list)


def _spec(table: Table, deps: Sequence[Table] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        report.key(table),
        deps=[report.key(dep) for dep in deps],
        group_name=GROUP,
        description=table.meaning,
        metadata=report.described(table),
        kinds={"kafka", "duckdb", "delta"},
    )


@dg.multi_asset(
    name=TAKEN,
    specs=[_spec(c.CONSUMED_SPANS), _spec(c.DEAD_LETTERS), _spec(c.LIVE_PRICES)],
    check_specs=[
        report.contract_spec(c.LIVE_PRICES),
        dg.AssetCheckSpec(
            "conserves_messages",
            asset=report.key(c.CONSUMED_SPANS),
            blocking=True,
            description="Each offset of the spans that this run read is accounted for once: "
            "consumed = good + late + duplicate + dead, and the tables have that many rows.",
        ),
    ],
    pool="live",
)
def live_prices(
    context: dg.AssetExecutionContext,
    config: Reading,
    prices: dg.ResourceParam[Subscription],
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Every tick of the spans once, with the ledger of the spans and what could not be used."""
    held = prices.held()
    if config.topic_id not in ("", held.topic_id):
        raise dg.Failure(
            f"{held.topic} was deleted and created again after this run was asked for; the sensor "
            "asks for the new topic's messages",
            allow_retries=False,
        )
    with report.tried_again():
        spans = [Span(*span) for span in config.spans] or prices.unread(held)
        done = prices.consume(held, spans)
    differences = audit.faults(prices.lake, prices.feed, held.topic_id, spans)
    written = Written(c.LIVE_PRICES.id, 0, done.rows, done.size, done.seconds, "")
    days = [{"date": day} for day in done.dates]
    yield report.written(prices.lake, c.LIVE_PRICES, [written], days, texts=_told(done))
    for table in (c.DEAD_LETTERS, c.CONSUMED_SPANS):
        yield dg.MaterializeResult(
            asset_key=report.key(table), metadata=report.standing(prices.lake, table)
        )
    yield dg.AssetCheckResult(
        asset_key=report.key(c.CONSUMED_SPANS),
        check_name="conserves_messages",
        passed=not differences,
        metadata={"differences": dg.MetadataValue.json(differences[:10])},
    )


def _told(done: Consumed) -> dict[str, str]:
    """The run's own ledger, as a table."""
    names = ("partition", "start", "stop", "consumed", "good", "late", "duplicate", "dead")
    lines = [names, ["---"] * len(names)]
    lines += [[str(getattr(account, name)) for name in names] for account in done.accounts]
    return {"spans": "\n".join("| " + " | ".join(line) + " |" for line in lines)}


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
