"""The mode that Prophet's optimiser starts from."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.crypto.forecasting.walks import walk
from tidemill.crypto.forecasting import backend, start
from tidemill.crypto.forecasting.calm import calm
from tidemill.crypto.forecasting.features import Floats, training
from tidemill.crypto.forecasting.fit import fit
from tidemill.crypto.forecasting.recipe import Begin, Mode, Recipe

BOTH = pytest.mark.parametrize("mode", Mode)


def problem(
    mode: Mode, scale: float = 10.0
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Stan's data and first guess of a small series, and what Prophet makes of them by itself.

    The smaller the prior scale of the weights, the more the prior counts.
    """
    from prophet import Prophet

    frame = training(walk(200), 200, Recipe())
    with calm():
        model = Prophet(
            seasonality_mode=mode.value, daily_seasonality=False, seasonality_prior_scale=scale
        )
        for name in ("ma7", "ma30"):
            model.add_regressor(name, prior_scale=scale)
        data = model.preprocess(frame)
        guess = model.calculate_initial_params(data.K)
        assert model.stan_backend is not None
        found = model.stan_backend.fit(dataclasses.asdict(guess), dataclasses.asdict(data))
    return dataclasses.asdict(data), dataclasses.asdict(guess), found


def cost(data: dict[str, Any], found: dict[str, Any]) -> float:
    """Minus the log posterior as prophet.stan has it, written down once more."""
    t, y, x = np.array(data["t"]), np.array(data["y"]), np.array(data["X"])
    k, m, sigma = (float(np.ravel(found[name])[0]) for name in ("k", "m", "sigma_obs"))
    delta, beta = np.ravel(found["delta"]), np.ravel(found["beta"])
    past = t[:, None] >= data["t_change"]
    trend = (k + past @ delta) * t + m + past @ (-np.array(data["t_change"]) * delta)
    mean = trend * (1 + x @ (beta * data["s_m"])) + x @ (beta * data["s_a"])
    prior = (k**2 + m**2) / 50 + np.abs(delta).sum() / data["tau"] + sigma**2 / 0.5
    prior += 0.5 * ((beta / np.array(data["sigmas"])) ** 2).sum()
    return float(len(y) * np.log(sigma) + ((y - mean) ** 2).sum() / (2 * sigma**2) + prior)


@BOTH
def test_the_mode_is_at_least_as_probable_as_what_prophet_finds_from_its_own_start(
    mode: Mode,
) -> None:
    data, guess, theirs = problem(mode)
    ours = start.posterior_mode(data, guess)
    assert ours is not None
    assert cost(data, ours) <= cost(data, theirs) + 1e-6 < cost(data, guess)


@BOTH
def test_nothing_near_the_mode_is_more_probable(mode: Mode) -> None:
    data, guess, _ = problem(mode, scale=0.01)
    mode_found = start.posterior_mode(data, guess)
    assert mode_found is not None
    least = cost(data, mode_found)
    for name, at in mode_found.items():
        for i in range(np.size(at)):
            for step in (-1e-3, 1e-3):
                moved = np.array(at, dtype=float).reshape(-1)
                moved[i] += step * (abs(moved[i]) + 0.01)
                assert cost(data, {**mode_found, name: moved}) > least - 1e-6


def test_a_useless_start_costs_time_and_not_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = walk(200)
    good = fit(whole, 200, Recipe()).model.params["beta"]
    for useless in (lambda data, start: None, lambda data, start: start):
        monkeypatch.setattr(backend, "posterior_mode", useless)
        found = fit(whole, 200, Recipe()).model.params["beta"]
        assert not np.array_equal(found, good) and found == pytest.approx(good, abs=0.02)


@BOTH
def test_from_prophets_own_start_the_parameters_are_prophets_own(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = problem(mode)[2]
    monkeypatch.delattr(backend, "posterior_mode")
    ours = fit(walk(200), 200, Recipe(mode), Begin.PROPHET).model.params
    for name, found in ours.items():
        assert found == pytest.approx(theirs[name], rel=2e-7), name


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(0, 10_000), st.floats(1e-3, 30))
def test_a_lasso_keeps_its_conditions(k: int, seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(k + 5, k)).cumsum(axis=0)
    gram, target = rows.T @ rows, rows.T @ rng.normal(size=k + 5) * 5
    began: Floats = rng.normal(size=k) * rng.integers(0, 2, size=k)
    x = start.lasso(gram, target, penalty, began)
    slope = gram @ x - target
    tight = 1e-6 * (penalty + np.abs(target).max())
    assert (np.abs(slope) <= penalty + tight).all()
    assert np.abs(slope + penalty * np.sign(x))[x != 0].max(initial=0) <= tight


def test_a_matrix_reaches_stan_to_the_last_bit() -> None:
    import json

    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(50, 4)) * 10.0 ** rng.integers(-30, 30, size=(50, 4))
    assert np.array_equal(np.array(json.loads(backend.quick_rows(matrix))), matrix)
