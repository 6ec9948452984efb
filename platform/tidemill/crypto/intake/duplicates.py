"""Sorts the good rows of a file into new ones and those whose minute is taken.

Works on the table ``parsed`` of ``rows``. Of two rows for a bar the first stays: the one that
landed before, else the one that stands earlier in the file.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.crypto.intake.files import NUMBERS, PRICES
from tidemill.crypto.intake.intervals import MINUTE_S
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

BATCH_ROWS = 1_000_000
PARQUET = "format parquet, compression lz4_raw, dictionary_size_limit 1"
"""Written once and read a few times: few prices repeat, so a dictionary halves the speed."""


def classify(
    con: "duckdb.DuckDBPyConnection",
    symbol: str,
    interval_s: int,
    earlier: Mapping[Path, tuple[datetime, datetime]],
    target: Path,
) -> dict[str, Any]:
    """Sort one symbol's rows into good and duplicate, and write the good ones to ``target``.

    Args:
        con: Holds ``parsed``.
        symbol: Whose rows.
        interval_s: Length of the bars.
        earlier: The first and the last time in each Parquet file of rows that landed before, of
            this symbol and interval.
        target: Where the good rows go, by time.

    Returns:
        The counts of a ``Landed`` report.
    """
    mine = f"symbol = {text_literal(symbol)}"
    _reject_unfillable(con, mine, interval_s, _landed(list(earlier)))
    first, last = _span(con, mine)
    nearby = [path for path, span in earlier.items() if span[0] <= last and span[1] >= first]
    order = "" if _find_repeats(con, mine, _landed(nearby)) else "order by ts"
    copied = con.execute(
        f"copy (select ts as timestamp, {', '.join(NUMBERS)} from parsed where reason is null "
        f"and {mine} and rowid not in (select id from repeats) {order}) "
        f"to {text_literal(str(target))} ({PARQUET}, return_stats true)"
    ).fetchone()
    good, statistics = (copied[1], copied[4]) if copied else (0, {})
    counted = con.execute(
        f"""
        select exact, conflicting, rejected from
            (select count(*) filter (is_exact) as exact,
                    count(*) filter (not is_exact) as conflicting from repeats),
            (select count(*) as rejected from parsed where reason is not null and {mine})
        """
    ).fetchone()
    exact, conflicting, rejected = counted or (0, 0, 0)
    times = statistics.get('"timestamp"', {})
    return {
        "rows": good + exact + conflicting + rejected,
        "good": good,
        "exact_duplicates": exact,
        "conflicting_duplicates": conflicting,
        "rejected": rejected,
        "empty_prices": _empty_prices(con, target, statistics),
        "first_s": int(times["min"]) if good else None,
        "last_s": int(times["max"]) if good else None,
    }


def _empty_prices(
    con: "duckdb.DuckDBPyConnection", target: Path, statistics: Mapping[str, Mapping[str, str]]
) -> int:
    """Rows of ``target`` that lack a price; most files have none, which their statistics tell."""
    if not any(int(statistics.get(f'"{n}"', {}).get("null_count", 0)) for n in PRICES):
        return 0
    rows = f"read_parquet({text_literal(str(target))})"
    found = con.execute(f"select count(*) from {rows} where {_lacking()}").fetchone()
    return int(found[0]) if found else 0


def _span(con: "duckdb.DuckDBPyConnection", mine: str) -> tuple[datetime, datetime]:
    """The first and the last time of a symbol's rows."""
    ((first, last),) = con.execute(
        "select make_timestamp(min(ts) * 1000000), make_timestamp(max(ts) * 1000000) "
        f"from parsed where reason is null and {mine}"
    ).fetchall()
    return (first, last) if first else (datetime.max, datetime.min)


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


def _late(con: "duckdb.DuckDBPyConnection", mine: str) -> "pl.DataFrame":
    """The rows (id, ts) that are not later than all before them in the file.

    Taken a batch of rows at a time, since DuckDB runs such a window on one processor.
    """
    import polars as pl

    newest, found = -1, [pl.DataFrame(schema={"id": pl.Int64, "ts": pl.Int64})]
    rows = con.sql(f"select rowid as id, ts from parsed where reason is null and {mine}")
    for batch in rows.to_arrow_reader(BATCH_ROWS):
        times = pl.DataFrame(batch)
        reached = times["ts"].cum_max().clip(newest)
        found.append(times.filter(times["ts"] <= reached.shift(1, fill_value=newest)))
        newest = reached[-1]
    return pl.concat(found)


def _find_repeats(con: "duckdb.DuckDBPyConnection", mine: str, before: str) -> bool:
    """Fill ``repeats`` with the rows whose minute is taken; True if the others are in time order.

    A row later than all before it is new, so only the others, few in most files, are looked at.
    """
    same = " and ".join(f"p.{name} is not distinct from f.{name}" for name in NUMBERS)
    con.register("late", _late(con, mine).to_arrow())
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
    stays = con.execute("select 1 from late where id not in (select id from repeats) limit 1")
    is_sorted = not stays.fetchall()
    con.unregister("late")
    return is_sorted
