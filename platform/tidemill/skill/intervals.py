"""Intervals around a point forecast, from how far its earlier forecasts were off.

Split conformal prediction, kept honest in time: a fold's interval comes from the residuals of
folds whose tested days had all passed by its cutoff, and of these only the latest, as volatility
changes. How wide is also learnt: where intervals of past folds held less than promised, the next
ones are wider (adaptive conformal inference, Gibbs and Candès, 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.skill.compare import overlap
from tidemill.skill.folds import Fold
from tidemill.skill.metrics import checked

Floats = npt.NDArray[np.float64]
Bounds = tuple[Floats, Floats]

WIDEST, NARROWEST = 0.01, 0.9
"""Between these the share that an interval leaves out is adapted."""


@dataclass(frozen=True)
class Conformal:
    """How intervals are made.

    Attributes:
        level: Share of actual values that they are to hold.
        scale: What a residual is: ``log`` the logarithm of actual by forecast, for what is
            positive and moves in percent, as a price; ``absolute`` the difference.
        window: Rows before a cutoff from which residuals are taken; 720 days are 24 months.
        pool: Neighbouring steps on each side whose residuals, brought to one size, count too.
        rate: By how much of a miss the share left out is adapted, a horizon of rows.
        least: Past folds without which no interval is told.
    """

    level: float = 0.8
    scale: Literal["log", "absolute"] = "log"
    window: int = 720
    pool: int = 3
    rate: float = 0.2
    least: int = 10

    def __post_init__(self) -> None:
        """Refuse what makes no interval."""
        if not 0 < self.level < 1 or min(self.window, self.least) < 1:
            raise InputError(
                "expected a level between 0 and 1 and a window and a least number of folds of at "
                f"least 1, found {self.level}, {self.window} and {self.least}"
            )
        if self.scale not in ("log", "absolute") or self.pool < 0 or not 0 <= self.rate <= 1:
            raise InputError(
                "expected a scale log or absolute, a pool of at least 0 steps and a rate of 0 to "
                f"1, found {self.scale}, {self.pool} and {self.rate}"
            )

    def bands(
        self, folds: Sequence[Fold], actual: npt.ArrayLike, forecast: npt.ArrayLike
    ) -> Bounds:
        """The interval of each forecast of past folds, as it could have been told at its cutoff.

        Args:
            folds: In order of their cutoffs.
            actual: Shape (folds, horizon).
            forecast: Likewise.

        Returns:
            Low and high, shape (folds, horizon); NaN for folds with fewer than ``least`` behind
            them. The forecast is between them.

        Raises:
            InputError: The shapes do not fit, or on the log scale a value is not positive.
        """
        off, centre = self._residuals(folds, actual, forecast)
        low, high = self._walk(folds, off)
        return self._around(centre, low, high)

    def ahead(
        self,
        folds: Sequence[Fold],
        actual: npt.ArrayLike,
        forecast: npt.ArrayLike,
        cutoff: int,
        coming: npt.ArrayLike,
    ) -> Bounds:
        """The interval of a forecast whose actual values are still to come.

        Args:
            folds: Past ones, in order of their cutoffs.
            actual: Shape (folds, horizon).
            forecast: Likewise.
            cutoff: Rows that were known when the coming days were forecast.
            coming: The forecast, shape (horizon,).

        Returns:
            Low and high, shape (horizon,); NaN where too few folds had passed by the cutoff.

        Raises:
            InputError: As for ``bands``, or the cutoff is before a fold's.
        """
        off, _ = self._residuals(folds, actual, forecast)
        centre = checked(coming=coming)[0]
        self._refuse_scale(centre)
        if centre.shape != off.shape[1:] or any(fold.cutoff > cutoff for fold in folds):
            raise InputError(
                f"expected a forecast of {off.shape[1:]} steps from a cutoff after those of all "
                f"folds, found {centre.shape} from row {cutoff}"
            )
        last = Fold(cutoff, cutoff, cutoff + len(centre))
        unknown = np.full((1, len(centre)), np.nan)
        low, high = self._walk([*folds, last], np.concatenate((off, unknown)))
        return self._around(centre, low[-1], high[-1])

    def _residuals(
        self, folds: Sequence[Fold], actual: npt.ArrayLike, forecast: npt.ArrayLike
    ) -> tuple[Floats, Floats]:
        came, centre = checked(actual=actual, forecast=forecast)
        if came.ndim != 2 or len(folds) != len(came):
            raise InputError(f"expected {len(folds)} folds of values, found shape {came.shape}")
        if any(b.cutoff < a.cutoff for a, b in pairwise(folds)):
            raise InputError("expected folds in order of their cutoffs")
        self._refuse_scale(came)
        self._refuse_scale(centre)
        return (np.log(came / centre) if self.scale == "log" else came - centre), centre

    def _refuse_scale(self, values: Floats) -> None:
        bad = int((values <= 0).sum())
        if self.scale == "log" and bad:
            raise InputError(
                f"expected positive values for intervals on the log scale, found {bad} of "
                f"{values.size} that are not: use the absolute scale"
            )

    def _around(self, centre: Floats, low: Floats, high: Floats) -> Bounds:
        """Bounds in the values' unit; a forecast that is always off one way is still inside."""
        below, above = np.minimum(low, 0), np.maximum(high, 0)
        if self.scale == "log":
            return centre * np.exp(below), centre * np.exp(above)
        return centre + below, centre + above

    def _walk(self, folds: Sequence[Fold], off: Floats) -> Bounds:
        """Bounds of the residuals of each fold, from those known at its cutoff."""
        low, high = np.full(off.shape, np.nan), np.full(off.shape, np.nan)
        rate = self.rate / (overlap(folds[:-1]) + 1)
        left_out = 1 - self.level
        known = 0
        for row, fold in enumerate(folds):
            while known < row and folds[known].stop <= fold.cutoff:
                missed = (off[known] < low[known]) | (off[known] > high[known])
                if np.isfinite(low[known]).all():
                    left_out += rate * (1 - self.level - float(missed.mean()))
                    left_out = min(max(left_out, WIDEST), NARROWEST)
                known += 1
            past = [i for i in range(known) if folds[i].start >= fold.cutoff - self.window]
            if len(past) >= self.least:
                low[row], high[row] = self._quantiles(off[past], left_out)
        return low, high

    def _quantiles(self, off: Floats, left_out: float) -> Bounds:
        """The outer quantiles of each step's residuals and its neighbours', of shape (steps,)."""
        steps = off.shape[1]
        size = np.abs(off).mean(axis=0)
        size[size == 0] = 1.0
        width = min(2 * self.pool + 1, steps)
        first = np.clip(np.arange(steps) - self.pool, 0, steps - width)
        pooled = (off / size)[:, first[:, None] + np.arange(width)]
        flat = pooled.transpose(1, 0, 2).reshape(steps, -1)
        low = np.quantile(flat, left_out / 2, axis=1, method="lower")
        high = np.quantile(flat, 1 - left_out / 2, axis=1, method="higher")
        return low * size, high * size
