"""What is forecast, and what forecasts it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tidemill.skill.folds import Fold

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Series:
    """A value a day, without a hole.

    Attributes:
        name: What it is of, as BTCUSDT.
        dates: ``datetime64[D]``, shape (n,), one after the other.
        values: float64, shape (n,), finite.
    """

    name: str
    dates: "np.ndarray"
    values: "np.ndarray"

    def __len__(self) -> int:
        """Number of days."""
        return len(self.values)

    def until(self, stop: int) -> "Series":
        """The first ``stop`` days."""
        return replace(self, dates=self.dates[:stop], values=self.values[:stop])


class Forecaster(Protocol):
    """A model of a series; it is given the whole, and an honest one ends its look at the cutoff.

    Attributes:
        name: By which the ledger knows it.
        is_leaky: Whether it is known to look at what it forecasts.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def is_leaky(self) -> bool: ...  # noqa: D102

    def forecast(self, series: Series, folds: Sequence[Fold]) -> "np.ndarray":
        """Forecast each fold's tested days from the days of its training part.

        Args:
            series: The whole series, tested days included.
            folds: In order of their cutoffs, all of one horizon.

        Returns:
            float64, shape (folds, horizon), in the unit of the values.
        """
        ...
