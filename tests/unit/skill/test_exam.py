"""From forecasts to scores: the right baseline, the right figures, nothing left out."""

from datetime import UTC, datetime

import numpy as np
import pytest

from tidemill.errors import InputError
from tidemill.skill.baselines import Drift, Naive, SeasonalNaive
from tidemill.skill.compare import ANYTHING, by_group, diebold_mariano, skill_interval
from tidemill.skill.exam import Answer, Exam
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.series import Series

AT = datetime(2026, 11, 1, tzinfo=UTC)
FOLDS = WalkForward(horizon=10, period=5, initial=100).folds(300)


def series(days: int = 300) -> Series:
    values = 100 * np.exp(0.02 * np.random.default_rng(0).standard_normal(days).cumsum())
    return Series("A", np.datetime64("2026-01-01") + np.arange(days), values)


def exam(folds: list[Fold] = FOLDS) -> Exam:
    return Exam.of_series("crypto", series(), folds, data_version=4, at=AT)


def answers(folds: list[Fold] = FOLDS) -> list[Answer]:
    models = (Naive(), Drift(), SeasonalNaive())
    return [Answer(model.name, model.forecast(series(), folds)) for model in models]


def table(groups: list[str] | None = None) -> Exam:
    return Exam.of_table("retail", "purchase", np.arange(1.0, 9.0), 2, 1, AT, groups)


def test_every_model_is_held_against_the_best_baseline_which_has_no_skill() -> None:
    sat, baselines = exam(), answers()
    near = Answer("seer", 0.9 * sat.actual + 0.1 * baselines[0].forecast, is_leaky=True)
    scores = {score.model: score for score in sat.scores([near], baselines)}
    assert list(scores) == ["seer", "naive", "drift", "seasonal_naive_7"]
    best = min(list(scores.values())[1:], key=lambda score: score.value)
    assert {score.baseline for score in scores.values()} == {best.model}
    assert (best.skill, best.ci_low, best.ci_high, best.p_value) == (0, 0, 0, 1)
    seer = scores["seer"]
    assert seer.value == pytest.approx(scores["naive"].value / 10)
    assert seer.skill == pytest.approx(1 - seer.value / best.value)
    assert seer.is_leaky and not best.is_leaky
    assert seer.ci_low < seer.skill < seer.ci_high and seer.p_value < 0.001
    assert (seer.n, seer.folds, seer.horizon) == (len(FOLDS) * 10, len(FOLDS), 10)
    assert (seer.domain, seer.subject, seer.data_version, seer.at) == ("crypto", "A", 4, AT)


@pytest.mark.parametrize("metric", ["mape", "smape", "mae", "rmse", "r2", "mase"])
def test_skill_is_the_share_of_the_error_that_is_saved_by_any_metric(metric: str) -> None:
    sat, (naive, _, weekly) = exam(), answers()
    score = sat.score(metric, naive, weekly)
    value, other = score.value, score.baseline_value
    saved = 1 - (1 - value) / (1 - other) if metric == "r2" else 1 - value / other
    assert score.skill == pytest.approx(saved) and score.skill > 0
    assert sat.best(metric, [weekly, naive]) is naive


def test_a_model_that_is_leaky_is_no_baseline() -> None:
    sat, baselines = exam(), answers()
    leaky = Answer("seer", sat.actual, is_leaky=True)
    assert {score.baseline for score in sat.scores([], [leaky, *baselines])} != {"seer"}


def test_overlapping_folds_are_not_counted_as_so_many() -> None:
    assert exam().overlapping == 1
    few = FOLDS[:12]  # of more, the blocks of the interval are as long in any case
    sat, (naive, drift, _) = exam(few), answers(few)
    losses = [np.abs(sat.actual - answer.forecast) for answer in (drift, naive)]
    score = sat.score("mae", drift, naive)
    assert score.p_value == diebold_mariano(losses[0], losses[1], 1)
    assert (score.ci_low, score.ci_high) == skill_interval(losses[0], losses[1], 1)


def test_of_one_fold_a_score_says_that_nothing_is_known() -> None:
    score = exam(FOLDS[:1]).scores([], answers(FOLDS[:1]))[1]
    assert (score.ci_low, score.ci_high) == ANYTHING and score.p_value == 1


def test_a_constant_series_that_all_know_has_scores_without_skill() -> None:
    same = Series("C", series().dates, np.full(300, 5.0))
    sat = Exam.of_series("crypto", same, FOLDS, 0, AT)
    found = sat.scores([], [Answer(m.name, m.forecast(same, FOLDS)) for m in (Naive(), Drift())])
    assert [(s.value, s.skill, s.p_value) for s in found] == [(0, 0, 1), (0, 0, 1)]


def test_rows_of_a_table_that_belong_together_are_one() -> None:
    off, half = Answer("m", np.full(8, 3.0)), Answer("mean", np.full(8, 4.5))
    losses = [np.abs(table().actual - answer.forecast) for answer in (off, half)]
    names = list("aabbccdd")
    score = table(names).score("mae", off, half)
    assert score.p_value == diebold_mariano(by_group(losses[0], names), by_group(losses[1], names))
    assert score.p_value != table().score("mae", off, half).p_value
    assert (score.n, score.folds, score.horizon) == (8, 2, 1)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InputError, match="found 0 of horizons"):
        Exam.of_series("crypto", series(), [], 1, AT)
    with pytest.raises(InputError, match="expected a baseline"):
        exam().scores(answers(), [])
    with pytest.raises(InputError, match="one shape"):
        exam().score("mae", Answer("m", np.ones((2, 2))), answers()[0])
    with pytest.raises(InputError, match="use mae"):
        table().best("mase", [Answer("m", np.ones(8))])
