"""What the broker holds against what the lake has: the conservation table and its differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill import compose
from tidemill.crypto import checks
from tidemill.crypto import contracts as c
from tidemill.kafka import audit
from tidemill.kafka.spans import Standing
from tidemill.lake import duck
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.settings import Settings

COUNTS = ("consumed", "good", "late", "duplicate", "dead", "absent", "lost")
COLUMNS = ("partition", "broker", *COUNTS, "rows")


@dataclass(frozen=True)
class Accounts:
    """What was found.

    Attributes:
        held: What the broker held.
        lines: A row a partition: ``COLUMNS``, all but the first in messages.
        whole: Figures of all partitions, by name.
        differences: What does not agree, in words; empty where nothing is lost or doubled.
    """

    held: Standing
    lines: Sequence[tuple[int, ...]]
    whole: dict[str, int]
    differences: Sequence[str]


def is_caught_up(settings: Settings) -> bool:
    """Whether every message is in the lake, and every day of it in the series."""
    prices, crypto = compose.live_prices(settings), compose.crypto(settings)
    if any(lag.messages for lag in prices.lags(prices.held())):
        return False
    return not crypto.live().dates and not crypto.unmerged()


def take(settings: Settings, candles: Path, ticks: int, held: Standing | None = None) -> Accounts:
    """Compare broker, ledger, rows and days.

    Args:
        settings: Of the home.
        candles: The file that was replayed.
        ticks: How many ticks it gives.
        held: What the broker holds; it is asked where none is given.
    """
    prices, crypto = compose.live_prices(settings), compose.crypto(settings)
    held = held or prices.held()
    lines = _lines(prices.lake.snapshot, held)
    whole = _whole(prices.lake.snapshot(c.LIVE_PRICES).scan())
    whole |= {"ticks of the file": ticks, "broker": sum(line[1] for line in lines)}
    found = [
        f"partition {line[0]}: the broker holds {line[1]}, {name} are {line[at]}"
        for line in lines
        for at, name in enumerate(COLUMNS)
        if name in ("consumed", "good", "rows") and line[at] != line[1]
    ]
    found += [
        f"{name}: expected {ticks}, found {number}"
        for name, number in whole.items()
        if number != ticks
    ]
    told: dict[str, Sequence[Any]] = {
        "ledger": audit.faults(prices.lake, prices.feed),
        "days and ticks": checks.ticks_not_counted(crypto),
        "days and one pass over their ticks": checks.days_not_replayed(crypto),
        "series": checks.days_not_merged(crypto),
        "days and the candles' own": _other_days(
            prices.lake.snapshot(c.LIVE_DAILY_OHLC).scan(), candles
        ),
    }
    found += [f"{name}: {row}" for name, rows in told.items() for row in rows]
    return Accounts(held, lines, whole, found)


def _lines(snapshot: Callable[[Table], Snapshot], held: Standing) -> list[tuple[int, ...]]:
    ledger, rows = snapshot(c.CONSUMED_SPANS).scan(), snapshot(c.LIVE_PRICES).scan()
    sums = ", ".join(f"sum({name})::bigint as {name}" for name in COUNTS)
    mine = f"topic = {text_literal(held.topic)} and topic_id = {text_literal(held.topic_id)}"
    found = _rows(
        f"""
        with ledger as (select "partition", {sums} from {ledger} where {mine} group by 1),
        had as (select "partition", count(*) as n from {rows} where {mine} group by 1)
        select "partition", {", ".join(f"coalesce({name}, 0)" for name in COUNTS)}, coalesce(n, 0)
        from ledger full join had using ("partition")
        """
    )
    told = {row[0]: row[1:] for row in found}
    nothing = (0,) * (len(COUNTS) + 1)
    return [
        (part, high - low, *told.get(part, nothing))
        for part, (low, high) in sorted(held.marks.items())
    ]


def _whole(rows: str) -> dict[str, int]:
    ((count, offsets, events),) = _rows(
        'select count(*), count(distinct (topic, "partition", "offset")), '
        f"count(distinct (symbol, event_time)) from {rows}"
    )
    return {
        "count(*)": count,
        "count(distinct (topic, partition, offset))": offsets,
        "count(distinct (symbol, event_time))": events,
    }


def _other_days(days: str, candles: Path) -> list[tuple[Any, ...]]:
    """The days that are not what the candles of the file say, from either side."""
    values = "symbol, date, daily_open, daily_high, daily_low, daily_close, ticks, cnt"
    return _rows(
        f"""
        with want as (
            select symbol, make_timestamp(timestamp * 1000000)::date as date,
                   arg_min(open, timestamp) as daily_open, max(high) as daily_high,
                   min(low) as daily_low, arg_max(close, timestamp) as daily_close,
                   4 * count(*) as ticks, count(*) as cnt
            from read_csv({text_literal(str(candles))}) group by all
        ), has as (select {values} from {days})
        select 'missing', * from (select {values} from want except all from has)
        union all select 'too many', * from (from has except all select {values} from want)
        """
    )


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with duck.cursor() as con:
        return con.execute(sql).fetchall()
