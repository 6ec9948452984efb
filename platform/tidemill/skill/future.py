"""Other futures: seeded changes to what nobody could know yet, for the leak guard to ask again.

It imports numpy and polars: import it where it is used.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.errors import InputError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """A table that a model reads, and who may know what of it, when.

    A revision or an event is known when it was published, which is not when it happened:
    ``known`` names the column of the former.

    Attributes:
        frame: Its rows.
        known: Column of the instant from which on a row is known; null is not allowed. Where
            there is no time, 0 for the training part and 1 for the test part does.
        key: Columns that name a row; only of the table whose rows the model answers.
        given: Columns that all know in advance, as a calendar; never changed.
        own: Columns that come with the question: an answer may hang on its own row's, not on
            those of another row that is not known yet.
        scheduled: Whether it is known in advance which rows there will be, as the days of a
            calendar: then none goes or comes, and lags may be counted in rows.
    """

    frame: pl.DataFrame
    known: str
    key: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    scheduled: bool = False

    def __post_init__(self) -> None:
        """Refuse columns that are not there, and rows of which nobody knows since when."""
        named = (self.known, *self.key, *self.given, *self.own)
        lacking = [column for column in named if column not in self.frame.columns]
        if lacking:
            raise InputError(f"expected columns {lacking}, found {self.frame.columns}")
        if self.frame[self.known].null_count():
            raise InputError(f"expected {self.known} in each row, found null")

    @property
    def hidden_columns(self) -> tuple[str, ...]:
        """Columns that are known with the row and no earlier."""
        fixed = {self.known, *self.key, *self.given, *self.own}
        return tuple(column for column in self.frame.columns if column not in fixed)

    def hidden(self, instant: Any) -> Flags:
        """Which rows are not known at ``instant``; bool, shape (rows,)."""
        return self.frame.select(pl.col(self.known) > pl.lit(instant)).to_series().to_numpy()


@dataclass(frozen=True)
class Change:
    """One way in which the unknown could have been otherwise.

    Attributes:
        name: By which a finding tells it.
        numbers: Makes other numbers of finite float64, shape (n,), of the same sign, so that a
            model of logarithms still runs; None puts the values there are into another order.
        rows: Whether rows stay, or half of those not known go or come twice.
    """

    name: str
    numbers: Callable[[Floats, np.random.Generator], Floats] | None
    rows: Literal["same", "fewer", "more"] = "same"


def _size(values: Floats) -> float:
    """A size that is natural for the values; not zero, as zeros must change too."""
    return float(np.abs(values).mean()) or 1.0


def _larger(values: Floats, rng: np.random.Generator) -> Floats:
    grown = values * rng.uniform(2.0, 4.0, len(values))
    return np.where(values == 0.0, _size(values) * rng.uniform(0.5, 1.0, len(values)), grown)


def _smaller(values: Floats, rng: np.random.Generator) -> Floats:
    return np.where(values == 0.0, 0.0, values / rng.uniform(2.0, 4.0, len(values)))


def _noisy(values: Floats, rng: np.random.Generator) -> Floats:
    return values * np.exp(rng.normal(0.0, 0.5, len(values)))


def _mirrored(values: Floats, rng: np.random.Generator) -> Floats:
    return values.max() + values.min() - values if len(values) > 1 else values * 2.0


def _steady(values: Floats, rng: np.random.Generator) -> Floats:
    """Almost level: what swings least wins a choice made on it."""
    return np.median(values) * rng.uniform(0.999, 1.001, len(values))


def _waves(values: Floats, rng: np.random.Generator) -> Floats:
    """Up and down from row to row: what follows fastest loses a choice made on it."""
    return values * np.where(np.arange(len(values)) % 2, 1.5, 0.6)


NOISY = Change("noisy", _noisy)
CHANGES = (
    Change("larger", _larger),
    Change("smaller", _smaller),
    Change("shuffled", None),
    NOISY,
    Change("mirrored", _mirrored),
    Change("steady", _steady),
    Change("waves", _waves),
    Change("fewer rows", _noisy, "fewer"),
    Change("more rows", _noisy, "more"),
)
"""Several, as each alone is blind to some use of the future: a sum is blind to order, a largest
value to what is smaller, a choice among a few to what does not turn it."""


@dataclass(frozen=True)
class Changed:
    """A source after a change.

    Attributes:
        frame: Its rows.
        touched: Keys of the rows whose question is another one now, or gone, or new: an answer to
            these may differ. Empty, without columns, for a source without a key.
    """

    frame: pl.DataFrame
    touched: pl.DataFrame = field(default_factory=pl.DataFrame)


def change_values(values: Floats, start: int, change: Change, rng: np.random.Generator) -> Floats:
    """The values with another future from row ``start`` on; float64, shape (n,)."""
    later = values[start:]
    other = rng.permutation(later) if change.numbers is None else change.numbers(later, rng)
    return np.concatenate([values[:start], other])


def change_source(
    source: Source, hidden: Flags, change: Change, rng: np.random.Generator
) -> Changed:
    """Change what is hidden of a source, by column and type; what is known stays as it is.

    Args:
        source: The table as it is.
        hidden: Which rows are not known, shape (rows,).
        change: What to do to them.
        rng: Where the change gets its chance from.
    """
    at = np.flatnonzero(hidden)
    if not len(at):
        return Changed(source.frame)
    asked = np.sort(rng.permutation(at)[: (len(at) + 1) // 2]) if source.own else at[:0]
    frame = source.frame.with_columns(
        [_other(source.frame[column], at, change, rng) for column in source.hidden_columns]
        + [_other_question(source.frame[column], asked, change, rng) for column in source.own]
    )
    touched = asked
    rows = "same" if source.scheduled else change.rows
    if rows == "fewer":
        gone = rng.permutation(at)[: (len(at) + 1) // 2]
        frame = frame.filter(~np.isin(np.arange(len(frame)), gone))
        touched = np.union1d(touched, gone)
    keys = source.frame[touched].select(source.key) if source.key else pl.DataFrame()
    if rows == "more":
        more = _renamed(source, frame[np.sort(rng.permutation(at)[: (len(at) + 1) // 2])])
        frame = pl.concat([frame, more])
        keys = pl.concat([keys, more.select(source.key)]) if source.key else keys
    return Changed(frame, keys)


def _other(
    column: pl.Series, at: npt.NDArray[np.int64], change: Change, rng: np.random.Generator
) -> pl.Series:
    """The column with other values in rows ``at``."""
    old = column[at]
    if change.numbers is None or column.dtype.is_nested():
        new = old[rng.permutation(len(at))]
    elif column.dtype.is_float() or column.dtype.is_integer():
        new = _other_numbers(old, change.numbers, rng)
    elif column.dtype == pl.Boolean:
        new = ~old
    elif column.dtype in (pl.Date, pl.Datetime):
        days = rng.integers(1, 30, len(at)) * rng.choice([-1, 1], len(at))
        moved = pl.DataFrame({"old": old, "days": days})
        new = moved.select(pl.col("old") + pl.duration(days="days")).to_series()
    else:
        new = _resampled(column, len(at), rng)
    return _put(column, at, new)


def _other_question(
    column: pl.Series, at: npt.NDArray[np.int64], change: Change, rng: np.random.Generator
) -> pl.Series:
    """As ``_other``, but a code stays one that occurs: no model must know a city that is not."""
    if column.dtype.is_float():
        return _other(column, at, change, rng)
    return _put(column, at, _resampled(column, len(at), rng))


def _other_numbers(
    old: pl.Series,
    numbers: Callable[[Floats, np.random.Generator], Floats],
    rng: np.random.Generator,
) -> pl.Series:
    """Other numbers of the same type; null, NaN and infinity stay where they are."""
    values = old.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    finite = np.isfinite(values)
    if finite.any():
        values[finite] = numbers(values[finite], rng)
    new = pl.Series(old.name, values)
    if old.dtype.is_integer():
        limits = np.iinfo(old.to_physical().drop_nulls().to_numpy().dtype)
        new = new.fill_nan(None).round().clip(limits.min, limits.max)
    new = new.cast(old.dtype, strict=False)
    return pl.select(pl.when(old.is_not_null()).then(new).alias(old.name)).to_series()


def _resampled(column: pl.Series, rows: int, rng: np.random.Generator) -> pl.Series:
    """Values drawn from all that occur, however rare."""
    occurring = column.unique(maintain_order=True)
    return occurring[rng.integers(0, len(occurring), rows)]


def _put(column: pl.Series, at: npt.NDArray[np.int64], new: pl.Series) -> pl.Series:
    """The column with ``new`` in rows ``at``."""
    place = np.full(len(column), -1)
    place[at] = np.arange(len(at))
    index = np.where(place < 0, np.arange(len(column)), len(column) + place)
    return pl.concat([column, new.cast(column.dtype).alias(column.name)])[index]


def _renamed(source: Source, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows under keys that do not occur yet, after all that do; one column of a key is enough.

    That is the instant where it is in the key: a symbol that no model knows would prove nothing.
    """
    name = source.known if source.known in source.key else next(iter(source.key), None)
    return rows.with_columns(_fresh(source.frame[name], len(rows))) if name else rows


def _fresh(column: pl.Series, rows: int) -> pl.Series:
    """Values after the last of the column: numbers, days, seconds or words that sort behind."""
    steps = pl.int_range(1, rows + 1)
    last = pl.lit(column.max(), dtype=column.dtype)
    if column.dtype == pl.Date:
        new = last + pl.duration(days=steps)
    elif column.dtype == pl.Datetime:
        new = last + pl.duration(seconds=steps)
    elif column.dtype.is_integer():
        new = last + steps.cast(column.dtype)
    else:
        new = pl.format("{} + {}", last.cast(pl.String), steps)
    return pl.select(new.cast(column.dtype).alias(column.name)).to_series()
