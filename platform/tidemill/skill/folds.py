"""Walk-forward folds: train on what came before a cutoff, test on what came after, move on."""

from collections.abc import Iterator
from dataclasses import dataclass

from tidemill.errors import InputError


@dataclass(frozen=True)
class Fold:
    """One cut of a series.

    Attributes:
        cutoff: Rows 0 to ``cutoff`` - 1 may be trained on.
        start: The first row that is tested; the embargo is between.
        stop: The row after the last that is tested.
    """

    cutoff: int
    start: int
    stop: int

    @property
    def horizon(self) -> int:
        """Rows that are tested."""
        return self.stop - self.start


@dataclass(frozen=True)
class WalkForward:
    """How a series is cut, in rows; for a daily series these are days.

    Attributes:
        horizon: Rows tested in a fold.
        period: Rows from one cutoff to the next.
        initial: Rows that the first fold trains on at least.
        embargo: Rows between training and test that belong to neither.
    """

    horizon: int
    period: int
    initial: int
    embargo: int = 0

    def __post_init__(self) -> None:
        """Refuse what cuts nothing."""
        if min(self.horizon, self.period, self.initial) < 1 or self.embargo < 0:
            raise InputError(
                "expected a horizon, a period and an initial part of at least 1 row and an embargo "
                f"of at least 0, found {self.horizon}, {self.period}, {self.initial}, "
                f"{self.embargo}"
            )

    def folds(self, rows: int) -> list[Fold]:
        """The folds of a series, oldest first; the last one's test ends with the series.

        Returns:
            None where the series is too short for one.
        """
        return list(reversed(list(self._backwards(rows))))

    def _backwards(self, rows: int) -> Iterator[Fold]:
        cutoff = rows - self.horizon - self.embargo
        while cutoff >= self.initial:
            start = cutoff + self.embargo
            yield Fold(cutoff, start, start + self.horizon)
            cutoff -= self.period
