"""The days after the last, and the model that is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.crypto.forecasting.walks import Naive, walk
from tidemill.crypto.forecasting.outlook import COMPONENTS, baseline_outlook, load, train
from tidemill.crypto.forecasting.recipe import Known, Mode, Recipe
from tidemill.errors import InputError

BITCOIN = walk(800, first="2019-01-01", name="BTCUSDT")  # two years: it has a yearly season
RECIPES = [
    Recipe(),
    Recipe(Mode.MULTIPLICATIVE, known=Known.RECURSIVE),
    Recipe(averages=()),
    Recipe(Mode.MULTIPLICATIVE, log=True),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_a_model_that_was_kept_as_json_gives_the_same_forecast_to_the_bit(recipe: Recipe) -> None:
    model = train(BITCOIN, recipe, data_version=12)
    text = model.to_json()
    again = load(text)
    assert (again.symbol, again.data_version, again.fitted.recipe) == ("BTCUSDT", 12, recipe)
    first, second = model.outlook(30), again.outlook(30)
    assert first.trend is not None and second.trend is not None
    assert np.array_equal(first.yhat, second.yhat) and np.array_equal(first.trend, second.trend)
    for name in COMPONENTS:
        assert np.array_equal(first.components[name], second.components[name])
    assert train(BITCOIN, recipe, data_version=12).to_json() == text


@pytest.mark.parametrize("recipe", RECIPES[:3], ids=lambda recipe: recipe.label)
def test_trend_and_components_add_up_to_the_forecast(recipe: Recipe) -> None:
    found = train(BITCOIN, recipe, 1).outlook(30)
    assert found.trend is not None
    assert found.trend + sum(found.components.values()) == pytest.approx(found.yhat, rel=1e-9)
    assert np.ptp(found.components["weekly"]) > 0 and np.ptp(found.components["yearly"]) > 0
    assert bool(found.components["regressors"].any()) == bool(recipe.averages)


def test_the_days_are_those_after_the_last() -> None:
    found = train(BITCOIN, Recipe(), 1).outlook(3)
    assert found.cutoff == np.datetime64("2021-03-10") and found.model == "prophet_frozen_ma7_ma30"
    assert [str(day) for day in found.dates] == ["2021-03-11", "2021-03-12", "2021-03-13"]
    assert found.yhat.shape == (3,)


def test_a_log_forecast_is_in_the_quote_asset_and_above_zero() -> None:
    found = train(walk(), Recipe(log=True), 1).outlook()
    assert found.trend is not None and (found.yhat > 0).all()
    assert found.yhat == pytest.approx(walk().values[-1], rel=0.5)
    assert found.trend + sum(found.components.values()) == pytest.approx(found.yhat, rel=0.05)


def test_a_baseline_looks_ahead_without_components() -> None:
    whole = walk(50)
    found = baseline_outlook(whole, Naive(), 4)
    assert found.yhat.tolist() == [whole.values[-1]] * 4
    assert found.trend is None and found.components == {}
    assert found.dates[0] == whole.dates[-1] + 1


def test_a_leaky_recipe_has_no_outlook() -> None:
    with pytest.raises(InputError, match="choose a frozen or recursive"):
        train(walk(), Recipe(known=Known.LEAKY), 1)


def test_what_is_no_saved_model_is_refused() -> None:
    whole = json.loads(train(walk(), replace(Recipe(), averages=()), 1).to_json())
    for broken in ("", "{}", "[]", json.dumps({**whole, "prophet": {}})):
        with pytest.raises(InputError, match="expected a saved forecast model"):
            load(broken)
    with pytest.raises(InputError, match="format 1, found 99; train anew"):
        load(json.dumps({**whole, "format": 99}))
    with pytest.raises(InputError, match="at least 1 day"):
        load(json.dumps(whole)).outlook(0)
