"""Charts of one symbol's daily series, as PNG bytes of 900 by 420 pixels.

Pure functions from a frame to bytes: equal frames give equal bytes. A frame without a row that can
be drawn gives a chart that says so. The numbers come from ``trading`` and the tables; charts of
forecasts are beside the forecasts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from tidemill import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP_STYLES = {"1 min": (plot.SKY, "o"), "2-60 min": (plot.ORANGE, "s"), "over 1 h": (plot.RED, "D")}
"""Colour and marker by class of gap, shortest first; any other class is purple."""
MINUTE_TICKS = {1: "1 min", 10: "10 min", 60: "1 h", 600: "10 h", 1440: "1 day", 10080: "7 days"}
MINUTE_TICKS |= {43200: "30 days"}
PRICE = "price (quote asset)"
LONGEST = 3
"""How many gaps are named."""


def candles(daily: pl.DataFrame, symbol: str, last_days: int = 180) -> bytes:
    """Draw the last days as candlesticks, with the volume below.

    A day without an open or close is left out; a missing high or low is that of open and close, and
    a day whose volume is not known has no bar below.

    Args:
        daily: ``date``, ``daily_open``, ``daily_high``, ``daily_low``, ``daily_close`` (quote
            asset) and ``daily_volume`` (base asset), one row a day, in any order.
        symbol: For the title.
        last_days: Calendar days to show, up to the last that can be drawn.

    Returns:
        A PNG image.
    """
    about = "daily candles"
    names = ("daily_open", "daily_high", "daily_low", "daily_close", "daily_volume")
    rows = _rows(daily, names).drop_nulls(["daily_open", "daily_close"])
    if rows.is_empty():
        return plot.no_data(symbol, about)
    rows = _recent(rows, last_days)
    figure = plot.figure(symbol, f"{about}, {_span(rows)}")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_candles(top, rows)
    bottom.bar(rows["date"].to_numpy(), rows["daily_volume"].to_numpy(), 0.7, color=plot.GREY)
    plot.tidy(top)
    plot.tidy(bottom)
    top.set_ylabel(PRICE)
    top.yaxis.set_major_formatter(plot.thousands)
    bottom.set_ylabel("volume\n(base asset)")
    bottom.yaxis.set_major_formatter(plot.short)
    bottom.locator_params(axis="y", nbins=3)
    bottom.set_ylim(bottom=0)
    plot.time_axis(bottom, rows["date"])
    plot.legend(figure, top)
    figure.align_ylabels()
    return plot.png(figure)


def gaps(gaps: pl.DataFrame, symbol: str) -> bytes:
    """Draw the missing minutes of each month, on a log scale, by class of gap.

    The 3 longest gaps are numbered at the mark of the month that has most of them, and named
    above.

    Args:
        gaps: ``start`` (first missing minute, UTC), ``minutes`` and ``class``, in any order.
        symbol: For the title.

    Returns:
        A PNG image.
    """
    about = "time missing from the candles, by month"
    months = missing_by_month(gaps)
    if months.is_empty():
        return plot.no_data(symbol, about)
    figure = plot.figure(symbol, about)
    axes = figure.subplots()
    tallest = months.group_by("month").agg(pl.col("minutes").max()).sort("month")
    axes.vlines(
        tallest["month"].to_numpy(), 0.1, tallest["minutes"].to_numpy(), color=plot.LIGHT, lw=1
    )
    for name in sorted(months["class"].unique(), key=_by_length):
        colour, marker = GAP_STYLES.get(name, (plot.PURPLE, "^"))
        part = months.filter(pl.col("class") == name)
        _points(axes, part["month"], part["minutes"], marker, colour, 5, plot.plain(name))
    plot.tidy(axes)
    axes.set_yscale("log")
    axes.set_yticks(list(MINUTE_TICKS), list(MINUTE_TICKS.values()))
    axes.minorticks_off()
    axes.set_ylim(0.7, 3 * max(20.0, *months["minutes"]))
    axes.set_ylabel("missing in the month (log scale)")
    plot.time_axis(axes, months["month"], at_least=timedelta(300))
    _name_longest(axes, gaps, months)
    plot.legend(figure, axes)
    return plot.png(figure)


def averages(
    series: pl.DataFrame, signals: pl.DataFrame, symbol: str, last_days: int | None = 365
) -> bytes:
    """Draw the close with its two averages, and a mark at each golden and death cross.

    Args:
        series: ``date``, ``close``, ``ma7`` and ``ma30`` (quote asset), one row a day.
        signals: ``date``, ``cross`` (golden or death) and ``ma30``, the height of its mark.
        symbol: For the title.
        last_days: Calendar days to show, up to the last with a close; None for all, though
            some years of them are too dense to tell the lines apart.

    Returns:
        A PNG image.
    """
    about = "close and moving averages"
    rows = _rows(series, ("close", "ma7", "ma30"))
    last = rows.drop_nulls("close").select(pl.col("date").max()).item()
    if last is None:
        return plot.no_data(symbol, about)
    rows = _recent(rows.filter(pl.col("date") <= last), last_days)
    figure = plot.figure(symbol, f"{about}, {_span(rows)}")
    axes = figure.subplots()
    dates = rows["date"].to_numpy()
    dot = "o" if rows.height == 1 else ""
    for name, colour, width in (
        ("close", plot.GREY, 0.9),
        ("ma7", plot.BLUE, 1.5),
        ("ma30", plot.ORANGE, 2.0),
    ):
        if rows[name].null_count() < rows.height:
            values = rows[name].to_numpy()
            axes.plot(dates, values, color=colour, lw=width, marker=dot, label=name)
    if not signals.is_empty():
        marks = signals.cast({"date": pl.Date, "ma30": pl.Float64}).drop_nulls(["date", "ma30"])
        marks = marks.filter(pl.col("date").is_between(rows["date"][0], rows["date"][-1]))
        for cross, marker, colour in (("golden", "^", plot.GREEN), ("death", "v", plot.RED)):
            at = marks.filter(pl.col("cross").cast(pl.String) == cross)
            _points(axes, at["date"], at["ma30"], marker, colour, 9, f"{cross} cross")
    plot.tidy(axes)
    axes.set_ylabel(PRICE)
    axes.yaxis.set_major_formatter(plot.thousands)
    plot.time_axis(axes, rows["date"])
    plot.legend(figure, axes)
    return plot.png(figure)


def missing_by_month(gaps: pl.DataFrame) -> pl.DataFrame:
    """Add up missing minutes by month; a gap over a month's end counts in each by its part.

    Args:
        gaps: As for ``gaps``; a row without a start or minutes is left out.

    Returns:
        ``month`` Datetime (its first instant), ``class`` String, ``minutes`` Int64 > 0, by
        month and class.
    """
    return (
        _parts(gaps)
        .group_by("month", "class")
        .agg(pl.col("part").sum().alias("minutes"))
        .sort("month", "class")
    )


def _parts(gaps: pl.DataFrame) -> pl.DataFrame:
    """Each gap cut at the ends of months: its columns, ``month`` and ``part`` (minutes, > 0)."""
    stop = pl.col("start") + pl.duration(minutes="minutes")
    month = pl.datetime_ranges(pl.col("start").dt.truncate("1mo"), stop, "1mo", closed="left")
    pieces = _gap_rows(gaps).with_columns(month=month).explode("month")
    month_end = pl.col("month").dt.offset_by("1mo")
    part = pl.min_horizontal(stop, month_end) - pl.max_horizontal("start", "month")
    return pieces.with_columns(part=part.dt.total_minutes())


def _gap_rows(gaps: pl.DataFrame) -> pl.DataFrame:
    """The gaps that can be drawn: ``start`` naive UTC, ``minutes`` Int64 > 0, ``class``."""
    columns = [("start", pl.Datetime("us")), ("minutes", pl.Int64()), ("class", pl.String())]
    schema = pl.Schema(columns)
    if gaps.is_empty():
        return pl.DataFrame(schema=schema)
    start = pl.col("start")
    if isinstance(gaps.schema["start"], pl.Datetime):
        start = start.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    rows = gaps.select(start, "minutes", "class").cast(schema)
    rows = rows.drop_nulls(["start", "minutes"]).filter(pl.col("minutes") > 0)
    return rows.with_columns(
        pl.col("start").dt.truncate("1m"), pl.col("class").fill_null("no class")
    )


def _rows(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """``date`` and the columns ``names`` as Float64, by date; what is no finite number is NULL."""
    if frame.is_empty():
        return pl.DataFrame(schema={"date": pl.Date, **dict.fromkeys(names, pl.Float64)})
    rows = frame.select(pl.col("date").cast(pl.Date), pl.col(names).cast(pl.Float64))
    finite = pl.when(pl.col(names).is_finite()).then(pl.col(names))
    return rows.with_columns(finite).drop_nulls("date").sort("date")


def _recent(rows: pl.DataFrame, last_days: int | None) -> pl.DataFrame:
    """The rows of the last ``last_days`` calendar days, of all when None."""
    if last_days is None:
        return rows
    return rows.filter(pl.col("date") > pl.col("date").max() - timedelta(last_days))


def _span(rows: pl.DataFrame) -> str:
    """First and last day of the rows, for a title; one alone is named once."""
    return " to ".join(dict.fromkeys((str(rows["date"][0]), str(rows["date"][-1]))))


def _by_length(name: str) -> tuple[int, str]:
    """Order of the classes of gap: the known ones by length, then others by name."""
    known = list(GAP_STYLES)
    return (known.index(name) if name in known else len(known), name)


def _draw_candles(axes: Axes, rows: pl.DataFrame) -> None:
    """Put a wick and a body for each day; a body of no height shows as a line."""
    ends = ("daily_open", "daily_close")
    rows = rows.with_columns(bottom=pl.min_horizontal(ends), top=pl.max_horizontal(ends))
    is_up = pl.col("daily_close") >= pl.col("daily_open")
    for shown, colour, label in (
        (rows.filter(is_up), plot.BLUE, "close at or above open"),
        (rows.filter(~is_up), plot.RED, "close below open"),
    ):
        if shown.is_empty():
            continue
        dates = shown["date"].to_numpy()
        low = shown.select(pl.coalesce("daily_low", "bottom")).to_series().to_numpy()
        high = shown.select(pl.coalesce("daily_high", "top")).to_series().to_numpy()
        bottom, top = shown["bottom"].to_numpy(), shown["top"].to_numpy()
        axes.vlines(dates, low, high, color=colour, lw=0.8)
        axes.bar(dates, top - bottom, 0.7, bottom, color=colour, ec=colour, lw=0.6, label=label)


def _points(
    axes: Axes, x: pl.Series, y: pl.Series, marker: str, colour: str, size: float, label: str
) -> None:
    """Put white-edged marks, above lines; without any, the legend has no name of them either."""
    if x.is_empty():
        return
    (points,) = axes.plot(x.to_numpy(), y.to_numpy(), marker, color=colour, label=label)
    points.set(markersize=size, markeredgecolor="white", markeredgewidth=size / 10, zorder=3)


def _name_longest(axes: Axes, gaps: pl.DataFrame, months: pl.DataFrame) -> None:
    """Number the longest gaps at their months' marks, and tell what they are above the axes."""
    from matplotlib.dates import date2num

    longest = (
        _parts(gaps)
        .sort(["minutes", "start", "part"], descending=[True, False, True])
        .unique("start", keep="first", maintain_order=True)
        .head(LONGEST)
        .join(months, on=["month", "class"], maintain_order="left", suffix="_in_month")
    )
    numbers: dict[tuple[datetime, float], list[str]] = {}
    texts = ["longest"]
    for number, gap in enumerate(longest.iter_rows(named=True), start=1):
        numbers.setdefault((gap["month"], gap["minutes_in_month"]), []).append(str(number))
        texts.append(f"{number}: {_duration(gap['minutes'])} from {gap['start']:%Y-%m-%d %H:%M}")
    for (month, minutes), names in numbers.items():
        place = (float(date2num(month)), minutes)
        text = axes.annotate(", ".join(names), place, (0, 5), textcoords="offset points")
        text.set(ha="center", fontsize=9, weight="bold", color=plot.INK)
    axes.set_title("    ".join(texts), loc="left", fontsize=8.5, color=plot.INK)


def _duration(minutes: int) -> str:
    """Minutes as the two greatest of days, hours and minutes: 1 d 10 h, 3 h 5 min, 12 min."""
    days, rest = divmod(minutes, 1440)
    hours, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (rest, "min")]
    start = 0 if days else 1 if hours else 2
    return " ".join(f"{value:,} {unit}" for value, unit in parts[start : start + 2] if value)
