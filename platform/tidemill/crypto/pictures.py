"""Which chart goes with which table, and the rows that it is drawn from."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake.contracts import Table

if TYPE_CHECKING:
    import polars as pl

MOST = 4
"""Charts a materialization carries at most; its metadata is stored with every partition of it."""


def of(crypto: Crypto, table: Table, symbols: Sequence[str]) -> dict[str, bytes]:
    """PNG charts by title, of the first few symbols; none for a table without a chart."""
    from tidemill.crypto import charts

    draw: dict[str, Callable[[pl.DataFrame, str], bytes]] = {
        c.DAILY_OHLC.id: charts.candles,
        c.CANDLE_GAPS.id: charts.gaps,
        c.FILLED_SERIES.id: lambda rows, symbol: charts.averages(
            rows, crypto.crosses(rows), symbol
        ),
    }
    if table.id not in draw:
        return {}
    return {
        f"{table.name} {symbol}": draw[table.id](crypto.read(table, symbol), symbol)
        for symbol in symbols[:MOST]
    }
