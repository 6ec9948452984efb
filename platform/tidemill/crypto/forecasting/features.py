"""What a recipe may know at a cutoff: the only place that cuts a series for Prophet.

All of it reads ``values[:cutoff]``, save ``leaked_averages``, whose name says so.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tidemill.crypto.forecasting.recipe import Known, Recipe
from tidemill.errors import InputError
from tidemill.skill.folds import Fold
from tidemill.skill.series import Series

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

DAY = np.timedelta64(1, "D")
LEAST_ROWS = 3
"""Prophet draws its first line through two rows; a third lets it see noise."""


def column(days: int) -> str:
    """Name of a moving average, as ma7."""
    return f"ma{days}"


def scaled(values: Floats, recipe: Recipe) -> Floats:
    """Values on the scale that the recipe fits.

    Raises:
        InputError: The scale is a logarithm and a value is not above 0.
    """
    if not recipe.log:
        return values
    bad = np.flatnonzero(~(values > 0))
    if len(bad):
        raise InputError(
            f"{recipe.name} expected values above 0, found {values[bad[0]]:g} in row {bad[0]}"
            f" ({len(bad)} such); take the recipe without log"
        )
    logs: Floats = np.log(values)
    return logs


def moving_average(values: Floats, days: int) -> Floats:
    """Mean of each row and the rows before it, NaN until there are ``days``.

    Each window is summed by itself, so that no row depends on one outside its window.
    """
    means = np.full(len(values), np.nan)
    if len(values) >= days:
        windows = np.lib.stride_tricks.sliding_window_view(values, days)
        means[days - 1 :] = windows.mean(axis=1)
    return means


def training(series: Series, cutoff: int, recipe: Recipe) -> "pd.DataFrame":
    """The rows that are fitted: ds, y and each average; rows without an average are left out.

    Raises:
        InputError: Too few rows, or values that the recipe's scale does not allow.
    """
    import pandas as pd

    y = scaled(series.values[:cutoff], recipe)
    least = LEAST_ROWS + max(recipe.averages, default=1)
    rows = {"ds": series.dates[:cutoff].astype("datetime64[ns]"), "y": y}
    for days in recipe.averages:
        means = moving_average(y, days)
        if recipe.known is Known.RECURSIVE:
            means = np.append(np.nan, means[:-1])
        rows[column(days)] = means
    frame = pd.DataFrame(rows).dropna().reset_index(drop=True)
    if len(frame) < LEAST_ROWS:
        raise InputError(
            f"{series.name}: {recipe.name} expected at least {least} days before the cutoff, found"
            f" {cutoff}"
        )
    return frame


def known_averages(recent: Floats, recipe: Recipe) -> dict[str, float]:
    """The last average of each kind before the cutoff, on the recipe's scale.

    Args:
        recent: The last values before the cutoff on that scale, at least ``max(averages)``.
        recipe: Says which averages.
    """
    return {column(days): float(recent[-days:].mean()) for days in recipe.averages}


def leaked_averages(series: Series, fold: Fold, recipe: Recipe) -> dict[str, Floats]:
    """The forecast days' own averages, which nobody can know; for the leaky recipe alone.

    Raises:
        InputError: The days have not happened.
    """
    if fold.stop > len(series):
        raise InputError(
            f"{recipe.name} takes its regressors from the days that it forecasts, and these have"
            " not happened; choose a frozen or recursive recipe"
        )
    y = scaled(series.values[: fold.stop], recipe)
    return {column(days): moving_average(y, days)[fold.start :] for days in recipe.averages}


def days_ahead(last: np.datetime64, first: int, stop: int) -> npt.NDArray[np.datetime64]:
    """Days ``first`` (1 is the next) to before ``stop`` after ``last``, ``datetime64[D]``."""
    days: npt.NDArray[np.datetime64] = last + np.arange(first, stop) * DAY
    return days
