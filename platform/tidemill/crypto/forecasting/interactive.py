"""A page with a symbol's forecast: one HTML file that opens without a network, on a phone too."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

import polars as pl

from tidemill import plot
from tidemill.crypto.forecasting import shown

Trace = dict[str, Any]
COLOURS = (plot.BLUE, plot.ORANGE, plot.PURPLE, plot.GREEN)
"""Of the champion first, then of the others."""
CLOSE = "close"
PAGE = "forecast.html"
"""The page's frame, with {{names}} where its parts go; its policy forbids loading anything."""


def forecast_html(
    history: pl.DataFrame, forecasts: pl.DataFrame, metrics: pl.DataFrame, symbol: str
) -> bytes:
    """Draw the whole close and the days ahead of each model, to zoom and to ask with a pointer.

    Args:
        history: ``ds`` (UTC day) and ``y`` (close, quote asset), in any order.
        forecasts: Rows of ``FORECASTS``; of them the days ahead are drawn, the champion's first.
        metrics: Rows of ``FORECAST_METRICS``, for each model's skill in the legend.
        symbol: For the title.

    Returns:
        A page in UTF-8, about 5 MB: plotly's script is in it.
    """
    from plotly.offline import get_plotlyjs

    past = shown.closes(history)
    coming = shown.ahead(shown.forecasts_of(forecasts))
    models = coming.partition_by("model", maintain_order=True)
    traces = [_close(past)] if not past.is_empty() else []
    for rows, colour in zip(models, COLOURS, strict=False):
        traces += _forecast(rows, colour)
    title = f"{symbol}: close and forecast"
    parts = {
        "title": html.escape(title),
        "legend": _legend(past, models, metrics),
        "traces": _script(traces),
        "plotly": get_plotlyjs(),
    }
    page = files("tidemill.crypto.forecasting").joinpath(PAGE).read_text(encoding="utf-8")
    for name, part in parts.items():  # the script last: nothing is looked for inside it
        page = page.replace("{{" + name + "}}", part)
    return page.encode()


def _close(past: pl.DataFrame) -> Trace:
    return {
        "name": CLOSE,
        "legendgroup": CLOSE,
        "x": past["ds"].cast(pl.String).to_list(),
        "y": past["y"].to_list(),
        "mode": _mode(past),
        "line": {"color": plot.GREY, "width": 1.5},
        "hovertemplate": "%{y:,.6~g}",
    }


def _forecast(rows: pl.DataFrame, colour: str) -> list[Trace]:
    """A model's band, where it has one, and its line, which tells the band when asked."""
    model = rows["model"][0]
    name = f"{model} (champion)" if rows["is_champion"][0] else model
    days = rows["ds"].cast(pl.String).to_list()
    line: Trace = {
        "name": name,
        "legendgroup": model,
        "x": days,
        "y": rows["yhat"].to_list(),
        "mode": _mode(rows),
        "line": {"color": colour, "width": 2},
        "hovertemplate": "%{y:,.6~g}",
    }
    banded = rows.drop_nulls("yhat_lower")
    if banded.is_empty():
        return [line]
    ends = rows.select("yhat_lower", "yhat_upper").rows()
    line |= {"customdata": ends, "hovertemplate": "%{y:,.6~g}, 80 %: %{customdata[0]:,.6~g}"}
    line["hovertemplate"] += " to %{customdata[1]:,.6~g}"
    days = banded["ds"].cast(pl.String).to_list()
    band: Trace = {
        "name": f"80 % band, {model}",
        "legendgroup": model,
        "x": [*days, *reversed(days)],
        "y": [*banded["yhat_lower"], *reversed(banded["yhat_upper"].to_list())],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": f"{colour}33",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    return [band, line]


def _mode(rows: pl.DataFrame) -> str:
    """A line of one day would not show."""
    return "lines" if rows.height > 1 else "markers"


def _legend(past: pl.DataFrame, models: list[pl.DataFrame], metrics: pl.DataFrame) -> str:
    """An item for each line, with a box that hides it; of a model with all that judges it."""
    items = [] if past.is_empty() else [_item(CLOSE, plot.GREY, CLOSE)]
    for rows, colour in zip(models, COLOURS, strict=False):
        model = rows["model"][0]
        champion = "champion " * bool(rows["is_champion"][0])
        has_band = not rows["yhat_lower"].is_null().all()
        band = "shaded: 80 % band" if has_band else "no 80 % band"
        text = f"{champion}{shown.score(metrics, model)}; from {rows['cutoff'][0]}; {band}"
        items.append(_item(model, colour, text))
    if not models:
        items.append("<li>no forecast yet</li>")
    return "".join(items)


def _item(group: str, colour: str, text: str) -> str:
    box = f'<input type="checkbox" checked value="{html.escape(group)}">'
    line = f'<i style="background:{colour}"></i>'
    return f"<li><label>{box}{line}<span>{html.escape(text)}</span></label></li>"


def _script(traces: list[Trace]) -> str:
    """As JSON that may stand in a script: nothing in it can end the script."""
    return json.dumps(traces, allow_nan=False).replace("<", "\\u003c")
