"""What a forecast learns from: the daily closes of a symbol, at a version of their table."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from tidemill.crypto.contracts import PROPHET_INPUT
from tidemill.errors import InputError
from tidemill.lake import duck
from tidemill.lake.store import Lake
from tidemill.skill.series import Series


@dataclass(frozen=True)
class History:
    """The closes of a symbol.

    Attributes:
        series: Every day from the first to the last; one without data repeats the close before.
        version: Of ``prophet_input``.
        filled: How many days had no data.
    """

    series: Series
    version: int
    filled: int


def read(lake: Lake, symbol: str, at: int | None = None) -> History:
    """The closes of a symbol, now or at a version of ``prophet_input``.

    A day that was not over when it was written is left out: its last price is no close.

    Raises:
        InputError: There are none.
        TidemillError: There is no such version.
    """
    snapshot = lake.snapshot(PROPHET_INPUT, at)
    mine = snapshot.within([{"symbol": symbol}])
    written_ms = max((file.modified_ms for file in mine.files), default=0)
    today = datetime.fromtimestamp(written_ms / 1000, UTC).date()
    with duck.cursor() as con:
        found = con.sql(
            f"select ds, y from {mine.scan()} where ds < date '{today}' order by ds"
        ).to_arrow_table()
    days = pl.DataFrame(found)
    if days.is_empty():
        raise InputError(
            f"{symbol}: expected daily closes in {PROPHET_INPUT.id}, found none"
            + (f" at version {at}" if at is not None else "")
            + "; 'tidemill run crypto' makes them"
        )
    whole = days.upsample("ds", every="1d").with_columns(pl.col("y").forward_fill())
    series = Series(
        symbol,
        whole["ds"].to_numpy().astype("datetime64[D]"),
        whole["y"].to_numpy().astype(np.float64),
    )
    return History(series, snapshot.version, whole.height - days.height)
