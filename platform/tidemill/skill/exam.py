"""From forecasts to scores: models and baselines on the same tested values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.skill import compare, metrics
from tidemill.skill.folds import Fold
from tidemill.skill.ledger import Score
from tidemill.skill.series import Series

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What a model forecast for an exam.

    Attributes:
        model: Its name.
        forecast: Of the shape of what is tested.
        is_leaky: Whether the model saw what it forecast.
    """

    model: str
    forecast: Floats
    is_leaky: bool = False


@dataclass(frozen=True)
class Exam:
    """What is tested, for all models alike; ``of_series`` and ``of_table`` make one.

    Attributes:
        domain: Room of the models.
        subject: What is forecast.
        actual: What came: (folds, horizon) of a series, (n,) of a table.
        folds: How many cutoffs there were.
        horizon: Steps ahead of each.
        overlapping: How many folds after a fold share tested rows with it.
        train: What the first fold trained on, for the scale of MASE; none of a table.
        groups: Of a table, what each row belongs to; rows of one group are not independent.
        data_version: Version of the table that it was learnt from.
        at: When, with its time zone.
    """

    domain: str
    subject: str
    actual: Floats
    folds: int
    horizon: int
    overlapping: int
    train: Floats | None
    groups: "npt.NDArray[np.generic] | None"
    data_version: int
    at: datetime

    @staticmethod
    def of_series(
        domain: str, series: Series, folds: Sequence[Fold], data_version: int, at: datetime
    ) -> "Exam":
        """On the tested days of each fold.

        Raises:
            InputError: There is no fold, or they differ in horizon.
        """
        horizons = {fold.horizon for fold in folds}
        if len(horizons) != 1:
            raise InputError(
                f"{series.name}: expected folds of one horizon to score on, found "
                f"{len(folds)} of horizons {sorted(horizons)}"
            )
        return Exam(
            domain,
            series.name,
            np.stack([series.values[fold.start : fold.stop] for fold in folds]),
            len(folds),
            folds[0].horizon,
            compare.overlap(folds),
            series.values[: min(fold.cutoff for fold in folds)],
            None,
            data_version,
            at,
        )

    @staticmethod
    def of_table(
        domain: str,
        subject: str,
        actual: npt.ArrayLike,
        folds: int,
        data_version: int,
        at: datetime,
        groups: "npt.ArrayLike | None" = None,
    ) -> "Exam":
        """On rows that each were in the test part of one fold, shape (n,)."""
        tested = metrics.checked(actual=actual)[0].ravel()
        named = None if groups is None else np.asarray(groups)
        return Exam(domain, subject, tested, folds, 1, 0, None, named, data_version, at)

    def error(self, metric: str, answer: Answer) -> float:
        """A model's error by that metric, for which less is better; of R2, what it leaves.

        Raises:
            InputError: There is no such metric, or it cannot be told of these values.
        """
        measure = self._measure(metric)
        mean = float(measure.losses(self.actual, answer.forecast).mean())
        return mean**0.5 if measure.is_root else mean

    def best(self, metric: str, answers: Sequence[Answer]) -> Answer:
        """The one with the least error; of equals, the first.

        Raises:
            InputError: There is none to choose from, or the metric cannot be told.
        """
        if not answers:
            raise InputError(f"{self.subject}: expected a baseline to score against, found none")
        return min(answers, key=lambda answer: self.error(metric, answer))

    def score(self, metric: str, answer: Answer, baseline: Answer) -> Score:
        """A model's score beside a baseline's.

        Raises:
            InputError: The metric cannot be told of these values, or shapes differ.
        """
        measure = self._measure(metric)
        mine, theirs = (measure.losses(self.actual, a.forecast) for a in (answer, baseline))
        if self.groups is not None:
            mine, theirs = (compare.by_group(loss, self.groups) for loss in (mine, theirs))
        low, high = compare.skill_interval(mine, theirs, self.overlapping, measure.is_root)
        return Score(
            domain=self.domain,
            subject=self.subject,
            model=answer.model,
            metric=metric,
            value=measure.value(self.actual, answer.forecast),
            baseline=baseline.model,
            baseline_value=measure.value(self.actual, baseline.forecast),
            skill=compare.skill(mine, theirs, measure.is_root),
            n=self.actual.size,
            folds=self.folds,
            horizon=self.horizon,
            ci_low=low,
            ci_high=high,
            p_value=compare.diebold_mariano(mine, theirs, self.overlapping),
            is_leaky=answer.is_leaky,
            data_version=self.data_version,
            at=self.at,
        )

    def scores(
        self, answers: Sequence[Answer], baselines: Sequence[Answer], metric: str = "mape"
    ) -> list[Score]:
        """A score of each model and each baseline, held against the best of the baselines.

        Raises:
            InputError: There is no baseline, or the metric cannot be told of these values.
        """
        best = self.best(metric, [answer for answer in baselines if not answer.is_leaky])
        return [self.score(metric, answer, best) for answer in (*answers, *baselines)]

    def _measure(self, metric: str) -> metrics.Measure:
        if metric != "mase":
            return metrics.measure(metric)
        if self.train is None:
            raise InputError(f"{self.subject}: a MASE is of a series, use mae")
        scale = metrics.seasonal_scale(self.train)
        return metrics.Measure(lambda a, f: metrics.mase(a, f, scale), metrics.absolute)
