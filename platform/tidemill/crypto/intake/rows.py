"""Rows of a candle file in DuckDB: read, and judged one by one.

Works in one connection over a temporary table: ``parsed`` holds every row that has the right number
of fields, in source order (its ``rowid``), with the reason where it is no good. Each line of the
file that is not blank is in it or among the broken ones, once.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.crypto.intake import intervals
from tidemill.crypto.intake.files import NUMBERS, PRICES, Layout
from tidemill.crypto.intake.judging import reason
from tidemill.crypto.intake.numerals import EMPTY, Numbers, cleaned, number
from tidemill.crypto.intake.times import seconds, slashed
from tidemill.errors import InputError
from tidemill.intake import lines
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from tidemill.crypto.intake.source import Text

SYMBOL = "^[A-Z0-9][A-Z0-9.]{1,23}$"


@dataclass(frozen=True)
class Parsed:
    """What a file holds, before duplicates are told.

    Attributes:
        rows: Data rows, those that could not be split into fields included.
        intervals: Length of the bars (s) by trading pair.
        notes: What a reader of the report should know, by trading pair; of the file under "".
        text: The plain file, to show rejected lines from; None for rows without one.
        skip: Lines before the first row.
        broken: Reason by line number, for lines that could not be split into fields.
    """

    rows: int
    intervals: Mapping[str, int]
    notes: Mapping[str, tuple[str, ...]]
    text: Path | None
    skip: int
    broken: Mapping[int, str]


def parse(
    con: "duckdb.DuckDBPyConnection",
    text: "Text",
    layout: Layout,
    symbol: str | None,
    is_forced: bool,
    limit_s: int,
) -> Parsed:
    """Read a plain file into ``parsed`` and judge each row.

    Args:
        con: Keeps insertion order.
        text: The plain text.
        layout: How to read it.
        symbol: The trading pair that the user or the file's name tells, if any.
        is_forced: Whether it also stands for what a column says.
        limit_s: Bars from here on lie in the future.

    Raises:
        InputError: Its rows cannot be counted, or its bars cannot be used.
    """
    has_symbol = "symbol" in layout.roles and not is_forced
    broken = _read(con, text, layout, None if has_symbol else symbol or "", limit_s)
    if has_symbol:
        con.execute(
            "update parsed set reason = 'symbol: expected letters and digits, found ' || "
            "coalesce(nullif(left(symbol, 60), ''), 'nothing') where reason is null and "
            f"not coalesce(regexp_matches(symbol, {text_literal(SYMBOL)}), false)"
        )
    lengths = intervals.found(con, has_symbol, layout.times, str(text.shown))
    intervals.align(con, lengths, layout.times.is_end)
    symbols = [symbol or ""]
    if has_symbol:
        good = con.execute("select distinct symbol from parsed where reason is null").fetchall()
        symbols = sorted(found for (found,) in good)
    of_each = {found: lengths.get(found, intervals.MINUTE_S) for found in symbols}
    notes = {"": (*text.notes, *_notes(layout))}
    for found, length in of_each.items():
        notes[found] = (*notes[""], *intervals.notes(con, found, length))
    rows = _only(con, "select count(*) from parsed") + len(broken)
    return Parsed(rows, of_each, notes, text.path, layout.skip, broken)


def from_frame(
    con: "duckdb.DuckDBPyConnection",
    frame: "pl.DataFrame",
    symbol: str,
    interval_s: int,
    limit_s: int,
) -> Parsed:
    """Put rows that are typed already into ``parsed`` and judge each."""
    con.register("given", frame.to_arrow())
    seen = ", ".join(f"{name}::VARCHAR as {name}_seen" for name in NUMBERS)
    con.execute(
        f"""
        create temp table parsed as
        with typed as (
            select {text_literal(symbol)} as symbol, timestamp::VARCHAR as time_seen,
                   timestamp::DOUBLE as seconds, {", ".join(NUMBERS)}, {seen} from given)
        {_judged(limit_s)}
        """
    )
    con.unregister("given")
    intervals.align(con, {symbol: interval_s}, is_end=False)
    return Parsed(frame.height, {symbol: interval_s}, {symbol: ()}, None, 0, {})


def rejected(con: "duckdb.DuckDBPyConnection", parsed: Parsed) -> Iterator[tuple[int, str, str]]:
    """Line, reason and text of each rejected row, by line."""
    raw = "null" if parsed.text else f"concat_ws(',', ts, {', '.join(NUMBERS)})"
    judged = con.execute(
        f"select rowid, reason, {raw} from parsed where reason is not null order by rowid"
    )
    rows = (row for page in iter(lambda: judged.fetchmany(10_000), []) for row in page)
    if parsed.text is None:
        yield from ((row + 1, reason, text) for row, reason, text in rows)
        return
    waiting, row = len(parsed.broken), 0
    wanted = next(rows, None)
    with parsed.text.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if wanted is None and not waiting:
                return
            if number <= parsed.skip or not line.strip():
                continue
            if number in parsed.broken:
                waiting -= 1
                yield number, parsed.broken[number], _shown(line)
                continue
            if wanted is not None and wanted[0] == row:
                yield number, wanted[1], _shown(line)
                wanted = next(rows, None)
            row += 1


def _shown(line: bytes) -> str:
    text = line[:8000].decode("utf-8", "replace").rstrip("\r\n")
    return text.replace("\x00", "\ufffd")[:2000]


def _read(
    con: "duckdb.DuckDBPyConnection", text: "Text", layout: Layout, symbol: str | None, limit_s: int
) -> dict[int, str]:
    """Fill ``parsed``; returns the reason by number of each line that has no row in it.

    The file is read as it is. Where a line cannot be given to a parser, or the rows are not as many
    as the lines, it is read again without the lines that are broken by themselves.
    """
    import duckdb

    survey = lines.survey(text.path)
    reading = _Reading(con, text, layout, symbol, limit_s, '"' if survey.has_quotes else "")
    if survey.is_sound:
        with suppress(duckdb.InvalidInputException):  # a stray quote; the next reading has none
            broken = reading.scan(text.path)
            if reading.is_whole(survey.lines, broken):
                return broken
        text.keep_still()
    sieved = text.folder / "sieved"
    broken = lines.sieve(text.path, sieved, layout.skip)
    try:
        broken |= reading.scan(sieved)
    except duckdb.InvalidInputException as error:
        told = str(error).partition("\n")[0]
        raise InputError(
            f"{text.shown}: cannot be read as CSV ({told}); nothing was taken"
        ) from error
    text.keep_still()
    if not reading.is_whole(survey.lines, broken):
        raise InputError(
            f"{text.shown}: its {lines.filled(text.path, layout.skip)} lines of data do not come "
            f"apart into as many rows ({reading.count() + len(broken)} were found); nothing was "
            "taken. Write it without quotes and without line ends inside fields"
        )
    return broken


@dataclass(frozen=True)
class _Reading:
    """How a text becomes ``parsed``.

    Attributes:
        con: Where.
        text: The text.
        layout: How to read it.
        symbol: Trading pair of all rows; None takes it from the column.
        limit_s: Bars from here on lie in the future.
        quote: Around fields; empty where there is none in the text.
    """

    con: "duckdb.DuckDBPyConnection"
    text: "Text"
    layout: Layout
    symbol: str | None
    limit_s: int
    quote: str

    def scan(self, path: Path) -> dict[int, str]:
        """Make ``parsed`` from a copy of the text; returns the lines that are no rows.

        Numbers written as DuckDB writes them are read as such, which takes half the time. Where one
        is not, or a row is no good, all is read as text, for the reason to show what stands there.
        """
        if self.layout.numbers == Numbers():
            broken = self._scan(path, is_typed=True)
            if not broken and not _only(self.con, "select count(reason) from parsed"):
                return broken
        return self._scan(path, is_typed=False)

    def _scan(self, path: Path, is_typed: bool) -> dict[int, str]:
        con = self.con
        con.execute("drop table if exists parsed; drop table if exists broken")
        con.execute("drop table if exists broken_scan")
        con.execute(f"create temp table parsed as {self._select(path, is_typed)}")
        width = len(self.layout.names)
        return {
            int(line): _told(str(kind), int(low or 0), int(high or 0), width)
            for line, kind, low, high in con.execute(
                "select line, arg_min(error_type::VARCHAR, error_type <> 'UNQUOTED VALUE'), "
                "min(column_idx), max(column_idx) from broken "
                "where trim(csv_line, ' \t\r\n') <> '' group by 1"
            ).fetchall()
        }

    def _source(self, path: Path, faults: str, numbers: Collection[int] = ()) -> str:
        """The fields of a copy of the text, c0 and on, as a relation; some of them as numbers."""
        layout = self.layout
        columns = ", ".join(
            f"'c{i}': '{'DOUBLE' if i in numbers else 'VARCHAR'}'" for i in range(len(layout.names))
        )
        empty = ", ".join(text_literal(e) for e in EMPTY)
        quote = text_literal(self.quote)
        return (
            f"read_csv({text_literal(str(path))}, auto_detect=false, header=false, "
            f"skip={layout.skip}, delim={text_literal(layout.delimiter)}, quote={quote}, "
            f"escape={quote}, columns={{{columns}}}, nullstr=[{empty}], compression='none', "
            f"hive_partitioning=false, {faults})"
        )

    def _select(self, path: Path, is_typed: bool) -> str:
        layout = self.layout
        is_number = is_typed and layout.times.is_epoch and layout.clock is None
        numbers = {layout.roles[role] for role in NUMBERS} if is_typed else set()
        numbers |= {layout.roles["time"]} if is_number else set()
        asked = self._source(path, "ignore_errors=true")
        fields = {role: f"c{index}" for role, index in layout.roles.items()}
        time = fields["time"]
        if layout.clock is not None:
            time = f"(trim({time}) || ' ' || trim(c{layout.clock}))"
        times = layout.times
        if times.is_slashed and not times.is_epoch:
            times = slashed(self.con, asked, time, times, str(self.text.shown))
        symbol = f"upper(regexp_replace({fields.get('symbol')}, '[-_/: ]', '', 'g'))"
        if self.symbol is not None:
            if "symbol" in fields:
                self._refuse_many(symbol, asked)
            symbol = text_literal(self.symbol)
        clean = {name: cleaned(fields[name], layout.numbers) for name in NUMBERS}
        typed = ", ".join(
            f"{number(clean[name], layout.numbers, name == 'volume')} as {name}, "
            f"{clean[name]} as {name}_seen"
            for name in NUMBERS
        )
        kept = "store_rejects=true, rejects_table='broken', rejects_scan='broken_scan'"
        return (
            f"with typed as (select {symbol} as symbol, {time} as time_seen, "
            f"{seconds(time, times, layout.numbers, is_number)} as seconds, {typed} "
            f"from {self._source(path, kept, numbers)}) "
            f"{_judged(self.limit_s)}"
        )

    def _refuse_many(self, symbol: str, relation: str) -> None:
        """Refuse a file of many trading pairs where one was given for all."""
        found = self.con.execute(
            f"select distinct {symbol} as s from {relation} "
            f"where regexp_matches(s, {text_literal(SYMBOL)}) order by s"
        ).fetchall()
        if len(found) > 1:
            column = self.layout.names[self.layout.roles["symbol"]]
            names = ", ".join(name for (name,) in found[:5])
            raise InputError(
                f"{self.text.shown}: its column {column!r} names {len(found)} trading pairs "
                f"({names}), and --symbol {self.symbol} would make them one; "
                "leave --symbol out, or split the file"
            )

    def is_whole(self, line_count: int, broken: Mapping[int, str]) -> bool:
        """Whether each line that is not blank has become one row, or is broken."""
        rows = self.count() + len(broken)
        skip = self.layout.skip
        return line_count - skip == rows or lines.filled(self.text.path, skip) == rows

    def count(self) -> int:
        """Rows in ``parsed``."""
        return _only(self.con, "select count(*) from parsed")


def _judged(limit_s: int) -> str:
    """The rows of ``parsed`` from those of ``typed``; a volume of -0 becomes 0."""
    return (
        f"select symbol, round(seconds)::BIGINT as ts, {', '.join(PRICES)}, abs(volume) as volume, "
        f"{reason(limit_s)} as reason from typed"
    )


def _told(kind: str, low: int, high: int, expected: int) -> str:
    """The reason for a line that is no row; ``low`` to ``high`` are the columns at fault."""
    if kind == "UNQUOTED VALUE":
        return "expected quotes around whole fields, found one inside"
    if kind in ("MISSING COLUMNS", "TOO MANY COLUMNS"):
        return f"expected {expected} fields, found {low if kind[0] == 'M' else high}"
    return f"expected {expected} fields of text, found {kind.lower()}"


def _notes(layout: Layout) -> list[str]:
    notes = []
    if layout.times.is_end:
        notes.append("times name the end of a bar; the start is kept")
    if not layout.times.is_epoch and not layout.times.has_zone:
        notes.append("times without a zone are taken as UTC")
    if layout.numbers.decimal == ",":
        notes.append("numbers use a decimal comma")
    return notes


def _only(con: "duckdb.DuckDBPyConnection", sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
