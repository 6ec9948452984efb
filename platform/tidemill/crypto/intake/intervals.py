"""How long the bars of a file are, told from the steps between them, and whether each starts right.

Works on the table ``parsed`` of ``rows``.
"""

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING

from tidemill.errors import InputError
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb

    from tidemill.crypto.intake.times import Times

MINUTE_S = 60
DAY_S = 86_400
SAMPLE_ROWS = 200_000


def found(
    con: "duckdb.DuckDBPyConnection", has_symbol: bool, times: "Times", shown: str
) -> dict[str, int]:
    """The length of the bars of each symbol, in seconds, from the first rows of each.

    Args:
        con: Holds ``parsed``.
        has_symbol: Whether a column tells the symbol, so that there may be several.
        times: What the columns say of it.
        shown: What messages call the file.

    Raises:
        InputError: Bars are shorter than a minute, or no number of minutes long.
    """
    first = (
        f"qualify row_number() over (partition by symbol order by rowid) <= {SAMPLE_ROWS}"
        if has_symbol
        else f"and rowid < {SAMPLE_ROWS}"
    )
    con.execute(
        "create or replace temp table sampled as "
        f"select symbol, ts from parsed where reason is null {first}"
    )
    steps: dict[str, dict[int, int]] = {}
    for symbol, step, count in con.execute(
        f"""
        select symbol, step, count(step) from (
            select symbol, ts - lag(ts) over (partition by symbol order by ts) as step
            from sampled where ts % {MINUTE_S} = 0)
        where step is null or step > 0 group by all
        """
    ).fetchall():
        of_symbol = steps.setdefault(symbol, {})
        if step is not None:
            of_symbol[step] = count
    lengths = {symbol: _length(counts, times) for symbol, counts in steps.items()}
    for length in (*lengths.values(), _between_minutes(con) or MINUTE_S):
        if length % MINUTE_S:
            raise InputError(
                f"{shown}: its bars are {length} s apart; bars of whole minutes are taken"
            )
    return lengths


def _length(counts: Mapping[int, int], times: "Times") -> int:
    """The length of bars: what their ends say, unless steps gainsay it; else the steps."""
    step = _commonest(counts)
    if times.bar_s and (step is None or step % times.bar_s == 0):
        return times.bar_s
    return step or (DAY_S if times.is_day else MINUTE_S)


def _between_minutes(con: "duckdb.DuckDBPyConnection") -> int | None:
    """The commonest step of a file in which many bars start inside a minute; None for others."""
    row = con.execute(
        f"""
        select mode(step) from (
            select ts - lag(ts) over (partition by symbol order by ts) as step,
                   avg((ts % {MINUTE_S} <> 0)::INT) over () as share
            from sampled)
        where step > 0 and share > 0.4
        """
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _commonest(counts: Mapping[int, int]) -> int | None:
    """The commonest step; inside a day, what it has in common with each that a fifth have.

    So a few bars with gaps between them, 2 and 3 minutes apart, are still bars of a minute.
    """
    if not counts:
        return None
    common = max(counts, key=lambda step: (counts[step], step))
    if common >= DAY_S // 2:  # days and months have no one length
        return common
    total = sum(counts.values())
    return gcd(common, *(step for step, count in counts.items() if count * 5 >= total))


def align(con: "duckdb.DuckDBPyConnection", lengths: Mapping[str, int], is_end: bool) -> None:
    """Turn ends of bars into starts, and reject bars that do not start where theirs do."""
    if is_end:
        by_symbol = " ".join(
            f"when {text_literal(symbol)} then {length}" for symbol, length in lengths.items()
        )
        if by_symbol:
            con.execute(f"update parsed set ts = ts - case symbol {by_symbol} else 0 end")
    con.execute(
        "update parsed set reason = 'time: expected the start of a minute, found second ' || "
        f"(ts % {MINUTE_S}) where reason is null and ts % {MINUTE_S} <> 0"
    )
    for symbol, length in lengths.items():
        if not MINUTE_S < length < DAY_S or DAY_S % length:
            continue
        mine = f"reason is null and symbol = {text_literal(symbol)}"
        con.execute(
            f"update parsed set reason = 'time: expected a bar each {length} s, found one ' || "
            f"((ts - phase) % {length}) || ' s after' from "
            f"(select mode(ts % {length}) as phase from parsed where {mine}) "
            f"where {mine} and (ts - phase) % {length} <> 0"
        )


def notes(con: "duckdb.DuckDBPyConnection", symbol: str, length: int) -> list[str]:
    """What a reader should know of a symbol's bars where they are longer than a minute."""
    if length <= MINUTE_S:
        return []
    told = [f"bars of {length} s, kept at that interval in crypto.raw_bars"]
    row = con.execute(
        f"select mode(ts % {DAY_S}) from parsed where reason is null "
        f"and symbol = {text_literal(symbol)}"
    ).fetchone()
    if length == DAY_S and row and row[0]:
        told.append(
            f"days start at {row[0] // 3600:02}:{row[0] % 3600 // 60:02} UTC; "
            "each counts for the UTC day that it starts in"
        )
    return told
