"""What became of a clickstream file's rows: the report, and the refusal of a file without a row."""

import re
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
        duplicates: Rows equal in all nine columns to one before them, in the file or in another.
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
               make_timestamp(min(event_ms) filter (reason is null and id is null) * 1000),
               make_timestamp(max(event_ms) filter (reason is null and id is null) * 1000)
        from parsed left join repeats on parsed.rowid = id
        """
    ).fetchone()
    rows, rejected, duplicates, first_at, last_at = found or (0, 0, 0, None, None)
    good = rows - rejected - duplicates
    return Landed(file, file_id, rows, good, duplicates, rejected, first_at, last_at)


def nothing_good(con: "duckdb.DuckDBPyConnection", shown: str, line: str) -> str:
    """The message for a file without a good row; arguments as ``reasons`` has them."""
    ((rows,),) = con.execute("select count(*) from parsed").fetchall()
    told = reasons(con, line)
    return f"{shown}: none of its {rows} rows can be used, so nothing was taken: {told}"


def some_bad(con: "duckdb.DuckDBPyConnection", shown: str, line: str) -> str:
    """The message for rows that are left out, "" where none is; arguments as above."""
    ((rows, bad),) = con.execute("select count(*), count(reason) from parsed").fetchall()
    return f"{shown}: {bad} of its {rows} rows cannot be used: {reasons(con, line)}" if bad else ""


def reasons(con: "duckdb.DuckDBPyConnection", line: str) -> str:
    """The commonest reasons why rows are no good, each with an example, in one line.

    Args:
        con: Holds ``parsed``.
        line: SQL of the number of a row's line.
    """
    kinds = con.execute(
        f"""
        select count(*) as times, arg_min(reason, line), min(line) from (
            select reason, {line} as line, regexp_replace(
                   split_part(reason, ', found', 1), '[0-9][0-9.]*', '#', 'g') as kind
            from parsed where reason is not null)
        group by kind order by times desc, min(line) limit 3
        """
    ).fetchall()
    told = "; ".join(
        f"{reason} (line {at}" + (f", and {times - 1} more like it)" if times > 1 else ")")
        for times, reason, at in kinds
    )
    return re.sub(r"[\x00-\x1f\x7f]+", " ", told)  # what was found may go over lines
