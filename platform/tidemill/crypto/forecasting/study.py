"""Which model forecasts a symbol best: chosen inside the training part, judged on what follows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from tidemill.crypto.forecasting.crew import Crew, Refusal, Told
from tidemill.crypto.forecasting.features import Floats
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.recipe import MA7, Known, Recipe
from tidemill.errors import InputError
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.series import Forecaster, Series

Loss = Callable[[Floats, Floats], float]
"""Of actuals and forecasts, both (folds, horizon); the lower the better."""

LEAST_FOLDS = 2
NAIVE = "naive"


def mape(actuals: Floats, forecasts: Floats) -> float:
    """Mean absolute error in percent of the actual, over actuals other than 0; infinite without."""
    counted = actuals != 0
    if not counted.any():
        return float("inf")
    return 100 * float(np.abs(forecasts[counted] / actuals[counted] - 1).mean())


@dataclass(frozen=True)
class Plan:
    """How a series is parted in time and cut into folds, in days.

    Attributes:
        horizon: Days forecast from a cutoff.
        period: Days from one cutoff to the next.
        initial: Days that the first fold trains on, where the training part then still has two
            folds; spec/crypto.md asks for 3800, which only a long series has.
        share: Share of the training part that the first fold trains on otherwise.
        most: Most folds that choose; the latest are kept, for the cost of the others.
        test: Share of the series, its end, that nothing is chosen on.
    """

    horizon: int = 30
    period: int = 15
    initial: int = 3800
    share: float = 0.7
    most: int = 24
    test: float = 0.2

    def train(self, rows: int) -> int:
        """Days in the training part."""
        return rows - round(rows * self.test)

    def choosing(self, rows: int) -> list[Fold]:
        """Folds inside the training part."""
        train = self.train(rows)
        for initial in (self.initial, max(1, int(train * self.share))):
            folds = WalkForward(self.horizon, self.period, initial).folds(train)
            if len(folds) >= LEAST_FOLDS:
                return folds[-self.most :]
        return []

    def testing(self, rows: int) -> list[Fold]:
        """Folds that forecast the days after the training part."""
        return WalkForward(self.horizon, self.period, max(1, self.train(rows))).folds(rows)

    def refusal(self, rows: int) -> str:
        """Why so few days cannot be studied; empty where they can."""
        if self._suffices(rows):
            return ""
        return (
            f"expected at least {self.least} days, for {LEAST_FOLDS} folds of {self.horizon} days "
            f"in the training and in the test part, found {rows}; {NAIVE} is taken until there are"
        )

    @property
    def least(self) -> int:
        """Days that can be studied at least."""
        return next(rows for rows in count(1) if self._suffices(rows))

    def _suffices(self, rows: int) -> bool:
        return min(len(self.choosing(rows)), len(self.testing(rows))) >= LEAST_FOLDS


@dataclass(frozen=True)
class Runs:
    """What several models forecast on the same folds.

    Attributes:
        folds: In order of their cutoffs.
        cutoffs: The last day trained on, ``datetime64[D]``, shape (folds,).
        actuals: What came, float64, shape (folds, horizon).
        forecasts: By the model's name, each of the actuals' shape.
    """

    folds: tuple[Fold, ...]
    cutoffs: npt.NDArray[np.datetime64]
    actuals: Floats
    forecasts: dict[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, series: Series, folds: Sequence[Fold]) -> "Runs":
        """The folds of a series, not yet forecast."""
        last = [fold.cutoff - 1 for fold in folds]
        actuals = [series.values[fold.start : fold.stop] for fold in folds]
        return cls(tuple(folds), series.dates[last], np.array(actuals, dtype=float))

    def losses(self, loss: Loss) -> dict[str, float]:
        """Each model's loss over all folds."""
        return {name: loss(self.actuals, found) for name, found in self.forecasts.items()}


@dataclass(frozen=True)
class Study:
    """What is known of the models of one symbol.

    Attributes:
        symbol: Of the series.
        train: Days in the training part.
        champion: Name of the honest model with the least loss on the choosing folds.
        choosing: Runs inside the training part; a leaky recipe takes no part.
        testing: Runs on the days after it, of all finalists, leaky ones included.
        losses: On the choosing folds, by name.
        grid: On the choosing folds, by label: each mode and prior of the default recipe.
        recipes: By name, with the chosen mode and prior; what is not here is a baseline.
        refused: By name or label, why a model has no forecasts.
        reason: Why there are no runs at all; empty where there are.
    """

    symbol: str
    train: int
    champion: str
    choosing: Runs
    testing: Runs
    losses: dict[str, float]
    grid: dict[str, float]
    recipes: dict[str, Recipe]
    refused: dict[str, str]
    reason: str = ""

    @property
    def leaky(self) -> frozenset[str]:
        """Names of the models that look at what they forecast."""
        return frozenset(name for name, recipe in self.recipes.items() if recipe.is_leaky)


def study(
    series: Series,
    baselines: Sequence[Forecaster],
    crew: Crew,
    loss: Loss = mape,
    plan: Plan | None = None,
    told: Told | None = None,
) -> Study:
    """Choose mode, prior and champion on the training part, and forecast the rest with all.

    Three rounds: baselines and the grid of the default recipe on the choosing folds; its variants
    with the best mode and prior on the same folds; then the finalists on the testing folds. Of the
    two log variants the better one goes on. A model that cannot forecast this series is left out,
    with its reason.

    Args:
        series: Whole days, without a hole.
        baselines: At least one, ``naive`` among them.
        crew: Entered.
        loss: By which mode, prior and champion are chosen.
        plan: How the series is cut.
        told: Hears of the progress, of each round anew.

    Raises:
        InputError: There are no baselines.
    """
    plan, rows = plan or Plan(), len(series)
    if not baselines:
        raise InputError("expected at least one baseline to hold Prophet against, found none")
    if reason := plan.refusal(rows):
        return _unstudied(series, plan.train(rows), baselines, f"{series.name}: {reason}")
    work = _Work(series, crew, loss, told)
    choosing, testing = (Runs.of(series, cut(rows)) for cut in (plan.choosing, plan.testing))
    grid, base = work.grid(choosing, baselines)
    recipes = [*work.variants(choosing, base), *_leaky(base)]
    losses = choosing.losses(loss)
    finalists = [one for one in baselines if one.name in losses]
    fitted = [ProphetForecaster(one) for one in recipes if one.is_leaky or one.name in losses]
    work.run(testing, [*finalists, *fitted])
    able = [name for name in losses if name in testing.forecasts]
    return Study(
        symbol=series.name,
        train=plan.train(rows),
        champion=min(able, key=lambda name: losses[name], default=baselines[0].name),
        choosing=choosing,
        testing=testing,
        losses=losses,
        grid=grid,
        recipes={one.name: one for one in recipes},
        refused=work.refused,
    )


def _unstudied(series: Series, train: int, baselines: Sequence[Forecaster], reason: str) -> Study:
    names = [one.name for one in baselines]
    return Study(
        symbol=series.name,
        train=train,
        champion=NAIVE if NAIVE in names else names[0],
        choosing=Runs.of(series, []),
        testing=Runs.of(series, []),
        **{name: {} for name in ("losses", "grid", "recipes", "refused")},
        reason=reason,
    )


def _variants(base: Recipe) -> tuple[list[Recipe], list[Recipe]]:
    """The honest variants of the ablation, and those on the log scale."""
    recursive = replace(base, known=Known.RECURSIVE)
    linear = [replace(base, averages=()), replace(base, averages=MA7), recursive]
    return linear, [replace(base, log=True), replace(recursive, log=True)]


def _leaky(base: Recipe) -> list[Recipe]:
    leaky = replace(base, known=Known.LEAKY)
    return [replace(leaky, averages=MA7), leaky]


@dataclass
class _Work:
    """A study under way."""

    series: Series
    crew: Crew
    loss: Loss
    told: Told | None
    refused: dict[str, str] = field(default_factory=dict)

    def run(self, runs: Runs, forecasters: Iterable[Forecaster]) -> None:
        """Forecast the runs' folds with more models."""
        models = list(forecasters)
        self._keep(runs, models, [one.name for one in models])

    def grid(self, runs: Runs, baselines: Sequence[Forecaster]) -> tuple[dict[str, float], Recipe]:
        """Forecast with the baselines and the grid; each label's loss, and the best recipe.

        Where no recipe of the grid can be fitted, the default one is taken as the best.
        """
        recipes = list(Recipe().grid())
        tried = Runs(runs.folds, runs.cutoffs, runs.actuals)
        models: list[Forecaster] = [*baselines, *(ProphetForecaster(one) for one in recipes)]
        labels = [one.label for one in recipes]
        self._keep(tried, models, [*(one.name for one in baselines), *labels])
        losses = tried.losses(self.loss)
        grid = {label: losses[label] for label in labels if label in losses}
        best = min(
            (one for one in recipes if one.label in grid),
            key=lambda one: grid[one.label],
            default=Recipe(),
        )
        named = {one.name: one.name for one in baselines} | {best.label: best.name}
        runs.forecasts.update(
            {named[key]: found for key, found in tried.forecasts.items() if key in named}
        )
        return grid, best

    def variants(self, runs: Runs, base: Recipe) -> list[Recipe]:
        """Forecast with the honest variants too; all of them, of the log scale the better one."""
        linear, logs = _variants(base)
        self.run(runs, [ProphetForecaster(one) for one in (*linear, *logs)])
        losses = runs.losses(self.loss)
        able = [one for one in logs if one.name in losses]
        return [base, *linear, *sorted(able, key=lambda one: losses[one.name])[:1]]

    def _keep(self, runs: Runs, models: Sequence[Forecaster], keys: Sequence[str]) -> None:
        outcomes = self.crew.forecasts(self.series, models, runs.folds, self.told)
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, Refusal):
                self.refused[key] = outcome.reason
            else:
                runs.forecasts[key] = outcome
