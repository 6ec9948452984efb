"""Checks of a split: no row on both sides, none in training that is too late, none asked too late.

It imports polars: import it where it is used.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from tidemill.errors import InputError
from tidemill.skill.findings import Check, Finding


def shared_rows(
    train: pl.DataFrame, test: pl.DataFrame, columns: Sequence[str] | None = None
) -> list[Finding]:
    """Test rows that are in training too, by the columns of a key or by all that they hold.

    Args:
        train: Rows that are trained on.
        test: Rows that are scored.
        columns: What makes two rows the same; all columns where none are named. For copies under
            another key, name all columns but the key.

    Returns:
        One finding, with the number of test rows and the first of them; null equals null.
    """
    columns = list(columns or test.columns)
    _columns(train, test, columns)
    seen = test.select(columns).join(
        train.select(columns).unique(), on=columns, how="semi", nulls_equal=True
    )
    if seen.is_empty():
        return []
    where, row = ", ".join(columns), str(seen.row(0, named=True))
    text = f"{len(seen)} of {len(test)} test rows are in training too, by {where}; first: {row}"
    return [Finding(Check.SHARED, where, row, text, rows=len(seen))]


def later_rows(train: pl.DataFrame, test: pl.DataFrame, time: str) -> list[Finding]:
    """Training rows at or after the first test row's time, as a random split of a series has.

    Args:
        train: Rows that are trained on.
        test: Rows that are scored.
        time: Column of the instant, in both, that orders the rows.
    """
    _columns(train, test, [time])
    text = "training rows are at or after the first test row"
    return _reaching(train, test, (time, time), Check.ORDER, text)


def reaching_labels(
    train: pl.DataFrame, test: pl.DataFrame, known: str, asked: str
) -> list[Finding]:
    """Training rows whose label was not known yet when the first test row was asked.

    A label that looks h rows ahead needs an embargo of h rows between training and test.

    Args:
        train: Rows that are trained on, with ``known``.
        test: Rows that are scored, with ``asked``.
        known: Column of the instant from which on a row's label is known.
        asked: Column of the instant at which a row is asked, of the same type.
    """
    _columns(train, train, [known])
    _columns(test, test, [asked])
    text = "training labels became known only after the first test row was asked"
    return _reaching(train, test, (known, asked), Check.EMBARGO, text)


def late_questions(test: pl.DataFrame, known: str, asked: str) -> list[Finding]:
    """Test rows that are asked when their label is known already.

    The guard believes a pipeline's word for when an answer is given. This holds it to that word: a
    day's close that is "forecast" at the day's end is none.

    Args:
        test: Rows that are scored.
        known: Column of the instant from which on a row's label is known.
        asked: Column of the instant at which a row is asked, of the same type.
    """
    _columns(test, test, [known, asked])
    late = test.filter(pl.col(asked) >= pl.col(known)).sort(asked)
    if late.is_empty():
        return []
    row = str(late.row(0, named=True))
    text = (
        f"{len(late)} of {len(test)} test rows are asked when their label is known already; "
        f"first: {row}"
    )
    return [Finding(Check.ASKED, asked, row, text, rows=len(late))]


def _reaching(
    train: pl.DataFrame, test: pl.DataFrame, columns: tuple[str, str], check: Check, text: str
) -> list[Finding]:
    """Training rows that reach into the test; at its first instant they may be for labels only."""
    if train.is_empty() or test.is_empty():
        raise InputError(f"expected rows in both parts, found {len(train)} and {len(test)}")
    mine, theirs = columns
    start: Any = test[theirs].min()
    edge = pl.col(mine) >= start if check is Check.ORDER else pl.col(mine) > start
    late = train.filter(edge).sort(mine)
    if late.is_empty():
        return []
    row = str(late.row(0, named=True))
    said = f"{len(late)} of {len(train)} {text}, {start}; first: {row}"
    return [Finding(check, mine, row, said, rows=len(late))]


def _columns(train: pl.DataFrame, test: pl.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a column that is not in both."""
    for frame in (train, test):
        lacking = [column for column in columns if column not in frame.columns]
        if lacking:
            raise InputError(f"expected columns {lacking}, found {frame.columns}")
