"""What recipes are called, and which halvings they may know."""

from datetime import date

import pytest

from tidemill.crypto.forecasting.halvings import holidays
from tidemill.crypto.forecasting.recipe import MA7, Known, Mode, Recipe
from tidemill.errors import InputError


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe(), "prophet_frozen_ma7_ma30"),
        (Recipe(averages=()), "prophet"),
        (Recipe(averages=(), log=True), "prophet_log"),
        (Recipe(averages=MA7, known=Known.LEAKY), "prophet_leaky_ma7"),
        (Recipe(known=Known.RECURSIVE, log=True), "prophet_recursive_ma7_ma30_log"),
    ],
)
def test_a_name_tells_the_variant(recipe: Recipe, name: str) -> None:
    assert recipe.name == name


def test_only_a_recipe_that_takes_the_forecast_days_own_averages_is_leaky() -> None:
    assert Recipe(known=Known.LEAKY).is_leaky
    assert not Recipe(averages=(), known=Known.LEAKY).is_leaky
    assert not any(Recipe(known=known).is_leaky for known in (Known.FROZEN, Known.RECURSIVE))


def test_the_grid_has_both_modes_with_three_priors() -> None:
    found = {(one.mode, one.prior) for one in Recipe(log=True).grid()}
    assert found == {(mode, prior) for mode in Mode for prior in (0.01, 0.05, 0.1)}
    assert len({one.label for one in Recipe().grid()}) == 6


def test_a_saved_recipe_comes_back() -> None:
    recipe = Recipe(Mode.MULTIPLICATIVE, 0.1, (7,), Known.RECURSIVE, True)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_what_is_no_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="prior above 0"):
        Recipe(prior=0)
    with pytest.raises(InputError, match="rising"):
        Recipe(averages=(30, 7))
    with pytest.raises(InputError, match="expected a saved recipe"):
        Recipe.from_dict({"mode": "additive"})


def test_there_is_no_halving_to_learn_from_before_the_first_or_of_another_coin() -> None:
    assert holidays("BTCUSDT", date(2016, 7, 1)) is None
    assert holidays("ETHUSDT", date(2024, 7, 1)) is None
    assert holidays("BTCUSDT", date(2016, 7, 2)) is not None


def test_a_coming_halving_is_known_sixty_days_ahead() -> None:
    before = holidays("BTCUSDT", date(2024, 2, 19))
    after = holidays("btc-usd", date(2024, 2, 20))
    assert before is not None and after is not None
    assert [str(day)[:10] for day in before["ds"]] == ["2016-07-09", "2020-05-11"]
    assert str(after["ds"].max())[:10] == "2024-04-20"
