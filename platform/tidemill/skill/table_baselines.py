"""The predictions that any model of a table has to beat: means of what it learnt from.

Each is fitted to a training frame and then predicts another; what it learnt is in what ``fit``
gives back, so one baseline serves every fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from tidemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]


class Fitted(Protocol):
    """A model of a table that has learnt."""

    def predict(self, rows: "pl.DataFrame") -> Floats:
        """A prediction for each row, shape (rows,), in the unit of the target."""
        ...


class TableModel(Protocol):
    """A model of a table.

    Attributes:
        name: By which the ledger knows it.
        is_leaky: Whether it is known to look at what it predicts.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def is_leaky(self) -> bool: ...  # noqa: D102

    def fit(self, rows: "pl.DataFrame", target: str) -> Fitted:
        """Learn the column ``target`` from the rows of the training part."""
        ...


@dataclass(frozen=True)
class TableMean:
    """Each row is as the mean of all that were seen."""

    name: str = "mean"
    is_leaky: bool = False

    def fit(self, rows: "pl.DataFrame", target: str) -> "Means":
        """Take the mean of ``target``.

        Raises:
            InputError: There is no such column of finite numbers.
        """
        return Means(_mean(rows, target), (), None)


@dataclass(frozen=True)
class GroupMean:
    """Each row is as the mean of those seen of its group, or of all where there was none.

    Attributes:
        columns: That together name a group; in them NULL is a value like others.
    """

    columns: tuple[str, ...]
    is_leaky: bool = False

    @property
    def name(self) -> str:
        """With its columns, as ``mean_by_city_age``."""
        return f"mean_by_{'_'.join(self.columns)}"

    def fit(self, rows: "pl.DataFrame", target: str) -> "Means":
        """Take the mean of ``target`` in each group.

        Raises:
            InputError: There is no such column of finite numbers, or a group's column is missing.
        """
        import polars as pl

        _require(rows, self.columns)
        overall = _mean(rows, target)
        means = rows.group_by(self.columns).agg(pl.col(target).cast(pl.Float64).mean().alias(MEAN))
        return Means(overall, self.columns, means)


MEAN = "mean of the group"


@dataclass(frozen=True)
class Means:
    """What a mean learnt.

    Attributes:
        overall: The mean of all rows.
        columns: That name a group; none for the mean alone.
        groups: These columns and ``MEAN``.
    """

    overall: float
    columns: tuple[str, ...]
    groups: "pl.DataFrame | None"

    def predict(self, rows: "pl.DataFrame") -> Floats:
        """The mean of each row's group, shape (rows,).

        Raises:
            InputError: A group's column is missing.
        """
        if self.groups is None:
            return np.full(rows.height, self.overall)
        _require(rows, self.columns)
        found = rows.select(self.columns).join(
            self.groups, on=self.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        return found[MEAN].fill_null(self.overall).to_numpy()


def _require(rows: "pl.DataFrame", columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in rows.columns]
    if missing or not columns:
        raise InputError(
            f"expected columns that name a group, no column {', '.join(missing)} among "
            f"{', '.join(rows.columns)}"
        )


def _mean(rows: "pl.DataFrame", target: str) -> float:
    import polars as pl

    if target not in rows.columns or not rows.schema[target].is_numeric():
        raise InputError(f"expected {target!r} as a column of numbers, found {dict(rows.schema)}")
    values = rows[target].cast(pl.Float64)
    known = int(values.is_finite().fill_null(False).sum())
    if not known or known < len(values):
        raise InputError(
            f"expected rows whose {target!r} is a number, found {known} of {len(values)}: leave "
            "out the others"
        )
    return float(values.to_numpy().mean())
