"""Whether a model is better: p-values and intervals, by hand and against simulated truth."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from tidemill.errors import InputError
from tidemill.skill.compare import (
    ANYTHING,
    FLOOR,
    by_group,
    diebold_mariano,
    overlap,
    skill,
    skill_interval,
)
from tidemill.skill.folds import Fold, WalkForward

Floats = npt.NDArray[np.float64]


def cut(daily: Floats, folds: list[Fold]) -> Floats:
    return np.stack([daily[fold.start : fold.stop] for fold in folds])


@pytest.mark.parametrize(("horizon", "period"), [(30, 30), (30, 15), (30, 7), (30, 40), (1, 1)])
def test_the_overlap_of_walk_forward_folds_is_horizon_by_period_less_one(
    horizon: int, period: int
) -> None:
    folds = WalkForward(horizon, period, initial=50).folds(500)
    assert overlap(folds) == math.ceil(horizon / period) - 1


def test_without_overlap_p_is_that_of_the_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    mine, theirs = np.random.default_rng(0).uniform(1, 2, (2, 9, 4))
    expected = ttest_rel(mine.mean(axis=1), theirs.mean(axis=1)).pvalue
    assert diebold_mariano(mine, theirs) == pytest.approx(expected)


@pytest.mark.parametrize(("days", "period"), [(900, 30), (900, 15), (630, 7)])
def test_equal_models_are_told_apart_in_about_one_of_twenty_cases(days: int, period: int) -> None:
    rng, folds = np.random.default_rng(1), WalkForward(30, period, initial=1).folds(days)
    rejected = 0
    for _ in range(1000):
        mine, theirs = rng.standard_exponential((2, days))
        p = diebold_mariano(cut(mine, folds), cut(theirs, folds), overlap(folds))
        rejected += p < 0.05
    assert 0.03 * 1000 <= rejected <= 0.075 * 1000


def test_a_model_that_is_better_on_every_fold_is_told_apart() -> None:
    rng, folds = np.random.default_rng(2), WalkForward(30, 15, initial=1).folds(600)
    theirs = rng.uniform(1, 2, 600)
    mine = theirs * rng.uniform(0.6, 0.8, 600)
    assert diebold_mariano(cut(mine, folds), cut(theirs, folds), 1) < 0.001
    low, high = skill_interval(cut(mine, folds), cut(theirs, folds), 1)
    assert 0.27 < low < 0.3 < high < 0.33


@pytest.mark.parametrize(
    ("days", "period", "is_root"), [(360, 30, False), (900, 30, True), (900, 15, False)]
)
def test_the_interval_holds_the_true_skill_about_as_often_as_it_says(
    days: int, period: int, is_root: bool
) -> None:
    rng, folds = np.random.default_rng(3), WalkForward(30, period, initial=1).folds(days)
    true = 1 - math.sqrt(0.8) if is_root else 0.2
    held = 0
    for seed in range(400):
        theirs = rng.standard_exponential(days)
        mine = 0.5 * theirs + 0.3 * rng.standard_exponential(days)
        low, high = skill_interval(
            cut(mine, folds), cut(theirs, folds), overlap(folds), is_root, seed
        )
        held += low <= true <= high
    assert 0.9 * 400 <= held <= 0.985 * 400


def test_skill_is_the_share_of_the_error_that_is_saved() -> None:
    assert skill([1.0, 2.0], [4.0, 2.0]) == 0.5
    assert skill([1.0, 2.0], [4.0, 8.0], is_root=True) == 0.5
    assert skill([6.0], [2.0]) == -2


def test_identical_losses_have_no_skill_and_a_p_of_one() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, (10, 5))
    assert diebold_mariano(losses, losses * (1 + 1e-15)) == 1
    assert skill(losses, losses) == 0
    assert skill_interval(losses, losses) == (0, 0)


def test_a_difference_that_is_the_same_on_every_fold_is_no_chance() -> None:
    assert diebold_mariano(np.full((5, 2), 1.0), np.full((5, 2), 2.0)) == 0


def test_a_baseline_without_error_leaves_no_skill_or_the_least() -> None:
    nothing, some = np.zeros((5, 2)), np.ones((5, 2))
    assert skill(nothing, nothing) == 0
    assert skill(some, nothing) == FLOOR
    assert skill_interval(nothing, nothing) == (0, 0)
    assert skill_interval(some, nothing) == (FLOOR, FLOOR)
    assert diebold_mariano(nothing, nothing) == 1


@pytest.mark.parametrize(("folds", "overlapping"), [(1, 0), (2, 0), (5, 1), (8, 2)])
def test_of_too_few_folds_nothing_is_said(folds: int, overlapping: int) -> None:
    mine, theirs = np.full((folds, 3), 1.0), np.full((folds, 3), 2.0)
    assert diebold_mariano(mine, theirs, overlapping) == 1
    assert skill_interval(mine, theirs, overlapping) == ANYTHING


def test_the_same_seed_gives_the_same_interval() -> None:
    mine, theirs = np.random.default_rng(0).uniform(1, 2, (2, 20, 3))
    first = skill_interval(mine, theirs, seed=1)
    assert skill_interval(mine, theirs, seed=1) == first != skill_interval(mine, theirs, seed=2)


def test_the_interval_is_around_the_skill_and_never_above_one() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        mine, theirs = rng.standard_exponential((2, 4, 1)) ** 4
        low, high = skill_interval(mine, theirs)
        assert FLOOR <= low <= skill(mine, theirs) <= high <= 1


def test_an_interval_ends_where_skill_is_not_told_any_more() -> None:
    theirs = np.array([1e-5, 0, 0, 0, 0])
    assert skill(np.ones(5), theirs) == pytest.approx(1 - 5e5)
    assert skill_interval(np.ones(5), theirs)[0] == FLOOR


def test_rows_of_one_group_count_once() -> None:
    assert by_group([1.0, 2.0, 4.0], ["b", "a", "b"]).tolist() == [2, 5]
    rng = np.random.default_rng(5)
    mine, theirs = rng.uniform(0, 1, 10), rng.uniform(0.1, 1.1, 10)
    named = np.arange(10)
    once = diebold_mariano(by_group(mine, named), by_group(theirs, named))
    assert once == pytest.approx(diebold_mariano(mine, theirs))
    ours, other = (by_group(np.repeat(x, 50), np.repeat(named, 50)) for x in (mine, theirs))
    assert diebold_mariano(ours, other) == pytest.approx(once)
    assert diebold_mariano(np.repeat(mine, 50), np.repeat(theirs, 50)) < once


def test_losses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        skill([1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="at least 0"):
        diebold_mariano([-1.0], [1.0])
    with pytest.raises(InputError, match="overlap of 0 to 1 folds, found 2"):
        skill_interval([1.0, 1.0], [1.0, 1.0], 2)
    with pytest.raises(InputError, match="losses and groups of one shape"):
        by_group([1.0, 2.0], ["a"])
