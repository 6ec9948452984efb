"""How far a forecast is from what came.

Each takes actual values and forecasts as float arrays of one shape, (n,) or (folds, horizon), and
gives one number over all of them. Percentages are in percent: 7.5 means 7.5 %. What is not finite,
not of one shape, or empty raises InputError. ``MEASURES`` names those that a ledger row can have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError

Floats = npt.NDArray[np.float64]


def checked(**arrays: npt.ArrayLike) -> list[Floats]:
    """These arrays as float64, in order.

    Raises:
        InputError: They are not of one shape, empty, or hold what is not finite.
    """
    made = [np.asarray(array, dtype=np.float64) for array in arrays.values()]
    shapes = {array.shape for array in made}
    if len(shapes) > 1:
        found = ", ".join(f"{name} {a.shape}" for name, a in zip(arrays, made, strict=True))
        raise InputError(f"expected arrays of one shape, found {found}")
    if not made[0].size:
        raise InputError(f"expected values to measure, found none in {', '.join(arrays)}")
    for name, array in zip(arrays, made, strict=True):
        bad = int((~np.isfinite(array)).sum())
        if bad:
            raise InputError(
                f"expected finite values, found {bad} of {array.size} {name} that are "
                "not: leave out what was not forecast"
            )
    return made


def absolute(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """The distance of each forecast, in the unit of the values, >= 0."""
    a, f = checked(actual=actual, forecast=forecast)
    return np.abs(a - f)


def squared(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """The squared distance of each forecast."""
    return absolute(actual, forecast) ** 2


def absolute_pct(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """The distance of each forecast in percent of the size of the actual value.

    Raises:
        InputError: An actual value is 0, of which nothing is a percentage.
    """
    a, f = checked(actual=actual, forecast=forecast)
    zeros = int((a == 0).sum())
    if zeros:
        raise InputError(
            f"expected actual values other than 0 for a MAPE, found {zeros} of {a.size}: "
            "measure by sMAPE, MASE or MAE"
        )
    return 100.0 * np.abs(a - f) / np.abs(a)


def symmetric_pct(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> Floats:
    """The distance of each forecast in percent of the mean size of the two, 0 to 200.

    Where both are 0 it is 0.
    """
    a, f = checked(actual=actual, forecast=forecast)
    size = (np.abs(a) + np.abs(f)) / 2
    return 100.0 * np.abs(a - f) / np.where(size > 0, size, 1.0)


def mape(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> float:
    """Mean absolute percentage error, in percent; an actual value of 0 is refused."""
    return float(absolute_pct(actual, forecast).mean())


def smape(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> float:
    """Symmetric mean absolute percentage error, in percent, 0 to 200."""
    return float(symmetric_pct(actual, forecast).mean())


def mae(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> float:
    """Mean absolute error, in the unit of the values."""
    return float(absolute(actual, forecast).mean())


def rmse(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the values."""
    return float(np.sqrt(squared(actual, forecast).mean()))


def r2(actual: npt.ArrayLike, forecast: npt.ArrayLike) -> float:
    """Share of the variance around the mean of all actual values that is explained, up to 1.

    Raises:
        InputError: The actual values are all the same, so that there is nothing to explain.
    """
    a = checked(actual=actual)[0]
    spread = float(((a - a.mean()) ** 2).sum())
    if spread == 0:
        raise InputError(f"expected actual values that differ for an R2, found {a.size} the same")
    return 1.0 - float(squared(actual, forecast).sum()) / spread


def seasonal_scale(train: npt.ArrayLike, season: int = 1) -> float:
    """Mean absolute error of the seasonal naive forecast inside the training part, for ``mase``.

    Args:
        train: The training part, shape (n,), oldest first.
        season: Rows of a season; 1 is the naive forecast.

    Raises:
        InputError: No season has passed, or each value repeats that of a season before.
    """
    values = checked(train=train)[0]
    if season < 1 or values.ndim != 1 or len(values) <= season:
        raise InputError(
            f"expected a training part longer than a season of {season} rows, at least 1, found "
            f"shape {values.shape}"
        )
    scale = float(np.abs(values[season:] - values[:-season]).mean())
    if scale == 0:
        raise InputError(
            f"expected a training part that changes over a season of {season} rows, found one "
            "that does not: measure by MAE"
        )
    return scale


def mase(actual: npt.ArrayLike, forecast: npt.ArrayLike, scale: float) -> float:
    """Mean absolute error as a multiple of ``scale``, which ``seasonal_scale`` tells.

    Raises:
        InputError: The scale is no positive number.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"expected a scale above 0 for a MASE, found {scale}")
    return mae(actual, forecast) / scale


def pinball(actual: npt.ArrayLike, quantile: npt.ArrayLike, level: float) -> float:
    """Mean pinball loss of a forecast quantile, in the unit of the values.

    Args:
        actual: What came.
        quantile: What the actual value is to be below with probability ``level``.
        level: Between 0 and 1.

    Raises:
        InputError: The level is not between them.
    """
    return float(_pinballs(actual, quantile, level).mean())


def _pinballs(actual: npt.ArrayLike, quantile: npt.ArrayLike, level: float) -> Floats:
    if not 0 < level < 1:
        raise InputError(f"expected a quantile's level between 0 and 1, found {level}")
    a, q = checked(actual=actual, quantile=quantile)
    return np.where(a >= q, level * (a - q), (1 - level) * (q - a))


def crps_sample(actual: npt.ArrayLike, samples: npt.ArrayLike) -> float:
    """Mean continuous ranked probability score of a sample's own distribution, in the values' unit.

    It is E|X - y| - E|X - X'| / 2 over the sample, exact for the step function that the sample
    draws; for a single value it is the absolute error.

    Args:
        actual: What came, shape (...).
        samples: Draws of the forecast, shape (..., draws).

    Raises:
        InputError: The shapes do not fit.
    """
    a, drawn = checked(actual=actual)[0], checked(samples=samples)[0]
    if drawn.ndim != a.ndim + 1 or drawn.shape[:-1] != a.shape:
        raise InputError(f"expected samples of shape {(*a.shape, 'draws')}, found {drawn.shape}")
    m = drawn.shape[-1]
    ordered = np.sort(drawn, axis=-1)
    # Among ordered draws, the pairs' distances sum to the draws weighted by their rank.
    weights = (2 * np.arange(1, m + 1) - m - 1) / m**2
    return float((np.abs(drawn - a[..., None]).mean(axis=-1) - ordered @ weights).mean())


def crps_quantiles(actual: npt.ArrayLike, quantiles: npt.ArrayLike, levels: npt.ArrayLike) -> float:
    """Mean continuous ranked probability score from quantiles, in the unit of the values.

    It is twice the pinball loss integrated over the levels, each level standing for those nearest
    to it; levels (i - 1/2) / m weigh the same. A coarse grid misses what lies between its levels.

    Args:
        actual: What came, shape (...).
        quantiles: Shape (..., levels).
        levels: Between 0 and 1, rising, shape (levels,).

    Raises:
        InputError: The shapes do not fit, or the levels do not rise.
    """
    a, q, p = (checked(x=x)[0] for x in (actual, quantiles, levels))
    if p.ndim != 1 or q.shape != (*a.shape, len(p)):
        raise InputError(
            f"expected quantiles of shape {(*a.shape, p.size)}, one a level, found {q.shape}"
        )
    if (np.diff(p) <= 0).any():
        raise InputError(f"expected levels that rise, found {p.tolist()}")
    weights = np.diff(np.concatenate(([0.0], (p[1:] + p[:-1]) / 2, [1.0])))
    losses = [_pinballs(a, q[..., i], float(level)) for i, level in enumerate(p)]
    return float(2 * (np.stack(losses, axis=-1) @ weights).mean())


def coverage(actual: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> float:
    """Share of actual values inside their interval, its ends included, in percent.

    Raises:
        InputError: A lower end is above its upper end.
    """
    a, low, high = checked(actual=actual, lower=lower, upper=upper)
    crossed = int((low > high).sum())
    if crossed:
        raise InputError(f"expected intervals, found {crossed} of {a.size} with low above high")
    return float(100.0 * ((low <= a) & (a <= high)).mean())


@dataclass(frozen=True)
class Measure:
    """One that two models can be compared by.

    Attributes:
        value: From actual values and forecasts to the number that is reported.
        losses: The loss of each single forecast, of the same shape.
        is_root: Whether the error is the root of the mean loss, not the mean itself.
    """

    value: Callable[[npt.ArrayLike, npt.ArrayLike], float]
    losses: Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
    is_root: bool = False


MEASURES: Mapping[str, Measure] = {
    "mape": Measure(mape, absolute_pct),
    "smape": Measure(smape, symmetric_pct),
    "mae": Measure(mae, absolute),
    "rmse": Measure(rmse, squared, is_root=True),
    "r2": Measure(r2, squared),
}
"""By the name in the ledger. Of R2 the error is the variance that is left."""


def measure(name: str) -> Measure:
    """The measure of that name.

    Raises:
        InputError: There is none.
    """
    if name not in MEASURES:
        raise InputError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    return MEASURES[name]
