"""The leak guard: change what nobody could know, ask again, and demand the same bits.

It knows nothing of the model. What a model answers at an instant may hang only on what was known
then. So the guard puts other values, and other rows, in the place of what was not, and asks again:
an answer that differs in one bit has seen the future. Equality is of bytes, NaN equals NaN: a
tolerance would let a small leak through, and an honest computation repeats itself to the bit.

What it cannot see: a leak that happened before the tables it is given were made, a model that was
tuned by hand on the test part, a choice among a few candidates that no change turns round, and a
model that keeps its answers under a key that leaves out something it reads. The alarm and the
checks of the split stand beside it for these.

It imports numpy and polars: import it where it is used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.errors import InputError
from tidemill.skill.findings import Check, Finding, first_of_each
from tidemill.skill.folds import Fold
from tidemill.skill.future import (
    CHANGES,
    NOISY,
    Change,
    Flags,
    Floats,
    Source,
    change_source,
    change_values,
)
from tidemill.skill.series import Forecaster, Series

EXTRA_DAYS = 30
"""Days that are put behind the series, which must not move what is forecast before."""


@dataclass(frozen=True)
class Search:
    """How hard to look.

    A forecaster is asked ``probes`` x ``changes`` + 5 times for all its folds, and as often again
    for each side table; a pipeline at most 2 x ``probes`` x ``changes`` + ``sweep`` + 3 times.

    Attributes:
        seed: Of all changes; the same seed makes the same changes.
        probes: Cutoffs, or instants, after which the future is changed.
        changes: What is done to it.
        sweep: Further instants of a pipeline that take one change only.
        heeds: Whether the answers must hang on the past. False for a model that answers the same
            whatever came before, as "the next return is 0".
    """

    seed: int = 0
    probes: int = 3
    changes: tuple[Change, ...] = CHANGES
    sweep: int = 8
    heeds: bool = True

    def __post_init__(self) -> None:
        """Refuse to look at nothing."""
        if self.probes < 1 or not self.changes:
            raise InputError("expected at least one probe and one change, found none")

    def chance(self, *place: int) -> np.random.Generator:
        """Random numbers of one place of the search, whatever was drawn elsewhere."""
        return np.random.default_rng([self.seed, *place])


SEARCH = Search()


def differing(before: npt.NDArray[np.floating], after: npt.NDArray[np.floating]) -> Flags:
    """Where two arrays of one shape and type have not the same bits; any NaN equals any NaN."""
    bits = f"i{before.dtype.itemsize}"
    unequal = np.ascontiguousarray(before).view(bits) != np.ascontiguousarray(after).view(bits)
    return np.asarray(unequal & ~(np.isnan(before) & np.isnan(after)))


def spread(count: int, probes: int) -> list[int]:
    """At most ``probes`` of 0 to ``count`` - 1, in order; the last always, the first if two may."""
    if count < 1 or probes < 1:
        return []
    return sorted({int(i) for i in np.linspace(count - 1, 0, min(probes, count)).round()})


def frames(sources: Mapping[str, Source]) -> dict[str, pl.DataFrame]:
    """The tables as they are, each in one piece: a sum over pieces may round otherwise."""
    return {name: source.frame.rechunk() for name, source in sources.items()}


def deaf(where: str) -> Finding:
    """No change of the past moves anything."""
    text = f"{where} stay the same whatever came before: the guard has proved nothing"
    return Finding(Check.HEED, where, "", text)


@dataclass(frozen=True)
class Sides:
    """What a forecaster reads beside the series, as events and holidays.

    Attributes:
        sources: The tables by name; ``known`` is a Date, the day on which a row became known.
        remake: Makes the forecaster from the tables.
    """

    sources: Mapping[str, Source]
    remake: Callable[[Mapping[str, pl.DataFrame]], Forecaster]


def leaks(
    forecaster: Forecaster,
    series: Series,
    folds: Sequence[Fold],
    search: Search = SEARCH,
    sides: Sides | None = None,
) -> list[Finding]:
    """Ask a forecaster again with other days after a cutoff; forecasts up to it must not move.

    The cutoffs are the first, the last and some between. All folds are asked for each time, as a
    choice made once on the last fold's training part reaches back into the first fold.

    Args:
        forecaster: Any; where there are sides, the one that ``sides.remake`` makes is looked at.
        series: The whole; values finite.
        folds: In order of their cutoffs, all of one horizon. Few suffice: see ``Search``.
        search: How hard to look.
        sides: Tables that the forecaster reads beside the series.

    Returns:
        Nothing where nothing was found. A forecaster that differs without a change is reported as
        not repeatable and is not looked at further.

    Raises:
        InputError: There is no fold, or its forecasts have another shape than (folds, horizon).
    """
    if not folds:
        raise InputError("expected at least one fold, found none: nothing would be proved")
    if sides:
        forecaster = sides.remake(frames(sides.sources))
    before = _forecast(forecaster, series, folds)
    told = _Told(series, folds, before)
    if unstable := told.differs(_forecast(forecaster, series, folds), len(folds), "", "values"):
        return [replace(unstable, check=Check.REPEAT, text="forecasts differ without any change")]
    found = list(islice(_other_days(forecaster, told, search), 1))
    found += islice(_other_lengths(forecaster, told), 1)
    if sides:
        found += _other_sides(sides, told, search)
    if not found and search.heeds:
        past = change_values(series.values[: folds[0].cutoff], 0, NOISY, search.chance(0))
        values = np.concatenate([past, series.values[folds[0].cutoff :]])
        same = _forecast(forecaster, replace(series, values=values), folds)
        if told.differs(same, len(folds), "", "values") is None:
            found.append(deaf("forecast"))
    return first_of_each(found)


@dataclass(frozen=True)
class _Told:
    """What the forecaster says of the series as it is."""

    series: Series
    folds: Sequence[Fold]
    before: Floats

    def differs(self, after: Floats, upto: int, change: str, what: str) -> Finding | None:
        """The first forecast of the first ``upto`` folds that is another one."""
        unequal = differing(self.before[:upto], after[:upto])
        if not unequal.any():
            return None
        fold, step = (int(i) for i in np.argwhere(unequal)[0])
        cut = self.folds[fold]
        day = self.series.dates[cut.cutoff - 1] if cut.cutoff else "the start"
        old, new = float(self.before[fold, step]), float(after[fold, step])
        row = f"fold {fold}, known until {day}, step {step + 1}"
        rows = int(unequal.sum())
        text = (
            f"{row}: forecast {old!r}, and {new!r} with other {what} after "
            f"{_day(self, upto)} ({change}); {rows} forecasts differ"
        )
        gap = np.abs(self.before[:upto] - after[:upto])[unequal]
        largest = float(gap.max()) if np.isfinite(gap).all() else None
        return Finding(Check.FUTURE, what, row, text, change, repr(old), repr(new), largest, rows)


def _day(told: _Told, upto: int) -> str:
    """The last day that is known in fold ``upto`` - 1."""
    return str(told.series.dates[max(told.folds[upto - 1].cutoff - 1, 0)])


def _other_days(forecaster: Forecaster, told: _Told, search: Search) -> Iterator[Finding]:
    """The forecaster with other values after each probed cutoff; days have no rows to lose."""
    series, folds = told.series, told.folds
    changes = [change for change in search.changes if change.rows == "same"]
    for fold in spread(len(folds), search.probes):
        for nth, change in enumerate(changes):
            rng = search.chance(fold, nth)
            values = change_values(series.values, folds[fold].cutoff, change, rng)
            other = _asked(forecaster, replace(series, values=values), folds, change.name)
            if finding := told.differs(other, fold + 1, change.name, "values"):
                yield finding


def _other_lengths(forecaster: Forecaster, told: _Told) -> Iterator[Finding]:
    """The forecaster with days behind the last fold's, and without."""
    series, folds = told.series, told.folds
    last = folds[-1].stop
    days = series.dates[-1] + np.arange(1, EXTRA_DAYS + 1)
    more = np.concatenate([series.values, series.values[-1] * np.linspace(1.0, 3.0, EXTRA_DAYS)])
    lengths = {"more": Series(series.name, np.concatenate([series.dates, days]), more)}
    if last < len(series):
        lengths["fewer"] = series.until(last)
    for name, other_length in lengths.items():
        other = _asked(forecaster, other_length, folds, name)
        if finding := told.differs(other, len(folds), name, "days"):
            yield finding


def _other_sides(sides: Sides, told: _Told, search: Search) -> Iterator[Finding]:
    """The forecaster with other side tables after each probed cutoff."""
    for fold in spread(len(told.folds), search.probes):
        day = told.series.dates[told.folds[fold].cutoff - 1].item()
        for name, source in sides.sources.items():
            hidden = source.hidden(day)
            if not hidden.any():
                continue
            for nth, change in enumerate(search.changes):
                rng = search.chance(fold, nth)
                frame = change_source(source, hidden, change, rng).frame.rechunk()
                model = sides.remake(frames(sides.sources) | {name: frame})
                other = _asked(model, told.series, told.folds, change.name)
                if finding := told.differs(other, fold + 1, change.name, name):
                    yield finding


def _asked(forecaster: Forecaster, series: Series, folds: Sequence[Fold], change: str) -> Floats:
    """Forecast; a failure is told with the change that made it."""
    try:
        return _forecast(forecaster, series, folds)
    except Exception as error:
        error.add_note(
            f"{forecaster.name} ran on {series.name} as it is, and not changed: {change}"
        )
        raise


def _forecast(forecaster: Forecaster, series: Series, folds: Sequence[Fold]) -> Floats:
    """Forecasts in an array of their own, as a model may hand out one that it keeps and changes."""
    values = np.array(forecaster.forecast(_copied(series), folds), dtype=np.float64)
    expected = (len(folds), folds[0].horizon)
    if values.shape != expected:
        raise InputError(f"expected forecasts of shape {expected}, found {values.shape}")
    return values


def _copied(series: Series) -> Series:
    """The series in arrays of its own, so that a model that writes into them changes no other."""
    return replace(series, dates=series.dates.copy(), values=series.values.copy())
