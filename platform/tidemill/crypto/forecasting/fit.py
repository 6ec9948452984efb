"""Fitting a recipe to a series up to a cutoff, and forecasting from the fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tidemill.crypto.forecasting import features
from tidemill.crypto.forecasting.calm import calm
from tidemill.crypto.forecasting.features import Floats
from tidemill.crypto.forecasting.halvings import holidays
from tidemill.crypto.forecasting.recipe import Begin, Known, Recipe
from tidemill.errors import TidemillError
from tidemill.skill.folds import Fold
from tidemill.skill.series import Series

if TYPE_CHECKING:
    import pandas as pd
    from prophet import Prophet

LARGEST_LOG = 700.0
"""Of which the exponential is still a number."""


@dataclass(frozen=True)
class Fitted:
    """A recipe fitted to the days before a cutoff, and all that a forecast from there needs.

    Attributes:
        recipe: What was fitted.
        model: Prophet's, on the recipe's scale.
        last: The last day that it knows.
        recent: The last values on the recipe's scale, as many as the longest average has days.
    """

    recipe: Recipe
    model: "Prophet"
    last: np.datetime64
    recent: Floats

    def ahead(
        self, first: int, stop: int, leaked: dict[str, Floats] | None = None
    ) -> "pd.DataFrame":
        """Prophet's forecast on the recipe's scale, with its components.

        Args:
            first: The first day forecast, 1 for the day after ``last``.
            stop: The day before which it ends.
            leaked: For the leaky recipe, the averages of the days forecast.

        Returns:
            A row a day: ds, yhat, trend and each component, as ``Prophet.predict`` gives it.
        """
        import pandas as pd

        known = features.known_averages(self.recent, self.recipe)
        is_recursive = self.recipe.known is Known.RECURSIVE and bool(self.recipe.averages)
        begin = 1 if is_recursive else first
        days = features.days_ahead(self.last, begin, stop).astype("datetime64[ns]")
        frame = pd.DataFrame({"ds": days, **(known if leaked is None else leaked)})
        if is_recursive:
            for name, means in self._recursive(self.model.predict(frame), known).items():
                frame[name] = means
        return self.model.predict(frame).iloc[first - begin :].reset_index(drop=True)

    def _recursive(self, flat: "pd.DataFrame", held: dict[str, float]) -> dict[str, Floats]:
        """The averages up to the day before each day, from what was forecast for the days before.

        Args:
            flat: The forecast with every average held at ``held``: it is linear in them, so that
                a day's forecast follows from it and the distance of the averages.
            held: By name.
        """
        model, trend = self.model, flat["trend"].to_numpy()
        weight: dict[str, Floats] = {}
        at = {name: i for i, name in enumerate(model.extra_regressors)}
        betas = model.params["beta"][0, -len(at) :]
        for name, i in at.items():
            props = model.extra_regressors[name]
            scale = trend if props["mode"] == "multiplicative" else float(model.y_scale or 1.0)
            weight[name] = np.broadcast_to(betas[i] * scale / props["std"], len(flat))
        values = np.append(self.recent, np.empty(len(flat)))
        means = {name: np.empty(len(flat)) for name in held}
        base, known = flat["yhat"].to_numpy(), len(self.recent)
        for h in range(len(flat)):
            values[known + h] = base[h]
            for days in self.recipe.averages:
                name = features.column(days)
                means[name][h] = values[known + h - days : known + h].mean()
                values[known + h] += weight[name][h] * (means[name][h] - held[name])
        return means


def fit(series: Series, cutoff: int, recipe: Recipe, begin: Begin = Begin.MODE) -> Fitted:
    """Fit a recipe to the first ``cutoff`` days of a series, which are all that it sees.

    Raises:
        InputError: The days are too few, or not for the recipe's scale.
        TidemillError: Prophet could not fit them.
    """
    frame = features.training(series, cutoff, recipe)
    with calm():
        from prophet import Prophet

        from tidemill.crypto.forecasting.backend import backend

        last = series.dates[cutoff - 1]
        model = Prophet(
            seasonality_mode=recipe.mode.value,
            changepoint_prior_scale=recipe.prior,
            daily_seasonality=False,
            holidays=holidays(series.name, last.astype("datetime64[D]").item()),
            uncertainty_samples=0,
        )
        model.stan_backend = backend(begin)
        for days in recipe.averages:
            model.add_regressor(features.column(days))
        try:
            model.fit(frame)
        except (RuntimeError, ValueError, ArithmeticError) as error:
            raise TidemillError(
                f"{series.name}: Prophet could not fit {recipe.label} to {cutoff} days: {error}"
            ) from error
    recent = features.scaled(series.values[:cutoff], recipe)
    return Fitted(recipe, model, last, recent[-max(recipe.averages, default=1) :].copy())


@dataclass(frozen=True)
class ProphetForecaster:
    """A recipe as ``skill`` wants its models.

    Every fold is fitted by itself, without any other's result, so that a forecast is the same to
    the bit whichever folds are asked for, in whichever process.

    Attributes:
        recipe: What is fitted.
        begin: Where its optimiser starts.
    """

    recipe: Recipe
    begin: Begin = Begin.MODE

    @property
    def name(self) -> str:
        """By which the ledger knows it."""
        return self.recipe.name

    @property
    def is_leaky(self) -> bool:
        """Whether it looks at what it forecasts."""
        return self.recipe.is_leaky

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        """Forecast each fold's tested days; float64, shape (folds, horizon), in the values' unit.

        Raises:
            TidemillError: A fold cannot be fitted.
        """
        return np.array([self._one(series, fold) for fold in folds])

    def _one(self, series: Series, fold: Fold) -> Floats:
        leaked = (
            features.leaked_averages(series, fold, self.recipe) if self.recipe.is_leaky else None
        )
        fitted = fit(series, fold.cutoff, self.recipe, self.begin)
        first = fold.start - fold.cutoff + 1
        with calm():
            rows = fitted.ahead(first, first + fold.horizon, leaked)
        return unscaled(rows["yhat"].to_numpy(), self.recipe)


def unscaled(values: Floats, recipe: Recipe) -> Floats:
    """Values in the series' unit, from the recipe's scale."""
    return np.exp(np.minimum(values, LARGEST_LOG)) if recipe.log else values
