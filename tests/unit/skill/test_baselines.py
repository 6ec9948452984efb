"""Baselines: what each forecasts, that it looks no further than it may, and that it answers."""

import logging
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.errors import InputError
from tidemill.skill.baselines import (
    Arima,
    Drift,
    Ets,
    Naive,
    SeasonalNaive,
    Theta,
    is_seasonal,
    seasonal_factors,
    series_baselines,
)
from tidemill.skill.baselines import walk as along
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.series import Forecaster, Series

Floats = npt.NDArray[np.float64]
ALL = series_baselines()
WEEK = np.array([1.0, 1.0, 1.1, 1.2, 1.5, 2.0, 1.8])


def series(values: npt.ArrayLike) -> Series:
    made = np.asarray(values, dtype=np.float64)
    return Series("A", np.datetime64("2026-01-01") + np.arange(len(made)), made)


def walk(n: int, seed: int = 0) -> Floats:
    return 100 + np.random.default_rng(seed).standard_normal(n).cumsum()


def weekly(n: int, seed: int = 0) -> Floats:
    noise = np.exp(0.05 * np.random.default_rng(seed).standard_normal(n))
    made: Floats = 100 * WEEK[np.arange(n) % 7] * noise
    return made


def error(model: Forecaster, values: Floats, folds: list[Fold]) -> float:
    actual = np.stack([values[fold.start : fold.stop] for fold in folds])
    return float(np.abs(model.forecast(series(values), folds) - actual).mean())


def test_naive_drift_and_seasonal_naive_are_what_they_are_by_hand() -> None:
    days, folds = series([1, 2, 4, 7, 0, 0, 0]), [Fold(4, 4, 7)]
    assert Naive().forecast(days, folds).tolist() == [[7, 7, 7]]
    assert Drift().forecast(days, folds).tolist() == [[9, 11, 13]]
    assert SeasonalNaive(2).forecast(days, folds).tolist() == [[4, 7, 4]]


def test_an_embargo_is_forecast_over_and_left_out() -> None:
    days, folds = series([1, 2, 4, 7, 0, 0, 0]), [Fold(4, 5, 7)]
    assert Drift().forecast(days, folds).tolist() == [[11, 13]]
    assert SeasonalNaive(2).forecast(days, folds).tolist() == [[7, 4]]


def test_a_line_goes_on_by_half_its_slope_in_theta_and_wholly_in_ets_and_arima() -> None:
    days, folds = series(np.arange(1.0, 105.0)), [Fold(100, 100, 104)]
    ahead = np.arange(1, 5)
    assert Theta().forecast(days, folds)[0] == pytest.approx(100 + ahead / 2, abs=0.01)
    assert Ets().forecast(series(days.values - 50), folds)[0] == pytest.approx(50 + ahead, abs=0.1)
    assert Arima().forecast(days, folds)[0] == pytest.approx(100 + ahead, abs=0.01)


def test_ets_goes_on_by_the_same_factor_where_all_is_positive() -> None:
    days, folds = series(1.05 ** np.arange(104)), [Fold(100, 100, 104)]
    assert Ets().forecast(days, folds)[0] == pytest.approx(days.values[100:], rel=1e-3)


def test_theta_is_the_library_s_standard_one_at_the_same_smoothing() -> None:
    from statsforecast.ets import ets_f
    from statsforecast.theta import auto_theta, forecast_theta

    values = 50 + np.random.default_rng(3).standard_normal(300) + np.arange(300) / 30
    smooth = ets_f(values, m=1, model="ANN")
    theirs = auto_theta(values, 1, "STM", smooth["states"][0, 0], float(smooth["par"][0]), 2.0)
    ours = Theta().forecast(series(np.append(values, np.zeros(9))), [Fold(300, 300, 309)])
    assert np.diff(ours[0]) == pytest.approx(np.diff(forecast_theta(theirs, 9)["mean"]), rel=1e-3)
    assert ours[0] == pytest.approx(forecast_theta(theirs, 9)["mean"], rel=1e-2)


@pytest.mark.parametrize("model", [Theta(), Ets(), Arima()], ids=lambda m: m.name)
@pytest.mark.parametrize("shift", [0.0, 150.0], ids=["positive", "negative"])
def test_a_week_is_found_and_forecast(model: Forecaster, shift: float) -> None:
    values = weekly(400) - shift
    folds = WalkForward(horizon=14, period=14, initial=350).folds(400)
    assert error(model, values, folds) < 0.3 * error(Naive(), values, folds)


def test_a_season_is_seen_where_there_is_one_and_only_there() -> None:
    assert is_seasonal(weekly(200), 7)
    seen = [is_seasonal(walk(200, seed), 7) for seed in range(200)]
    assert sum(seen) < 24  # 5 % of 200 by chance, give or take
    assert not is_seasonal(np.ones(200), 7) and not is_seasonal(weekly(20), 7)


@pytest.mark.parametrize("season", [4, 7])
def test_the_factors_of_a_season_are_found_under_a_trend(season: int) -> None:
    at = np.arange(8 * season)
    factors = np.linspace(0.5, 1.5, season)
    found = seasonal_factors((100 + at) * factors[at % season], season, multiply=True)
    assert found == pytest.approx(factors, rel=0.02)
    added = seasonal_factors(at + factors[at % season], season, multiply=False)
    assert added == pytest.approx(factors - 1, abs=1e-9)


@pytest.mark.parametrize("model", ALL, ids=lambda m: m.name)
@pytest.mark.parametrize("values", [walk(200), weekly(200)], ids=["walk", "weekly"])
def test_no_baseline_looks_past_a_cutoff(model: Forecaster, values: Floats) -> None:
    folds = WalkForward(horizon=10, period=20, initial=120, embargo=2).folds(200)
    known = model.forecast(series(values), folds)
    for row, fold in enumerate(folds):
        changed = values.copy()
        changed[fold.cutoff :] *= np.random.default_rng(1).uniform(0.1, 9, 200 - fold.cutoff)
        again = model.forecast(series(changed), folds)
        assert again[: row + 1].tobytes() == known[: row + 1].tobytes()


def test_arima_keeps_the_level_when_it_is_brought_forward() -> None:
    values = walk(300)
    folds = WalkForward(horizon=5, period=5, initial=200).folds(300)
    made = Arima().forecast(series(values), folds)
    assert np.abs(made[:, 0] - [values[f.cutoff - 1] for f in folds]).max() < 5


ODD = {
    "one value": [5.0],
    "two values": [5.0, 6.0],
    "constant": np.full(90, 5.0),
    "zeros": np.zeros(90),
    "mostly zeros": np.where(np.arange(90) % 17 == 0, 3.0, 0.0),
    "negative": -walk(90),
    "a jump of 1000 x": walk(90) * np.where(np.arange(90) < 50, 1, 1000),
    "filled": np.repeat(walk(30), 3),
    "tiny": walk(90) * 1e-300,
    "huge": walk(90) * 1e300,
}


@pytest.mark.parametrize("model", ALL, ids=lambda m: m.name)
@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_every_baseline_answers_for_an_odd_series(model: Forecaster, values: Floats) -> None:
    folds = [Fold(k, k, k + 5) for k in sorted({len(values) // 2 or 1, len(values)})]
    assert np.isfinite(model.forecast(series(values), folds)).all()


def test_a_baseline_that_cannot_be_fitted_is_the_last_value_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        made = Ets().forecast(series([3.0] * 40), [Fold(20, 20, 22), Fold(30, 30, 32)])
    assert made.tolist() == [[3, 3], [3, 3]]
    assert caplog.messages == [
        "ets of A is the last value at 2 of 2 cutoffs: from row 30, all 30 rows are 3"
    ]


def test_what_has_too_few_rows_to_learn_from_is_the_last_value_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for model in (Theta(), Ets(), Arima()):
        with caplog.at_level(logging.WARNING):
            made = model.forecast(series(walk(21)), [Fold(19, 19, 21)])
        assert (made == walk(21)[18]).all()
        assert caplog.messages[-1].endswith("19 rows to learn from, at least 20 needed")


def test_a_forecast_that_is_no_number_is_the_last_value() -> None:
    nothing = along("none", series([1, 2, 3]), [Fold(2, 2, 3)], lambda v, n: np.full(n, np.nan))
    assert nothing.tolist() == [[2]]


@pytest.mark.parametrize(
    ("model", "search"),
    [(Ets(), "statsforecast.ets.ets_f"), (Arima(), "statsforecast.arima.auto_arima_f")],
    ids=["ets", "arima"],
)
def test_the_form_of_a_model_is_searched_for_once(
    model: Forecaster, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = search.rpartition(".")
    found, searches = getattr(import_module(module), name), []

    def counted(*args: Any, **more: Any) -> Any:
        searches.append(more.get("model", "ZZ"))
        return found(*args, **more)

    monkeypatch.setattr(search, counted)
    folds = WalkForward(horizon=5, period=5, initial=70).folds(90)
    model.forecast(series(walk(90)), folds)
    assert sum("ZZ" in searched for searched in searches) == 1 < len(folds)


BAD = {
    "one horizon": [Fold(5, 5, 7), Fold(6, 6, 9)],
    "trains on at least 1 row": [Fold(0, 0, 2)],
    "order of their cutoffs": [Fold(7, 7, 9), Fold(5, 5, 7)],
}


@pytest.mark.parametrize(("told", "folds"), BAD.items(), ids=BAD)
def test_folds_that_make_no_sense_are_refused(told: str, folds: list[Fold]) -> None:
    with pytest.raises(InputError, match=told):
        Naive().forecast(series(walk(20)), folds)


def test_no_fold_gives_no_forecast() -> None:
    assert Naive().forecast(series([1.0]), []).shape == (0, 0)
