"""Forecasts one symbol: studies the models, scores and guards them, looks 30 days ahead."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from tidemill.crypto.forecasting.crew import Crew, Told
from tidemill.crypto.forecasting.features import Floats
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.history import History
from tidemill.crypto.forecasting.outlook import (
    Outlook,
    SavedModel,
    baseline_outlook,
    train,
)
from tidemill.crypto.forecasting.study import NAIVE, Plan, Runs, Study, study
from tidemill.errors import InputError, TidemillError
from tidemill.skill.alarm import too_good
from tidemill.skill.baselines import series_baselines
from tidemill.skill.exam import Answer, Exam
from tidemill.skill.findings import Finding
from tidemill.skill.intervals import Conformal
from tidemill.skill.leak import Search, leaks
from tidemill.skill.ledger import Score
from tidemill.skill.metrics import absolute_pct
from tidemill.skill.series import Forecaster

DOMAIN = "crypto"
DAYS = 30
"""Forecast after the last day."""
METRICS = ("mape", "mase")
GUARD = Search(probes=1)
GUARD_FOLDS = 1
Bounds = tuple[Floats, Floats]


@dataclass(frozen=True)
class Kept:
    """What a model that is kept says of the days to come.

    Attributes:
        outlook: The forecast.
        band: Lower and upper end of its 80 % interval; NaN where too few folds have passed.
        saved: Of a Prophet model, what is kept of it.
    """

    outlook: Outlook
    band: Bounds
    saved: SavedModel | None


@dataclass(frozen=True)
class Verdict:
    """What came of a symbol.

    Attributes:
        history: What was learnt from.
        study: Every model on every fold.
        champion: The model to believe: of those that guard and alarm find nothing of, the one with
            the least error on the choosing folds; a tie leaves the one before in its place.
        kept: The champion, and the best Prophet recipe where it is another.
        bands: Of the kept models, the 80 % interval of each tested day.
        scores: For the ledger, of every model; none where the series is too short.
        found: What the guard and the alarm found, by model that was looked at; nothing of honest
            ones.
        reason: Why the champion is champion.
    """

    history: History
    study: Study
    champion: str
    kept: Mapping[str, Kept]
    bands: Mapping[str, Bounds]
    scores: Sequence[Score] = ()
    found: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    reason: str = ""

    @property
    def symbol(self) -> str:
        """What was forecast."""
        return self.history.series.name

    @property
    def baselines(self) -> list[str]:
        """Names of the tested models that are no recipe."""
        return [name for name in self.study.testing.forecasts if name not in self.study.recipes]


def judge(
    history: History,
    crew: Crew,
    incumbent: str | None = None,
    at: datetime | None = None,
    plan: Plan | None = None,
    told: Told | None = None,
) -> Verdict:
    """Study the models of a symbol, score them, look for leaks, and forecast.

    Args:
        history: What to learn from.
        crew: Entered.
        incumbent: The champion so far, which a tie leaves in its place.
        at: Of the scores, with its time zone; None for the end of the study.
        plan: How the series is cut.
        told: Hears of the progress.

    Raises:
        TidemillError: Not even a baseline can forecast it.
    """
    series, baselines = history.series, {one.name: one for one in series_baselines()}
    done = study(series, list(baselines.values()), crew, plan=plan, told=told)
    models: dict[str, Forecaster] = dict(baselines)
    models |= {name: ProphetForecaster(recipe) for name, recipe in done.recipes.items()}
    if done.reason:
        kept = {done.champion: _ahead(history, done, models[done.champion])}
        return Verdict(history, done, done.champion, kept, {}, reason=done.reason)
    found: dict[str, list[Finding]] = {}

    def suspicions(name: str) -> list[Finding]:
        if name not in found:
            found[name] = [*_guarded(models[name], history, done.testing), *_alarmed(done, name)]
        return found[name]

    able = [name for name in done.losses if name in done.testing.forecasts]
    able.sort(key=lambda name: (done.losses[name], name != incumbent))
    champion = _first(able, suspicions, history, done, models)
    recipes = [name for name in able if name in done.recipes]
    best = _first(recipes, suspicions, history, done, models)
    if champion is None:
        raise TidemillError(f"{series.name}: no model could forecast it: {done.refused}")
    kept = dict([champion] if best is None else [champion, best])
    for name in done.leaky & done.testing.forecasts.keys():
        suspicions(name)
    verdict = Verdict(
        history,
        done,
        champion[0],
        kept,
        {name: _bands(done, name) for name in kept},
        found=found,
        reason=_why(done, champion[0], incumbent),
    )
    return replace(verdict, scores=list(_scores(verdict, found, at or datetime.now(UTC))))


def _first(
    names: Sequence[str],
    suspicions: Callable[[str], list[Finding]],
    history: History,
    done: Study,
    models: Mapping[str, Forecaster],
) -> tuple[str, Kept] | None:
    """The first model that nothing speaks against and that can forecast the days to come."""
    for name in names:
        if suspicions(name):
            continue
        try:
            return name, _ahead(history, done, models[name])
        except (TidemillError, ArithmeticError, RuntimeError, ValueError) as error:
            done.refused[name] = str(error) or type(error).__name__
    return None


def _why(done: Study, champion: str, incumbent: str | None) -> str:
    """Why a model is champion."""
    losses = done.losses
    told = f"cross-validated error {losses[champion]:.3g} % over {len(done.choosing.folds)} folds"
    if incumbent in (None, champion) or incumbent not in losses:
        return f"{champion}: {told}"
    return f"{champion}: {told}, before it {incumbent} with {losses[incumbent]:.3g} %"


def _known(done: Study, name: str) -> Runs:
    """All folds that a model was forecast on, inside the training part and after it."""
    first, last = done.choosing, done.testing
    return Runs(
        (*first.folds, *last.folds),
        np.concatenate([first.cutoffs, last.cutoffs]),
        np.concatenate([first.actuals, last.actuals]),
        {name: np.concatenate([first.forecasts[name], last.forecasts[name]])},
    )


def _conformal(*values: Floats) -> Conformal:
    is_positive = all((some > 0).all() for some in values)
    return Conformal(scale="log" if is_positive else "absolute")


def _bands(done: Study, name: str) -> Bounds:
    """Intervals of the tested days, from the folds before each."""
    runs = _known(done, name)
    forecasts = runs.forecasts[name]
    low, high = _conformal(runs.actuals, forecasts).bands(runs.folds, runs.actuals, forecasts)
    tested = len(done.testing.folds)
    return low[-tested:], high[-tested:]


def _ahead(history: History, done: Study, model: Forecaster) -> Kept:
    """A model's forecast of the days after the last, with its interval."""
    series, saved = history.series, None
    if isinstance(model, ProphetForecaster):
        saved = train(series, model.recipe, history.version)
        outlook = saved.outlook(DAYS)
    else:
        outlook = baseline_outlook(series, model, DAYS)
    nothing = np.full(DAYS, np.nan)
    if not done.testing.folds:
        return Kept(outlook, (nothing, nothing), saved)
    runs = _known(done, model.name)
    forecasts = runs.forecasts[model.name]
    conformal = _conformal(runs.actuals, forecasts, outlook.yhat)
    band = conformal.ahead(runs.folds, runs.actuals, forecasts, len(series), outlook.yhat)
    return Kept(outlook, band, saved)


def _guarded(model: Forecaster, history: History, runs: Runs) -> list[Finding]:
    return leaks(model, history.series, runs.folds[-GUARD_FOLDS:], GUARD)


def _alarmed(done: Study, name: str) -> list[Finding]:
    """Whether a model's errors are too small beside the best baseline's to be believed."""
    runs = done.testing
    baselines = [one for one in runs.forecasts if one not in done.recipes]
    if name in baselines or not baselines:
        return []
    try:
        losses = {
            one: absolute_pct(runs.actuals, runs.forecasts[one]) for one in (name, *baselines)
        }
    except InputError:  # a day of price 0 has no error in percent
        return []
    best = min(baselines, key=lambda one: float(losses[one].mean()))
    period = runs.folds[1].cutoff - runs.folds[0].cutoff
    return too_good(losses[name], losses[best], stride=-(-runs.folds[0].horizon // period))


def _scores(
    verdict: Verdict, found: Mapping[str, Sequence[Finding]], at: datetime
) -> Iterator[Score]:
    """A row of the ledger for every model and metric; of prices that touch 0, no percentages."""
    done, history = verdict.study, verdict.history
    exam = Exam.of_series(DOMAIN, history.series, done.testing.folds, history.version, at)
    answers = {
        name: Answer(name, forecast, name in done.leaky or bool(found.get(name)))
        for name, forecast in done.testing.forecasts.items()
    }
    baselines = [answers[name] for name in verdict.baselines]
    others = [answer for name, answer in answers.items() if name in done.recipes]
    for metric in METRICS:
        try:
            yield from exam.scores(others, baselines, metric)
        except InputError:
            if metric == METRICS[-1]:
                yield from exam.scores(others, baselines, "mae")


def forecaster(name: str) -> Forecaster:
    """A baseline by its name.

    Raises:
        TidemillError: There is none of that name.
    """
    for one in series_baselines():
        if one.name == name:
            return one
    raise TidemillError(f"expected the name of a baseline, as {NAIVE}, found {name!r}")
