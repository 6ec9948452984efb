"""What is shown of which table beside its rows: charts, and what they cannot say in words."""

from collections.abc import Sequence

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake.contracts import Table

MOST = 4
"""Symbols shown at most: metadata is stored again with every partition of a run.

For the same reason the tables by month carry no chart; candles are drawn on the series.
"""
LONGEST = 3


def charts(crypto: Crypto, table: Table, symbols: Sequence[str]) -> dict[str, bytes]:
    """PNG charts by title, of the first few symbols; none for a table without a chart."""
    drawn: dict[str, bytes] = {}
    for symbol in symbols[:MOST]:
        if table is c.CANDLE_GAPS:
            drawn |= _gaps(crypto, symbol)
        elif table is c.FILLED_SERIES:
            drawn |= _series(crypto, symbol)
    return drawn


def reports(crypto: Crypto, table: Table, symbols: Sequence[str]) -> dict[str, str]:
    """Markdown by title, of the first few symbols; none for a table that speaks for itself."""
    if table is not c.CANDLE_GAPS:
        return {}
    return {f"gap report {symbol}": gap_report(crypto, symbol) for symbol in symbols[:MOST]}


def gap_report(crypto: Crypto, symbol: str) -> str:
    """Gaps and missing minutes by class, and the longest gaps, as Markdown."""
    import polars as pl

    gaps = crypto.read(c.CANDLE_GAPS, symbol)
    classes = gaps.group_by("class").agg(pl.len().alias("gaps"), pl.col("minutes").sum())
    longest = gaps.sort("minutes", "start", descending=[True, False]).head(LONGEST)
    lines = ["| class | gaps | minutes |", "|---|---|---|"]
    for row in classes.sort("minutes").iter_rows(named=True):
        lines.append(f"| {row['class']} | {row['gaps']:,} | {row['minutes']:,} |")
    lines += ["", "| longest, from (UTC) | to | minutes |", "|---|---|---|"]
    for row in longest.iter_rows(named=True):
        lines.append(f"| {row['start']:%F %H:%M} | {row['end']:%F %H:%M} | {row['minutes']:,} |")
    return "\n".join(lines)


def _gaps(crypto: Crypto, symbol: str) -> dict[str, bytes]:
    from tidemill.crypto import charts

    return {f"gaps {symbol}": charts.gaps(crypto.read(c.CANDLE_GAPS, symbol), symbol)}


def _series(crypto: Crypto, symbol: str) -> dict[str, bytes]:
    from tidemill.crypto import charts, trading

    series = crypto.series(symbol)
    daily = series.rename(
        {name: f"daily_{name}" for name in ("open", "high", "low", "close", "volume")}
    )
    return {
        f"candles {symbol}": charts.candles(daily, symbol),
        f"averages {symbol}": charts.averages(series, trading.signals(series), symbol),
    }
