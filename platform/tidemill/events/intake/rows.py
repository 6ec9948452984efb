"""Rows of a clickstream file in DuckDB: read, judged one by one, and told from their duplicates.

Works in one connection over temporary tables. ``parsed`` has every row, in source order (its
``rowid``), typed, with the reason and its text where it is no good. ``repeats`` has the ``rowid``
of each good row that is equal to one before it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.engines.duck import first_line
from tidemill.errors import InputError
from tidemill.events.intake import judging, records
from tidemill.events.intake.layout import NAMES, Layout
from tidemill.events.times import event_ms_sql
from tidemill.intake import lines
from tidemill.intake.source import Text
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb

NOTHING = "\x01\x02\x01"
"""Stands for a field that is not there; one that is there and empty is an empty text."""


def parse(con: "duckdb.DuckDBPyConnection", text: Text, layout: Layout) -> str:
    """Fill ``parsed`` from a plain file.

    The file is read as it is where each line of it becomes one row. Where a row goes over lines, a
    line is blank, or a quote or a byte is broken, a copy is read in which the rows are numbered.

    Args:
        con: Keeps insertion order.
        text: The plain text.
        layout: How to read it.

    Returns:
        SQL of the number of a row's line.

    Raises:
        InputError: It cannot be read, or it changed meanwhile.
    """
    survey = lines.survey(text.path)
    reading = _Reading(text.path, layout, '"' if survey.has_quotes else "")
    if not survey.is_sound or not _is_whole(con, reading, survey.lines):
        text.keep_still()
        reading = _Reading(text.folder / "numbered", layout, "", is_numbered=True)
        records.numbered(text.path, reading.path, layout)
        if told := reading.fill(con):
            raise InputError(f"{text.shown}: cannot be read as CSV ({told}); nothing was taken")
    elif survey.has_quotes:
        _show_as_they_came(con, text, layout.skip)
    text.keep_still()
    return reading.line


def _is_whole(con: "duckdb.DuckDBPyConnection", reading: "_Reading", line_count: int) -> bool:
    """Fill ``parsed`` from a file as it is; False where not each of its lines became a row."""
    if reading.fill(con):
        return False
    found = con.execute(
        f"select count(*), count(*) filter (reason = '{judging.BLANK}') from parsed"
    ).fetchone()
    return found == (line_count - reading.layout.skip, 0)


def _show_as_they_came(con: "duckdb.DuckDBPyConnection", text: Text, skip: int) -> None:
    """Put the lines of the text for the fields of the rows that are no good."""
    found = con.execute("select rowid from parsed where reason is not null order by rowid")
    bad = (row for page in iter(lambda: found.fetchmany(10_000), []) for (row,) in page)
    wanted = next(bad, None)
    if wanted is None:
        return
    copy = text.folder / "rejected"
    with text.path.open("rb") as source, copy.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row, line in enumerate(source, -skip):
            if row == wanted:
                came = line.decode("utf-8").rstrip("\r\n").removeprefix("\ufeff")
                writer.writerow((row, came[: records.SHOWN]))
                wanted = next(bad, None)
            if wanted is None:
                break
    con.execute(
        "update parsed set raw = came from read_csv("
        f"{text_literal(str(copy))}, header=false, delim=',', quote='\"', escape='\"', "
        "auto_detect=false, nullstr='', "
        "columns={'id': 'BIGINT', 'came': 'VARCHAR'}) where parsed.rowid = id"
    )


@dataclass(frozen=True)
class _Reading:
    """How a text becomes ``parsed``.

    Attributes:
        path: The text, or its numbered copy.
        layout: How to read it.
        quote: Around fields; empty where there is none in it.
        is_numbered: Whether it is the copy.
    """

    path: Path
    layout: Layout
    quote: str
    is_numbered: bool = False

    @property
    def line(self) -> str:
        """SQL of the number of a row's line."""
        return "line" if self.is_numbered else f"rowid + {self.layout.skip + 1}"

    def fill(self, con: "duckdb.DuckDBPyConnection") -> str:
        """Make ``parsed``; returns why it cannot be made, if so."""
        import duckdb

        try:
            con.execute(self._sql())
        except duckdb.Error as error:
            told = first_line(error)
            # A line end in quotes is told in an error of no narrower class.
            if isinstance(error, duckdb.InvalidInputException) or "CSV Error" in told:
                return told
            raise
        return ""

    def _sql(self) -> str:
        width = self.layout.width
        listed = [f"c{n}" for n in range(width + 1)]
        fields = ", ".join(map(self._field, listed))
        came = f"concat_ws({text_literal(self.layout.delimiter)}, {fields})"
        fault = "null::varchar"
        if self.is_numbered:
            came = f"coalesce(nullif({self._field('raw')}, ''), {came})"
            fault = f"nullif({self._field('fault')}, '')"
        # To trim other blanks too, as tabs, takes DuckDB six times as long.
        texts = ", ".join(
            f"nullif(trim({self._field(f'c{n}')}), '') as {name}"
            for name, n in self.layout.places.items()
        )
        numbers = ", ".join(f"{judging.whole(name)} as {name}_number" for name in judging.IDS)
        found = " + ".join(f"({name} is not null)::int" for name in listed)
        line = "line, " if self.is_numbered else ""
        return f"""
            create or replace temp table parsed as
            with texts as (
                select *, {texts}, {fault} as told,
                       c{width - 1} is null or coalesce(trim(c{width}), '') <> '' as is_uneven
                from {self._source([*self._prefix(), *listed])}),
            typed as (select *, {event_ms_sql("event_time")} as event_ms, {numbers},
                             {judging.price("price")} as price_number from texts),
            judged as (select *, {judging.reason(width, found)} as reason from typed)
            select {line}event_time, event_ms, event_type, product_id_number as product_id,
                category_id_number as category_id, category_code, brand,
                abs(price_number) as price, user_id_number as user_id, user_session, reason,
                case when reason is not null then left({came}, {records.SHOWN}) end as raw
            from judged
            """

    def _prefix(self) -> list[str]:
        return ["line", "raw", "fault"] if self.is_numbered else []

    def _field(self, name: str) -> str:
        if not self.is_numbered:
            return name
        return records.unescaped(name, self.layout.delimiter)

    def _source(self, names: list[str]) -> str:
        columns = ", ".join(
            f"'{name}': '{'BIGINT' if name == 'line' else 'VARCHAR'}'" for name in names
        )
        skip = 0 if self.is_numbered else self.layout.skip
        quote = text_literal(self.quote)
        return (
            f"read_csv({text_literal(str(self.path))}, auto_detect=false, header=false, "
            f"skip={skip}, delim={text_literal(self.layout.delimiter)}, quote={quote}, "
            f"escape={quote}, columns={{{columns}}}, null_padding=true, "
            f"nullstr={text_literal(NOTHING)}, compression='none', "
            f"hive_partitioning=false, max_line_size={4 * lines.LONGEST})"
        )


def find_repeats(con: "duckdb.DuckDBPyConnection") -> None:
    """Fill ``repeats`` from ``parsed``; only rows that share a hash are held side by side."""
    nine = ", ".join(NAMES)
    con.execute(
        f"""
        create or replace temp table repeats as
        with twice as (
            select hash({nine}) as digest from parsed where reason is null
            group by 1 having count(*) > 1),
        ranked as (
            select rowid as id, row_number() over (partition by {nine} order by rowid) as nth
            from parsed semi join twice on hash({nine}) = digest where reason is null)
        select id from ranked where nth > 1
        """
    )


def find_known(con: "duckdb.DuckDBPyConnection", held: str) -> None:
    """Add the rows of ``parsed`` that are equal to one of ``held`` to ``repeats``.

    Args:
        con: Holds both.
        held: SQL of rows that landed before: those of the same days do.
    """
    nine = ", ".join(NAMES)
    same = " and ".join(f"parsed.{name} is not distinct from near.{name}" for name in NAMES)
    con.execute(
        f"""
        insert into repeats
        with near as materialized (
            select {nine}, hash({nine}) as digest from {held}
            semi join (select hash({nine}) as mine from parsed where reason is null) m
                on hash({nine}) = m.mine)
        select rowid from parsed semi join near on hash({_of("parsed")}) = near.digest and {same}
        where reason is null and rowid not in (select id from repeats)
        """
    )


def _of(relation: str) -> str:
    return ", ".join(f"{relation}.{name}" for name in NAMES)
