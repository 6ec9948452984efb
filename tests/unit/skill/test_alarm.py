"""When a score is too good to be believed."""

import numpy as np
import pytest

from tidemill.errors import InputError
from tidemill.skill.alarm import Limits, sign_test, too_good, too_high_r2
from tidemill.skill.findings import Check

NAIVE = np.random.default_rng(0).uniform(4.0, 8.0, (10, 30))


@pytest.mark.parametrize(("share", "alarms"), [(0.45, True), (0.55, False), (1.0, False)])
def test_less_than_half_of_the_baselines_error_in_every_fold_alarms(
    share: float, alarms: bool
) -> None:
    assert [finding.check for finding in too_good(NAIVE * share, NAIVE)] == [Check.ALARM] * alarms


def test_one_lucky_fold_is_no_reason_for_alarm() -> None:
    baseline = np.ones((10, 3))
    baseline[0] = 50.0
    loss = np.ones((10, 3))
    assert loss.mean() / baseline.mean() < 0.5
    assert too_good(loss, baseline, Limits(absurd=0.1)) == []


def test_folds_that_overlap_do_not_count_as_so_many() -> None:
    assert too_good(NAIVE * 0.4, NAIVE, stride=1)
    assert too_good(NAIVE * 0.4, NAIVE, stride=2) == []


def test_what_is_absurd_alarms_with_a_single_fold() -> None:
    (finding,) = too_good(NAIVE[:1] * 0.1, NAIVE[:1])
    assert "is 0.10 of the best baseline's" in finding.text and finding.rows == 30
    assert too_good(NAIVE[:1] * 0.4, NAIVE[:1]) == []


def test_a_baseline_without_error_cannot_be_beaten() -> None:
    assert too_good(np.zeros((8, 2)), np.zeros((8, 2))) == []


def test_the_sign_test_is_that_of_a_fair_coin() -> None:
    assert sign_test(7, 7) == 1 / 128
    assert sign_test(9, 10) == 11 / 1024
    assert sign_test(0, 0) == 1.0


def test_an_r2_above_the_ceiling_alarms() -> None:
    actual = np.random.default_rng(1).normal(0.0, 1.0, 400)
    off = np.random.default_rng(2).normal(0.0, 1.0, 400)
    mean = np.full(400, actual.mean())
    assert too_high_r2(actual, actual + 0.6 * off, mean) == []
    (finding,) = too_high_r2(actual, actual + 0.3 * off, mean)
    assert finding.check is Check.ALARM and "of 400 rows is above 0.8" in finding.text
    assert too_high_r2(actual, actual + 0.6 * off, mean, ceiling=0.1)


def test_errors_that_cannot_be_held_against_each_other_are_refused() -> None:
    with pytest.raises(InputError, match=r"found \(10, 30\), \(9, 30\), 1"):
        too_good(NAIVE, NAIVE[:9])
    with pytest.raises(InputError, match="expected finite errors"):
        too_good(NAIVE * np.nan, NAIVE)
    with pytest.raises(InputError, match="expected three arrays of one shape"):
        too_high_r2(NAIVE[0], NAIVE[0], NAIVE[0, :5])
    with pytest.raises(InputError, match="expected finite values"):
        too_high_r2(NAIVE[0] * np.inf, NAIVE[0], NAIVE[0])
    with pytest.raises(InputError, match="expected 0 <= absurd <= share"):
        Limits(share=0.1, absurd=0.2)
