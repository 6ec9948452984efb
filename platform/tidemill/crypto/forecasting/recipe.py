"""What may be varied in a Prophet forecast of a daily close, and what each choice is called."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from tidemill.errors import InputError


class Mode(StrEnum):
    """How seasons, holidays and regressors act on the trend."""

    ADDITIVE = "additive"
    MULTIPLICATIVE = "multiplicative"


class Known(StrEnum):
    """Where the moving averages of the days after the cutoff come from.

    FROZEN keeps the last average before the cutoff. RECURSIVE trains on the average up to the day
    before, so that a forecast day needs only its forerunners, forecast or known. LEAKY takes the
    forecast days' own averages, which hold the answer: it reproduces the reference's table and
    must never be trusted.
    """

    FROZEN = "frozen"
    RECURSIVE = "recursive"
    LEAKY = "leaky"


class Begin(StrEnum):
    """Where the optimiser of a fit starts.

    MODE is the top of the posterior, found first by linear algebra (``start.py``): several times
    faster, and as probable as it gets. PROPHET is Prophet's own start, from which its optimiser
    mostly stops short of the top: for Prophet's own parameters, to all its digits. Measured on
    Bitcoin, scores over folds differ by up to 0.9 % with averages as regressors, mostly by less
    than 0.1 %, and by up to 6 % without.
    """

    MODE = "mode"
    PROPHET = "prophet"


PRIORS = (0.01, 0.05, 0.1)
"""Changepoint priors of the grid (spec/crypto.md, Forecasting)."""
MA7 = (7,)
MA7_MA30 = (7, 30)


@dataclass(frozen=True)
class Recipe:
    """One way of forecasting with Prophet.

    Attributes:
        mode: Of seasons, holidays and regressors.
        prior: Changepoint prior scale, above 0: higher bends the trend more easily.
        averages: Days of the moving averages used as regressors, rising; empty for none.
        known: Where their values come from after the cutoff; of no weight without averages.
        log: Whether the logarithm is fitted, and its averages used; values must be above 0.

    Raises:
        InputError: A prior or a number of days that is none.
    """

    mode: Mode = Mode.ADDITIVE
    prior: float = 0.05
    averages: tuple[int, ...] = MA7_MA30
    known: Known = Known.FROZEN
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if not self.prior > 0:
            raise InputError(f"expected a changepoint prior above 0, found {self.prior}")
        if list(self.averages) != sorted(set(self.averages)) or min(self.averages, default=1) < 1:
            raise InputError(
                f"expected days of moving averages from 1 on, rising, found {self.averages}"
            )

    @property
    def name(self) -> str:
        """As ``prophet_frozen_ma7_ma30_log``; mode and prior are settings, not part of it."""
        words = ["prophet"]
        if self.averages:
            words += [self.known, *(f"ma{days}" for days in self.averages)]
        return "_".join(words + ["log"] * self.log)

    @property
    def label(self) -> str:
        """The name with mode and prior, as the grid needs it."""
        return f"{self.name} {self.mode} {self.prior:g}"

    @property
    def is_leaky(self) -> bool:
        """Whether it looks at what it forecasts."""
        return bool(self.averages) and self.known is Known.LEAKY

    def grid(self) -> Iterator["Recipe"]:
        """The recipe in each mode and with each prior of the spec, six in all."""
        for mode in Mode:
            for prior in PRIORS:
                yield replace(self, mode=mode, prior=prior)

    def to_dict(self) -> dict[str, object]:
        """As JSON takes it; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Recipe":
        """The recipe that ``to_dict`` gave.

        Raises:
            InputError: It is none.
        """
        try:
            return cls(
                mode=Mode(str(saved["mode"])),
                prior=float(str(saved["prior"])),
                averages=tuple(int(days) for days in saved["averages"]),
                known=Known(str(saved["known"])),
                log=bool(saved["log"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected a saved recipe, found {saved}: {error}") from error
