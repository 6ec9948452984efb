"""What became of a file's rows: the report on each symbol, its row of the ledger, and a refusal."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tidemill.crypto.intake.intervals import MINUTE_S

if TYPE_CHECKING:
    from tidemill.crypto.intake.rows import Parsed

COUNTS = ("rows", "good", "exact_duplicates", "conflicting_duplicates", "rejected")
"""What is counted of each landing; the first is the sum of the others."""


@dataclass(frozen=True)
class Arrival:
    """What lands: its name in the ledger and in messages, its hash, and when."""

    name: str
    shown: str
    sha256: str
    at: datetime


@dataclass(frozen=True)
class Landed:
    """What became of one file's rows, for one symbol; times in epoch seconds.

    Attributes:
        file: Name of the file, or where the rows came from.
        symbol: Trading pair.
        interval_s: Length of its bars.
        rows: Data rows; the sum of the next four.
        good: Rows that went in.
        exact_duplicates: Rows equal to one already in.
        conflicting_duplicates: Rows that differ from the one already in for that time.
        rejected: Rows in ``rejected_rows``.
        empty_prices: Good rows whose prices are to be filled.
        first_s: Start of the first good bar, None when none is good.
        last_s: Start of the last good bar.
        notes: What a reader of the report should know.
    """

    file: str
    symbol: str
    interval_s: int
    rows: int
    good: int
    exact_duplicates: int
    conflicting_duplicates: int
    rejected: int
    empty_prices: int
    first_s: int | None
    last_s: int | None
    notes: tuple[str, ...] = ()


def with_strays(landed: list[Landed], parsed: "Parsed", name: str) -> list[Landed]:
    """Add a report for rejected rows that name no symbol of the file."""
    strays = parsed.rows - sum(report.rows for report in landed)
    if not strays:
        return landed
    if len(landed) == 1:
        only = landed[0]
        return [replace(only, rows=only.rows + strays, rejected=only.rejected + strays)]
    of_any = max(parsed.intervals.values(), default=MINUTE_S)
    return [
        *landed,
        Landed(name, "", of_any, strays, 0, 0, 0, strays, 0, None, None, parsed.notes[""]),
    ]


def nothing_good(rejected: Iterable[tuple[int, str, str]], shown: str) -> str:
    """The message for a file without a good row: the commonest reasons, each with an example.

    Args:
        rejected: Line, reason and text of each row.
        shown: What messages call the file.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for line, reason, _ in rejected:
        kind = re.sub(r"\d[\d.]*", "#", reason.partition(", found")[0])
        counts[kind] += 1
        examples.setdefault(kind, f"{reason} (line {line}")
    told = "; ".join(
        examples[kind] + (f", and {count - 1} more like it)" if count > 1 else ")")
        for kind, count in counts.most_common(3)
    )
    return f"{shown}: none of its {counts.total()} rows can be used, so nothing was taken: {told}"


def record(report: Landed, arrival: Arrival, position: int, path: str | None) -> dict[str, Any]:
    """The row of ``landed_files`` that says what a report says."""

    def at(seconds: int | None) -> datetime | None:
        return (
            None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
        )

    return {
        "file": report.file,
        "sha256": arrival.sha256,
        "symbol": report.symbol,
        "interval_s": report.interval_s,
        "position": position,
        "rows": report.rows,
        "good": report.good,
        "exact_duplicates": report.exact_duplicates,
        "conflicting_duplicates": report.conflicting_duplicates,
        "rejected": report.rejected,
        "empty_prices": report.empty_prices,
        "first_at": at(report.first_s),
        "last_at": at(report.last_s),
        "path": path,
        "landed_at": datetime.now(UTC).replace(tzinfo=None),
    }
