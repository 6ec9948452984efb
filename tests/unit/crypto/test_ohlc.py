"""Ticks become days, and days of two layers become one series."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

import polars as pl
import pytest

from tidemill.crypto import contracts as c
from tidemill.crypto import ohlc, transforms
from tidemill.engines.base import compiled
from tidemill.engines.duck import connection
from tidemill.lake.checks import violations
from tidemill.lake.contracts import Table, polars_schema

DAY = date(2026, 1, 1)
Tick = tuple[str, float, str, int, int]
"""Symbol, price, time of the first of January, partition, offset."""


def run(transform: Any, target: Table, **inputs: tuple[Table, pl.DataFrame]) -> pl.DataFrame:
    """A transform's rows by key, held to the contract of ``target``."""
    columns = {name: {x.name: x.type for x in t.columns} for name, (t, _) in inputs.items()}
    with connection() as con:
        for name, (_, frame) in inputs.items():
            con.register(name, frame.to_arrow())
        made = compiled(transform, columns, "duckdb")
        con.execute(f"create table made as {made}")
        rows = pl.DataFrame(con.sql("from made").to_arrow_table())
        assert violations(target, con, "made") == {}
        return rows.select(*polars_schema(target)).sort(target.key)


def ticks(found: Sequence[Tick], late: Sequence[int] = ()) -> pl.DataFrame:
    at = [datetime.combine(DAY, time.fromisoformat(told)) for _, _, told, *_ in found]
    return pl.DataFrame(
        {
            "symbol": [symbol for symbol, *_ in found],
            "price": [price for _, price, *_ in found],
            "event_time": at,
            "is_late": [offset in late for *_, offset in found],
            "topic": "prices",
            "topic_id": "x",
            "partition": [partition for *_, partition, _ in found],
            "offset": [offset for *_, offset in found],
            "produced_at": at,
            "date": [instant.date() for instant in at],
        },
        schema=polars_schema(c.LIVE_PRICES),
    )


def spans(*newest: tuple[int, datetime | None]) -> pl.DataFrame:
    """A ledger of the newest event of each of some partitions' spans."""
    schema = polars_schema(c.CONSUMED_SPANS)
    rows = [
        {"topic": "prices", "topic_id": "x", "partition": partition, "newest_event_at": at}
        for partition, at in newest
    ]
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def days(
    found: Sequence[Tick], ledger: pl.DataFrame | None = None, late: Sequence[int] = ()
) -> pl.DataFrame:
    return run(
        ohlc.live_daily_ohlc,
        c.LIVE_DAILY_OHLC,
        live_prices=(c.LIVE_PRICES, ticks(found, late)),
        consumed_spans=(c.CONSUMED_SPANS, spans() if ledger is None else ledger),
    )


def test_ticks_become_a_day_whatever_their_order() -> None:
    found: list[Tick] = [
        ("A", 3.0, "12:00:00.000", 0, 2),
        ("A", 9.0, "12:00:59.999", 0, 1),
        ("A", 2.0, "00:00:00.000", 0, 7),
        ("A", 1.0, "12:01:00.000", 0, 3),
        ("A", 4.0, "23:59:59.999", 0, 0),
    ]
    for order in (found, found[::-1]):
        (day,) = days(order, late=[7]).rows(named=True)
        assert [day[f"daily_{name}"] for name in ("open", "high", "low", "close")] == [2, 9, 1, 4]
        assert (day["ticks"], day["late_ticks"], day["cnt"]) == (5, 1, 4)
        assert (day["first_offset"], day["last_offset"]) == (7, 0)
        assert (day["first_at"].hour, day["last_at"].second, day["date"]) == (0, 59, DAY)


def test_of_ticks_at_one_instant_the_lower_offset_opens_and_the_higher_closes() -> None:
    at = "12:00:00.000"
    found = days([("A", 5.0, at, 0, 11), ("A", 6.0, at, 0, 10), ("A", 7.0, at, 0, 12)])
    assert found.select("daily_open", "daily_close").rows() == [(6.0, 7.0)]


def test_a_tie_between_partitions_goes_by_partition_before_offset() -> None:
    at = "12:00:00.000"
    found = days([("A", 5.0, at, 1, 1), ("A", 6.0, at, 0, 9)])
    assert found.select("daily_open", "daily_close", "cnt").rows() == [(6.0, 5.0, 1)]


def test_each_symbol_has_its_own_day() -> None:
    at = "12:00:00.000"
    found = days([("A", 5.0, at, 0, 1), ("B", 6.0, at, 0, 2)])
    assert found.select("symbol", "daily_open", "ticks").rows() == [("A", 5.0, 1), ("B", 6.0, 1)]


@pytest.mark.parametrize(
    ("newest", "is_closed"),
    [
        ([(0, datetime(2026, 1, 2, 1))], True),
        ([(0, datetime(2026, 1, 2, 0, 59, 59, 999_000))], False),
        ([(0, datetime(2026, 1, 2, 1)), (0, datetime(2026, 1, 1))], True),
        ([(0, datetime(2026, 1, 2, 1)), (0, None)], True),
        ([(1, datetime(2026, 1, 2, 1))], False),
        ([(0, None)], False),
        ([], False),
    ],
)
def test_a_day_is_closed_when_the_watermark_is_an_hour_past_it(
    newest: list[tuple[int, datetime | None]], is_closed: bool
) -> None:
    found = days([("A", 5.0, "12:00:00.000", 0, 1)], spans(*newest))
    assert found["is_closed"].to_list() == [is_closed]


def test_a_day_of_two_partitions_waits_for_both() -> None:
    found: list[Tick] = [("A", 5.0, "12:00:00.000", p, 1) for p in (0, 1)]
    past, behind = datetime(2026, 1, 2, 1), datetime(2026, 1, 1, 12)
    assert days(found, spans((0, past), (1, behind)))["is_closed"].to_list() == [False]
    assert days(found, spans((0, past), (1, past)))["is_closed"].to_list() == [True]


def batch(*dates: int) -> pl.DataFrame:
    """Days of January of symbol A, at a price of 5."""
    schema = polars_schema(c.DAILY_OHLC)
    prices = {f"daily_{name}": 5.0 for name in ("open", "high", "low", "close")}
    told = {"daily_volume": 2.0, "cnt": 1440, "source": "1m", "symbol": "A"}
    rows = [prices | told | {"date": date(2026, 1, day)} for day in dates]
    return pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema)


def merged(daily: pl.DataFrame) -> pl.DataFrame:
    """The batch's days with one live day, the first of January, at a price of 9."""
    live_days = days([("A", 9.0, "12:00:00.000", 0, 1)])
    return run(
        ohlc.merged_daily_ohlc,
        c.MERGED_DAILY_OHLC,
        daily_ohlc=(c.DAILY_OHLC, daily),
        live_daily_ohlc=(c.LIVE_DAILY_OHLC, live_days),
    )


def test_the_batch_wins_a_day_that_both_have() -> None:
    found = merged(batch(1, 2)).select("daily_close", "daily_volume", "source").rows()
    assert found == [(5.0, 2.0, "1m"), (5.0, 2.0, "1m")]


def test_a_day_that_the_batch_lacks_is_the_live_one_without_a_volume() -> None:
    found = merged(batch(2)).select("daily_close", "daily_volume", "cnt", "source").rows()
    assert found == [(9.0, None, 1, "live"), (5.0, 2.0, 1440, "1m")]


def test_the_volume_of_a_live_day_is_unknown_and_of_a_day_without_data_nothing() -> None:
    series = run(
        transforms.filled_series,
        c.FILLED_SERIES,
        merged_daily_ohlc=(c.MERGED_DAILY_OHLC, merged(batch(3))),
    )
    assert series.select("close", "volume", "cnt", "is_filled").rows() == [
        (9.0, None, 1, False),
        (9.0, 0.0, 0, True),
        (5.0, 2.0, 1440, False),
    ]
