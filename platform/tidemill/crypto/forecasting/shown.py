"""What charts take from the tables of forecasts, and how they put a score into words.

Frames may be empty, without columns even; what is no finite number is NULL, and a row without a
day or a forecast is left out.
"""

from __future__ import annotations

from math import isfinite

import polars as pl

PARTS = ("trend", "weekly", "yearly", "holidays")
"""Of a Prophet model's forecast."""
NO_SCORE = "no score yet"

FORECAST = pl.Schema(
    {
        "ds": pl.Date(),
        "yhat": pl.Float64(),
        "yhat_lower": pl.Float64(),
        "yhat_upper": pl.Float64(),
        **dict.fromkeys(PARTS, pl.Float64()),
        "model": pl.String(),
        "is_champion": pl.Boolean(),
        "cutoff": pl.Date(),
        "is_ahead": pl.Boolean(),
    }
)


def closes(history: pl.DataFrame) -> pl.DataFrame:
    """The days that have a close: ``ds`` Date and ``y`` Float64, by day."""
    rows = typed(history, pl.Schema({"ds": pl.Date(), "y": pl.Float64()}))
    return rows.drop_nulls().sort("ds")


def forecasts_of(forecasts: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``FORECASTS`` that can be drawn, by model, cutoff and day.

    A band with one end is none: both ends are then NULL.
    """
    rows = typed(forecasts, FORECAST).drop_nulls(["ds", "yhat", "model", "cutoff"])
    ends = ("yhat_lower", "yhat_upper")
    has_band = pl.all_horizontal(pl.col(ends).is_not_null())
    return rows.with_columns(pl.when(has_band).then(pl.col(ends))).sort("model", "cutoff", "ds")


def ahead(rows: pl.DataFrame) -> pl.DataFrame:
    """The days to come, each model's from its last cutoff, the champion first.

    Args:
        rows: As ``forecasts_of`` gives them.
    """
    days = rows.filter("is_ahead").filter(pl.col("cutoff") == pl.col("cutoff").max().over("model"))
    is_other = ~pl.col("is_champion").fill_null(False)
    return days.sort(is_other, "model", "ds")


def champion(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the model to believe, of the latest where there are several; else none."""
    ours = rows.filter("is_champion")
    if ours.is_empty():
        return ours
    last = ours.sort("cutoff", "model")["model"][-1]
    return ours.filter(pl.col("model") == last)


def apart(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of as many cutoffs as share no day, counted from the last one back.

    Args:
        rows: One model's, with ``cutoff`` and ``ds``.

    Returns:
        Whole folds of them, by cutoff and day.
    """
    spans = rows.group_by("cutoff").agg(start=pl.col("ds").min(), stop=pl.col("ds").max())
    kept: list[object] = []
    before = None
    for cutoff, start, stop in spans.sort("cutoff", descending=True).iter_rows():
        if before is None or stop < before:
            kept.append(cutoff)
            before = start
    return rows.filter(pl.col("cutoff").is_in(kept)).sort("cutoff", "ds")


def score(metrics: pl.DataFrame, model: str) -> str:
    """A model's skill with its interval, baseline and folds; or that there is none yet.

    Args:
        metrics: Rows of ``FORECAST_METRICS``.
        model: Its name.

    Returns:
        As "theta: skill -0.01 [-0.03, 0.01] against naive, 62 folds".
    """
    found = metrics if metrics.is_empty() else metrics.filter(pl.col("model") == model)
    if found.is_empty():
        return f"{model}: {NO_SCORE}"
    row = found.row(0, named=True)
    numbers = [row[name] for name in ("skill", "ci_low", "ci_high")]
    if any(value is None or not isfinite(value) for value in numbers):
        return f"{model}: {NO_SCORE}"
    # 0 is added for the sign: minus nothing would read as a loss
    skill, low, high = (f"{round(value, 2) + 0:.2f}" for value in numbers)
    folds = f"{row['folds']} fold{'s' * (row['folds'] != 1)}"
    warning = ", LEAKY" * bool(row["is_leaky"])
    return f"{model}: skill {skill} [{low}, {high}] against {row['baseline']}, {folds}{warning}"


def typed(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The schema's columns of a frame, in its types, with NULL for what is not finite."""
    if frame.is_empty():
        return pl.DataFrame(schema=schema)
    numbers = [name for name, kind in schema.items() if kind == pl.Float64()]
    rows = frame.select(schema.names()).cast(schema)
    return rows.with_columns(pl.when(pl.col(numbers).is_finite()).then(pl.col(numbers)))
