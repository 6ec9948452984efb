"""What the guard says of forecasters; the kinds of leak are in the zoo."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.unit.skill.zoo.exhibit import EachFold, naive
from tests.unit.skill.zoo.series import FOLDS, SERIES
from tidemill.errors import InputError
from tidemill.skill.alarm import Floats
from tidemill.skill.findings import Check
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.future import CHANGES
from tidemill.skill.leak import Search, differing, leaks
from tidemill.skill.series import Series


@dataclass(frozen=True)
class Asked:
    """A forecaster that notes what it was given."""

    inner: Callable[[Series, Fold], Floats] = naive
    name: str = "asked"
    is_leaky: bool = False
    seen: list[Series] = field(default_factory=list)

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        self.seen.append(series)
        return np.stack([self.inner(series, fold) for fold in folds])


def test_the_last_bit_of_a_forecast_gives_a_leak_away() -> None:
    def peeking(series: Series, fold: Fold) -> Floats:
        up = series.values[fold.start] > series.values[fold.cutoff - 1]
        return np.nextafter(naive(series, fold), np.inf if up else 0.0)

    (finding,) = leaks(EachFold("peeking", peeking), SERIES, FOLDS)
    assert finding.check is Check.FUTURE
    assert finding.largest is not None and 0 < finding.largest < 1e-13


def test_a_finding_names_the_first_forecast_that_moved_and_by_how_much() -> None:
    def last_step(series: Series, fold: Fold) -> Floats:
        return np.where(np.arange(fold.horizon) == 5, series.values[fold.stop - 1], 1.0)

    (finding,) = leaks(EachFold("last", last_step), SERIES, FOLDS)
    cutoff = SERIES.dates[FOLDS[0].cutoff - 1]
    assert finding.row == f"fold 0, known until {cutoff}, step 6"
    assert finding.change == "larger" and finding.rows == 1
    assert finding.before == repr(float(SERIES.values[FOLDS[0].stop - 1]))
    assert finding.largest == float(finding.after) - float(finding.before) > 0
    assert str(finding).startswith(f"future: {finding.row}: forecast {finding.before}, and")


def test_values_of_the_embargo_are_the_future_too() -> None:
    def day_after(series: Series, fold: Fold) -> Floats:
        return np.full(fold.horizon, series.values[fold.cutoff])

    folds = WalkForward(7, 14, 300, embargo=3).folds(len(SERIES))
    assert {f.check for f in leaks(EachFold("day after", day_after), SERIES, folds)} == {
        Check.FUTURE
    }
    assert leaks(EachFold("naive", naive), SERIES, folds) == []


def test_how_long_the_series_goes_on_is_the_future_too() -> None:
    def length(series: Series, fold: Fold) -> Floats:
        return naive(series, fold) * len(series)

    (finding,) = leaks(EachFold("length", length), SERIES, FOLDS)
    assert (finding.where, finding.change) == ("days", "more")
    long = EachFold("long", lambda series, fold: naive(series, fold) + (len(series) >= 560))
    (finding,) = leaks(long, SERIES, FOLDS[:-1])
    assert (finding.where, finding.change) == ("days", "fewer")


def test_a_model_that_rolls_dice_is_not_repeatable_and_not_called_leaky() -> None:
    rng = np.random.default_rng(0)

    def dicing(series: Series, fold: Fold) -> Floats:
        return naive(series, fold) * rng.uniform(0.9, 1.1, fold.horizon)

    (finding,) = leaks(EachFold("dice", dicing), SERIES, FOLDS)
    assert finding.check is Check.REPEAT
    assert str(finding) == "repeat: forecasts differ without any change"


def test_a_model_that_keeps_its_answers_by_the_name_of_the_series_proves_nothing() -> None:
    kept: dict[tuple[str, Fold], Floats] = {}

    def keeping(series: Series, fold: Fold) -> Floats:
        return kept.setdefault((series.name, fold), series.values[fold.start : fold.stop])

    (finding,) = leaks(EachFold("keeping", keeping), SERIES, FOLDS)
    assert finding.check is Check.HEED


def test_a_model_without_a_past_is_let_pass_when_it_says_so() -> None:
    zero = EachFold("zero", lambda series, fold: np.zeros(fold.horizon))
    assert [finding.check for finding in leaks(zero, SERIES, FOLDS)] == [Check.HEED]
    assert leaks(zero, SERIES, FOLDS, Search(heeds=False)) == []


def test_nan_equals_nan_and_minus_zero_is_not_zero() -> None:
    one = np.array([np.nan, 0.0, 1.0])
    other = np.array([-np.float64("nan"), -0.0, 1.0])
    assert differing(one, other).tolist() == [False, True, False]
    assert differing(one.astype("f4"), other.astype("f4")).tolist() == [False, True, False]


def test_a_model_that_writes_into_the_series_spoils_no_other_forecast() -> None:
    def spoiling(series: Series, fold: Fold) -> Floats:
        answer = naive(series, fold)
        series.values[:] = 0.0
        return answer

    before = SERIES.values.copy()
    assert leaks(EachFold("spoiling", spoiling), SERIES, FOLDS[-1:]) == []
    assert (SERIES.values == before).all()


def test_a_model_that_hands_out_the_same_array_each_time_is_still_seen() -> None:
    @dataclass(frozen=True)
    class Reusing:
        out: Floats
        name: str = "reusing"
        is_leaky: bool = True

        def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
            self.out[:] = [series.values[fold.start : fold.stop] for fold in folds]
            return self.out

    out = np.zeros((len(FOLDS), FOLDS[0].horizon))
    assert [f.check for f in leaks(Reusing(out), SERIES, FOLDS)] == [Check.FUTURE]


def test_the_past_of_each_probed_cutoff_is_left_and_its_future_is_not() -> None:
    asked = Asked()
    search = Search(probes=2, changes=CHANGES[:2])
    assert leaks(asked, SERIES, FOLDS, search) == []
    as_it_is, again, *others, longer, another_past = asked.seen
    assert (as_it_is.values == again.values).all() and len(longer) == len(SERIES) + 30
    for seen, fold in zip(others, [FOLDS[0], FOLDS[0], FOLDS[-1], FOLDS[-1]], strict=True):
        same = seen.values == SERIES.values
        assert same[: fold.cutoff].all() and not same[fold.cutoff :].any()
    assert not (another_past.values == SERIES.values)[: FOLDS[0].cutoff].any()


def test_a_model_that_fails_on_another_future_is_told_with_the_change() -> None:
    def checking(series: Series, fold: Fold) -> Floats:
        if series.values.max() > SERIES.values.max():
            raise ValueError("out of range")
        return naive(series, fold)

    with pytest.raises(ValueError, match="out of range") as raised:
        leaks(EachFold("checking", checking), SERIES, FOLDS)
    assert raised.value.__notes__ == ["checking ran on WALK as it is, and not changed: larger"]


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one fold"):
        leaks(EachFold("naive", naive), SERIES, [])
    with pytest.raises(InputError, match=r"shape \(10, 28\), found \(10, 3\)"):
        leaks(EachFold("short", lambda series, fold: series.values[:3]), SERIES, FOLDS)
    with pytest.raises(InputError, match="at least one probe and one change"):
        Search(probes=0)
    with pytest.raises(InputError, match="at least one probe and one change"):
        Search(changes=())


def test_the_guard_needs_no_more_than_one_fold() -> None:
    def hindsight(series: Series, fold: Fold) -> Floats:
        return np.full(fold.horizon, series.values[fold.cutoff - 1 : fold.start + 1].mean())

    short = replace(SERIES, dates=SERIES.dates[:9], values=SERIES.values[:9])
    assert leaks(EachFold("naive", naive), short, [Fold(8, 8, 9)]) == []
    found = leaks(EachFold("hindsight", hindsight), short, [Fold(8, 8, 9)])
    assert [finding.check for finding in found] == [Check.FUTURE]
