"""What the leak zoo shows: a pipeline that leaks, and its twin that does the same properly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from tidemill.skill.alarm import Floats, too_good, too_high_r2
from tidemill.skill.findings import Check, Finding
from tidemill.skill.folds import Fold
from tidemill.skill.future import Source
from tidemill.skill.leak import Sides, leaks
from tidemill.skill.series import Forecaster, Series
from tidemill.skill.splits import late_questions, later_rows, reaching_labels, shared_rows
from tidemill.skill.table_leak import own_labels, table_leaks

Tables = Mapping[str, pl.DataFrame]


class Twin(Protocol):
    """One of the two."""

    def findings(self) -> list[Finding]:
        """All that all checks find."""
        ...


@dataclass(frozen=True)
class Exhibit:
    """A leak, its honest twin, and the checks that tell them apart."""

    name: str
    leaky: Twin
    honest: Twin
    caught_by: frozenset[Check]


def exhibit(name: str, leaky: Twin, honest: Twin, *caught_by: Check) -> Exhibit:
    return Exhibit(name, leaky, honest, frozenset(caught_by))


@dataclass(frozen=True)
class EachFold:
    """A forecaster that treats each fold alone."""

    name: str
    one: Callable[[Series, Fold], Floats]
    is_leaky: bool = False

    def forecast(self, series: Series, folds: Sequence[Fold]) -> Floats:
        return np.stack([self.one(series, fold) for fold in folds])


def naive(series: Series, fold: Fold) -> Floats:
    return np.full(fold.horizon, series.values[fold.cutoff - 1])


def seasonal_naive(series: Series, fold: Fold) -> Floats:
    return np.resize(series.values[fold.cutoff - 7 : fold.cutoff], fold.horizon)


@dataclass(frozen=True)
class SeriesTwin:
    """A forecaster on a series; with sides, the one that they make."""

    forecaster: Forecaster
    series: Series
    folds: Sequence[Fold]
    sides: Sides | None = None

    def findings(self) -> list[Finding]:
        best = min(
            (self._errors(EachFold(f.__name__, f)) for f in (naive, seasonal_naive)),
            key=lambda errors: float(errors.mean()),
        )
        found = leaks(self.forecaster, self.series, self.folds, sides=self.sides)
        return found + too_good(self._errors(self.forecaster), best)

    def _errors(self, forecaster: Forecaster) -> Floats:
        actual = np.stack([self.series.values[f.start : f.stop] for f in self.folds])
        return np.asarray(np.abs(forecaster.forecast(self.series, self.folds) / actual - 1))


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to answer, made by a recipe.

    Both have the key, ``at``, ``known`` (when the label is), features x..., the label y.
    """

    train: pl.DataFrame
    test: pl.DataFrame

    def features(self) -> list[str]:
        return [column for column in self.train.columns if column.startswith("x")]


@dataclass(frozen=True)
class TableTwin:
    """Least squares on what a recipe makes of the tables."""

    recipe: Callable[[Tables, int], Split]
    sources: Mapping[str, Source]
    cutoff: int
    ceiling: float
    label: str | None = None

    def __call__(self, tables: Tables, cutoff: int) -> pl.DataFrame:
        split = self.recipe(tables, cutoff)
        design = [self._design(part) for part in (split.train, split.test)]
        weights = np.linalg.lstsq(design[0], split.train["y"].to_numpy(), rcond=None)[0]
        # Each row is summed alone: a product of matrices may round otherwise in other company.
        return pl.concat(
            part.drop("y", "known").with_columns(pl.Series("prediction", (x * weights).sum(axis=1)))
            for part, x in zip((split.train, split.test), design, strict=True)
        )

    def _design(self, part: pl.DataFrame) -> Floats:
        names = [column for column in part.columns if column.startswith("x")]
        return np.column_stack([np.ones(len(part)), part.select(names).to_numpy()])

    def findings(self) -> list[Finding]:
        source = next(source for source in self.sources.values() if source.key)
        split = self.recipe({n: s.frame for n, s in self.sources.items()}, self.cutoff)
        found = table_leaks(self, self.sources, self.cutoff)
        if self.label:
            names = split.features()
            found += own_labels(self, self.sources, self.cutoff, self.label, names)
            parts = [
                source.frame.join(part, on=source.key, how="semi")
                for part in (split.train, split.test)
            ]
            found += shared_rows(parts[0], parts[1], [*source.own, self.label])
        else:
            found += later_rows(split.train, split.test, source.known)
            found += reaching_labels(split.train, split.test, "known", "at")
            found += late_questions(split.test, "known", "at")
        return found + self._alarm(split, source.key)

    def _alarm(self, split: Split, key: tuple[str, ...]) -> list[Finding]:
        answers = self({name: source.frame for name, source in self.sources.items()}, self.cutoff)
        scored = split.test.select(*key, "y").join(answers, on=key, validate="1:1")
        scored = scored.drop_nulls("y").filter(pl.col("prediction").is_finite())
        actual, predicted = (scored[column].to_numpy() for column in ("y", "prediction"))
        mean = np.full(len(scored), float(str(split.train["y"].mean())))
        return too_high_r2(actual, predicted, mean, self.ceiling)
