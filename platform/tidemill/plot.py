"""What every chart shares: size, colours, title, axes, legend, PNG bytes of 900 by 420 pixels.

Nothing is shared between calls, and equal figures give equal bytes. Colours are those of Okabe and
Ito, which stay apart for colour-blind eyes.
"""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX, DPI = 900, 420, 100
INK, GREY, LIGHT = "#222222", "#7f7f7f", "#dddddd"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PURPLE = "#E69F00", "#D55E00", "#CC79A7"


def figure(symbol: str, about: str) -> Figure:
    """An empty figure with its title at the top left, and room below that for the legend."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 0.87))
    empty = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout=layout)
    empty.text(0.01, 0.98, f"{plain(symbol)}: {about}", va="top", fontsize=11, color=INK)
    return empty


def png(shown: Figure) -> bytes:
    """The figure as a PNG of at most 256 colours, a third of the size without.

    Maximum coverage keeps rare colours, as that of a single mark; median cut blends them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(shown)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    to = io.BytesIO()
    drawn.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(to, "PNG")
    return to.getvalue()


def no_data(symbol: str, about: str) -> bytes:
    """A chart that has nothing to show and says so."""
    empty = figure(symbol, about)
    empty.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=16, color=GREY)
    return png(empty)


def tidy(axes: Axes) -> None:
    """Leave two spines, faint horizontal lines and small quiet labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=LIGHT, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.yaxis.label.set_fontsize(9)


def time_axis(axes: Axes, times: pl.Series, at_least: timedelta = timedelta(20)) -> None:
    """Show the time from first to last of ``times``, sorted, and be at least so wide."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    width = times[-1] - times[0]
    margin = max(width * 0.02, (at_least - width) / 2)
    axes.set_xlim(times[0] - margin, times[-1] + margin)
    axes.set_xlabel("date (UTC)", fontsize=9)


def legend(shown: Figure, axes: Axes) -> None:
    """Name what is drawn, in one line above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    names = shown.legend(handles, labels, loc="upper left", ncols=len(labels), fontsize=9)
    names.set(in_layout=False, frame_on=False, bbox_to_anchor=(0.0, 0.94))


def plain(text: str) -> str:
    """Text that draws as it is: no formulas, only letters that the font has, at most 40."""
    safe = "".join(c if c.isprintable() and ord(c) < 0x250 else ascii(c)[1:-1] for c in text[:40])
    return safe.replace("$", r"\$") + ("..." if len(text) > 40 else "")


def thousands(value: float, _: float) -> str:
    """A price on an axis: 65,000 or 0.00012."""
    return f"{value:,.6g}"


def short(value: float, _: float) -> str:
    """A volume on an axis: 1.5M, 20k, 3."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
