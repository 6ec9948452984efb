"""What a check of a model's honesty found, in words and in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What was looked at."""

    FUTURE = "future"
    """An answer hangs on what was not known when it was given."""
    OWN_LABEL = "own_label"
    """A feature of a training row hangs on that row's own label."""
    REPEAT = "repeat"
    """Asked twice the same, the model answers differently: nothing can be said about leaks."""
    HEED = "heed"
    """The answers do not hang on the past either: the guard has proved nothing."""
    SHARED = "shared"
    """The same row is in training and in test."""
    ORDER = "order"
    """Training rows are as late as test rows, or later."""
    EMBARGO = "embargo"
    """Labels of training rows were not known yet when the test began."""
    ASKED = "asked"
    """Test rows are asked when their label is known already: no forecast is made."""
    ALARM = "alarm"
    """The score is too good to be believed beside the baseline's."""


@dataclass(frozen=True)
class Finding:
    """One reason not to believe a score.

    Attributes:
        check: Which check found it.
        where: Column, feature or table that it is about.
        row: The first row that shows it, as text.
        text: What is wrong, as a sentence with its numbers.
        change: Name of the change that showed it, where something was changed.
        before: The value without the change, as text.
        after: The value with it.
        largest: Largest absolute difference of all rows; None where values are not numbers.
        rows: Rows that show it.
    """

    check: Check
    where: str
    row: str
    text: str
    change: str = ""
    before: str = ""
    after: str = ""
    largest: float | None = None
    rows: int = 1

    def __str__(self) -> str:
        """The sentence, with the check's name."""
        return f"{self.check}: {self.text}"


def first_of_each(findings: Iterable[Finding]) -> list[Finding]:
    """The first finding of each check and place, in the order they came."""
    kept: dict[tuple[Check, str], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.check, finding.where), finding)
    return list(kept.values())
