"""The leak guard for models of tables: purchases without a time, bars with one, any features.

The rule is that of ``leak``: an answer may hang only on what was known when it was given, and on
the columns of its own row that came with the question.

A pipeline whose sums run over all rows in pieces may round otherwise when rows after the instant
come or go, and is reported, with a difference of 1e-16 of the value or so: let it filter what is
known first, then compute.

It imports numpy and polars: import it where it is used.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, Protocol

import numpy as np
import polars as pl

from tidemill.errors import InputError
from tidemill.skill.findings import Check, Finding, first_of_each
from tidemill.skill.future import NOISY, Change, Flags, Source, change_source
from tidemill.skill.leak import SEARCH, Search, deaf, differing, frames, spread

AT = "at"
"""Column of a pipeline's answers: the instant at which the answer is given."""


class Pipeline(Protocol):
    """From tables to answers: the features and the predictions of rows, as one would store them."""

    def __call__(self, tables: Mapping[str, pl.DataFrame], cutoff: Any, /) -> pl.DataFrame:
        """Train on what is known at ``cutoff`` and answer.

        Args:
            tables: By the names of the sources.
            cutoff: The last instant of which training may know.

        Returns:
            One row an answer: the key's columns; ``at``, the instant at which the answer is given,
            in the type of the sources' ``known``; features and predictions, each in a column.
            Answers of training rows may be among them, with the instant of the row itself, or of
            the cutoff where the fitted model has a part in them.
        """
        ...


def table_leaks(
    pipeline: Pipeline,
    sources: Mapping[str, Source],
    cutoff: Any,
    search: Search = SEARCH,
) -> list[Finding]:
    """Ask a pipeline again with other rows after an instant; answers given by then must not move.

    The instants are the cutoff and some of those of later answers; the search ends at the first
    that shows something. Features are answers as well as predictions are.

    Args:
        pipeline: Any.
        sources: Its tables; exactly one has a key, which the answers have too.
        cutoff: What the pipeline is told.
        search: How hard to look.

    Returns:
        One finding a column that moved. Nothing where nothing was found. A pipeline that differs
        without a change is reported as not repeatable and is not looked at further.

    Raises:
        InputError: No answer is given at or before the cutoff, nothing is hidden after it, answers
            lack a column or have a key twice.
    """
    asking = _Asking(pipeline, sources, cutoff)
    before = asking.answers(frames(sources), "")
    nobody = pl.DataFrame()
    repeated = asking.answers(frames(sources), "")
    if unstable := list(_moved(before, repeated, asking.key, nobody, "")):
        text = "answers differ without any change"
        return [replace(finding, check=Check.REPEAT, text=text) for finding in unstable]
    if before.filter(pl.col(AT) <= cutoff).is_empty():
        raise InputError(f"expected answers at or before {cutoff}, found none: nothing to compare")
    instants = _instants(sources, before, cutoff, search)
    if cutoff not in instants:
        raise InputError(f"expected rows after {cutoff}, found none: nothing would be proved")
    found: list[Finding] = []
    for instant, changes in instants.items():
        found += asking.after(before, instant, changes, search)
        if found:
            break
    if not found and search.heeds and not asking.heeds(before, search):
        found.append(deaf("answers"))
    return first_of_each(found)


def own_labels(
    pipeline: Pipeline,
    sources: Mapping[str, Source],
    cutoff: Any,
    label: str,
    features: Sequence[str],
    search: Search = SEARCH,
) -> list[Finding]:
    """Change one training row's label; that row's own features must not move.

    A mean of the labels of a group that counts the row itself tells the model the answer while it
    learns, and nothing when it is asked: such features must be made out of fold.

    Args:
        pipeline: Any whose answers hold training rows.
        sources: As for ``table_leaks``; the one with the key holds the label.
        cutoff: What the pipeline is told.
        label: Column of the label, a number.
        features: Columns of the answers that are not predictions.
        search: ``probes`` rows are tried, one after the other.
    """
    asking = _Asking(pipeline, sources, cutoff)
    name, source = asking.keyed
    before = asking.answers(frames(sources), "")
    trained = source.frame.with_row_index("_row").filter(~pl.Series(source.hidden(cutoff)))
    rows = trained.join(before, on=asking.key, how="semi")["_row"].to_numpy()
    found = []
    for row in search.chance(0).permutation(rows)[: search.probes]:
        here = pl.int_range(pl.len()) == int(row)
        frame = source.frame.with_columns(
            pl.when(here).then(pl.col(label) * 2 + 1).otherwise(label)
        )
        after = asking.answers(frames(sources) | {name: frame}, f"{label} of one row")
        this = frame[[int(row)]].select(asking.key)
        columns = [*asking.key, AT, *features]
        kept = [
            answers.select(columns).join(this, on=asking.key, how="semi")
            for answers in (before, after)
        ]
        found += [
            replace(finding, check=Check.OWN_LABEL)
            for finding in _moved(
                kept[0], kept[1], asking.key, pl.DataFrame(), f"another {label} of its own"
            )
        ]
    return first_of_each(found)


@dataclass(frozen=True)
class _Asking:
    """A pipeline and what it reads."""

    pipeline: Pipeline
    sources: Mapping[str, Source]
    cutoff: Any

    @property
    def keyed(self) -> tuple[str, Source]:
        """The table whose rows are answered."""
        keyed = [(name, source) for name, source in self.sources.items() if source.key]
        if len(keyed) != 1:
            raise InputError(f"expected one table with a key, found {[name for name, _ in keyed]}")
        return keyed[0]

    @property
    def key(self) -> tuple[str, ...]:
        """Columns that name an answer."""
        return self.keyed[1].key

    def answers(self, tables: Mapping[str, pl.DataFrame], change: str) -> pl.DataFrame:
        """The pipeline's answers; a failure is told with the change that made it."""
        try:
            answers = self.pipeline(
                {name: frame.rechunk() for name, frame in tables.items()}, self.cutoff
            )
        except Exception as error:
            if change:
                error.add_note(f"the pipeline ran on the tables as they are, not changed: {change}")
            raise
        lacking = [column for column in (*self.key, AT) if column not in answers.columns]
        if lacking:
            raise InputError(f"expected answers with {lacking}, found {answers.columns}")
        if answers.select(self.key).is_duplicated().any():
            raise InputError(f"expected one answer for each {', '.join(self.key)}, found several")
        return answers

    def after(
        self, before: pl.DataFrame, instant: Any, changes: tuple[Change, ...], search: Search
    ) -> Iterator[Finding]:
        """What moves in the answers given by ``instant`` when what came later is changed."""
        given = before.filter(pl.col(AT) <= instant)
        for nth, change in enumerate(changes):
            tables = {}
            touched = pl.DataFrame()
            for place, (name, source) in enumerate(self.sources.items()):
                rng = search.chance(nth, place)
                changed = change_source(source, source.hidden(instant), change, rng)
                tables[name] = changed.frame
                touched = changed.touched if source.key else touched
            after = self.answers(tables, change.name).filter(pl.col(AT) <= instant)
            yield from _moved(
                given, after, self.key, touched, f"another future after {instant} ({change.name})"
            )

    def heeds(self, before: pl.DataFrame, search: Search) -> bool:
        """Whether another past makes other answers."""
        tables = {
            name: change_source(source, ~source.hidden(self.cutoff), NOISY, search.chance(0)).frame
            for name, source in self.sources.items()
        }
        after = self.answers(tables, "another past")
        return any(_moved(before, after, self.key, pl.DataFrame(), ""))


def _moved(
    before: pl.DataFrame,
    after: pl.DataFrame,
    key: tuple[str, ...],
    touched: pl.DataFrame,
    change: str,
) -> Iterator[Finding]:
    """Each column of the answers that is not the same, but for rows that were touched."""
    if touched.width:
        before, after = (f.join(touched, on=key, how="anti") for f in (before, after))
    if before.columns != after.columns:
        old, new = str(before.columns), str(after.columns)
        text = f"columns {old} become {new} with {change}"
        yield Finding(Check.FUTURE, "columns", "", text, change, old, new)
        return
    for one, other, verb in ((before, after, "goes"), (after, before, "comes")):
        lost = one.join(other, on=key, how="anti").sort(AT, *key)
        if len(lost):
            row = _row(lost, 0, key)
            text = f"the answer of {row} {verb} with {change}"
            yield Finding(Check.FUTURE, "rows", row, text, change, rows=len(lost))
    before = before.join(after, on=key, how="semi").sort(AT, *key)
    after = before.select(key).join(after, on=key, how="left", maintain_order="left")
    for column in before.columns:
        unequal = _unequal(before[column], after[column])
        if unequal.any():
            yield _told(before, after, column, unequal, key, change)


def _told(
    before: pl.DataFrame,
    after: pl.DataFrame,
    column: str,
    unequal: Flags,
    key: tuple[str, ...],
    change: str,
) -> Finding:
    """The finding of a column, by its first row in order of the instants."""
    first, rows = int(np.argmax(unequal)), int(unequal.sum())
    row = _row(before, first, key)
    old, new = before[column], after[column]
    largest = None
    if old.dtype.is_numeric() and new.dtype.is_numeric():
        gap = (old.cast(pl.Float64) - new.cast(pl.Float64)).abs().filter(pl.Series(unequal)).max()
        largest = float(str(gap)) if gap is not None else None
    text = (
        f"{column} of {row} is {old[first]!r}, and {new[first]!r} with {change}; {rows} rows differ"
    )
    return Finding(
        Check.FUTURE, column, row, text, change, repr(old[first]), repr(new[first]), largest, rows
    )


def _unequal(before: pl.Series, after: pl.Series) -> Flags:
    """Where two columns have not the same bits; null equals null, NaN equals NaN."""
    if before.dtype != after.dtype:
        return np.ones(len(before), dtype=bool)
    if not before.dtype.is_float():
        return before.ne_missing(after).to_numpy()
    nulls = (before.is_null() != after.is_null()).to_numpy()
    return nulls | differing(before.fill_null(0.0).to_numpy(), after.fill_null(0.0).to_numpy())


def _is_nan(column: pl.Series) -> pl.Series:
    """Where a column is NaN; nowhere where it is none of floats."""
    no = pl.repeat(False, len(column), eager=True)
    return column.is_nan().fill_null(False) if column.dtype.is_float() else no


def _row(answers: pl.DataFrame, nth: int, key: tuple[str, ...]) -> str:
    """A row's key as text."""
    return ", ".join(f"{name} {answers[name][nth]}" for name in key)


def _instants(
    sources: Mapping[str, Source], before: pl.DataFrame, cutoff: Any, search: Search
) -> dict[Any, tuple[Change, ...]]:
    """At which instants the future is changed, and how; the instants in the order of the search.

    The cutoff and some later ones take every change. So do some at which a value is missing: a
    gap that is filled from behind shows at no other. More take one change, since a feature that is
    seldom at work shows at few instants.
    """
    later = before.filter(pl.col(AT) > cutoff)[AT].unique().sort()[:-1].to_list()
    gaps: set[Any] = set()
    for source in sources.values():
        hidden = source.frame.select(source.hidden_columns)
        missing = [column.is_null() | _is_nan(column) for column in hidden.get_columns()]
        if missing:
            known = source.frame[source.known].filter(reduce(or_, missing))
            gaps |= set(known.filter(known >= cutoff))
    each = [cutoff, *(later[i] for i in spread(len(later), search.probes - 1))]
    each += [sorted(gaps)[i] for i in spread(len(gaps), search.probes)]
    chosen: dict[Any, tuple[Change, ...]] = dict.fromkeys(each, search.changes)
    for i in spread(len(later), search.sweep):
        chosen.setdefault(later[i], (NOISY,))
    return {
        instant: changes
        for instant, changes in chosen.items()
        if any(source.hidden(instant).any() for source in sources.values())
    }
