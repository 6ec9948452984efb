"""The forecast assets: what each symbol's champion says of the days to come, and how good it is."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import dagster as dg

from assets import report
from assets.partitions import symbols
from tidemill.crypto import contracts as crypto_tables
from tidemill.crypto.build import Crypto
from tidemill.crypto.forecasting import contracts as c
from tidemill.skill.contracts import LEDGER

GROUP = "crypto"
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=7), warn_window=timedelta(days=2))
BY_DESIGN = "by design"
"""Metadata of a check that is red because of what it looks at is meant to fail it."""
HONEST = dg.AssetCheckSpec(
    "sees_no_future",
    asset=report.key(c.FORECASTS),
    description="Other prices after a cutoff change no forecast of an honest model, and its error "
    "is not too small to be believed; a recipe that is known to leak is caught.",
)
LEAKY = dg.AssetCheckSpec(
    "leaky_recipes_see_no_future",
    asset=report.key(c.FORECAST_ABLATION),
    description="Red by design: the recipe that is fed the test days' own averages is caught. It "
    "is there for comparison and is never champion.",
)

skill_ledger = dg.AssetSpec(
    report.key(LEDGER),
    group_name="skill",
    description=f"{LEDGER.meaning} Made by the models of every domain.",
    metadata=report.described(LEDGER),
    deps=[report.key(c.FORECAST_METRICS)],
    kinds={"delta"},
)


@dg.multi_asset(
    name="forecasts",
    specs=[
        dg.AssetSpec(
            report.key(table),
            deps=[report.key(crypto_tables.PROPHET_INPUT)],
            group_name=GROUP,
            description=table.meaning,
            metadata=report.described(table),
            freshness_policy=FRESH,
            kinds={"python", "delta"},
        )
        for table in c.TABLES
    ],
    check_specs=[*(report.contract_spec(table) for table in c.TABLES), HONEST, LEAKY],
    partitions_def=symbols,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="forecasts",
)
def forecasts(
    context: dg.AssetExecutionContext, crypto: dg.ResourceParam[Crypto]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Study, score, guard and forecast the symbols; one that fails stops no other."""
    from tidemill.crypto.forecasting import build, exhibits

    asked = list(context.partition_keys)
    with report.tried_again():
        made = build.make(crypto.lake, asked)
    for symbol, why in made.failed.items():
        context.log.error(f"{symbol}: {why}")
    for symbol, verdict in made.verdicts.items():
        context.log.info(f"{symbol}: champion {verdict.reason}")
    done = list(made.verdicts)
    if made.failed:
        # What a step yields counts for all partitions of its run, those that failed among them.
        for table in c.TABLES:
            standing = report.standing(crypto.lake, table)
            for symbol in done:
                context.log_event(
                    dg.AssetMaterialization(report.key(table), partition=symbol, metadata=standing)
                )
        told = "; ".join(f"{symbol}: {why}" for symbol, why in made.failed.items())
        raise dg.Failure(told, allow_retries=False)
    shown = exhibits.exhibits(crypto.lake, done, crypto.reports)
    partitions = [{"symbol": symbol} for symbol in done]
    for table in c.TABLES:
        yield report.written(
            crypto.lake,
            table,
            made.written[table.name],
            partitions,
            shown.charts if table is c.FORECASTS else None,
            shown.texts.get(table.name),
        )
    context.log_event(
        dg.AssetMaterialization(report.key(LEDGER), metadata=report.standing(crypto.lake, LEDGER))
    )
    yield _answer(HONEST, [*made.findings(is_leaky=False), *made.missed()])
    yield _answer(LEAKY, made.findings(is_leaky=True), by_design=True)


def _answer(
    spec: dg.AssetCheckSpec, found: Sequence[Mapping[str, object]], by_design: bool = False
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=not found,
        metadata={
            "differences": len(found),
            "first": dg.MetadataValue.json([dict(one) for one in found[:10]]),
            **({BY_DESIGN: True} if by_design else {}),
        },
    )


@dg.asset_check(asset=report.key(c.FORECAST_MODELS))
def has_scores(crypto: dg.ResourceParam[Crypto]) -> dg.AssetCheckResult:
    """Every model that is kept is in the skill ledger, with its baseline, interval and p."""
    from tidemill.crypto.forecasting import build

    return report.answer(build.unscored(crypto.lake))


forecast_job = dg.define_asset_job(
    "crypto_forecasts",
    selection=dg.AssetSelection.assets(forecasts),
    description="Forecasts of some symbols, with the scores of every model.",
)
by_symbol = [forecasts]
by_symbol_checks = [has_scores]
