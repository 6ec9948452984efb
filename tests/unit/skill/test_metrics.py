"""Each measure against numbers worked out by hand, or a closed form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import InputError
from tidemill.skill import metrics as m

ACTUAL = np.array([[10.0, 20.0], [40.0, 50.0]])
FORECAST = np.array([[11.0, 18.0], [40.0, 60.0]])


def test_each_measure_is_what_it_is_by_hand() -> None:
    assert m.mape(ACTUAL, FORECAST) == pytest.approx((10 + 10 + 0 + 20) / 4)
    assert m.smape(ACTUAL, FORECAST) == pytest.approx((100 / 10.5 + 200 / 19 + 0 + 1000 / 55) / 4)
    assert m.mae(ACTUAL, FORECAST) == pytest.approx((1 + 2 + 0 + 10) / 4)
    assert m.rmse(ACTUAL, FORECAST) == pytest.approx(math.sqrt((1 + 4 + 0 + 100) / 4))
    assert m.r2(ACTUAL, FORECAST) == pytest.approx(1 - 105 / 1000)
    assert m.mase(ACTUAL, FORECAST, scale=2.0) == pytest.approx(1.625)
    assert m.coverage(ACTUAL, FORECAST - 1, FORECAST + 1) == 50.0


def test_the_scale_of_mase_is_the_seasonal_naive_error_of_the_training_part() -> None:
    assert m.seasonal_scale([1.0, 3.0, 2.0, 7.0]) == pytest.approx((2 + 1 + 5) / 3)
    assert m.seasonal_scale([1.0, 3.0, 2.0, 7.0], season=2) == pytest.approx((1 + 4) / 2)


def test_a_smape_of_two_zeros_is_zero_and_of_one_is_the_most() -> None:
    assert m.smape([0.0], [0.0]) == 0
    assert m.smape([0.0], [5.0]) == 200


def test_a_mape_measures_against_the_size_of_a_negative_value() -> None:
    assert m.mape([-10.0], [-9.0]) == pytest.approx(10)


def test_a_mape_of_a_zero_is_refused_with_what_to_use() -> None:
    with pytest.raises(InputError, match=r"found 1 of 2: measure by sMAPE"):
        m.mape([0.0, 1.0], [1.0, 1.0])


def test_pinball_punishes_the_rarer_side_more() -> None:
    assert m.pinball([10.0, 10.0], [8.0, 11.0], level=0.9) == pytest.approx((0.9 * 2 + 0.1) / 2)
    assert m.pinball(ACTUAL, FORECAST, level=0.5) == pytest.approx(m.mae(ACTUAL, FORECAST) / 2)


def normal_crps(z: float) -> float:
    """Of a standard normal forecast (Gneiting and Raftery, 2007)."""
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = (1 + math.erf(z / math.sqrt(2))) / 2
    return z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi)


@pytest.mark.parametrize("z", [-2.0, 0.0, 0.7])
def test_crps_of_a_normal_forecast_is_its_closed_form(z: float) -> None:
    from statistics import NormalDist

    levels = (np.arange(2000) + 0.5) / 2000
    quantiles = np.array([NormalDist().inv_cdf(p) for p in levels])
    assert m.crps_quantiles([z], [quantiles], levels) == pytest.approx(normal_crps(z), abs=1e-3)
    assert m.crps_sample([z], [quantiles]) == pytest.approx(normal_crps(z), abs=1e-3)


def test_crps_of_a_sample_is_by_pairs_and_of_one_value_the_absolute_error() -> None:
    draws = np.array([[1.0, 4.0, 2.0]])
    pairs = sum(abs(a - b) for a in draws[0] for b in draws[0]) / 9
    assert m.crps_sample([3.0], draws) == pytest.approx((2 + 1 + 1) / 3 - pairs / 2)
    assert m.crps_sample([3.0], [[5.0]]) == 2
    assert m.crps_quantiles([3.0], [[5.0]], [0.5]) == 2


def test_uneven_levels_weigh_by_the_room_they_stand_for() -> None:
    by_hand = 2 * (0.25 * m.pinball([3.0], [1.0], 0.1) + 0.75 * m.pinball([3.0], [2.0], 0.4))
    assert m.crps_quantiles([3.0], [[1.0, 2.0]], [0.1, 0.4]) == pytest.approx(by_hand)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: m.mae([1.0, 2.0], [1.0]), r"one shape, found actual \(2,\), forecast \(1,\)"),
    (lambda: m.mae([1.0, 2.0], [1.0, math.nan]), "found 1 of 2 forecast"),
    (lambda: m.mape([1.0, math.inf], [1.0, 1.0]), "found 1 of 2 actual"),
    (lambda: m.rmse([], []), "found none"),
    (lambda: m.r2([2.0, 2.0], [1.0, 3.0]), "found 2 the same"),
    (lambda: m.mase([1.0], [1.0], 0.0), "scale above 0"),
    (lambda: m.seasonal_scale([1.0, 2.0], season=2), "longer than a season of 2"),
    (lambda: m.seasonal_scale([2.0, 2.0, 2.0]), "found one that does not"),
    (lambda: m.pinball([1.0], [1.0], 1.0), "level between 0 and 1"),
    (lambda: m.crps_sample([1.0], [1.0]), "expected samples of shape"),
    (lambda: m.crps_quantiles([1.0], [[1.0, 2.0]], [0.5]), "expected quantiles of shape"),
    (lambda: m.crps_quantiles([1.0], [[1.0, 2.0]], [0.5, 0.5]), "levels that rise"),
    (lambda: m.coverage([1.0], [2.0], [1.0]), "1 of 1 with low above high"),
    (lambda: m.measure("accuracy"), "no measure 'accuracy'; there are mape"),
]


@pytest.mark.parametrize(("measured", "told"), BAD)
def test_what_cannot_be_measured_is_refused(measured: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        measured()


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1))
def test_a_mean_of_single_losses_is_the_measure(pairs: list[tuple[float, float]]) -> None:
    actual, forecast = np.array(pairs).T
    for name in ("smape", "mae", "rmse"):
        measure = m.measure(name)
        mean = measure.losses(actual, forecast).mean()
        assert measure.value(actual, forecast) == (mean**0.5 if measure.is_root else mean)
