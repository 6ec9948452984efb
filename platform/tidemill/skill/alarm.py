"""The alarm: a score so good beside its baseline that a leak is likelier than skill.

It proves nothing, and it sees what the guard cannot: a leak that happened before the tables were
made. It imports numpy: import it where it is used.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError
from tidemill.skill.findings import Check, Finding

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """From where on a forecast of a series is too good.

    The best published forecasts of daily prices, of whatever model, save a few hundredths of the
    naive error; saving half is not skill. Over horizons of 1 to 30 days a model that sees the test
    days' own averages has 0.33 of the naive error on BTC-USD.

    Attributes:
        share: Of the best baseline's mean error; below it, and not by chance, the alarm goes.
        p: Chance below which it is not by chance, of folds that do not overlap. 0.01 asks for at
            least 7 folds, all better.
        absurd: Share below which it goes whatever the number of folds: there, one is enough.
    """

    share: float = 0.5
    p: float = 0.01
    absurd: float = 0.2

    def __post_init__(self) -> None:
        """Refuse limits that cannot be met in order."""
        if not 0 <= self.absurd <= self.share < 1 or not 0 < self.p < 1:
            raise InputError(
                "expected 0 <= absurd <= share < 1 and 0 < p < 1, found "
                f"{self.absurd}, {self.share}, {self.p}"
            )


PRICES = Limits()
PURCHASES_R2 = 0.80
"""Ceiling for retail purchases: the best public models reach an R2 of 0.75 to 0.77, and a product
mean that has seen the test rows goes beyond."""
RETURNS_R2 = 0.10
"""Ceiling for next-bar returns: what is honest reaches 0 to 0.01 out of sample."""


def too_good(
    loss: Floats,
    baseline: Floats,
    limits: Limits = PRICES,
    stride: int = 1,
) -> list[Finding]:
    """Hold a model's errors against the best baseline's, on the same folds.

    The chance is that of a sign test: so many folds better than the baseline, if each were better
    with a chance of one half. It asks nothing of the errors' distribution.

    Args:
        loss: Errors of the model, >= 0, as absolute percentage errors; shape (folds, horizon).
        baseline: Errors of the best baseline, same shape.
        limits: From where on it is too good.
        stride: Every which fold overlaps with none: the horizon over the period, rounded up.
    """
    if loss.shape != baseline.shape or loss.ndim != 2 or not loss.size or stride < 1:
        raise InputError(
            "expected errors of one shape (folds, horizon) and a stride of at least 1, found "
            f"{loss.shape}, {baseline.shape}, {stride}"
        )
    if not (np.isfinite(loss).all() and np.isfinite(baseline).all()):
        raise InputError("expected finite errors, found NaN or infinity")
    model, best = float(loss.mean()), float(baseline.mean())
    share = model / best if best else 1.0
    gain = (baseline - loss)[::-1][::stride].mean(axis=1)
    chance = sign_test(int((gain > 0).sum()), int((gain != 0).sum()))
    if share >= limits.absurd and not (share < limits.share and chance < limits.p):
        return []
    text = (
        f"the mean error {model:.4g} is {share:.2f} of the best baseline's {best:.4g} (p = "
        f"{chance:.2g} over {len(gain)} folds); below {limits.share} look for a leak first"
    )
    return [Finding(Check.ALARM, "error", "", text, rows=loss.size)]


def too_high_r2(
    actual: Floats, predicted: Floats, baseline: Floats, ceiling: float = PURCHASES_R2
) -> list[Finding]:
    """Hold a model's R2 out of sample, against the baseline's predictions, under a ceiling.

    Args:
        actual: Labels of the test rows, shape (n,).
        predicted: The model's, same shape.
        baseline: Predictions of the mean, or whatever R2 is measured against, same shape.
        ceiling: What no honest model is known to reach.
    """
    shapes = {actual.shape, predicted.shape, baseline.shape}
    if len(shapes) != 1 or actual.ndim != 1 or not actual.size:
        raise InputError(f"expected three arrays of one shape (n,), found {sorted(shapes)}")
    if not np.isfinite([actual, predicted, baseline]).all():
        raise InputError("expected finite values, found NaN or infinity")
    spread = float(((actual - baseline) ** 2).sum())
    r2 = 1 - float(((actual - predicted) ** 2).sum()) / spread if spread else 0.0
    if r2 <= ceiling:
        return []
    text = f"R2 {r2:.3f} of {actual.size} rows is above {ceiling}: look for a leak first"
    return [Finding(Check.ALARM, "r2", "", text, rows=actual.size)]


def sign_test(better: int, of: int) -> float:
    """Chance of at least so many better, if better and worse were equally likely; 1 of none."""
    return float(sum(comb(of, k) for k in range(better, of + 1)) / 2**of)
