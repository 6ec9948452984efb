"""Conformal intervals: that they hold what they promise, from the past alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from tidemill.errors import InputError
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.intervals import Conformal
from tidemill.skill.metrics import coverage

Floats = npt.NDArray[np.float64]

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data")) / "crypto"
BTC = DATA / "BTCUSD_1d_candles_full.csv.gz"
HALVES = [Fold(10 * k, 10 * k, 10 * k + 2) for k in range(1, 6)]


def naive(values: Floats, folds: list[Fold]) -> tuple[Floats, Floats]:
    """What came, and the last value before it."""
    actual = np.stack([values[fold.start : fold.stop] for fold in folds])
    known = np.array([values[fold.cutoff - 1] for fold in folds])
    return actual, np.repeat(known[:, None], actual.shape[1], axis=1)


def prices(days: int, volatility: float | Floats, seed: int = 0) -> Floats:
    steps = np.random.default_rng(seed).standard_normal(days) * volatility
    return np.asarray(100 * np.exp(np.cumsum(steps)))


def test_an_interval_spans_the_residuals_of_past_folds_at_each_step() -> None:
    rule = Conformal(level=0.5, scale="absolute", pool=0, rate=0, least=4)
    actual = np.array([[1.0, 10], [2, 20], [-1, -10], [-2, -20], [0, 0]])
    low, high = rule.bands(HALVES, actual, np.zeros((5, 2)))
    assert np.isnan(low[:4]).all() and np.isnan(high[:4]).all()
    assert (low[4].tolist(), high[4].tolist()) == ([-2, -20], [2, 20])


def test_residuals_from_before_the_window_are_forgotten() -> None:
    rule = Conformal(level=0.5, scale="absolute", pool=0, rate=0, least=2, window=20)
    actual = np.array([[100.0, 100], [-100, -100], [-1, -10], [1, 10], [0, 0]])
    low, high = rule.bands(HALVES, actual, np.zeros((5, 2)))
    assert (low[4].tolist(), high[4].tolist()) == ([-1, -10], [1, 10])


def test_on_the_log_scale_an_interval_grows_with_the_price() -> None:
    rule = Conformal(level=0.5, pool=0, rate=0, least=4)
    forecast = np.array([[1.0], [10], [100], [1000], [5000]])
    off = np.array([[0.5], [2], [0.5], [2], [1]])
    folds = [Fold(k, k, k + 1) for k in range(1, 6)]
    low, high = rule.bands(folds, forecast * off, forecast)
    assert (low[4], high[4]) == (pytest.approx(2500), pytest.approx(10000))


@pytest.mark.parametrize("period", [30, 15])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_four_of_five_are_held_though_volatility_changes(period: int, seed: int) -> None:
    volatility = np.where(np.arange(5000) % 2000 < 1000, 0.01, 0.03)
    folds = WalkForward(30, period, initial=100).folds(5000)
    actual, forecast = naive(prices(5000, volatility, seed), folds)
    low, high = Conformal().bands(folds, actual, forecast)
    told = np.isfinite(low).all(axis=1)
    assert 75 <= coverage(actual[told], low[told], high[told]) <= 85


@pytest.mark.skipif(not BTC.exists(), reason=f"{BTC} is not there: set TIDEMILL_REAL_DATA")
@pytest.mark.parametrize("period", [30, 15])
def test_four_of_five_are_held_on_the_last_fifth_of_bitcoin_s_days(period: int) -> None:
    values = pl.read_csv(BTC)["close"].cast(pl.Float64).to_numpy()
    folds = WalkForward(30, period, initial=400).folds(len(values))
    actual, forecast = naive(values, folds)
    low, high = Conformal().bands(folds, actual, forecast)
    last = np.array([fold.cutoff >= 0.8 * len(values) for fold in folds])
    assert 75 <= coverage(actual[last], low[last], high[last]) <= 85


def test_what_comes_after_a_cutoff_does_not_move_its_interval() -> None:
    folds = WalkForward(horizon=6, period=4, initial=30, embargo=1).folds(200)
    values = prices(200, 0.02)
    known = Conformal().bands(folds, *naive(values, folds))
    assert np.isfinite(known[0]).any()
    for row, fold in enumerate(folds):
        changed = values.copy()
        changed[fold.cutoff :] *= np.random.default_rng(1).uniform(0.1, 9, 200 - fold.cutoff)
        again = Conformal().bands(folds, *naive(changed, folds))
        for then, now in zip(known, again, strict=True):
            assert then[: row + 1].tobytes() == now[: row + 1].tobytes()


def test_a_forecast_ahead_has_the_interval_that_its_fold_would_have() -> None:
    folds = WalkForward(horizon=6, period=4, initial=30).folds(200)
    actual, forecast = naive(prices(200, 0.02), folds)
    low, high = Conformal().bands(folds, actual, forecast)
    cutoff = folds[-1].cutoff
    ahead = Conformal().ahead(folds[:-1], actual[:-1], forecast[:-1], cutoff, forecast[-1])
    assert [x.tolist() for x in ahead] == [low[-1].tolist(), high[-1].tolist()]


def test_intervals_that_held_too_little_make_the_next_ones_wider() -> None:
    folds = WalkForward(30, 30, initial=100).folds(3000)
    actual, forecast = naive(prices(3000, np.linspace(0.005, 0.05, 3000)), folds)
    share = []
    for rate in (0.0, 0.2):
        low, high = Conformal(rate=rate).bands(folds, actual, forecast)
        share.append(coverage(actual[20:], low[20:], high[20:]))
    assert share[0] < 76 < share[1]


def test_a_forecast_that_is_always_too_low_is_still_inside_its_interval() -> None:
    rule = Conformal(scale="absolute", least=2, window=10**6)
    low, high = rule.bands(HALVES, np.full((5, 2), 3.0), np.zeros((5, 2)))
    assert (low[4].tolist(), high[4].tolist()) == ([0, 0], [3, 3])


def test_a_forecast_without_error_has_an_interval_without_width() -> None:
    low, high = Conformal(least=1).bands(HALVES, np.ones((5, 2)), np.ones((5, 2)))
    assert low[1:].tolist() == high[1:].tolist() == np.ones((4, 2)).tolist()


BAD: dict[str, dict[str, Any]] = {
    "a level": {"level": 1.0},
    "least number": {"least": 0},
    "a scale": {"scale": "cube"},
    "a pool": {"pool": -1},
    "a rate": {"rate": 2.0},
}


@pytest.mark.parametrize(("told", "bad"), BAD.items(), ids=BAD)
def test_a_rule_that_makes_no_interval_is_refused(told: str, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=told):
        Conformal(**bad)


def test_what_has_no_logarithm_is_refused_with_what_to_use() -> None:
    with pytest.raises(InputError, match="found 10 of 10 that are not: use the absolute scale"):
        Conformal().bands(HALVES, np.zeros((5, 2)), np.ones((5, 2)))


def test_folds_that_do_not_fit_are_refused() -> None:
    values = np.ones((5, 2))
    with pytest.raises(InputError, match="expected 4 folds of values"):
        Conformal().bands(HALVES[:4], values, values)
    with pytest.raises(InputError, match="order of their cutoffs"):
        Conformal().bands(HALVES[::-1], values, values)
    with pytest.raises(InputError, match="cutoff after those of all"):
        Conformal().ahead(HALVES, values, values, 20, np.ones(2))
