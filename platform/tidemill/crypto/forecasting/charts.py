"""Charts of one symbol's forecasts, as PNG bytes of 900 by 420 pixels.

Pure functions from frames to bytes: equal frames give equal bytes. Frames hold the columns of the
tables in ``contracts``; without a row that can be drawn a chart says so. The page with which one
can play is in ``interactive``.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from tidemill import plot
from tidemill.crypto.forecasting import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRICE = "price (quote asset)"
NO_BAND = "no 80 % band"
LAST_DAYS = 365
"""How much of the past stands beside the days to come."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
COMMON_YEAR = 2001
"""Any: a year's effects are drawn by its days, the 29th of February with the 28th."""


def forecast_png(
    history: pl.DataFrame, forecasts: pl.DataFrame, metrics: pl.DataFrame, symbol: str
) -> bytes:
    """Draw the last 365 days of the close, and what the champion says of the days to come.

    Args:
        history: ``ds`` (UTC day) and ``y`` (close, quote asset), in any order.
        forecasts: Rows of ``FORECASTS``; of them the champion's days ahead are drawn, with their
            80 % band where they have one.
        metrics: Rows of ``FORECAST_METRICS``, for the champion's skill in the title.
        symbol: For the title.

    Returns:
        A PNG image.
    """
    about = "close and forecast"
    past = shown.closes(history)
    coming = shown.ahead(shown.champion(shown.forecasts_of(forecasts)))
    if past.is_empty() and coming.is_empty():
        return plot.no_data(symbol, about)
    if not past.is_empty():
        past = past.filter(pl.col("ds") > past["ds"][-1] - timedelta(LAST_DAYS))
    figure = plot.figure(symbol, _forecast_title(coming))
    axes = figure.subplots()
    if not past.is_empty():
        _line(axes, past["ds"], past["y"], plot.GREY, "close")
    if not coming.is_empty():
        _band(axes, coming)
        _line(axes, coming["ds"], coming["yhat"], plot.BLUE, "forecast")
        axes.axvline(coming["cutoff"][0], color=plot.INK, lw=0.8, ls=":", label="cutoff")
        no_band = f"; {NO_BAND}" * coming["yhat_lower"].is_null().all()
        _subtitle(axes, shown.score(metrics, coming["model"][0]) + no_band)
    plot.tidy(axes)
    axes.set_ylabel(PRICE)
    axes.yaxis.set_major_formatter(plot.thousands)
    plot.time_axis(axes, pl.concat([past["ds"], coming["ds"]]).sort())
    plot.legend(figure, axes)
    return plot.png(figure)


def test_zoom_png(actual_vs_predicted: pl.DataFrame, forecasts: pl.DataFrame, symbol: str) -> bytes:
    """Draw the close of the test part, and what the champion forecast of it.

    Of cutoffs whose days overlap one is drawn, so that no lines cross; the scores in the title
    are of all.

    Args:
        actual_vs_predicted: Rows of ``ACTUAL_VS_PREDICTED``.
        forecasts: Rows of ``FORECASTS``: who the champion is, and the 80 % bands.
        symbol: For the title.

    Returns:
        A PNG image.
    """
    about = "forecasts of the test part"
    rows = _tested(actual_vs_predicted, forecasts)
    if rows.is_empty():
        return plot.no_data(symbol, about)
    drawn = shown.apart(rows)
    figure = plot.figure(symbol, f"{about} by {plot.plain(rows['model'][0])}")
    axes = figure.subplots()
    actual = rows.unique("ds").sort("ds")
    _line(axes, actual["ds"], actual["y"], plot.GREY, "close")
    broken = _with_breaks(drawn)
    _band(axes, broken)
    _line(axes, broken["ds"], broken["yhat"], plot.BLUE, "forecast")
    starts = drawn.group_by("cutoff", maintain_order=True).first()
    axes.plot(starts["ds"].to_numpy(), starts["yhat"].to_numpy(), ".", color=plot.BLUE, ms=5)
    _subtitle(axes, _test_scores(rows, drawn))
    plot.tidy(axes)
    axes.set_ylabel(PRICE)
    axes.yaxis.set_major_formatter(plot.thousands)
    plot.time_axis(axes, actual["ds"])
    plot.legend(figure, axes)
    return plot.png(figure)


def components_png(forecasts: pl.DataFrame, symbol: str, unit: str = "quote asset") -> bytes:
    """Draw what the best Prophet recipe's forecasts are made of, one panel for each part.

    Effects of the week are means by weekday, of the year by its day, over all days forecast.

    Args:
        forecasts: Rows of ``FORECASTS``; the days of the test part and those ahead are drawn, as
            far as they have parts.
        symbol: For the title.
        unit: Of the weekly, yearly and holiday effects.

    Returns:
        A PNG image; where no model has parts, it says why.
    """
    about = "parts of the forecast"
    rows = shown.forecasts_of(forecasts)
    if rows.is_empty():
        return plot.no_data(symbol, about)
    parted = rows.filter(pl.col("trend").is_not_null())
    if parted.is_empty():
        return _without_parts(rows, symbol, about)
    # where several models have parts, the one to believe, else the latest
    model = parted.sort(pl.col("is_champion").fill_null(False), "cutoff")["model"][-1]
    parted = parted.filter(pl.col("model") == model)
    days = parted["ds"].sort()
    span = f"{days[0]} to {days[-1]}"
    figure = plot.figure(symbol, f"parts of {plot.plain(model)}, {span}")
    (trend, weekly), (yearly, holidays) = figure.subplots(2, 2)
    _by_date(trend, parted, "trend")
    _by_weekday(weekly, parted)
    _by_day_of_year(yearly, parted)
    _by_date(holidays, parted, "holidays")
    trend.set_ylabel("trend\n(quote asset)")
    for axes, name in ((weekly, "weekly"), (yearly, "yearly"), (holidays, "holiday")):
        axes.set_ylabel(f"{name} effect\n({unit})")
    for axes in (trend, weekly, yearly, holidays):
        plot.tidy(axes)
        axes.yaxis.set_major_formatter(plot.thousands)
        axes.locator_params(axis="y", nbins=5)
    figure.align_ylabels()
    trend.plot([], [], color=plot.GREEN, lw=3, label="mean over all these days")
    plot.legend(figure, trend)
    return plot.png(figure)


def _forecast_title(coming: pl.DataFrame) -> str:
    if coming.is_empty():
        return "close; no forecast yet"
    days = f"{coming.height} day{'s' * (coming.height != 1)}"
    model, cutoff = plot.plain(coming["model"][0]), coming["cutoff"][0]
    return f"close and forecast by {model}, {days} from {cutoff}"


def _tested(actual_vs_predicted: pl.DataFrame, forecasts: pl.DataFrame) -> pl.DataFrame:
    """The champion's days of the test part: ``y`` and ``pct_error`` beside its forecasts."""
    actual_of = pl.Schema(
        {
            "model": pl.String(),
            "cutoff": pl.Date(),
            "ds": pl.Date(),
            "y": pl.Float64(),
            "pct_error": pl.Float64(),
        }
    )
    actual = shown.typed(actual_vs_predicted, actual_of).drop_nulls(["ds", "y"])
    ours = shown.champion(shown.forecasts_of(forecasts))
    rows = ours.join(actual, on=["model", "cutoff", "ds"])
    return rows.sort("cutoff", "ds")


def _test_scores(rows: pl.DataFrame, drawn: pl.DataFrame) -> str:
    """Error and coverage of all rows, and how many of their folds are drawn."""
    # a close of 0 has no error in percent
    errors = rows.filter(pl.col("y") != 0)["pct_error"].drop_nulls()
    mape = "no MAPE" if errors.is_empty() else f"MAPE {errors.to_numpy().mean():.2f} %"
    banded = rows.drop_nulls("yhat_lower")
    covered = NO_BAND
    if not banded.is_empty():
        inside = pl.col("y").is_between(pl.col("yhat_lower"), pl.col("yhat_upper"))
        share = 100 * banded.select(inside.mean()).item()
        covered = f"80 % band holds {share:.1f} % of the closes"
    folds, few = rows["cutoff"].n_unique(), drawn["cutoff"].n_unique()
    return f"{mape}, {covered}, over {folds} fold{'s' * (folds != 1)}; {few} drawn"


def _with_breaks(rows: pl.DataFrame, name: str = "yhat") -> pl.DataFrame:
    """The rows with an empty one after each fold, where lines and bands then end."""
    breaks = rows.group_by("cutoff").agg(pl.col("ds").max())
    return pl.concat([rows, breaks], how="diagonal").sort("cutoff", "ds", name, nulls_last=True)


def _line(axes: Axes, x: pl.Series, y: pl.Series, colour: str, label: str) -> None:
    """Put a line, or a dot where there is one day."""
    dot = "o" if y.drop_nulls().len() == 1 else ""
    axes.plot(x.to_numpy(), y.to_numpy(), color=colour, lw=1.5, marker=dot, ms=4, label=label)


def _band(axes: Axes, rows: pl.DataFrame) -> None:
    if rows["yhat_lower"].is_null().all():
        return
    low, high = rows["yhat_lower"].to_numpy(), rows["yhat_upper"].to_numpy()
    band = axes.fill_between(rows["ds"].to_numpy(), low, high, color=plot.SKY, label="80 % band")
    band.set(alpha=0.3, linewidth=0)


def _subtitle(axes: Axes, text: str) -> None:
    axes.set_title(text.replace("$", r"\$"), loc="left", fontsize=9, color=plot.INK)


def _by_date(axes: Axes, rows: pl.DataFrame, name: str) -> None:
    """Draw a part over the days, those of the test part and those ahead in their own colours."""
    rows = rows.drop_nulls(name)
    if rows.is_empty():
        return _nothing(axes)
    for is_ahead, colour, label in (
        (False, plot.GREY, "test part"),
        (True, plot.BLUE, "days ahead"),
    ):
        part = rows.filter(pl.col("is_ahead").fill_null(False) == is_ahead)
        if not part.is_empty():
            broken = _with_breaks(shown.apart(part), name)
            _line(axes, broken["ds"], broken[name], colour, label)
    plot.time_axis(axes, rows["ds"].sort())


def _by_weekday(axes: Axes, rows: pl.DataFrame) -> None:
    means = _means(rows, pl.col("ds").dt.weekday(), "weekly")
    if means.is_empty():
        return _nothing(axes)
    axes.bar(means["at"].to_numpy() - 1, means["weekly"].to_numpy(), 0.7, color=plot.GREEN)
    axes.axhline(0, color=plot.GREY, lw=0.8)
    axes.set_xticks(range(len(WEEKDAYS)), WEEKDAYS)
    axes.set_xlim(-0.6, len(WEEKDAYS) - 0.4)
    axes.set_xlabel("weekday (UTC)", fontsize=9)


def _by_day_of_year(axes: Axes, rows: pl.DataFrame) -> None:
    from matplotlib.dates import DateFormatter, MonthLocator, date2num

    month, day = pl.col("ds").dt.month(), pl.col("ds").dt.day()
    is_leap_day = (month == 2) & (day == 29)
    at = pl.date(COMMON_YEAR, month, pl.when(is_leap_day).then(28).otherwise(day))
    means = _means(rows, at, "yearly")
    if means.is_empty():
        return _nothing(axes)
    days = pl.date_range(means["at"][0], means["at"][-1], eager=True).alias("at")
    held = days.to_frame().join(means, on="at", how="left", maintain_order="left")
    _line(axes, held["at"], held["yearly"], plot.GREEN, "yearly")
    axes.xaxis.set_major_locator(MonthLocator((1, 4, 7, 10)))
    axes.xaxis.set_major_formatter(DateFormatter("%b"))
    axes.set_xlim(*date2num([date(COMMON_YEAR, 1, 1), date(COMMON_YEAR, 12, 31)]))
    axes.set_xlabel("day of the year (UTC)", fontsize=9)


def _means(rows: pl.DataFrame, at: pl.Expr, name: str) -> pl.DataFrame:
    """``at`` and the mean of a part there, in order; none of a part that the model lacks."""
    known = rows.drop_nulls(name)
    return known.group_by(at.alias("at")).agg(pl.col(name).mean()).sort("at")


def _nothing(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "not in the model", ha="center", va="center", transform=axes.transAxes)


def _without_parts(rows: pl.DataFrame, symbol: str, about: str) -> bytes:
    """A chart that says why there are no parts to show."""
    models = ", ".join(plot.plain(name) for name in rows["model"].unique().sort())
    empty = plot.figure(symbol, about)
    for height, text in (
        (0.55, "no Prophet model with parts"),
        (0.45, f"forecasts are by {models}"),
    ):
        empty.text(0.5, height, text, ha="center", va="center", fontsize=12, color=plot.GREY)
    return plot.png(empty)
