"""The crypto assets of the batch layer, and the series that merges the live days into it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

import dagster as dg

from assets import report
from assets.partitions import symbol_months, symbols
from tidemill.crypto import checks, exhibits
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.forecasting.contracts import TABLES as forecast_tables
from tidemill.crypto.pending import Months
from tidemill.lake.contracts import Table
from tidemill.lake.store import Written

# Single-run backfills keep 320 partitions from being 320 processes; Dagster calls them beta.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

GROUP = "crypto"
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=7), warn_window=timedelta(days=2))
# Not eager(): that also runs what is missing before anything is there to make it from, and waits
# for every month of the calendar where a symbol has but some.
# Live days change with every batch of ticks, of all symbols together: a sensor asks for the series
# of those that did.
LIVE = dg.AssetSelection.assets(report.key(c.LIVE_DAILY_OHLC))
FORECASTS = dg.AssetSelection.assets(*(report.key(table) for table in forecast_tables))
"""Too dear to be made again with every tick: a schedule asks for them."""
FOLLOWS = (
    dg.AutomationCondition.any_deps_updated().ignore(LIVE).since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress().ignore(LIVE)
    & ~dg.AutomationCondition.in_progress()
).with_label("follow upstream")

OUTSIDE = (c.LANDED_FILES, c.REJECTED_ROWS)
"""Tables that `tidemill ingest` and `tidemill backfill` make."""


landed_files, rejected_rows = (
    report.outside(table, GROUP, "by `tidemill ingest` and `tidemill backfill`")
    for table in OUTSIDE
)


def asked_months(context: dg.AssetExecutionContext) -> Mapping[str, Months]:
    """The months that a run asks for, by symbol."""
    asked: dict[str, list[date]] = {}
    for partition in context.partition_keys:
        assert isinstance(partition, dg.MultiPartitionKey)
        dimensions = partition.keys_by_dimension
        asked.setdefault(dimensions["symbol"], []).append(date.fromisoformat(dimensions["date"]))
    return {symbol: Months.of(found) for symbol, found in asked.items()}


def by_month(
    table: Table, make: Callable[[Crypto, str, Months], Written], deps: Sequence[dg.AssetKey]
) -> dg.AssetsDefinition:
    """An asset partitioned by symbol and month, a range of which is one pass."""

    @dg.asset(
        key=report.key(table),
        deps=deps,
        description=table.meaning,
        partitions_def=symbol_months,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[report.contract_spec(table)],
        group_name=GROUP,
        kinds={"duckdb", "spark", "delta"},
        metadata=report.described(table),
        freshness_policy=FRESH,
        pool="lake",
    )
    def made(
        context: dg.AssetExecutionContext, crypto: dg.ResourceParam[Crypto]
    ) -> dg.MaterializeResult:
        asked = asked_months(context)
        with report.tried_again():
            done = [make(crypto, symbol, months) for symbol, months in asked.items()]
        partitions = [p for symbol, months in asked.items() for p in months.partitions(symbol)]
        return report.written(crypto.lake, table, done, partitions)

    return made


def by_symbol(
    table: Table,
    make: Callable[[Crypto, Sequence[str]], Written],
    deps: Sequence[dg.AssetKey],
    kinds: set[str],
) -> dg.AssetsDefinition:
    """An asset partitioned by symbol, many of which are one pass."""

    @dg.asset(
        key=report.key(table),
        deps=deps,
        description=table.meaning,
        partitions_def=symbols,
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=FOLLOWS,
        check_specs=[report.contract_spec(table)],
        group_name=GROUP,
        kinds=kinds | {"delta"},
        metadata=report.described(table),
        freshness_policy=FRESH,
        pool="lake",
    )
    def made(
        context: dg.AssetExecutionContext, crypto: dg.ResourceParam[Crypto]
    ) -> dg.MaterializeResult:
        asked = list(context.partition_keys)
        with report.tried_again():
            done = make(crypto, asked)
        partitions = [{"symbol": symbol} for symbol in asked]
        charts = exhibits.charts(crypto, table, asked)
        texts = exhibits.reports(crypto, table, asked)
        return report.written(crypto.lake, table, [done], partitions, charts, texts)

    return made


ENGINES = {"duckdb", "spark"}
LANDED, RAW, DAILY = (report.key(t) for t in (c.LANDED_FILES, c.RAW_CANDLES, c.DAILY_OHLC))
LIVE_DAYS, MERGED = report.key(c.LIVE_DAILY_OHLC), report.key(c.MERGED_DAILY_OHLC)
SERIES, SIGNALS = report.key(c.FILLED_SERIES), report.key(c.SIGNALS)

raw_candles = by_month(c.RAW_CANDLES, Crypto.raw_candles, [LANDED])
daily_ohlc = by_month(c.DAILY_OHLC, Crypto.daily_ohlc, [RAW, LANDED])
raw_bars = by_symbol(c.RAW_BARS, Crypto.raw_bars, [LANDED], ENGINES)
candle_gaps = by_symbol(c.CANDLE_GAPS, Crypto.candle_gaps, [RAW], ENGINES)
price_jumps = by_symbol(c.PRICE_JUMPS, Crypto.price_jumps, [RAW], ENGINES)
merged_daily_ohlc = by_symbol(
    c.MERGED_DAILY_OHLC, Crypto.merged_daily_ohlc, [DAILY, LIVE_DAYS], ENGINES
)
filled_series = by_symbol(c.FILLED_SERIES, Crypto.filled_series, [MERGED], ENGINES)
prophet_input = by_symbol(c.PROPHET_INPUT, Crypto.prophet_input, [MERGED], ENGINES)
signals = by_symbol(c.SIGNALS, Crypto.signals, [SERIES], {"polars"})
backtests = by_symbol(c.BACKTESTS, Crypto.backtests, [SERIES, SIGNALS], {"polars"})
volatility = by_symbol(c.VOLATILITY, Crypto.volatility, [SERIES], {"polars"})
monthly_returns = by_symbol(c.MONTHLY_RETURNS, Crypto.monthly_returns, [SERIES], {"polars"})


@dg.asset_check(asset=raw_candles)
def conserves_rows(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """Each symbol has as many minutes as good rows have landed: none lost, none twice."""
    return report.answer(checks.rows_not_conserved(crypto))


@dg.asset_check(asset=daily_ohlc)
def counts_every_minute(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """The days' minute counts add up to the minutes, symbol by symbol."""
    return report.answer(checks.minutes_not_counted(crypto))


@dg.asset_check(asset=merged_daily_ohlc)
def merges_every_day(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """The series is the days of daily_ohlc and the live ones that it lacks, value by value."""
    return report.answer(checks.days_not_merged(crypto))


@dg.asset_check(asset=filled_series)
def has_every_day(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """The calendar has each day from the first to the last once."""
    return report.answer(checks.days_missing(crypto))


monthly_job = dg.define_asset_job(
    "crypto_months",
    selection=dg.AssetSelection.assets(RAW, DAILY),
    description="Minute and daily bars of some months of a symbol.",
)
series_job = dg.define_asset_job(
    "crypto_series",
    selection=dg.AssetSelection.assets(MERGED).downstream() - FORECASTS.downstream(),
    description="The merged series of some symbols, and all that is made from it.",
)
monthly = [raw_candles, daily_ohlc]
symbolic = [
    raw_bars,
    candle_gaps,
    price_jumps,
    merged_daily_ohlc,
    filled_series,
    prophet_input,
    signals,
    backtests,
    volatility,
    monthly_returns,
]
monthly_checks = [conserves_rows, counts_every_minute]
symbolic_checks = [merges_every_day, has_every_day]
