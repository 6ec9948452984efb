"""Prophet's grid over folds, by its own sequential cross-validation and by the crew; then a study.

Both fit the same recipes on the same days and forecast the same folds, in the same run. The recipe
is the one that Prophet's own cross-validation can run with moving averages, the leaky one: it feeds
the test days' own.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tidemill.crypto.forecasting.calm import calm
from tidemill.crypto.forecasting.crew import Crew, Refusal
from tidemill.crypto.forecasting.features import Floats, column, moving_average
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.halvings import holidays
from tidemill.crypto.forecasting.recipe import Known, Recipe
from tidemill.crypto.forecasting.study import Plan, Runs, mape, study
from tidemill.errors import InputError, TidemillError
from tidemill.skill.baselines import series_baselines
from tidemill.skill.folds import Fold
from tidemill.skill.series import Series

SYMBOL = "BTCUSDT"
SEED = 7
FIRST_DAY = np.datetime64("2011-08-18")
DEVIATION = 0.035
"""Of a day's return, as of Bitcoin's."""
RATIO, STUDY_S, DIFFERENCE = 2.5, 90.0, 0.005
"""Targets: times faster, seconds of a study with all baselines, share of a score."""


@dataclass(frozen=True)
class Cell:
    """One recipe of the grid.

    Attributes:
        label: With mode and prior.
        theirs: Mean absolute percentage error of Prophet's own cross-validation.
        ours: The crew's.
    """

    label: str
    theirs: float
    ours: float

    @property
    def difference(self) -> float:
        """Ours beyond theirs, as a share of theirs."""
        return self.ours / self.theirs - 1


@dataclass(frozen=True)
class Report:
    """What a run found.

    Attributes:
        days: Of the series.
        folds: Of the grid, 30 days each.
        cores: That there are.
        theirs_s: Prophet's ``cross_validation`` over the grid, one fit after the other.
        ours_s: The same by the crew.
        study_s: The whole study: grid, variants, all baselines, the test part.
        cells: The grid.
    """

    days: int
    folds: int
    cores: int
    theirs_s: float
    ours_s: float
    study_s: float
    cells: Sequence[Cell]

    @property
    def ratio(self) -> float:
        """How many times faster the crew is."""
        return self.theirs_s / self.ours_s

    @property
    def chosen(self) -> tuple[Cell, Cell]:
        """The best cell by theirs, and by ours."""
        by_theirs = min(self.cells, key=lambda cell: cell.theirs)
        return by_theirs, min(self.cells, key=lambda cell: cell.ours)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        cells = [asdict(cell) | {"difference": cell.difference} for cell in self.cells]
        return asdict(self) | {"ratio": self.ratio, "cells": cells}

    def lines(self) -> list[str]:
        """The report as text."""
        by_theirs, by_ours = self.chosen
        worst = max(self.cells, key=lambda cell: abs(cell.difference))
        chosen = (
            by_ours.label if by_ours == by_theirs else f"{by_ours.label}, not {by_theirs.label}"
        )
        return [
            f"{self.days:,} simulated days, {len(self.cells)} recipes x {self.folds} folds, "
            f"{self.cores} cores; same recipes, same folds, same run.",
            f"Prophet's cross_validation   {self.theirs_s:8.1f} s",
            f"tidemill                     {self.ours_s:8.1f} s   {self.ratio:.1f} x faster, "
            f"target {RATIO}: {_met(self.ratio >= RATIO)}",
            f"study with all baselines     {self.study_s:8.1f} s   "
            f"target {STUDY_S:.0f}: {_met(self.study_s <= STUDY_S)}",
            *(
                f"  {cell.label:<44} theirs {cell.theirs:8.4f} %  ours {cell.ours:8.4f} %  "
                f"{cell.difference:+.3%}"
                for cell in self.cells
            ),
            f"chosen: {chosen}; largest difference {worst.difference:+.3%}, target "
            f"{DIFFERENCE:.1%}: {_met(abs(worst.difference) <= DIFFERENCE)}",
        ]


def run(days: int) -> Report:
    """Time both ways, and a whole study.

    Raises:
        InputError: Too few days to study.
        TidemillError: A recipe could not be fitted.
    """
    plan = Plan()
    if reason := plan.refusal(days):
        raise InputError(reason)
    series = simulated(days)
    part, folds = series.until(plan.train(days)), plan.choosing(days)
    recipes = list(Recipe(known=Known.LEAKY).grid())
    actuals = Runs.of(part, folds).actuals
    started = time.perf_counter()
    with Crew() as crew:
        ours = crew.forecasts(part, [ProphetForecaster(recipe) for recipe in recipes], folds)
    ours_s = time.perf_counter() - started
    started = time.perf_counter()
    with calm():
        theirs = [_cross_validated(part, recipe, folds) for recipe in recipes]
    theirs_s = time.perf_counter() - started
    started = time.perf_counter()
    with Crew() as crew:
        study(series, series_baselines(), crew, plan=plan)
    study_s = time.perf_counter() - started
    cells = []
    for recipe, mine, other in zip(recipes, ours, theirs, strict=True):
        if isinstance(mine, Refusal):
            raise TidemillError(f"{recipe.label}: {mine.reason}")
        cells.append(Cell(recipe.label, mape(actuals, other), mape(actuals, mine)))
    cores = os.cpu_count() or 1
    return Report(days, len(folds), cores, theirs_s, ours_s, study_s, cells)


def simulated(days: int) -> Series:
    """A walk of prices with the deviation of Bitcoin's, the same each time."""
    steps = np.random.default_rng(SEED).normal(0.0005, DEVIATION, days)
    return Series(SYMBOL, FIRST_DAY + np.arange(days), 100 * np.exp(np.cumsum(steps)))


def _cross_validated(series: Series, recipe: Recipe, folds: Sequence[Fold]) -> Floats:
    """Forecasts of the folds by Prophet's own cross-validation, shape (folds, horizon)."""
    import pandas as pd
    from prophet import Prophet
    from prophet.diagnostics import cross_validation

    logging.getLogger("cmdstanpy").setLevel(logging.WARNING)
    days = pd.DataFrame({"ds": series.dates.astype("datetime64[ns]"), "y": series.values})
    for length in recipe.averages:
        days[column(length)] = moving_average(series.values, length)
    model = Prophet(
        seasonality_mode=recipe.mode.value,
        changepoint_prior_scale=recipe.prior,
        daily_seasonality=False,
        uncertainty_samples=0,
        holidays=holidays(series.name, series.dates[-1].item()),
    )
    for length in recipe.averages:
        model.add_regressor(column(length))
    model.fit(days.dropna().reset_index(drop=True))
    found = cross_validation(
        model,
        horizon=f"{folds[0].horizon} days",
        cutoffs=[pd.Timestamp(series.dates[fold.cutoff - 1]) for fold in folds],
        disable_tqdm=True,
    )
    forecasts: Floats = found["yhat"].to_numpy().reshape(len(folds), folds[0].horizon)
    return forecasts


def _met(holds: bool) -> str:
    return "met" if holds else "MISSED"
