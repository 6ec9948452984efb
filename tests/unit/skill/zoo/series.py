"""Forecasters of a daily series, each leaky and honest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from tests.unit.skill.zoo.exhibit import EachFold, Exhibit, SeriesTwin, exhibit, naive
from tidemill.skill.alarm import Floats
from tidemill.skill.findings import Check
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.future import Source
from tidemill.skill.leak import Sides
from tidemill.skill.series import Series

DAYS, HORIZON = 560, 28
FIRST = date(2024, 1, 1)
WINDOWS = (1, 2, 3, 5, 7, 10, 14, 21, 28)


def walk(seed: int = 5) -> Series:
    """A price that wanders, with a weekly swing and a lift each 29th day."""
    rng = np.random.default_rng(seed)
    days = np.arange(DAYS)
    steps = rng.normal(0.0, 0.03, DAYS).cumsum() + 0.02 * np.sin(days / 7 * 2 * np.pi)
    lift = np.where(days % 29 == 0, 0.08, 0.0)
    dates = np.datetime64(FIRST) + days
    return Series("WALK", dates, 100 * np.exp(steps + lift))


SERIES = walk()
FOLDS = WalkForward(HORIZON, HORIZON, 280).folds(DAYS)


def means(values: Floats, window: int) -> Floats:
    """The mean of the last ``window`` values, of fewer at the start; shape (n,)."""
    sums = np.concatenate([[0.0], values.cumsum()])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    return np.asarray((sums[stop] - sums[start]) / (stop - start))


def regression(columns: Sequence[Floats], y: Floats, train: int, stop: int) -> Floats:
    """Least squares on the rows before ``train``; the answers of rows ``train`` to ``stop``."""
    design = np.column_stack([np.ones(stop), *(column[:stop] for column in columns)])
    weights = np.linalg.lstsq(design[28:train], y[28:train], rcond=None)[0]
    return np.asarray((design[train:stop] * weights).sum(axis=1))


def same_day_means(series: Series, fold: Fold) -> Floats:
    columns = [means(series.values, 7), means(series.values, 28)]
    return regression(columns, series.values, fold.cutoff, fold.stop)


def lagged_means(series: Series, fold: Fold) -> Floats:
    lag = fold.stop - fold.cutoff
    known = series.values[: fold.cutoff]
    columns = [np.concatenate([np.zeros(lag), means(known, window)]) for window in (7, 28)]
    return regression(columns, known, fold.cutoff, fold.stop)


def next_day_as_lag(series: Series, fold: Fold) -> Floats:
    return regression([np.roll(series.values, -1)], series.values, fold.cutoff, fold.stop)


def last_month_as_lag(series: Series, fold: Fold) -> Floats:
    known = series.values[: fold.cutoff]
    lagged = np.concatenate([np.zeros(fold.horizon), known])
    return regression([lagged], known, fold.cutoff, fold.stop)


def _window_for(values: Floats, cutoff: int, stop: int) -> int:
    """The window whose mean before ``cutoff`` is nearest to what came from there to ``stop``."""
    after = values[cutoff:stop]
    return min(
        WINDOWS, key=lambda w: float(np.abs(after - values[cutoff - w : cutoff].mean()).sum())
    )


def grid_on_test(series: Series, fold: Fold) -> Floats:
    window = _window_for(series.values, fold.start, fold.stop)
    return np.full(fold.horizon, series.values[fold.cutoff - window : fold.cutoff].mean())


def grid_on_training(series: Series, fold: Fold) -> Floats:
    window = _window_for(series.values, fold.cutoff - fold.horizon, fold.cutoff)
    return np.full(fold.horizon, series.values[fold.cutoff - window : fold.cutoff].mean())


@dataclass(frozen=True)
class OneWindow:
    """One window for all folds, chosen before the first cutoff, or before the last."""

    name: str
    chosen_on: int
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        cutoff = folds[self.chosen_on].cutoff
        window = _window_for(series.values, cutoff - HORIZON, cutoff)
        return np.stack(
            [np.full(f.horizon, series.values[f.cutoff - window : f.cutoff].mean()) for f in folds]
        )


def _descent(values: Floats, fold: Fold, judge: slice) -> Floats:
    """An autoregression over last week's values, descended to until ``judge``'s error is least."""
    lag = fold.horizon
    level = values[: judge.start].mean()
    x, y = values[: len(values) - lag] / level - 1, values[lag:] / level - 1
    weight, best = 0.0, (np.inf, 0.0)
    rows = slice(0, min(judge.start, fold.cutoff) - lag)
    inside = slice(judge.start - lag, judge.stop - lag)
    for _ in range(60):
        error = float(np.abs(y[inside] - weight * x[inside]).sum())
        best = min(best, (error, weight))
        weight -= 0.5 * float((x[rows] * (weight * x[rows] - y[rows])).mean())
    after = values[fold.start - lag : fold.stop - lag] / level - 1
    return np.asarray(level * (1 + best[1] * after))


def stopped_on_test(series: Series, fold: Fold) -> Floats:
    return _descent(series.values[: fold.stop], fold, slice(fold.start, fold.stop))


def stopped_on_training(series: Series, fold: Fold) -> Floats:
    known = series.values[: fold.cutoff]
    return _descent(known, fold, slice(fold.cutoff - 28, fold.cutoff))


def _season(values: Floats, fold: Fold) -> Floats:
    """A trend and a week, of the logarithms, carried on from the last known value."""
    days = np.arange(len(values))
    trend = np.polyfit(days, np.log(values), 1)
    rest = np.log(values) - np.polyval(trend, days)
    week = np.array([rest[days % 7 == day].mean() for day in range(7)])
    ahead = np.arange(fold.start, fold.stop)
    last = fold.cutoff - 1
    lift = week[ahead % 7] - week[last % 7] + trend[0] * (ahead - last)
    return np.asarray(values[last] * np.exp(lift))


def whole_season(series: Series, fold: Fold) -> Floats:
    return _season(series.values, fold)


def known_season(series: Series, fold: Fold) -> Floats:
    return _season(series.values[: fold.cutoff], fold)


def _smooth(values: Floats) -> Floats:
    out = values.copy()
    for i in range(1, len(out)):
        out[i] = 0.5 * out[i - 1] + 0.5 * out[i]
    return out


def smoothed_both_ways(series: Series, fold: Fold) -> Floats:
    level = _smooth(_smooth(series.values[: fold.stop])[::-1])[::-1]
    return np.full(fold.horizon, level[fold.cutoff - 1])


def smoothed_forwards(series: Series, fold: Fold) -> Floats:
    return np.full(fold.horizon, _smooth(series.values[: fold.cutoff])[-1])


def _ridge(values: Floats, fold: Fold, seen: Floats) -> Floats:
    """A penalised slope on standardised values, so that the scale has a say."""
    z = (values - seen.mean()) / seen.std()
    lag = fold.horizon
    x, y = z[: fold.cutoff - lag], z[lag : fold.cutoff]
    slope = float((x * y).sum() / ((x * x).sum() + 20.0))
    return np.asarray(z[fold.start - lag : fold.stop - lag] * slope * seen.std() + seen.mean())


def scaled_on_all(series: Series, fold: Fold) -> Floats:
    return _ridge(series.values, fold, series.values)


def scaled_on_training(series: Series, fold: Fold) -> Floats:
    return _ridge(series.values, fold, series.values[: fold.cutoff])


def _lifted(series: Series, fold: Fold, seen: int) -> Floats:
    """Naive, with the mean lift of the known calendar's days among the first ``seen`` days."""
    logs = np.log(series.values[:seen])
    past = np.arange(29, seen, 29)
    lift = float((logs[past] - logs[past - 1]).mean())
    ahead = np.arange(fold.start, fold.stop)
    return naive(series, fold) * np.exp(np.where(ahead % 29 == 0, lift, 0.0))


def effect_of_all_holidays(series: Series, fold: Fold) -> Floats:
    return _lifted(series, fold, len(series))


def effect_of_past_holidays(series: Series, fold: Fold) -> Floats:
    return _lifted(series, fold, fold.cutoff)


def _events() -> Source:
    """Halvings that are announced two months ahead, and falls that get their name the day after."""
    falls = np.flatnonzero(np.diff(np.log(SERIES.values)) < -0.05) + 1
    named = [("fall", int(i), int(i) + 1) for i in falls]
    announced = [("halving", i, i - 60) for i in range(29, DAYS, 29)]
    rows = [
        (kind, FIRST + timedelta(days=day), FIRST + timedelta(days=known))
        for kind, day, known in sorted(named + announced, key=lambda row: row[1])
    ]
    return Source(pl.DataFrame(rows, ["kind", "day", "known"], orient="row"), known="known")


@dataclass(frozen=True)
class Eventful:
    """Naive, times the mean move of the day of each event that it believes to be ahead."""

    events: pl.DataFrame
    is_leaky: bool
    name: str = "eventful"

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        return np.stack([self._one(series, fold) for fold in folds])

    def _one(self, series: Series, fold: Fold) -> Floats:
        today = series.dates[fold.cutoff - 1].item()
        told = self.events if self.is_leaky else self.events.filter(pl.col("known") <= today)
        moves = np.diff(np.log(series.values[: fold.cutoff]), prepend=0.0)
        out = naive(series, fold)
        for kind in ("fall", "halving"):
            days = told.filter(pl.col("kind") == kind)["day"].to_numpy()
            past = np.isin(series.dates[: fold.cutoff], days)
            move = float(moves[past].mean()) if past.any() else 0.0
            ahead = np.isin(series.dates[fold.start : fold.stop], days)
            out = out * np.exp(move * ahead.cumsum())
        return out


def _alone(
    name: str, leaky: EachFold | OneWindow, honest: EachFold | OneWindow, *caught_by: Check
) -> Exhibit:
    twins = [SeriesTwin(forecaster, SERIES, FOLDS) for forecaster in (leaky, honest)]
    return exhibit(name, twins[0], twins[1], *caught_by)


def _eventful(is_leaky: bool) -> SeriesTwin:
    sides = Sides({"events": _events()}, lambda tables: Eventful(tables["events"], is_leaky))
    return SeriesTwin(Eventful(_events().frame, is_leaky), SERIES, FOLDS, sides)


PAIRS = {
    "the day's own moving averages": (same_day_means, lagged_means, True),
    "a lag of minus one": (next_day_as_lag, last_month_as_lag, True),
    "a grid chosen on the test part": (grid_on_test, grid_on_training, False),
    "early stopping on the test part": (stopped_on_test, stopped_on_training, False),
    "a season taken from the whole series": (whole_season, known_season, False),
    "smoothing both ways": (smoothed_both_ways, smoothed_forwards, False),
    "scaling on the whole series": (scaled_on_all, scaled_on_training, False),
    "the effect of holidays to come": (effect_of_all_holidays, effect_of_past_holidays, False),
}

EXHIBITS = (
    *(
        _alone(
            name,
            EachFold("leaky", leaky, is_leaky=True),
            EachFold("honest", honest),
            *([Check.FUTURE, Check.ALARM] if is_absurd else [Check.FUTURE]),
        )
        for name, (leaky, honest, is_absurd) in PAIRS.items()
    ),
    _alone(
        "a choice made on the last fold",
        OneWindow("leaky", -1, is_leaky=True),
        OneWindow("honest", 0),
        Check.FUTURE,
    ),
    exhibit("events named in hindsight", _eventful(True), _eventful(False), Check.FUTURE),
)
