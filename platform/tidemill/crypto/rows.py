"""Rows of a candle file in DuckDB: parsed, judged one by one, and sorted into good and duplicate.

Works in one connection over temporary tables: ``parsed`` holds every row that has the right number
of fields, in source order (its ``rowid``), with the reason where it is no good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.crypto.files import EMPTY, Layout
from tidemill.errors import InputError
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

FIRST_S = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp())
"""No bar of a crypto market is older; the monthly partitions start here too."""

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
TIME_FORMATS = (
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%d.%m.%Y %H:%M:%S.%g",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%Y%m%d",
    "%Y%m%d %H%M%S",
    "%Y-%m-%d %I-%p",
    "%b %d, %Y",
)


@dataclass(frozen=True)
class Parsed:
    """What a file holds, before duplicates are told.

    Attributes:
        rows: Data rows, those that could not be split into fields included.
        symbols: Trading pairs in it.
        interval_s: Length of its bars.
        notes: What a reader of the report should know.
        text: The plain file, to show rejected lines from; None for rows without one.
        skip: Lines before the first row.
        broken: Reason by line number, for lines that could not be split into fields.
    """

    rows: int
    symbols: tuple[str, ...]
    interval_s: int
    notes: tuple[str, ...]
    text: Path | None
    skip: int
    broken: Mapping[int, str]


def parse(
    con: "duckdb.DuckDBPyConnection",
    text: Path,
    layout: Layout,
    shown: str,
    forced: str | None,
    named: str | None,
    limit_s: int,
) -> Parsed:
    """Read a plain file into ``parsed`` and judge each row.

    Args:
        con: Keeps insertion order.
        text: Plain UTF-8.
        layout: How to read it.
        shown: What messages call it.
        forced: The symbol that the user gave, if any.
        named: The symbol that the file's name tells, if any.
        limit_s: Bars from here on lie in the future.

    Raises:
        InputError: Its rows cannot be counted, or its bars cannot be used.
    """
    has_symbol = "symbol" in layout.roles and forced is None
    fields = {role: f"c{index}" for role, index in layout.roles.items()}
    symbol = (
        f"upper(regexp_replace({fields['symbol']}, '[-_/: ]', '', 'g'))"
        if has_symbol
        else (text_literal(forced or named or ""))
    )
    names = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(layout.names)))
    empty = ", ".join(text_literal(e) for e in EMPTY)
    numbers = ", ".join(f"{_number(fields[name], layout)} as {name}" for name in NUMBERS)
    seen = ", ".join(f"{fields[name]} as {name}_seen" for name in NUMBERS)
    con.execute(
        f"""
        create temp table parsed as
        with source as (
            select * from read_csv(
                {text_literal(str(text))}, auto_detect=false, header=false, skip={layout.skip},
                delim={text_literal(layout.delimiter)}, quote='"', escape='"',
                columns={{{names}}}, nullstr=[{empty}], max_line_size=10000000,
                store_rejects=true, rejects_table='broken', rejects_scan='broken_scan')
        ), typed as (
            select {symbol} as symbol, {fields["time"]} as time_seen,
                   {_seconds(fields["time"], layout.is_epoch)} as seconds, {numbers}, {seen}
            from source
        )
        select symbol, seconds::BIGINT as ts, {", ".join(NUMBERS)}, {_reason(limit_s)} as reason
        from typed
        """
    )
    broken = {
        int(line): str(message)
        for line, message in con.execute(
            "select line, any_value(case error_type "
            "when 'INVALID ENCODING' then 'expected UTF-8 text, found other bytes' "
            "else error_message end) from broken group by 1"
        ).fetchall()
    }
    good = _only(con, "select count(*) from parsed")
    _account(text, layout, shown, good, broken)
    if has_symbol and forced is None:
        con.execute(
            "update parsed set reason = 'symbol: expected letters and digits, found ' || "
            "coalesce(symbol, 'nothing') where reason is null and "
            "not coalesce(regexp_matches(symbol, '^[A-Z0-9.]{2,24}$'), false)"
        )
    interval = _interval(con, shown)
    if layout.is_end:
        con.execute(f"update parsed set ts = ts - {interval}")
    _judge_alignment(con, interval)
    notes = _notes(con, layout, interval, shown)
    symbols = [
        s
        for (s,) in con.execute(
            "select distinct symbol from parsed where reason is null order by 1"
        ).fetchall()
    ]
    if not symbols and named:
        symbols = [named]
    return Parsed(good + len(broken), tuple(symbols), interval, notes, text, layout.skip, broken)


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
        select symbol, seconds::BIGINT as ts, {", ".join(NUMBERS)}, {_reason(limit_s)} as reason
        from typed
        """
    )
    con.unregister("given")
    _judge_alignment(con, interval_s)
    return Parsed(frame.height, (symbol,), interval_s, (), None, 0, {})


def classify(
    con: "duckdb.DuckDBPyConnection",
    symbol: str,
    interval_s: int,
    earlier: Sequence[Path],
    target: Path,
) -> dict[str, Any]:
    """Sort one symbol's rows into good and duplicate, and write the good ones to ``target``.

    Args:
        con: Holds ``parsed``.
        symbol: Whose rows.
        interval_s: Length of the bars.
        earlier: Parquet files of the rows that landed before, of this symbol and interval.
        target: Where the good rows go, by time.

    Returns:
        The counts of a ``Landed`` report.
    """
    mine = f"symbol = {text_literal(symbol)}"
    if earlier:
        listed = ", ".join(text_literal(str(path)) for path in earlier)
        before = f"read_parquet([{listed}], hive_partitioning=false)"
    else:
        nothing = ", ".join(f"null::DOUBLE as {name}" for name in NUMBERS)
        before = f"(select null::BIGINT as timestamp, {nothing} where false)"
    _reject_unfillable(con, mine, interval_s, before)
    is_sorted = _find_repeats(con, mine, before)
    order = "" if is_sorted else "order by ts"
    con.execute(
        f"copy (select ts as timestamp, {', '.join(NUMBERS)} from parsed where reason is null "
        f"and {mine} and rowid not in (select id from repeats) {order}) "
        f"to {text_literal(str(target))} (format parquet, compression lz4_raw)"
    )
    exact, conflicting = con.execute(
        "select count(*) filter (is_exact), count(*) filter (not is_exact) from repeats"
    ).fetchone() or (0, 0)
    good, first, last, empty = con.execute(
        f"select count(*), min(timestamp), max(timestamp), "
        f"count(*) filter (open is null or high is null or low is null or close is null) "
        f"from read_parquet({text_literal(str(target))})"
    ).fetchone() or (0, None, None, 0)
    rejected = _only(con, f"select count(*) from parsed where reason is not null and {mine}")
    return {
        "rows": good + exact + conflicting + rejected,
        "good": good,
        "exact_duplicates": exact,
        "conflicting_duplicates": conflicting,
        "rejected": rejected,
        "empty_prices": empty,
        "first_s": first,
        "last_s": last,
    }


def _find_repeats(con: "duckdb.DuckDBPyConnection", mine: str, before: str) -> bool:
    """Fill ``repeats`` with the rows whose minute is taken; True where the file is in time order.

    A row later than all before it is new, so only the others, few in most files, are looked at.
    """
    same = " and ".join(f"p.{name} is not distinct from f.{name}" for name in NUMBERS)
    con.execute(
        f"""
        create or replace temp table late as
        select distinct ts from (
            select ts, lag(newest) over () as newest from (
                select ts, max(ts) over (rows between unbounded preceding and current row) as newest
                from parsed where reason is null and {mine}))
        where ts <= newest
        """
    )
    con.execute(
        f"""
        create or replace temp table repeats as
        with ranked as (
            select p.rowid as id, p.ts, {", ".join(f"p.{n}" for n in NUMBERS)},
                   row_number() over (partition by p.ts order by p.rowid) as nth
            from parsed p semi join late using (ts) where p.reason is null and p.{mine}),
        inside as (select p.id, {same} as is_exact from ranked p join ranked f
                   on p.ts = f.ts and f.nth = 1 where p.nth > 1),
        across as (select p.rowid as id, {same} as is_exact from parsed p join {before} f
                   on p.ts = f.timestamp where p.reason is null and p.{mine})
        select id, is_exact from across
        union all select id, is_exact from inside where id not in (select id from across)
        """
    )
    return not _only(con, "select count(*) from late")


def rejected(con: "duckdb.DuckDBPyConnection", parsed: Parsed) -> "pl.DataFrame":
    """The rejected rows: line, reason, raw; sorted by line."""
    import polars as pl

    schema = {"line": pl.Int64, "reason": pl.String, "raw": pl.String}
    reasons: dict[int, str] = dict(
        con.execute("select rowid, reason from parsed where reason is not null").fetchall()
    )
    found = []
    if parsed.text is None:
        values = con.execute(
            f"select rowid, concat_ws(',', ts, {', '.join(NUMBERS)}) from parsed "
            "where reason is not null"
        ).fetchall()
        found = [(row + 1, reasons[row], raw) for row, raw in values]
    elif reasons or parsed.broken:
        row = 0
        with parsed.text.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if number <= parsed.skip or not line.strip():
                    continue
                if number in parsed.broken:
                    found.append((number, parsed.broken[number], _shown(line)))
                    continue
                if row in reasons:
                    found.append((number, reasons[row], _shown(line)))
                row += 1
    return pl.DataFrame(found, schema=schema, orient="row").sort("line")


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")[:2000]


def _number(field: str, layout: Layout) -> str:
    if layout.decimal_comma:
        field = f"replace({field}, ',', '.')"
    elif layout.thousands:
        field = f"replace({field}, ',', '')"
    return f"try_cast({field} as DOUBLE)"


def _seconds(field: str, is_epoch: bool) -> str:
    """Epoch seconds; the unit of a number is told by its magnitude, row by row."""
    if is_epoch:
        n = f"try_cast({field} as DOUBLE)"
        return (
            f"case when abs({n}) < 1e11 then {n} when abs({n}) < 1e14 then {n} / 1e3 "
            f"when abs({n}) < 1e17 then {n} / 1e6 when abs({n}) < 1e20 then round({n} / 1e9, 3) end"
        )
    formats = ", ".join(text_literal(f) for f in TIME_FORMATS)
    return (
        f"coalesce(epoch(try_cast({field} as TIMESTAMPTZ)), "
        f"epoch(try_strptime({field}, [{formats}])))"
    )


def _reason(limit_s: int) -> str:
    """SQL that says why a row is no good, or NULL; cheap for a row that is good."""
    limit = datetime.fromtimestamp(limit_s, UTC)
    positive = " and ".join(f"{n} > 0 and {n} < 'infinity'" for n in PRICES)
    sound = (
        f"seconds >= {FIRST_S} and seconds < {limit_s} and {positive} and volume >= 0 and "
        "volume < 'infinity' and low <= open and low <= close and high >= open and high >= close"
    )
    tests = [
        "when time_seen is null then 'time: expected one, found nothing'",
        "when seconds is null or not isfinite(seconds) then "
        "'time: expected Unix time or a date, found ' || time_seen",
        f"when seconds < {FIRST_S} or seconds >= {limit_s} then 'time: expected 2010-01-01 to "
        f"{limit:%Y-%m-%d}, found ' || time_seen || coalesce(' (' || "
        "strftime(make_timestamp((case when abs(seconds) < 1e11 then seconds end * 1e6)::BIGINT), "
        "'%Y-%m-%d') || ')', '')",
    ]
    for n in NUMBERS:
        # NaN as text is an empty value; what is left that is not finite is no number or infinite.
        tests.append(
            f"when {n}_seen is not null and {n} is null then "
            f"'{n}: expected a number, found ' || {n}_seen"
        )
        tests.append(
            f"when not isfinite({n}) then '{n}: expected a finite number, found ' || {n}_seen"
        )
        low = "at least 0" if n == "volume" else "above 0"
        broken = f"{n} < 0" if n == "volume" else f"{n} <= 0"
        tests.append(f"when {broken} then '{n}: expected {low}, found ' || {n}_seen")
    tests += [
        "when high < low then 'high ' || high_seen || ' is below low ' || low_seen",
        *(
            f"when {n} < low or {n} > high then '{n} ' || {n}_seen || ' is outside low ' || "
            "low_seen || ' to high ' || high_seen"
            for n in ("open", "close")
        ),
    ]
    return f"case when {sound} then null {' '.join(tests)} end"


def _only(con: "duckdb.DuckDBPyConnection", sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _account(text: Path, layout: Layout, shown: str, good: int, broken: Mapping[int, str]) -> None:
    """Hold the parser's rows against the file's own lines, so that none is lost in between."""
    lines, ends_open = 0, False
    with text.open("rb") as handle:
        while block := handle.read(1 << 22):
            lines += block.count(b"\n")
            ends_open = not block.endswith(b"\n")
    lines += ends_open
    if lines - layout.skip == good + len(broken):
        return
    with text.open("rb") as handle:
        filled = sum(bool(line.strip()) for n, line in enumerate(handle, 1) if n > layout.skip)
    if filled != good + len(broken):
        raise InputError(
            f"{shown}: it has {filled} lines of data, but {good + len(broken)} rows were read; "
            "a quoted field may run over a line's end. Nothing was taken"
        )


def _interval(con: "duckdb.DuckDBPyConnection", shown: str) -> int:
    """The commonest step between bars, in seconds; 60 where there are too few bars to tell."""
    step = _only(
        con,
        "select mode(step) from ("
        "select abs(ts - lag(ts) over (partition by symbol order by rowid)) as step "
        "from parsed where reason is null and rowid < 200000) where step > 0",
    )
    if step and step < 60:
        raise InputError(f"{shown}: its bars are {step} s apart; minutes and longer are taken")
    return step or 60


def _judge_alignment(con: "duckdb.DuckDBPyConnection", interval_s: int) -> None:
    con.execute(
        "update parsed set reason = 'time: expected the start of a minute, found second ' || "
        "(ts % 60) where reason is null and ts % 60 <> 0"
    )


def _reject_unfillable(
    con: "duckdb.DuckDBPyConnection", mine: str, interval_s: int, before: str
) -> None:
    """Reject rows without a price where none before them can fill it."""
    if interval_s > 60:
        lacking = " or ".join(f"{name} is null" for name in PRICES)
        con.execute(
            f"update parsed set reason = 'expected four prices, found an empty one' "
            f"where reason is null and {mine} and ({lacking})"
        )
        return
    con.execute(
        f"""
        update parsed set reason = 'prices: empty, and no earlier row has a price to fill them from'
        where reason is null and {mine} and open is null and close is null and ts < coalesce((
            select min(t) from (
                select min(ts) as t from parsed
                where reason is null and {mine} and (close is not null)
                union all select min(timestamp) from {before} where close is not null)), 1e18)
        """
    )


def _notes(
    con: "duckdb.DuckDBPyConnection", layout: Layout, interval: int, shown: str
) -> tuple[str, ...]:
    notes = []
    if interval > 60:
        notes.append(f"bars of {interval} s, kept at that interval in crypto.raw_bars")
    if layout.is_end:
        notes.append("times name the end of a bar; the start is kept")
    if not layout.is_epoch:
        notes.append("times without a zone are taken as UTC")
    if layout.decimal_comma:
        notes.append("numbers use a decimal comma")
    return tuple(notes)
