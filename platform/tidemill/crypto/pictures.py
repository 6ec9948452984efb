"""Which charts go with which table, and the rows that they are drawn from."""

from collections.abc import Sequence

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake.contracts import Table

MOST = 4
"""Symbols drawn at most: metadata is stored again with every partition of a run.

For the same reason the tables by month carry no chart; a year of candles is drawn on the series.
"""


def of(crypto: Crypto, table: Table, symbols: Sequence[str]) -> dict[str, bytes]:
    """PNG charts by title, of the first few symbols; none for a table without a chart."""
    drawn: dict[str, bytes] = {}
    for symbol in symbols[:MOST]:
        if table is c.CANDLE_GAPS:
            drawn |= _gaps(crypto, symbol)
        elif table is c.FILLED_SERIES:
            drawn |= _series(crypto, symbol)
    return drawn


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
