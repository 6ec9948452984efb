"""What became of a clickstream file's rows: the report, and the refusal of a file without a row."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

COUNTS = ("rows", "good", "duplicates", "rejected")
"""What is counted of each file; the first is the sum of the others."""


@dataclass(frozen=True)
class Landed:
    """What became of one file's rows.

    Attributes:
        file: Its name.
        file_id: The file, by its content.
        rows: Rows, without the header; the sum of the next three.
        good: Rows that went in.
        duplicates: Rows equal to one before them in the file, in all nine columns.
        rejected: Rows in ``rejected_rows``.
        first_at: First event that went in, UTC without a zone; None where none did.
        last_at: Last event that went in.
        notes: What a reader of the report should know.
    """

    file: str
    file_id: str
    rows: int
    good: int
    duplicates: int
    rejected: int
    first_at: datetime | None
    last_at: datetime | None
    notes: tuple[str, ...] = ()


def counted(con: "duckdb.DuckDBPyConnection", file: str, file_id: str) -> Landed:
    """Count the rows of ``parsed`` and ``repeats``."""
    found = con.execute(
        """
        select count(*), count(*) filter (reason is not null), (select count(*) from repeats),
               make_timestamp(min(event_ms) filter (reason is null) * 1000),
               make_timestamp(max(event_ms) filter (reason is null) * 1000)
        from parsed
        """
    ).fetchone()
    rows, rejected, duplicates, first_at, last_at = found or (0, 0, 0, None, None)
    good = rows - rejected - duplicates
    return Landed(file, file_id, rows, good, duplicates, rejected, first_at, last_at)


def nothing_good(con: "duckdb.DuckDBPyConnection", shown: str, line: str) -> str:
    """The message for a file without a good row: the commonest reasons, each with an example.

    Args:
        con: Holds ``parsed``.
        shown: What messages call the file.
        line: SQL of the number of a row's line.
    """
    kinds = con.execute(
        f"""
        select count(*) as times, arg_min(reason, line), min(line) from (
            select reason, {line} as line, regexp_replace(
                   split_part(reason, ', found', 1), '[0-9][0-9.]*', '#', 'g') as kind
            from parsed)
        group by kind order by times desc, min(line) limit 3
        """
    ).fetchall()
    ((rows,),) = con.execute("select count(*) from parsed").fetchall()
    told = "; ".join(
        f"{reason} (line {at}" + (f", and {times - 1} more like it)" if times > 1 else ")")
        for times, reason, at in kinds
    )
    return f"{shown}: none of its {rows} rows can be used, so nothing was taken: {told}"
