"""Where a series is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import InputError
from tidemill.skill.folds import Fold, WalkForward


def test_the_last_fold_ends_with_the_series_and_cutoffs_go_back_by_the_period() -> None:
    assert WalkForward(horizon=3, period=2, initial=5).folds(12) == [
        Fold(5, 5, 8),
        Fold(7, 7, 10),
        Fold(9, 9, 12),
    ]


def test_an_embargo_parts_training_from_test() -> None:
    assert WalkForward(horizon=3, period=2, initial=5, embargo=2).folds(12) == [
        Fold(5, 7, 10),
        Fold(7, 9, 12),
    ]


def test_a_series_that_is_too_short_has_no_fold() -> None:
    assert WalkForward(horizon=3, period=2, initial=5).folds(7) == []


@pytest.mark.parametrize("bad", [{"horizon": 0}, {"period": 0}, {"initial": 0}, {"embargo": -1}])
def test_what_cuts_nothing_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected a horizon"):
        WalkForward(**{"horizon": 1, "period": 1, "initial": 1} | bad)


@given(
    rows=st.integers(0, 300),
    horizon=st.integers(1, 40),
    period=st.integers(1, 40),
    initial=st.integers(1, 200),
    embargo=st.integers(0, 10),
)
def test_no_fold_tests_what_it_trains_on(
    rows: int, horizon: int, period: int, initial: int, embargo: int
) -> None:
    folds = WalkForward(horizon, period, initial, embargo).folds(rows)
    for fold in folds:
        assert initial <= fold.cutoff == fold.start - embargo
        assert fold.horizon == horizon and fold.stop <= rows
    for before, after in pairwise(folds):
        assert after.cutoff - before.cutoff == period
    if folds:
        assert folds[-1].stop == rows and folds[0].cutoff - period < initial
    else:
        assert rows < initial + embargo + horizon
