"""What is shown of forecasts beside their rows: charts as metadata, and all of it as files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tidemill.crypto.forecasting import charts, history, interactive
from tidemill.crypto.forecasting import contracts as c
from tidemill.crypto.forecasting.build import read
from tidemill.crypto.forecasting.outlook import load
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

MOST = 4
"""Symbols shown at most as metadata, which is stored again with every partition of a run."""
METRICS_ROWS = 20
YEAR = 365


@dataclass(frozen=True)
class Shown:
    """Charts and texts.

    Attributes:
        charts: PNG by title, of the first few symbols.
        texts: By table's name, Markdown by title.
    """

    charts: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, Mapping[str, str]] = field(default_factory=dict)


def exhibits(lake: Lake, symbols: Sequence[str], folder: Path) -> Shown:
    """Write every symbol's charts and tables into a folder, and say what to show.

    Args:
        lake: Holds the forecast tables.
        symbols: Which.
        folder: Of ``metrics.csv``, ``SYMBOL_actual_vs_pred.csv``, ``SYMBOL_forecast.png``,
            ``SYMBOL_forecast.html``, ``SYMBOL_test_zoom.png`` and ``SYMBOL_components.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = Shown()
    for symbol in symbols:
        drawn = _drawn(lake, symbol, folder)
        if len(shown.charts) < 3 * MOST:
            shown.charts.update({f"{name} {symbol}": png for name, png in drawn.items()})
    with duck.cursor() as con:
        relation = lake.snapshot(c.FORECAST_METRICS).scan()
        con.sql(f"select * from {relation} order by symbol, mape").write_csv(
            str(folder / "metrics.csv")
        )
    for table in (c.FORECAST_METRICS, c.FORECAST_ABLATION):
        shown.texts[table.name] = {
            f"{table.name} {symbol}": _listed(lake, table, symbol) for symbol in symbols[:MOST]
        }
    return shown


def _drawn(lake: Lake, symbol: str, folder: Path) -> dict[str, bytes]:
    forecasts = read(lake, c.FORECASTS, symbol)
    metrics = read(lake, c.FORECAST_METRICS, symbol)
    compared = read(lake, c.ACTUAL_VS_PREDICTED, symbol)
    series = history.read(lake, symbol).series
    closes = pl.DataFrame({"ds": series.dates, "y": series.values})
    drawn = {
        "forecast": charts.forecast_png(closes, forecasts, metrics, symbol),
        "test_zoom": charts.test_zoom_png(compared, forecasts, symbol),
        "components": charts.components_png(_year(lake, symbol, forecasts), symbol),
    }
    for name, png in drawn.items():
        (folder / f"{symbol}_{name}.png").write_bytes(png)
    html = interactive.forecast_html(closes, forecasts, metrics, symbol)
    (folder / f"{symbol}_forecast.html").write_bytes(html)
    compared.write_csv(folder / f"{symbol}_actual_vs_pred.csv")
    return drawn


def _year(lake: Lake, symbol: str, forecasts: pl.DataFrame) -> pl.DataFrame:
    """The parts of the best Prophet model over a year to come, so that each season shows whole."""
    models = read(lake, c.FORECAST_MODELS, symbol).drop_nulls("fitted")
    if models.is_empty():
        return forecasts
    outlook = load(models["fitted"][0]).outlook(YEAR)
    parts = {name: values for name, values in outlook.components.items() if name in forecasts}
    row = forecasts.filter(pl.col("model") == outlook.model).head(1)
    days = {"ds": outlook.dates, "yhat": outlook.yhat, "trend": outlook.trend} | parts
    coming = pl.DataFrame(days).with_columns(is_ahead=pl.lit(True), ahead=pl.int_range(1, YEAR + 1))
    rest = row.select(pl.exclude(coming.columns))
    return coming.join(rest, how="cross").select(forecasts.columns).cast(forecasts.schema)


def _listed(lake: Lake, table: Table, symbol: str) -> str:
    """A table's rows of a symbol as Markdown, skill first."""
    rows = read(lake, table, symbol).drop("symbol").head(METRICS_ROWS)
    first = [
        name for name in ("model", "skill", "ci_low", "ci_high", "mape") if name in rows.columns
    ]
    rows = rows.select(*first, pl.exclude(first))
    lines = ["| " + " | ".join(rows.columns) + " |", "|" + "---|" * rows.width]
    for row in rows.iter_rows():
        cells = ("" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
