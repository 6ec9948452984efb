"""Charts of one symbol's daily series, as PNG bytes of 900 by 420 pixels.

Pure functions from a frame to bytes: equal frames give equal bytes, and nothing is shared between
calls. A frame without a row that can be drawn gives a chart that says so. Colours are those of
Okabe and Ito, which stay apart for colour-blind eyes. The numbers come from ``trading`` and the
tables; charts of forecasts belong beside the forecasts.
"""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX, DPI = 900, 420, 100
INK, GREY, LIGHT = "#222222", "#7f7f7f", "#dddddd"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
GAP_STYLES = {"1 min": (SKY, "o"), "2-60 min": (ORANGE, "s"), "over 1 h": (RED, "D")}
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
        return _no_data(symbol, about)
    rows = _recent(rows, last_days)
    figure = _figure(symbol, f"{about}, {_span(rows)}")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_candles(top, rows)
    bottom.bar(rows["date"].to_numpy(), rows["daily_volume"].to_numpy(), 0.7, color=GREY)
    _tidy(top)
    _tidy(bottom)
    top.set_ylabel(PRICE)
    top.yaxis.set_major_formatter(_thousands)
    bottom.set_ylabel("volume\n(base asset)")
    bottom.yaxis.set_major_formatter(_short)
    bottom.locator_params(axis="y", nbins=3)
    bottom.set_ylim(bottom=0)
    _time_axis(bottom, rows["date"])
    _legend(figure, top)
    figure.align_ylabels()
    return _png(figure)


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
        return _no_data(symbol, about)
    figure = _figure(symbol, about)
    axes = figure.subplots()
    tallest = months.group_by("month").agg(pl.col("minutes").max()).sort("month")
    axes.vlines(tallest["month"].to_numpy(), 0.1, tallest["minutes"].to_numpy(), color=LIGHT, lw=1)
    for name in sorted(months["class"].unique(), key=_by_length):
        colour, marker = GAP_STYLES.get(name, (PURPLE, "^"))
        part = months.filter(pl.col("class") == name)
        _points(axes, part["month"], part["minutes"], marker, colour, 5, _plain(name))
    _tidy(axes)
    axes.set_yscale("log")
    axes.set_yticks(list(MINUTE_TICKS), list(MINUTE_TICKS.values()))
    axes.minorticks_off()
    axes.set_ylim(0.7, 3 * max(20.0, *months["minutes"]))
    axes.set_ylabel("missing in the month (log scale)")
    _time_axis(axes, months["month"], at_least=timedelta(300))
    _name_longest(axes, gaps, months)
    _legend(figure, axes)
    return _png(figure)


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
        return _no_data(symbol, about)
    rows = _recent(rows.filter(pl.col("date") <= last), last_days)
    figure = _figure(symbol, f"{about}, {_span(rows)}")
    axes = figure.subplots()
    dates = rows["date"].to_numpy()
    dot = "o" if rows.height == 1 else ""
    for name, colour, width in (("close", GREY, 0.9), ("ma7", BLUE, 1.5), ("ma30", ORANGE, 2.0)):
        if rows[name].null_count() < rows.height:
            values = rows[name].to_numpy()
            axes.plot(dates, values, color=colour, lw=width, marker=dot, label=name)
    if not signals.is_empty():
        marks = signals.cast({"date": pl.Date, "ma30": pl.Float64}).drop_nulls(["date", "ma30"])
        marks = marks.filter(pl.col("date").is_between(rows["date"][0], rows["date"][-1]))
        for cross, marker, colour in (("golden", "^", GREEN), ("death", "v", RED)):
            at = marks.filter(pl.col("cross").cast(pl.String) == cross)
            _points(axes, at["date"], at["ma30"], marker, colour, 9, f"{cross} cross")
    _tidy(axes)
    axes.set_ylabel(PRICE)
    axes.yaxis.set_major_formatter(_thousands)
    _time_axis(axes, rows["date"])
    _legend(figure, axes)
    return _png(figure)


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
        (rows.filter(is_up), BLUE, "close at or above open"),
        (rows.filter(~is_up), RED, "close below open"),
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
        text.set(ha="center", fontsize=9, weight="bold", color=INK)
    axes.set_title("    ".join(texts), loc="left", fontsize=8.5, color=INK)


def _duration(minutes: int) -> str:
    """Minutes as the two greatest of days, hours and minutes: 1 d 10 h, 3 h 5 min, 12 min."""
    days, rest = divmod(minutes, 1440)
    hours, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (rest, "min")]
    start = 0 if days else 1 if hours else 2
    return " ".join(f"{value:,} {unit}" for value, unit in parts[start : start + 2] if value)


def _figure(symbol: str, about: str) -> Figure:
    """An empty figure with its title at the top left, and room below that for the legend."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 0.87))
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout=layout)
    figure.text(0.01, 0.98, f"{_plain(symbol)}: {about}", va="top", fontsize=11, color=INK)
    return figure


def _png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 256 colours, a third of the size without.

    Maximum coverage keeps rare colours, as that of a single mark; median cut blends them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    to = io.BytesIO()
    drawn.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(to, "PNG")
    return to.getvalue()


def _no_data(symbol: str, about: str) -> bytes:
    """A chart that has nothing to show and says so."""
    figure = _figure(symbol, about)
    figure.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=16, color=GREY)
    return _png(figure)


def _tidy(axes: Axes) -> None:
    """Leave two spines, faint horizontal lines and small quiet labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=LIGHT, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.yaxis.label.set_fontsize(9)


def _time_axis(axes: Axes, times: pl.Series, at_least: timedelta = timedelta(20)) -> None:
    """Show the time from first to last of ``times``, sorted, and be at least so wide."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    width = times[-1] - times[0]
    margin = max(width * 0.02, (at_least - width) / 2)
    axes.set_xlim(times[0] - margin, times[-1] + margin)
    axes.set_xlabel("date (UTC)", fontsize=9)


def _legend(figure: Figure, axes: Axes) -> None:
    """Name what is drawn, in one line above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="upper left", ncols=len(labels), fontsize=9)
    legend.set(in_layout=False, frame_on=False, bbox_to_anchor=(0.0, 0.94))


def _plain(text: str) -> str:
    """Text that draws as it is: no formulas, only letters that the font has, at most 40."""
    safe = "".join(c if c.isprintable() and ord(c) < 0x250 else ascii(c)[1:-1] for c in text[:40])
    return safe.replace("$", r"\$") + ("..." if len(text) > 40 else "")


def _thousands(value: float, _: float) -> str:
    """A price on an axis: 65,000 or 0.00012."""
    return f"{value:,.6g}"


def _short(value: float, _: float) -> str:
    """A volume on an axis: 1.5M, 20k, 3."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
