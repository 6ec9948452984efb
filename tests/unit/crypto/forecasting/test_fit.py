"""Forecasts of a recipe from a cutoff."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.crypto.forecasting.walks import series, walk
from tidemill.crypto.forecasting.features import LEAST_ROWS, training
from tidemill.crypto.forecasting.fit import ProphetForecaster, fit
from tidemill.crypto.forecasting.recipe import Known, Mode, Recipe
from tidemill.errors import InputError
from tidemill.skill.folds import Fold

CUT = 160
FOLD = Fold(CUT, CUT, CUT + 10)
RECURSIVE = Recipe(known=Known.RECURSIVE)
LEAKY = Recipe(known=Known.LEAKY)


@pytest.mark.parametrize(
    "recipe", [Recipe(), RECURSIVE, replace(RECURSIVE, log=True), Recipe(averages=(), log=True)]
)
def test_an_honest_forecast_does_not_change_with_what_it_forecasts(recipe: Recipe) -> None:
    whole = walk()
    other = replace(whole, values=np.append(whole.values[:CUT], whole.values[CUT:] * 3))
    model = ProphetForecaster(recipe)
    assert not model.is_leaky
    assert np.array_equal(model.forecast(whole, [FOLD]), model.forecast(other, [FOLD]))
    assert np.array_equal(model.forecast(whole, [FOLD]), model.forecast(whole.until(CUT), [FOLD]))


def test_a_leaky_forecast_does_and_beats_the_honest_one_by_far() -> None:
    whole = walk()
    model = ProphetForecaster(LEAKY)
    assert model.is_leaky
    found = model.forecast(whole, [FOLD])[0]
    shifted = replace(whole, values=np.append(whole.values[:CUT], whole.values[CUT:] * 3))
    assert not np.allclose(found, model.forecast(shifted, [FOLD])[0])
    folds = [Fold(cut, cut, cut + 30) for cut in range(140, 231, 30)]
    actual = np.array([whole.values[fold.start : fold.stop] for fold in folds])
    honest = ProphetForecaster(Recipe()).forecast(whole, folds)
    assert np.abs(model.forecast(whole, folds) - actual).mean() < np.abs(honest - actual).mean() / 2


def test_a_fold_by_itself_is_the_fold_among_others() -> None:
    folds = [Fold(cut, cut, cut + 5) for cut in (120, 140, 160)]
    model = ProphetForecaster(Recipe(mode=Mode.MULTIPLICATIVE))
    together = model.forecast(walk(), folds)
    assert np.array_equal(together[1:2], model.forecast(walk(), folds[1:2]))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("log", [False, True])
def test_a_recursive_forecast_is_prophets_with_each_days_average_filled_in(
    mode: Mode, log: bool
) -> None:
    import pandas as pd

    whole, recipe = walk(), replace(RECURSIVE, mode=mode, log=log)
    fitted = fit(whole, CUT, recipe)
    values = (np.log(whole.values) if log else whole.values)[:CUT].tolist()
    for day in np.arange(FOLD.start, FOLD.stop):
        row = {"ds": [whole.dates[day].astype("datetime64[ns]")]}
        for days in (7, 30):
            row[f"ma{days}"] = [np.mean(values[-days:])]
        values.append(float(fitted.model.predict(pd.DataFrame(row))["yhat"].iloc[0]))
    expected = np.exp(values[CUT:]) if log else np.array(values[CUT:])
    found = ProphetForecaster(recipe).forecast(whole, [FOLD])[0]
    assert found == pytest.approx(expected, rel=1e-9)
    assert not np.allclose(
        found,
        ProphetForecaster(replace(recipe, known=Known.FROZEN)).forecast(whole, [FOLD])[0],
        rtol=1e-6,
    )


@pytest.mark.parametrize("recipe", [Recipe(), RECURSIVE, LEAKY])
def test_an_embargo_leaves_out_days_and_moves_none(recipe: Recipe) -> None:
    model = ProphetForecaster(recipe)
    near = model.forecast(walk(), [Fold(CUT, CUT, CUT + 10)])[0]
    far = model.forecast(walk(), [Fold(CUT, CUT + 4, CUT + 10)])[0]
    assert far == pytest.approx(near[4:], rel=1e-12)


def test_a_frozen_forecast_keeps_the_last_averages() -> None:
    whole = walk()
    rows = fit(whole, CUT, Recipe()).ahead(1, 11)
    effect = rows["extra_regressors_additive"].to_numpy()
    assert np.ptp(effect) == 0
    last = training(whole, CUT, Recipe()).iloc[-1]
    assert last["ma7"] == pytest.approx(whole.values[CUT - 7 : CUT].mean())


def test_the_effect_of_a_halving_is_learnt_from_those_before_and_not_from_the_coming_one() -> None:
    days = 900  # from 2018-11-27 to past the halving of 2020-05-11, whose week stands out
    values = np.full(days, 100.0) + np.random.default_rng(1).normal(0, 0.5, days)
    at = int((np.datetime64("2020-05-11") - np.datetime64("2018-11-27")).astype(int))
    values[at - 7 : at + 8] += 40
    plain = Recipe(averages=())
    before = Fold(at - 20, at - 20, at + 10)
    of_bitcoin = series(values, "2018-11-27", "BTCUSDT")
    of_another = series(values, "2018-11-27", "ETHUSDT")
    model = ProphetForecaster(plain)
    # the halving of 2016 lies before the series: its dates teach nothing, and the coming one less
    assert model.forecast(of_bitcoin, [before]) == pytest.approx(
        model.forecast(of_another, [before]), abs=0.1
    )
    model_of_all = fit(of_bitcoin, days, plain).model
    assert model_of_all.history is not None
    effect = model_of_all.predict(model_of_all.history[["ds"]])["holidays"].to_numpy()
    assert effect[at] == pytest.approx(40, abs=2) and effect[at + 9] == 0


def test_a_constant_series_is_forecast_as_it_is() -> None:
    found = ProphetForecaster(Recipe()).forecast(series([5.0] * 100), [Fold(90, 90, 100)])
    assert found == pytest.approx(np.full((1, 10), 5.0))


def test_a_log_recipe_refuses_a_zero_and_a_short_series_is_refused() -> None:
    values = walk().values.copy()
    values[50] = 0
    with pytest.raises(InputError, match="row 50"):
        fit(series(values), 100, Recipe(log=True))
    with pytest.raises(InputError, match=f"at least {LEAST_ROWS + 30} days"):
        fit(walk(), 20, Recipe())


def test_a_leaky_recipe_cannot_forecast_days_that_have_not_come() -> None:
    with pytest.raises(InputError, match="have not happened"):
        ProphetForecaster(LEAKY).forecast(walk(100), [Fold(100, 100, 110)])
