"""Which model is chosen, and on what."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.crypto.forecasting.walks import Awkward, Floats, Naive, series, walk
from tidemill.crypto.forecasting.crew import Crew
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.recipe import Recipe
from tidemill.crypto.forecasting.study import Plan, Study, mape, study
from tidemill.errors import InputError

QUICK = Plan(horizon=5, period=10, most=2, test=0.1)


def of(values: Floats, plan: Plan = QUICK) -> Study:
    with Crew(1) as crew:
        return study(series(values), [Naive(), Awkward()], crew, plan=plan)


@pytest.fixture(scope="module")
def walked() -> Study:
    return of(walk(200).values)


def test_all_that_chooses_ends_before_the_test_part(walked: Study) -> None:
    assert walked.train == 180
    assert [fold.stop for fold in walked.choosing.folds] == [170, 180]
    assert min(fold.start for fold in walked.testing.folds) >= 180
    assert walked.testing.folds[-1].stop == 200


def test_the_test_part_has_no_say_in_the_choice(walked: Study) -> None:
    values = walk(200).values.copy()
    values[180:] = np.linspace(1, 5000, 20)
    other = of(values)
    assert (other.champion, other.grid, other.losses) == (
        walked.champion,
        walked.grid,
        walked.losses,
    )
    assert other.recipes == walked.recipes


def test_the_champion_is_the_honest_model_with_the_least_loss(walked: Study) -> None:
    assert walked.losses[walked.champion] == min(walked.losses.values())
    assert walked.leaky == {"prophet_leaky_ma7", "prophet_leaky_ma7_ma30"}
    assert not walked.leaky & set(walked.losses)


def test_mode_and_prior_are_the_best_of_the_grid_in_every_variant(walked: Study) -> None:
    best = min(walked.grid, key=lambda label: walked.grid[label])
    assert len(walked.grid) == 6 and walked.recipes["prophet_frozen_ma7_ma30"].label == best
    assert walked.losses["prophet_frozen_ma7_ma30"] == walked.grid[best]
    assert {(one.mode, one.prior) for one in walked.recipes.values()} == {
        (walked.recipes["prophet"].mode, walked.recipes["prophet"].prior)
    }


def test_the_ablation_is_complete_with_one_log_variant_and_the_baselines(walked: Study) -> None:
    log = {name for name in walked.testing.forecasts if name.endswith("_log")}
    assert set(walked.testing.forecasts) - log == {
        "naive",
        "prophet",
        "prophet_frozen_ma7",
        "prophet_frozen_ma7_ma30",
        "prophet_recursive_ma7_ma30",
        "prophet_leaky_ma7",
        "prophet_leaky_ma7_ma30",
    }
    [name] = log
    logs = {one: loss for one, loss in walked.losses.items() if one.endswith("_log")}
    assert logs[name] == min(logs.values()) and len(logs) == 2
    assert walked.refused == {"awkward": "no spread"}


def test_runs_hold_what_came_beside_what_was_forecast(walked: Study) -> None:
    runs, whole = walked.testing, walk(200)
    fold = runs.folds[0]
    assert runs.cutoffs[0] == whole.dates[fold.cutoff - 1]
    assert np.array_equal(runs.actuals[0], whole.values[fold.start : fold.stop])
    model = ProphetForecaster(walked.recipes["prophet_frozen_ma7"])
    assert np.array_equal(runs.forecasts[model.name], model.forecast(whole, runs.folds))


@pytest.mark.parametrize("values", [[7.0], [7.0] * 3, list(range(1, 60))])
def test_a_series_shorter_than_two_folds_gets_the_naive_forecast_and_a_reason(
    values: list[float],
) -> None:
    found = of(np.array(values, dtype=float), Plan())
    assert found.champion == "naive" and found.losses == {}
    assert found.reason == (
        "A: expected at least 223 days, for 2 folds of 30 days in the training and in the test"
        f" part, found {len(values)}; naive is taken until there are"
    )


def odd(kind: str) -> Floats:
    values = walk(160, seed=5).values.copy()
    if kind == "constant":
        values[:] = 5
    if kind == "zeros and negatives":
        values[40:60] = 0
        values[70] = -3
    if kind == "jump":
        values[90:] *= 1000
    if kind == "filled":
        for i, draw in enumerate(np.random.default_rng(2).random(160)):
            if i and draw < 0.4:
                values[i] = values[i - 1]
    return values


@pytest.mark.parametrize("kind", ["constant", "zeros and negatives", "jump", "filled"])
def test_an_odd_series_has_a_champion_too(kind: str) -> None:
    found = of(odd(kind))
    assert np.isfinite(found.losses[found.champion])
    assert found.losses[found.champion] <= found.losses["naive"]
    logs = {name for name in found.refused if name.endswith("_log")}
    assert len(logs) == (2 if kind == "zeros and negatives" else 0)
    assert all("above 0" in found.refused[name] for name in logs)


def test_a_long_series_is_cut_at_3800_days_and_a_shorter_one_at_a_share() -> None:
    assert [fold.cutoff for fold in Plan().choosing(5000)] == list(range(3805, 3971, 15))
    assert Plan(most=99).choosing(3000)[0].cutoff >= 0.7 * 2400
    assert len(Plan().choosing(3000)) == 24
    assert len(Plan().testing(5000)) == 65


def test_without_a_baseline_nothing_is_judged() -> None:
    with Crew(1) as crew, pytest.raises(InputError, match="at least one baseline"):
        study(walk(), [], crew)


def test_an_error_in_percent_leaves_out_days_of_nothing() -> None:
    assert mape(np.array([[0.0, 2.0]]), np.array([[9.0, 1.0]])) == 50
    assert mape(np.zeros((1, 2)), np.ones((1, 2))) == float("inf")


def test_where_no_recipe_can_be_fitted_the_baseline_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Floats:
        raise RuntimeError("no program")

    monkeypatch.setattr(ProphetForecaster, "forecast", fail)
    found = of(walk(200).values)
    assert found.champion == "naive" and found.grid == {}
    assert found.refused[replace(Recipe(), averages=()).name] == "no program"
