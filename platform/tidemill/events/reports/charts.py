"""Charts of the reports of one source of events, as PNG bytes of 900 by 420 pixels.

Pure functions from a frame to bytes; a frame without a row that can be drawn gives a chart that
says so. Names that came with the data are drawn as they are, never as formulas, and shortened.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import cycle
from typing import TYPE_CHECKING

import polars as pl

from tidemill import plot
from tidemill.events.reports.contracts import BANDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = {"views": plot.BLUE, "carts": plot.ORANGE, "purchases": plot.GREEN}
TYPES = {"view": plot.BLUE, "cart": plot.ORANGE, "purchase": plot.GREEN}
OTHERS = (plot.PURPLE, plot.RED, plot.SKY)
"""Colour by event type, and of any other in turn."""
FEW = 30
"""Events; the shares of fewer say little and are drawn pale."""
MOST_TYPES = 6
MOST_BRANDS = 15
MOST_WEEKS = 26
LONGEST_NAME = 24
NAMELESS = "(no brand)"


def funnel(rows: pl.DataFrame, source: str) -> bytes:
    """Draw views, carts and purchases, of events and of sessions, as shares of the views.

    Args:
        rows: Rows of ``FUNNEL`` of one source.
        source: For the title.
    """
    about = "from views to purchases"
    rows = rows.filter(pl.sum_horizontal(*STEPS) > 0).sort("level")
    if rows.is_empty():
        return plot.no_data(source, about)
    figure = plot.figure(source, about)
    for axes, row in zip(
        figure.subplots(1, rows.height, squeeze=False)[0], rows.to_dicts(), strict=True
    ):
        counts = [row[step] for step in STEPS]
        axes.barh(list(STEPS), counts, 0.62, color=list(STEPS.values()))
        for place, count in enumerate(counts):
            share = f"  {100 * count / row['views']:.3g} %" if place and row["views"] else ""
            axes.text(count, place, f" {count:,}{share}", va="center", fontsize=9, color=plot.INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.35 * max(counts))
        axes.set_title(f"{row['level']} (% of views)", loc="left", fontsize=9, color=plot.INK)
        _across(axes)
    return plot.png(figure)


def price_bands(rows: pl.DataFrame, source: str) -> bytes:
    """Draw the share of events in each band of price, by type.

    Args:
        rows: Rows of ``PROFILE_PRICES`` of one source.
        source: For the title.
    """
    about = "events by band of price"
    there = set(rows["event_type"])
    kinds = [kind for kind in ("all", *TYPES, "other") if kind in there]
    if not kinds:
        return plot.no_data(source, about)
    figure = plot.figure(source, about)
    axes = figure.subplots()
    width = 0.8 / len(kinds)
    for n, kind in enumerate(kinds):
        mine = rows.filter(pl.col("event_type") == kind)
        shares, events = dict(mine.select("band", "share").rows()), mine["count"].sum()
        at = [place + (n - (len(kinds) - 1) / 2) * width for place in range(len(BANDS))]
        colour = plot.GREY if kind == "all" else TYPES.get(kind, plot.PURPLE)
        heights = [100 * shares.get(band, 0.0) for band in BANDS]
        alpha = 0.35 if events < FEW else 1
        axes.bar(at, heights, width, color=colour, alpha=alpha, label=f"{kind} ({events:,})")
    axes.set_xticks(range(len(BANDS)), list(BANDS))
    plot.tidy(axes)
    axes.set_xlabel("price, from the first to below the second", fontsize=9)
    axes.set_ylabel("% of events of the type")
    plot.legend(figure, axes)
    return plot.png(figure)


def top_brands(rows: pl.DataFrame, source: str) -> bytes:
    """Draw the brands that sold for most.

    Args:
        rows: Rows of ``BRAND_REPORT`` of one source.
        source: For the title.
    """
    about = f"brands by revenue, the first {MOST_BRANDS}"
    best = rows.filter(pl.col("revenue") > 0).sort("rank").head(MOST_BRANDS)
    if best.is_empty():
        return plot.no_data(source, about)
    figure = plot.figure(source, about)
    axes = figure.subplots()
    places = range(best.height)
    axes.barh(places, best["revenue"].to_numpy(), 0.72, color=plot.GREEN)
    axes.set_yticks(places, [label(name) for name in best["brand"]])
    for place, (revenue, sold) in enumerate(best.select("revenue", "purchases").rows()):
        told = f" {revenue:,.2f} in {sold:,}"
        axes.text(revenue, place, told, va="center", fontsize=8, color=plot.INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * best["revenue"][0])
    _across(axes)
    axes.set_xlabel("revenue (and purchases)", fontsize=9)
    return plot.png(figure)


def completeness(columns: pl.DataFrame, overall: float | None, source: str) -> bytes:
    """Draw how full each column is, and all of them together.

    Args:
        columns: Rows of ``PROFILE_COLUMNS`` of one source.
        overall: ``completeness`` of ``PROFILE_OVERALL``; None where not known.
        source: For the title.
    """
    about = "completeness of the columns"
    rows = columns.sort("position")
    if rows.is_empty():
        return plot.no_data(source, about)
    if overall is not None:
        about += f", overall {100 * overall:.2f} %"
    figure = plot.figure(source, about)
    axes = figure.subplots()
    values = (100 * rows["completeness"]).to_list()
    colours = [plot.BLUE if value == 100 else plot.RED for value in values]
    axes.barh(rows["column"].to_list(), values, 0.7, color=colours)
    for place, (value, missing) in enumerate(zip(values, rows["missing"], strict=True)):
        told = f" {value:.2f} %" + (f", {missing:,} missing" if missing else "")
        axes.text(value, place, told, va="center", fontsize=8.5, color=plot.INK)
    if overall is not None:
        axes.axvline(100 * overall, color=plot.GREY, lw=1, ls="--")
    axes.invert_yaxis()
    axes.set_xlim(0, 128)
    axes.set_xticks(range(0, 101, 20))
    _across(axes)
    axes.set_xlabel("% of rows with a value", fontsize=9)
    return plot.png(figure)


def rates(counts: pl.DataFrame, step_s: int, source: str, left_out: int = 0) -> bytes:
    """Draw events a second by type.

    Args:
        counts: ``at`` (first instant of a step, UTC), ``event_type`` and ``count``, in any order; a
            step that is not there has none.
        step_s: Length of a step.
        source: For the title.
        left_out: Events of other times, for the title.
    """
    about = f"events a second by type, each over {_length(step_s)}"
    if left_out:
        about += f" ({left_out:,} far from the others are not shown)"
    if counts.is_empty():
        return plot.no_data(source, about)
    figure = plot.figure(source, about)
    axes = figure.subplots()
    steps = counts.select(
        pl.datetime_range(pl.col("at").min(), pl.col("at").max(), f"{step_s}s").alias("at")
    )
    total = counts.group_by("event_type").agg(pl.col("count").sum()).sort("event_type")
    shown = total.sort("count", descending=True, maintain_order=True)["event_type"]
    others = cycle(OTHERS)
    for kind in shown.head(MOST_TYPES):
        mine = counts.filter(pl.col("event_type") == kind)
        line = steps.join(mine, on="at", how="left", maintain_order="left")
        per_s = (line["count"].fill_null(0) / step_s).to_numpy()
        colour = TYPES.get(kind) or next(others)
        dot = "o" if steps.height == 1 else ""
        axes.plot(line["at"].to_numpy(), per_s, color=colour, lw=1.2, marker=dot, label=label(kind))
    plot.tidy(axes)
    axes.set_yscale("symlog", linthresh=1 / step_s)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("events / s (log scale)")
    plot.time_axis(axes, steps["at"], at_least=timedelta(seconds=20 * step_s))
    plot.legend(figure, axes)
    return plot.png(figure)


def retention(rows: pl.DataFrame, source: str) -> bytes:
    """Draw of each week's new users how many came back, as a heat map.

    Args:
        rows: Rows of ``COHORTS`` of one source; the last cohorts are drawn.
        source: For the title.
    """
    about = "users of each first week (UTC), % there in the weeks after"
    if rows.is_empty():
        return plot.no_data(source, about)
    weeks = rows["cohort_week"].unique().sort().tail(MOST_WEEKS)
    rows = rows.filter(pl.col("cohort_week").is_in(weeks.implode()))
    rows = rows.filter(pl.col("week_number") < MOST_WEEKS)
    width = int(rows.select(pl.col("week_number").max()).item()) + 1
    grid = [[float("nan")] * width for _ in weeks]
    place = {week: n for n, week in enumerate(weeks)}
    sizes = dict(rows.select("cohort_week", "users").rows())
    for week, number, share in rows.select("cohort_week", "week_number", "retention").rows():
        grid[place[week]][number] = 100 * share
    figure = plot.figure(source, about)
    axes = figure.subplots()
    drawn = axes.imshow(grid, aspect="auto", cmap="Blues", vmin=0, vmax=100)
    axes.set_yticks(range(len(weeks)), [f"{week} ({sizes[week]:,})" for week in weeks])
    axes.set_xlabel("weeks after", fontsize=9)
    axes.tick_params(labelsize=8, colors=plot.INK)
    axes.locator_params(axis="x", integer=True)
    if width * len(weeks) <= 200:
        for y, line in enumerate(grid):
            for x, share in enumerate(line):
                if share == share:
                    colour = "white" if share > 60 else plot.INK
                    told = f"{share:.3g}"
                    axes.text(x, y, told, ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(drawn, ax=axes, pad=0.01).ax.tick_params(labelsize=8)
    return plot.png(figure)


def label(name: str | None) -> str:
    """A name from the data, in letters that the font has, no formula, at most 24 of them."""
    if name is None:
        return NAMELESS
    drawn = plot.plain(name[:LONGEST_NAME]) + ("..." if len(name) > LONGEST_NAME else "")
    # A legend leaves out what begins with an underscore.
    return f" {drawn}" if drawn.startswith("_") else drawn or "(empty)"


def _across(axes: Axes) -> None:
    """As ``plot.tidy``, for bars that lie."""
    plot.tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=plot.LIGHT, lw=0.6)
    axes.xaxis.set_major_formatter(plot.short)


def _length(step_s: int) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if step_s >= size and step_s % size == 0:
            return f"{step_s // size} {name}"
    return f"{step_s} s"
