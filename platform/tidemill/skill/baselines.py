"""The forecasts that any model of a series has to beat.

Each looks at a fold's training part alone, and is fitted again for each fold; the form of ETS and
the order of ARIMA are chosen once, on the first fold's training part, as the search costs seconds.
A part that one cannot be fitted to is forecast by the last value, and the log says why: a baseline
always answers. Those of tables belong in ``table_baselines``.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.skill.folds import Fold
from tidemill.skill.series import Forecaster, Series

Floats = npt.NDArray[np.float64]
Fit = Callable[[Floats, int], Floats]
"""From a training part and a number of steps to the forecast of each."""

LOG = logging.getLogger(__name__)
LEAST = 20
"""Rows below which ETS, Theta and ARIMA have more to choose than to learn from."""
Z90 = 1.6449
"""One-sided 95 % point of the normal distribution: the season's test, as in the M4 competition."""


class _Unfit(Exception):
    """Why a training part cannot be fitted."""


def last_value(values: Floats, steps: int) -> Floats:
    """The last value, ``steps`` times."""
    return np.full(steps, values[-1])


def walk(name: str, series: Series, folds: Sequence[Fold], fit: Fit) -> Floats:
    """Forecast each fold from its training part, by the last value where ``fit`` cannot.

    Args:
        name: Of the model, for the log.
        series: Of which each fold's part is cut before ``fit`` sees it.
        folds: In order of their cutoffs, all of one horizon.
        fit: Given the training part and the steps to the end of the test.

    Returns:
        Shape (folds, horizon).

    Raises:
        InputError: Folds of several horizons, or one that the series does not hold.
    """
    _refuse(series, folds)
    made = np.empty((len(folds), folds[0].horizon if folds else 0))
    reasons = []
    for row, fold in enumerate(folds):
        steps = fold.stop - fold.cutoff
        values = np.array(series.values[: fold.cutoff], dtype=np.float64)
        answer, reason = _answer(values, steps, fit)
        made[row] = answer[-fold.horizon :]
        if reason:
            reasons.append(f"from row {fold.cutoff}, {reason}")
    if reasons:
        told = (name, series.name, len(reasons), len(folds), reasons[-1])
        LOG.warning("%s of %s is the last value at %d of %d cutoffs: %s", *told)
    return made


def _refuse(series: Series, folds: Sequence[Fold]) -> None:
    horizons = sorted({fold.horizon for fold in folds})
    if len(horizons) > 1:
        raise InputError(f"{series.name}: expected folds of one horizon, found {horizons}")
    for fold in folds:
        if not 1 <= fold.cutoff <= fold.start < fold.stop:
            raise InputError(
                f"{series.name}: expected a fold that trains on at least 1 row and tests later "
                f"ones, found {fold}"
            )
    if any(after.cutoff < before.cutoff for before, after in pairwise(folds)):
        raise InputError(
            f"{series.name}: expected folds in order of their cutoffs, since what is chosen on the "
            "first holds for all"
        )


def _answer(values: Floats, steps: int, fit: Fit) -> tuple[Floats, str]:
    """The forecast, and the reason if it is the last value instead."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            made = np.asarray(fit(values, steps), dtype=np.float64)
        reason = "" if np.isfinite(made).all() else "its forecast is not finite"
    except _Unfit as error:
        reason = str(error)
    except Exception as error:  # statsforecast raises bare ones for what it cannot fit
        reason = f"{type(error).__name__}: {error}"
    return (last_value(values, steps), reason) if reason else (made, "")


def is_seasonal(values: Floats, season: int) -> bool:
    """Whether the changes from row to row repeat after a season, beyond chance at 5 %.

    Changes are relative where all values are positive, so that a price's growth does not drown
    its early years.
    """
    if season < 2 or len(values) < 3 * season:
        return False
    change = np.diff(np.log(values) if (values > 0).all() else values)
    change = change - change.mean()
    power = float(change @ change)
    if power == 0:
        return False
    r = np.array([float(change[k:] @ change[:-k]) for k in range(1, season + 1)]) / power
    limit = Z90 * np.sqrt((1 + 2 * float(r[:-1] @ r[:-1])) / len(change))
    return bool(r[-1] > limit)


def seasonal_factors(values: Floats, season: int, multiply: bool) -> Floats:
    """Classical decomposition: what each row of a season adds to the trend, or multiplies it by.

    The trend is the centred average of one season, inside ``values`` alone.

    Returns:
        Shape (season,): that of the first row of ``values`` first.
    """
    weights = np.ones(season + 1 - season % 2)
    if season % 2 == 0:
        weights[[0, -1]] = 0.5
    trend = np.convolve(values, weights / season, mode="valid")
    first = len(weights) // 2
    inner = values[first : first + len(trend)]
    off = inner / trend if multiply else inner - trend
    phase = (np.arange(len(off)) + first) % season
    factors = np.array([off[phase == i].mean() for i in range(season)])
    level = factors.mean()
    whole: Floats = factors / level if multiply else factors - level
    return whole


def _usable(values: Floats) -> None:
    """Raise for a part from which no more can be learnt than its last value."""
    if len(values) < LEAST:
        raise _Unfit(f"{len(values)} rows to learn from, at least {LEAST} needed")
    if np.ptp(values) == 0:
        raise _Unfit(f"all {len(values)} rows are {values[0]:g}")


@dataclass(frozen=True)
class Naive:
    """Each day is as the last known one."""

    name: str = "naive"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """The last value before each cutoff, shape (folds, horizon)."""
        return walk(self.name, series, folds, last_value)


@dataclass(frozen=True)
class Drift:
    """The line through the first and the last known day goes on."""

    name: str = "drift"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """The line at each tested day, shape (folds, horizon)."""
        return walk(self.name, series, folds, self._fit)

    @staticmethod
    def _fit(values: Floats, steps: int) -> Floats:
        slope = (values[-1] - values[0]) / max(len(values) - 1, 1)
        line: Floats = values[-1] + slope * np.arange(1, steps + 1)
        return line


@dataclass(frozen=True)
class SeasonalNaive:
    """Each day is as the last known one of its place in the season.

    Attributes:
        season: Rows of a season; of a daily series, 7 is the week.
    """

    season: int = 7
    is_leaky: bool = False

    @property
    def name(self) -> str:
        """With the season, as ``seasonal_naive_7``."""
        return f"seasonal_naive_{self.season}"

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """The last known season again and again, shape (folds, horizon)."""
        return walk(self.name, series, folds, self._fit)

    def _fit(self, values: Floats, steps: int) -> Floats:
        if len(values) < self.season:
            raise _Unfit(f"{len(values)} rows are no season of {self.season}")
        return values[len(values) - self.season + np.arange(steps) % self.season]


@dataclass(frozen=True)
class Theta:
    """The theta method: exponential smoothing with half the slope of the linear trend.

    In this form, which Hyndman and Billah (2003) showed it to have, a fit costs milliseconds. A
    season, where there is one, is taken out before and put back after.

    Attributes:
        season: Rows of a season.
    """

    season: int = 7
    name: str = "theta"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """Fitted anew at each cutoff, shape (folds, horizon)."""
        return walk(self.name, series, folds, self._fit)

    def _fit(self, values: Floats, steps: int) -> Floats:
        _usable(values)
        n = len(values)
        if not is_seasonal(values, self.season):
            return self._line(values, steps)
        multiply = bool((values > 0).all())
        factors = seasonal_factors(values, self.season, multiply)
        multiply = multiply and bool((factors > 0.01).all())
        known = factors[np.arange(n) % self.season]
        ahead = factors[np.arange(n, n + steps) % self.season]
        if multiply:
            return self._line(values / known, steps) * ahead
        return self._line(values - known, steps) + ahead

    @staticmethod
    def _line(values: Floats, steps: int) -> Floats:
        from statsforecast.ets import ets_f

        n = len(values)
        smooth = ets_f(values, m=1, model="ANN")
        alpha = float(smooth["par"][0])
        at = np.arange(n) - (n - 1) / 2
        slope = float(at @ values / (at @ at))
        ahead = np.arange(steps) + (1 - (1 - alpha) ** n) / alpha
        made: Floats = smooth["states"][-1, 0] + slope / 2 * ahead
        return made


@dataclass(frozen=True)
class Ets:
    """Exponential smoothing, its form (trend, season, damping) chosen by AICc.

    Positive values are smoothed as logarithms, where trend and season multiply and errors keep
    their size over the years: the forms that multiply by themselves ran off on prices.

    Attributes:
        season: Rows of a season; looked for where the first training part has one.
    """

    season: int = 7
    name: str = "ets"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """Parameters fitted anew at each cutoff, shape (folds, horizon)."""
        form: list[tuple[int, str, bool | None]] = []

        def fit(values: Floats, steps: int) -> Floats:
            from statsforecast.ets import ets_f, forecast_ets

            _usable(values)
            is_log = bool((values > 0).all())
            smooth = np.log(values) if is_log else values
            if not form:
                m = self.season if is_seasonal(values, self.season) else 1
                search = "ZZZ" if m > 1 else "ZZN"
                chosen = ets_f(smooth, m=m, model=search, additive_only=True)["components"]
                form.append((m, chosen[:3], chosen[3] == "D"))
            m, model, damped = form[0]
            fitted = ets_f(smooth, m=m, model=model, damped=damped)
            made = np.asarray(forecast_ets(fitted, steps)["mean"])
            return np.exp(made) if is_log else made

        return walk(self.name, series, folds, fit)


@dataclass(frozen=True)
class Arima:
    """ARIMA, its order and coefficients chosen by AICc on the first training part.

    Later folds bring the same model forward over their own training part: a fit at each would cost
    a hundred times as much, and came out no better.

    Attributes:
        season: Rows of a season; looked for where the first training part has one.
    """

    season: int = 7
    name: str = "arima"
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """From the model brought forward to each cutoff, shape (folds, horizon)."""
        chosen: list[dict[str, Any]] = []

        def fit(values: Floats, steps: int) -> Floats:
            from statsforecast.arima import Arima as Fitted
            from statsforecast.arima import auto_arima_f, forecast_arima

            _usable(values)
            if not chosen:
                m = self.season if is_seasonal(values, self.season) else 1
                chosen.append(auto_arima_f(values, period=m, seasonal=m > 1, approximation=True))
            # Left to its default, CSS, the library forgets the level and forecasts zeros.
            forward = Fitted(values, model=chosen[0], method="CSS-ML")
            return np.asarray(forecast_arima(forward, steps)["mean"])

        return walk(self.name, series, folds, fit)


def series_baselines(season: int = 7) -> list[Forecaster]:
    """All of them, the cheapest first.

    Args:
        season: Rows of a season.
    """
    return [Naive(), Drift(), SeasonalNaive(season), Theta(season), Ets(season), Arima(season)]
