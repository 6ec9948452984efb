"""What a recipe sees of a series at a cutoff."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.unit.crypto.forecasting.walks import Floats, series, walk
from tidemill.crypto.forecasting.features import (
    leaked_averages,
    moving_average,
    scaled,
    training,
)
from tidemill.crypto.forecasting.recipe import MA7, Known, Recipe
from tidemill.errors import InputError
from tidemill.skill.folds import Fold

AB = Recipe(averages=(2, 3))


@given(hnp.arrays(float, st.integers(0, 20), elements=st.floats(1, 1e6)), st.integers(1, 8))
def test_an_average_is_of_the_day_and_those_before_it(values: Floats, days: int) -> None:
    found = moving_average(values, days)
    for i, mean in enumerate(found):
        if i + 1 < days:
            assert np.isnan(mean)
        else:
            assert mean == pytest.approx(values[i + 1 - days : i + 1].mean(), rel=1e-12)


def test_days_without_an_average_are_not_trained_on() -> None:
    frame = training(series([1, 2, 3, 4, 5, 99]), 5, AB)
    assert frame["y"].tolist() == [3, 4, 5]
    assert frame["ma2"].tolist() == [2.5, 3.5, 4.5] and frame["ma3"].tolist() == [2, 3, 4]


def test_a_recursive_recipe_trains_on_the_averages_up_to_the_day_before() -> None:
    frame = training(series([1, 2, 3, 4, 5, 6, 99]), 6, replace(AB, known=Known.RECURSIVE))
    assert frame["y"].tolist() == [4, 5, 6]
    assert frame["ma2"].tolist() == [2.5, 3.5, 4.5] and frame["ma3"].tolist() == [2, 3, 4]


@pytest.mark.parametrize("known", Known)
def test_training_rows_do_not_change_with_what_comes_after_the_cutoff(known: Known) -> None:
    whole = walk(80)
    other = replace(whole, values=np.append(whole.values[:60], np.full(20, 1e6)))
    recipe = Recipe(known=known)
    assert training(whole, 60, recipe).equals(training(other, 60, recipe))


def test_the_leaked_averages_are_those_of_the_days_that_are_forecast() -> None:
    found = leaked_averages(series([1, 2, 3, 4, 5, 6]), Fold(3, 4, 6), AB)
    assert found["ma2"].tolist() == [4.5, 5.5] and found["ma3"].tolist() == [4, 5]


def test_a_value_without_a_logarithm_is_named() -> None:
    with pytest.raises(InputError, match=r"above 0, found -2 in row 1 \(2 such\)"):
        scaled(np.array([1.0, -2.0, 0.0]), Recipe(log=True))


def test_too_few_days_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InputError, match="at least 10 days before the cutoff, found 8"):
        training(walk(20), 8, Recipe(averages=MA7))
