"""Money, added up in whole ten-thousandths, so that sums are exact and hang on no order.

SQL's money types have the same four decimals; what a price has beyond them is rounded. A sum comes
back out of a DOUBLE to the last of them as long as it is below 2 ** 51 of them, 2e11; and no engine
overflows below 9e14.
"""

from typing import Any

DECIMALS = 4
PARTS_OF_ONE = 10**DECIMALS


def fixed(price: Any) -> Any:
    """A price as a whole number of ten-thousandths."""
    return (price * PARTS_OF_ONE).round().cast("int64")


def money(amount: Any) -> Any:
    """Whole ten-thousandths as a price."""
    return amount.cast("float64") / PARTS_OF_ONE
