"""The days after the last: a recipe fitted to all days, kept as JSON, and what it says of them."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidemill.crypto.forecasting.calm import calm
from tidemill.crypto.forecasting.features import Floats, days_ahead
from tidemill.crypto.forecasting.fit import Fitted, fit, unscaled
from tidemill.crypto.forecasting.recipe import Recipe
from tidemill.errors import InputError
from tidemill.skill.folds import Fold
from tidemill.skill.series import Forecaster, Series

FORMAT = 1
"""Of the saved model's envelope; another number is refused."""
COMPONENTS = ("weekly", "yearly", "holidays", "regressors")


@dataclass(frozen=True)
class Outlook:
    """A forecast of days that have not come.

    Attributes:
        symbol: Of the series.
        model: Name of the forecaster.
        cutoff: The last day that it knows.
        dates: ``datetime64[D]``, shape (days,).
        yhat: In the quote asset, shape (days,).
        trend: Likewise; None where the model has none.
        components: Of a recipe, what each of ``COMPONENTS`` adds to the trend, in the quote asset.
            With the trend they add up to yhat, but on a log scale, where they multiply.
    """

    symbol: str
    model: str
    cutoff: np.datetime64
    dates: npt.NDArray[np.datetime64]
    yhat: Floats
    trend: Floats | None
    components: dict[str, Floats]


@dataclass(frozen=True)
class SavedModel:
    """A fitted recipe with what it was fitted to.

    Attributes:
        symbol: Of the series.
        data_version: Version of the table that the series was read from.
        fitted: The model; it ends with the day ``fitted.last``.
    """

    symbol: str
    data_version: int
    fitted: Fitted

    def outlook(self, days: int = 30) -> Outlook:
        """Forecast the days after the last.

        Raises:
            InputError: No days are asked for.
        """
        if days < 1:
            raise InputError(f"expected at least 1 day to forecast, found {days}")
        recipe, last = self.fitted.recipe, self.fitted.last
        with calm():
            rows = self.fitted.ahead(1, days + 1)
        trend = unscaled(rows["trend"].to_numpy(), recipe)
        parts: dict[str, Floats] = {}
        for name in COMPONENTS:
            part = np.zeros(days)
            for column in _columns(name):
                if column in rows:
                    part = part + rows[column].to_numpy()
            if recipe.log:  # there trend, seasons and the rest are added before the exponential
                share = part * rows["trend"].to_numpy() if _multiplies(recipe) else part
                parts[name] = trend * np.expm1(share)
            else:
                parts[name] = trend * part if _multiplies(recipe) else part
        return Outlook(
            symbol=self.symbol,
            model=recipe.name,
            cutoff=last,
            dates=days_ahead(last, 1, days + 1),
            yhat=unscaled(rows["yhat"].to_numpy(), recipe),
            trend=trend,
            components=parts,
        )

    def to_json(self) -> str:
        """As text that ``load`` reads back, with the same forecast to the bit."""
        from prophet.serialize import model_to_dict

        fitted = self.fitted
        return json.dumps(
            {
                "format": FORMAT,
                "symbol": self.symbol,
                "cutoff": str(fitted.last),
                "data_version": self.data_version,
                "recipe": fitted.recipe.to_dict(),
                "recent": fitted.recent.tolist(),
                "prophet": model_to_dict(fitted.model),
            }
        )


def train(series: Series, recipe: Recipe, data_version: int) -> SavedModel:
    """Fit a recipe to all days of a series.

    Raises:
        InputError: The recipe is leaky: it needs averages of days that have not come.
        TidemillError: The series does not allow it.
    """
    if recipe.is_leaky:
        raise InputError(
            f"{recipe.name} needs the averages of the days that it forecasts, and these have not"
            " come; choose a frozen or recursive recipe"
        )
    return SavedModel(series.name, data_version, fit(series, len(series), recipe))


def load(saved: str) -> SavedModel:
    """Read a model that ``SavedModel.to_json`` wrote.

    Raises:
        InputError: It is something else.
    """
    from prophet.serialize import model_from_dict

    try:
        envelope: dict[str, Any] = json.loads(saved)
        if envelope["format"] != FORMAT:
            raise InputError(
                f"expected a saved model of format {FORMAT}, found {envelope['format']}; train anew"
            )
        with calm():
            model = model_from_dict(envelope["prophet"])
        fitted = Fitted(
            recipe=Recipe.from_dict(envelope["recipe"]),
            model=model,
            last=np.datetime64(envelope["cutoff"], "D"),
            recent=np.array(envelope["recent"], dtype=float),
        )
        return SavedModel(str(envelope["symbol"]), int(envelope["data_version"]), fitted)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a saved forecast model, found {saved[:60]!r}: {error}; train anew"
        ) from error


def baseline_outlook(series: Series, baseline: Forecaster, days: int = 30) -> Outlook:
    """What a model without parts says of the days after the last."""
    rows = len(series)
    with calm():
        yhat = baseline.forecast(series, [Fold(rows, rows, rows + days)])[0]
    last = series.dates[-1]
    dates = days_ahead(last, 1, days + 1)
    return Outlook(series.name, baseline.name, last, dates, yhat, None, {})


def _columns(component: str) -> tuple[str, ...]:
    """Prophet's columns of a component."""
    if component == "regressors":
        return ("extra_regressors_additive", "extra_regressors_multiplicative")
    return (component,)


def _multiplies(recipe: Recipe) -> bool:
    return recipe.mode.value == "multiplicative"
