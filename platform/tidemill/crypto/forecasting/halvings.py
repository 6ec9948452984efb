"""The one holiday of the crypto calendar: the halving of Bitcoin's reward."""

from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAME = "btc_halving"
HALVINGS = (date(2016, 7, 9), date(2020, 5, 11), date(2024, 4, 20))
WINDOW_DAYS = 7
"""Days before and after a halving that count as it."""
FORESEEN_DAYS = 60
"""A halving falls on a block, not on a day; so far ahead its day is known to about a day."""
_SYMBOLS = ("BTC", "XBT")


def holidays(symbol: str, last: date) -> "pd.DataFrame | None":
    """The halvings that a forecast made on a day may use.

    A coming halving counts from ``FORESEEN_DAYS`` before it, and only with the effect of those
    before: without one whose window has begun there is nothing to learn from, hence no holiday.

    Args:
        symbol: As BTCUSDT; other coins have no halving.
        last: The last day that is known.

    Returns:
        Prophet's frame (holiday, ds, lower_window, upper_window), or None.
    """
    if not symbol.upper().startswith(_SYMBOLS):
        return None
    window = timedelta(days=WINDOW_DAYS)
    if not any(day - window <= last for day in HALVINGS):
        return None
    import pandas as pd

    days = [day for day in HALVINGS if day <= last + timedelta(days=FORESEEN_DAYS)]
    return pd.DataFrame(
        {
            "holiday": NAME,
            "ds": pd.to_datetime(days),
            "lower_window": -WINDOW_DAYS,
            "upper_window": WINDOW_DAYS,
        }
    )
