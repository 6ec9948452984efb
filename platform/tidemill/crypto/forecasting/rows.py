"""From a verdict to the rows of the forecast tables."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tidemill.crypto.forecasting import contracts as c
from tidemill.crypto.forecasting.features import Floats
from tidemill.crypto.forecasting.study import NAIVE, mape
from tidemill.crypto.forecasting.verdict import Verdict
from tidemill.lake.contracts import Table, polars_schema
from tidemill.skill.ledger import Score

Row = dict[str, Any]
PARTS = ("weekly", "yearly", "holidays")


def tables(verdict: Verdict) -> Iterator[tuple[Table, pl.DataFrame]]:
    """The rows of each table, in its contract's columns."""
    for table, found in (
        (c.FORECASTS, [*_tested(verdict), *_ahead(verdict)]),
        (c.FORECAST_METRICS, list(_metrics(verdict))),
        (c.ACTUAL_VS_PREDICTED, list(_compared(verdict))),
        (c.FORECAST_ABLATION, list(_ablation(verdict))),
        (c.FORECAST_MODELS, list(_models(verdict))),
    ):
        whole = [row | {"symbol": verdict.symbol} for row in found]
        yield table, pl.DataFrame(whole, schema=polars_schema(table))


def coverage(verdict: Verdict, name: str) -> float | None:
    """Share of the tested days inside their 80 % interval, of those that have one."""
    if name not in verdict.bands:
        return None
    low, high = verdict.bands[name]
    told = np.isfinite(low)
    actual = verdict.study.testing.actuals
    return float(((low <= actual) & (actual <= high))[told].mean()) if told.any() else None


def _tested(verdict: Verdict) -> Iterator[Row]:
    runs = verdict.study.testing
    for name, (low, high) in verdict.bands.items():
        for f, fold in enumerate(runs.folds):
            for h in range(fold.horizon):
                yield _row(
                    verdict,
                    name,
                    ds=verdict.history.series.dates[fold.start + h].item(),
                    yhat=float(runs.forecasts[name][f, h]),
                    yhat_lower=_number(low[f, h]),
                    yhat_upper=_number(high[f, h]),
                    cutoff=runs.cutoffs[f].item(),
                    ahead=fold.start - fold.cutoff + h + 1,
                    is_ahead=False,
                )


def _ahead(verdict: Verdict) -> Iterator[Row]:
    for name, told in verdict.kept.items():
        outlook, (low, high) = told.outlook, told.band
        for h, day in enumerate(outlook.dates):
            parts = {part: _number(outlook.components[part][h]) for part in outlook.components}
            trend = None if outlook.trend is None else _number(outlook.trend[h])
            yield _row(
                verdict,
                name,
                ds=day.item(),
                yhat=float(outlook.yhat[h]),
                yhat_lower=_number(low[h]),
                yhat_upper=_number(high[h]),
                cutoff=outlook.cutoff.item(),
                ahead=h + 1,
                is_ahead=True,
                trend=trend,
                **{part: parts.get(part) for part in PARTS},
            )


def _row(verdict: Verdict, name: str, **rest: Any) -> Row:
    return rest | {
        "model": name,
        "is_champion": name == verdict.champion,
        "data_version": verdict.history.version,
    }


def _compared(verdict: Verdict) -> Iterator[Row]:
    runs = verdict.study.testing
    for name in verdict.bands:
        for f, fold in enumerate(runs.folds):
            for h in range(fold.horizon):
                y, yhat = float(runs.actuals[f, h]), float(runs.forecasts[name][f, h])
                yield {
                    "ds": verdict.history.series.dates[fold.start + h].item(),
                    "y": y,
                    "yhat": yhat,
                    "error": y - yhat,
                    "abs_error": abs(y - yhat),
                    "pct_error": 100 * abs(y - yhat) / abs(y) if y else None,
                    "model": name,
                    "cutoff": runs.cutoffs[f].item(),
                    "ahead": fold.start - fold.cutoff + h + 1,
                }


def _metrics(verdict: Verdict) -> Iterator[Row]:
    done = verdict.study
    first: dict[str, Score] = {}
    for score in verdict.scores:
        first.setdefault(score.model, score)
    for name, score in first.items():
        recipe = done.recipes.get(name)
        forecasts = done.testing.forecasts
        errors = done.testing.actuals - forecasts[name]
        yield {
            "model": name,
            "is_champion": name == verdict.champion,
            "is_baseline": recipe is None,
            "mse": float((errors**2).mean()),
            "mape": _finite(mape(done.testing.actuals, forecasts[name])),
            "cv_mape": _finite(done.losses.get(name, np.inf)),
            "mode": recipe and recipe.mode.value,
            "prior": recipe and recipe.prior,
            "coverage": coverage(verdict, name),
            "n": score.n,
            "folds": score.folds,
            "metric": score.metric,
            "baseline": score.baseline,
            "baseline_mape": _finite(mape(done.testing.actuals, forecasts[score.baseline])),
            "skill": score.skill,
            "ci_low": score.ci_low,
            "ci_high": score.ci_high,
            "dm_p": score.p_value,
            "is_leaky": score.is_leaky,
        }


def _ablation(verdict: Verdict) -> Iterator[Row]:
    """Each choice of moving averages, honest and leaky; without any, nothing can leak."""
    runs, recipes = verdict.study.testing, verdict.study.recipes
    if NAIVE not in runs.forecasts:
        return
    for name, recipe in recipes.items():
        if recipe.log or name not in runs.forecasts:
            continue
        yield {
            "model": name,
            "regressors": "+".join(f"ma{days}" for days in recipe.averages) or "none",
            "is_leaky": recipe.is_leaky,
            "mape": _finite(mape(runs.actuals, runs.forecasts[name])),
            "naive_mape": _finite(mape(runs.actuals, runs.forecasts[NAIVE])),
            "n": runs.actuals.size,
            "folds": len(runs.folds),
        }


def _models(verdict: Verdict) -> Iterator[Row]:
    for name, told in verdict.kept.items():
        recipe = verdict.study.recipes.get(name)
        yield {
            "model": name,
            "is_champion": name == verdict.champion,
            "cutoff": told.outlook.cutoff.item(),
            "data_version": verdict.history.version,
            "recipe": json.dumps(recipe.to_dict()) if recipe else None,
            "fitted": told.saved.to_json() if told.saved else None,
            "reason": verdict.reason
            if name == verdict.champion
            else "the best Prophet recipe by cross-validation",
        }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _finite(value: float | Floats) -> float | None:
    return _number(float(value))
