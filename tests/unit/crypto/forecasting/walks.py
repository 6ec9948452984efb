"""Series and baselines that the tests of forecasts share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.skill.folds import Fold
from tidemill.skill.series import Series

Floats = npt.NDArray[np.float64]


def series(values: Sequence[float] | Floats, first: str = "2020-01-01", name: str = "A") -> Series:
    numbers = np.asarray(values, dtype=float)
    days = np.datetime64(first, "D") + np.arange(len(numbers))
    return Series(name, days, numbers)


def walk(days: int = 260, seed: int = 3, first: str = "2020-01-01", name: str = "A") -> Series:
    """A price that goes its random way, with a step that is felt in a week's average."""
    steps = np.random.default_rng(seed).normal(0.001, 0.03, days)
    return series(100 * np.exp(np.cumsum(steps)), first, name)


@dataclass(frozen=True)
class Naive:
    """The last known value."""

    name: str = "naive"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        return np.array([np.repeat(series.values[fold.cutoff - 1], fold.horizon) for fold in folds])


@dataclass(frozen=True)
class Awkward:
    """Fails in its own words."""

    name: str = "awkward"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        raise ZeroDivisionError("no spread")
