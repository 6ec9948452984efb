"""Sorts the good rows of a file into new ones and those whose minute is taken.

Works on the table ``parsed`` of ``rows``. Of two rows for a bar the first stays: the one that
landed before, else the one that stands earlier in the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.crypto.files import NUMBERS, PRICES
from tidemill.crypto.intervals import MINUTE_S
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb

PARQUET = "format parquet, compression lz4_raw, dictionary_size_limit 1"
"""Written once and read a few times: few prices repeat, so a dictionary halves the speed."""


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
    before = _landed(earlier)
    _reject_unfillable(con, mine, interval_s, before)
    is_sorted = _find_repeats(con, mine, before)
    order = "" if is_sorted else "order by ts"
    con.execute(
        f"copy (select ts as timestamp, {', '.join(NUMBERS)} from parsed where reason is null "
        f"and {mine} and rowid not in (select id from repeats) {order}) "
        f"to {text_literal(str(target))} ({PARQUET})"
    )
    found = con.execute(
        f"""
        select good, exact, conflicting, rejected, empty, first, last from
            (select count(*) filter (is_exact) as exact,
                    count(*) filter (not is_exact) as conflicting from repeats),
            (select count(*) as good, min(timestamp) as first, max(timestamp) as last,
                    count(*) filter ({_lacking()}) as empty
             from read_parquet({text_literal(str(target))})),
            (select count(*) as rejected from parsed where reason is not null and {mine})
        """
    ).fetchone()
    good, exact, conflicting, rejected, empty, first, last = found or (0, 0, 0, 0, 0, None, None)
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


def _landed(earlier: Sequence[Path]) -> str:
    """The rows of earlier files as a relation."""
    if earlier:
        listed = ", ".join(text_literal(str(path)) for path in earlier)
        return f"read_parquet([{listed}], hive_partitioning=false)"
    nothing = ", ".join(f"null::DOUBLE as {name}" for name in NUMBERS)
    return f"(select null::BIGINT as timestamp, {nothing} where false)"


def _lacking() -> str:
    return " or ".join(f"{name} is null" for name in PRICES)


def _reject_unfillable(
    con: "duckdb.DuckDBPyConnection", mine: str, interval_s: int, before: str
) -> None:
    """Reject rows without a price where none before them can fill it.

    A row that repeats one landed before is left to be a duplicate. One that stands in the file
    above a row with a price for the same minute is not: else the row that stays had no price.
    """
    if interval_s > MINUTE_S:
        con.execute(
            "update parsed set reason = 'prices: expected four, found an empty one, which only "
            f"minutes may have' where reason is null and {mine} and ({_lacking()})"
        )
        return
    empty = f"reason is null and {mine} and open is null and close is null"
    found = con.execute(f"select 1 from parsed where {empty} limit 1").fetchone()
    if not found:
        return
    con.execute(
        f"""
        update parsed set reason =
            'prices: expected one, found none, and no earlier row has one to fill it from'
        where {empty} and ts <= coalesce((
            select min(ts) from parsed where reason is null and {mine} and close is not null
        ), 1e18) and ts < coalesce((
            select min(timestamp) from {before} where close is not null), 1e18)
        """
    )


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
    late = con.execute("select count(*) from late").fetchone()
    return not (late and late[0])
