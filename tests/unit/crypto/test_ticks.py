"""Ticks out of candles: folded again they give the candles, exactly."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.crypto.ticks import Candles, Choice, Mark, from_files
from tidemill.errors import InputError

Bar = tuple[str, int, float, float, float, float]
START = int(datetime(2026, 1, 31, 23, 58, tzinfo=UTC).timestamp())
NAMES = ("symbol", "timestamp", "open", "high", "low", "close")
TWO: list[Bar] = [
    ("BUSDT", START, 10.0, 14.0, 9.0, 12.5),
    ("AUSDT", START, 3.0, 4.0, 1.0, 2.0),
    ("AUSDT", START + 180, 2.0, 2.0, 2.0, 2.0),
]


def of(bars: Sequence[Bar], choice: Choice | None = None) -> Candles:
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    frame = pl.DataFrame(bars, NAMES, orient="row")
    con.register("given", frame.to_arrow())
    con.execute("create table bars as from given")
    return Candles(con, "bars", choice)


def told(candles: Candles, shift_ms: int = 0, **after: Mark) -> list[tuple[str, float, int]]:
    """Every message in order, after a look at its key and time."""
    found = []
    for batch in candles.ticks(shift_ms, after):
        for at_ms, (key, value) in zip(batch.times_ms, batch.pairs, strict=True):
            message = json.loads(value)
            assert (message["symbol"].encode(), message["timestamp"]) == (key, at_ms)
            found.append((message["symbol"], message["price"], (at_ms - START * 1000)))
    return found


def test_a_candle_gives_four_ticks_in_order_of_time_and_symbol() -> None:
    assert told(of(TWO)) == [
        ("AUSDT", 3.0, 0),
        ("BUSDT", 10.0, 0),
        ("AUSDT", 4.0, 20_000),  # it fell: the high first
        ("BUSDT", 9.0, 20_000),  # it rose: the low first
        ("AUSDT", 1.0, 40_000),
        ("BUSDT", 14.0, 40_000),
        ("AUSDT", 2.0, 59_999),
        ("BUSDT", 12.5, 59_999),
        *[("AUSDT", 2.0, 180_000 + at) for at in (0, 20_000, 40_000, 59_999)],
    ]


PRICE = st.floats(1e-12, 1e15, allow_nan=False)


@given(st.lists(st.tuples(PRICE, PRICE, PRICE, PRICE), min_size=1, max_size=20))
def test_folded_again_ticks_give_the_candles_to_the_last_bit(
    prices: list[tuple[float, float, float, float]],
) -> None:
    bars: list[Bar] = [
        ("AUSDT", START + 60 * n, p[0], max(p), min(p), p[1]) for n, p in enumerate(prices)
    ]
    found = told(of(bars))
    folded = []
    for n, bar in enumerate(bars):
        mine = [price for _, price, at in found if n * 60_000 <= at < (n + 1) * 60_000]
        assert len(mine) == 4
        folded.append((bar[0], bar[1], mine[0], max(mine), min(mine), mine[-1]))
    assert folded == bars


def test_a_choice_of_symbol_and_time_is_kept() -> None:
    assert {symbol for symbol, _, _ in told(of(TWO, Choice(symbols=("BUSDT",))))} == {"BUSDT"}
    assert len(told(of(TWO, Choice(since_s=START + 1)))) == 4
    assert len(told(of(TWO, Choice(until_s=START + 180)))) == 8
    assert told(of(TWO, Choice(until_s=START))) == []


def test_ticks_up_to_a_mark_are_left_out_for_its_symbols_alone() -> None:
    whole = told(of(TWO))
    mark = Mark(START * 1000 + 40_000, "AUSDT")
    assert told(of(TWO), AUSDT=mark, BUSDT=mark) == whole[5:]
    assert told(of(TWO), AUSDT=mark) == [
        tick for tick in whole if tick[0] == "BUSDT" or tick[2] > 40_000
    ]


def test_a_repetition_is_whole_days_later_and_comes_after_all_before() -> None:
    candles = of(TWO)
    assert candles.cycle_ms == 2 * 86_400_000  # they touch two days
    first, again = told(candles), told(candles, candles.cycle_ms)
    assert again == [(symbol, price, at + candles.cycle_ms) for symbol, price, at in first]
    assert again[0][2] > first[-1][2]


def test_a_file_gives_the_ticks_of_what_ingest_would_make_of_it(tmp_path: Path) -> None:
    path = tmp_path / "SIMAUSDT.csv"
    faults = Faults(
        gaps=3,
        longest_gap_minutes=30,
        null_rows=20,
        exact_duplicates=9,
        conflicting_duplicates=5,
        crashes=1,
    )
    truth = simulate(
        path, Market("SIMAUSDT", date(2026, 1, 30), 3 * 1440, 50.0, "kaggle_eth"), faults
    )
    with from_files([path], Choice()) as candles:
        assert candles.symbols() == ["SIMAUSDT"]
        ticks = list(candles.ticks())
    times = [at for batch in ticks for at in batch.times_ms]
    assert times == sorted(times) and len(times) == 4 * truth.good
    values = [json.loads(value) for batch in ticks for _, value in batch.pairs]
    frame = pl.DataFrame(values).with_columns(
        date=pl.from_epoch("timestamp", time_unit="ms").dt.date()
    )
    daily = frame.group_by("symbol", "date", maintain_order=True).agg(
        daily_open=pl.col("price").first(),
        daily_high=pl.col("price").max(),
        daily_low=pl.col("price").min(),
        daily_close=pl.col("price").last(),
        cnt=pl.len().cast(pl.Int64) // 4,
    )
    assert daily.rows() == truth.daily.drop("daily_volume").rows()


def test_a_file_of_longer_bars_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ABCUSDT.csv"
    rows = "".join(f"{START // 3600 * 3600 + 3600 * n},1,1,1,1,1\n" for n in range(50))
    path.write_text(f"timestamp,open,high,low,close,volume\n{rows}")
    expected = "expected one-minute candles to replay, found bars of 3600 s"
    with pytest.raises(InputError, match=expected), from_files([path], Choice()):
        pass


def test_a_choice_that_finds_no_candle_says_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "ABCUSDT.csv"
    path.write_text(
        "timestamp,open,high,low,close,volume\n1704067200,1,1,1,1,1\n1704067260,1,1,1,1,1\n"
    )
    expected = "there is ABCUSDT from 2024-01-01 00:00:00 to 2024-01-01 00:01:00"
    with (
        pytest.raises(InputError, match=expected),
        from_files([path], Choice(since_s=1704067320)),
    ):
        pass
