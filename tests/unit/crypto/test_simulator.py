"""The simulator's truth against what SQL finds in its file."""

from dataclasses import astuple, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.crypto import simulator
from tidemill.crypto.simulator import (
    Faults,
    Market,
    Truth,
    kaggle_markets,
    sample_markets,
    simulate,
)
from tidemill.errors import InputError

DAYS = 45
BTC = Market("BTCUSDT", date(2012, 1, 1), DAYS * 1440, 120.0, "kaggle_btc")
ETH = Market("ETHUSDT", date(2017, 8, 17), DAYS * 1440, 12.0, "kaggle_eth")
FAULTS = Faults(40, 3000, 3000, exact_duplicates=200, conflicting_duplicates=100, crashes=20)
NONE = Faults(0, 1, 0, 0, 0, 0)
COUNTED = ("rows", "good", "exact_duplicates", "conflicting_duplicates", "null_rows")

VIEWS = """
create table lines as
    select row_number() over () as line, timestamp::bigint as t, open, high, low, close, volume
    from read_csv('{path}', types = {{'timestamp': 'double', 'open': 'double', 'high': 'double',
        'low': 'double', 'close': 'double', 'volume': 'double'}});
create view ranked as select *, row_number() over (partition by t order by line) as nth from lines;
create view firsts as select * exclude nth from ranked where nth = 1;
create view filled as
    select
        line, t, close is null as is_null,
        coalesce(open, last_close) as open, coalesce(high, last_close) as high,
        coalesce(low, last_close) as low, coalesce(close, last_close) as close,
        coalesce(volume, 0) as volume,
        lag(t) over (order by t) as previous_t
    from (select *, last_value(close ignore nulls) over (order by t) as last_close from firsts);
create view moves as
    select *, lag(close) over (order by t) as previous, lag(is_null) over (order by t) as was_null
    from filled;
"""


@dataclass(frozen=True)
class Simulated:
    """A market's truth, and its file opened in a database of its own."""

    market: Market
    truth: Truth
    path: Path
    database: duckdb.DuckDBPyConnection

    def rows(self, sql: str) -> list[Any]:
        return self.database.execute(sql).fetchall()


def simulated(folder: Path, market: Market, faults: Faults = FAULTS, seed: int = 7) -> Simulated:
    path = folder / f"{market.symbol}.csv"
    truth = simulate(path, market, faults, seed)
    database = duckdb.connect(config={"threads": 1})
    database.execute(VIEWS.format(path=path))
    return Simulated(market, truth, path, database)


@pytest.fixture(scope="module", params=[BTC, ETH], ids=lambda market: market.shape)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated(tmp_path_factory.mktemp("simulated"), request.param)


def counts(file: Simulated) -> dict[str, int]:
    """What ``Truth`` counts, found by SQL."""
    (found,) = file.rows("""
        with again as (
            select
                a.open is not distinct from f.open and a.high is not distinct from f.high
                and a.low is not distinct from f.low and a.close is not distinct from f.close
                and a.volume is not distinct from f.volume as is_same
            from ranked a join firsts f using (t) where a.nth > 1
        )
        select
            (select count(*) from lines),
            (select count(distinct t) from lines),
            (select count(*) from again where is_same),
            (select count(*) from again where not is_same),
            (select count(*) from lines where coalesce(open, high, low, close, volume) is null)
    """)
    return dict(zip(COUNTED, found, strict=True))


def gaps(file: Simulated) -> list[Any]:
    """The gaps as ``Truth`` has them, found by SQL."""
    return file.rows("""
        select previous_t + 60, t - 60, (t - previous_t) // 60 - 1
        from filled where t - previous_t > 60 order by t
    """)


def told(truth: Truth) -> dict[str, int]:
    return {name: getattr(truth, name) for name in COUNTED}


def last_day(market: Market) -> date:
    return market.start + timedelta(days=(market.minutes - 1) // 1440)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_or_symbol_others(
    tmp_path: Path,
) -> None:
    def made(market: Market, seed: int) -> bytes:
        simulate(tmp_path / "file", market, FAULTS, seed)
        return (tmp_path / "file").read_bytes()

    assert made(BTC, 1) == made(BTC, 1)
    assert len({made(BTC, 1), made(BTC, 2), made(replace(BTC, symbol="BTC2USDT"), 1)}) == 3


@pytest.mark.parametrize("days", [1, 7])
def test_the_size_of_a_chunk_changes_no_byte_and_no_truth(
    days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulate(tmp_path / "whole", ETH, FAULTS)
    monkeypatch.setattr(simulator, "_CHUNK_DAYS", days)
    parts = simulate(tmp_path / "parts", ETH, FAULTS)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert told(parts) == told(whole)
    assert_frame_equal(parts.gaps, whole.gaps)
    assert_frame_equal(parts.crashes, whole.crashes)
    assert_frame_equal(parts.daily, whole.daily)


def test_each_shape_has_its_header_and_its_seconds(tmp_path: Path) -> None:
    simulate(tmp_path / "btc", BTC, NONE)
    simulate(tmp_path / "eth", ETH, NONE)
    btc, eth = ((tmp_path / name).read_text().splitlines() for name in ("btc", "eth"))
    assert btc[0] == "Timestamp,Open,High,Low,Close,Volume"
    assert [line.split(",")[0] for line in btc[1:3]] == ["1325376000.0", "1325376060.0"]
    assert eth[0] == "timestamp,open,high,low,close,volume"
    assert [line.split(",")[0] for line in eth[1:3]] == ["1502928000", "1502928060"]


def test_the_counts_are_those_of_the_file_and_the_faults_those_asked_for(file: Simulated) -> None:
    missing = file.truth.gaps["minutes"].sum()
    assert told(file.truth) == counts(file)
    assert counts(file) == {
        "rows": DAYS * 1440 - missing + 300,
        "good": DAYS * 1440 - missing,
        "exact_duplicates": 200,
        "conflicting_duplicates": 100,
        "null_rows": 3000,
    }


def test_the_gaps_are_the_minutes_missing_between_lines_in_three_classes(file: Simulated) -> None:
    minutes = file.truth.gaps["minutes"]
    classes = [(minutes == 1).sum(), minutes.is_between(2, 60).sum(), (minutes > 60).sum()]
    assert file.truth.gaps.rows() == gaps(file)
    assert classes == [19, 16, 5]
    assert minutes.max() == 3000


def test_the_first_and_the_last_minute_are_never_missing_and_the_first_is_not_null(
    tmp_path: Path,
) -> None:
    # of so few minutes each one that may be missing is, in one of the files
    market, faults = replace(BTC, minutes=10), replace(NONE, gaps=3, null_rows=4)
    missing = set()
    for seed in range(25):
        file = simulated(tmp_path, market, faults, seed)
        missing |= set((file.truth.gaps["start_s"] - 1_325_376_000) // 60)
        assert file.rows("select open is not null from lines where line = 1") == [(True,)]
    assert missing == set(range(1, 9))


def test_crashes_are_the_only_falls_by_half(file: Simulated) -> None:
    found = file.rows("""
        select t, previous, low, 100 * (low / previous - 1)
        from moves where low < 0.5 * previous order by t
    """)
    assert file.truth.crashes.rows() == found
    assert len(found) == file.truth.crashes["move_pct"].is_between(-80, -55).sum() == 20
    assert not file.rows("select t from moves where high > 1.2 * previous")


def test_a_crash_is_over_in_its_minute_and_has_no_other_fault(file: Simulated) -> None:
    crashes = "moves where low < 0.5 * previous"
    assert not file.rows(f"select t from {crashes} and abs(close / previous - 1) > 0.05")
    assert not file.rows(f"select t from {crashes} and (previous_t <> t - 60 or was_null)")
    assert not file.rows(f"select t from {crashes} and t in (select t from ranked where nth = 2)")


def test_a_crash_may_be_at_midnight_but_not_after_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # every minute crashes, save the first and the 200 that follow a gap
    monkeypatch.setattr(simulator, "_CHUNK_DAYS", 1)
    crowded = replace(NONE, gaps=200, crashes=3 * 1440 - 401)
    file = simulated(tmp_path, replace(BTC, minutes=3 * 1440), crowded)
    found = file.rows("select t, previous, low, previous_t from moves where low < 0.5 * previous")
    assert sorted(row[:3] for row in found) == file.truth.crashes.drop("move_pct").rows()
    assert len(found) == 3 * 1440 - 401
    assert {t - previous_t for t, *_, previous_t in found} == {60}
    assert 0 in {t % 86_400 for t, *_ in found}


def test_the_days_are_what_sql_makes_of_the_file(file: Simulated) -> None:
    cursor = file.database.execute(f"""
        select
            '{file.market.symbol}' as symbol, make_timestamp(t * 1000000)::date as date,
            arg_min(open, t) as daily_open, max(high) as daily_high, min(low) as daily_low,
            arg_max(close, t) as daily_close, sum(volume) as daily_volume, count(*) as cnt
        from filled group by date order by date
    """)
    found = pl.DataFrame(cursor.fetchall(), [name for name, *_ in cursor.description], orient="row")
    # the order of summing shows in the last digits of a volume
    assert_frame_equal(file.truth.daily, found, check_exact=False, rel_tol=1e-12, abs_tol=0.0)


def test_a_whole_day_without_a_minute_has_no_row(file: Simulated) -> None:
    assert file.truth.daily.height < DAYS
    assert file.truth.daily["cnt"].min() != 0
    assert file.truth.daily["cnt"].sum() == file.truth.good


def test_a_null_minute_opens_the_day_at_the_last_close(tmp_path: Path) -> None:
    # all minutes but the first are null, so all days stand where the first minute closed
    file = simulated(tmp_path, replace(BTC, minutes=2880), replace(NONE, null_rows=2879))
    ((close,),) = file.rows("select close from lines where line = 1")
    (_, second) = file.truth.daily.rows()
    assert second == ("BTCUSDT", date(2012, 1, 2), close, close, close, close, 0.0, 1440)


def test_a_duplicate_follows_its_first_by_at_most_300_rows(file: Simulated) -> None:
    assert not file.rows("""
        select line from (select line, t, lag(t) over (order by line) as before from firsts)
        where t < before
    """)
    late = file.rows("""
        select (select count(*) from firsts f where f.t > a.t and f.line < a.line)
        from ranked a where nth = 2
    """)
    assert (200,) < max(late) <= (300,)
    assert late.count((0,)) > 100
    assert not file.rows("select t from ranked where nth > 2")


def test_a_conflicting_duplicate_has_another_value_in_each_column(file: Simulated) -> None:
    again = "ranked a join firsts f using (t) where a.nth = 2"
    others = "a.open <> f.open and a.high <> f.high and a.low <> f.low and a.close <> f.close"
    changed = file.rows(f"select t from {again} and {others} and a.volume <> f.volume")
    assert len(changed) == 100
    assert not file.rows(f"select t from {again} and (a.close is null or f.close is null)")


def test_high_and_low_enclose_open_and_close(file: Simulated) -> None:
    assert not file.rows("""
        select * from lines
        where low > least(open, close) or high < greatest(open, close) or low <= 0 or volume < 0
    """)


def test_a_minute_opens_about_where_the_last_one_closed(file: Simulated) -> None:
    assert not file.rows("""
        select * from moves where not is_null and not was_null and abs(open / previous - 1) > 0.001
    """)


def test_prices_have_two_decimals_from_ten_up_and_six_below(tmp_path: Path) -> None:
    simulate(tmp_path / "file", replace(ETH, price=10.0), NONE)
    prices = pl.read_csv(tmp_path / "file", infer_schema=False)["close"]
    decimals = prices.str.split(".").list.get(1).str.len_chars()
    is_low = prices.cast(pl.Float64) < 10
    assert 0 < is_low.sum() < prices.len()
    assert decimals.filter(is_low).max() == 6
    assert decimals.filter(~is_low).max() == 2


def test_volumes_have_eight_decimals_and_are_sometimes_zero(file: Simulated) -> None:
    assert file.rows("select bool_and(volume = round(volume, 8)) from lines") == [(True,)]
    ((zero, some),) = file.rows("select count(*) filter (volume = 0), count(volume) from lines")
    assert 0.005 < zero / some < 0.02


def test_a_price_stays_within_its_band_over_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "_SIGMA", 0.009)  # a year is as wild as a hundred
    market = Market("DOGEUSDT", date(2015, 1, 1), 365 * 1440, 0.01, "kaggle_eth")
    daily = simulate(tmp_path / "file", market, NONE).daily
    ((low, high),) = daily.select(pl.min("daily_low"), pl.max("daily_high")).rows()
    assert 0.01 / 40 < low < 0.01 / 20 < 0.01 * 20 < high < 0.01 * 40


def test_a_market_without_faults_is_the_calendar(tmp_path: Path) -> None:
    file = simulated(tmp_path, BTC, NONE)
    assert tuple(told(file.truth).values()) == (DAYS * 1440, DAYS * 1440, 0, 0, 0)
    assert counts(file) == told(file.truth)
    assert file.truth.gaps.height == file.truth.crashes.height == 0
    assert file.truth.daily["cnt"].to_list() == [1440] * DAYS


def test_the_default_faults_fit_a_month_and_take_out_whole_days(tmp_path: Path) -> None:
    for seed in range(5):
        truth = simulate(tmp_path / "file", replace(BTC, minutes=28 * 1440), seed=seed)
        assert truth.gaps["minutes"].max() == 3 * 1440
        assert truth.daily.height < 28


@settings(max_examples=15, deadline=None)
@given(
    faults=st.builds(
        Faults,
        gaps=st.integers(0, 12),
        longest_gap_minutes=st.sampled_from([1, 2, 59, 60, 61, 62, 100]),
        null_rows=st.integers(0, 100),
        exact_duplicates=st.integers(0, 50),
        conflicting_duplicates=st.integers(0, 50),
        crashes=st.integers(0, 10),
    ),
    seed=st.integers(0, 2**32),
)
def test_any_faults_are_found_again(
    faults: Faults, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = simulated(tmp_path_factory.mktemp("any"), replace(BTC, minutes=2000), faults, seed)
    assert counts(file) == told(file.truth)
    assert file.truth.gaps.rows() == gaps(file)
    assert file.truth.gaps["minutes"].max() == (faults.longest_gap_minutes if faults.gaps else None)
    assert (file.truth.gaps.height, file.truth.crashes.height) == (faults.gaps, faults.crashes)


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        (replace(NONE, gaps=6), "6 gaps do not fit"),
        (replace(NONE, gaps=1, longest_gap_minutes=10), "1 gaps do not fit"),
        (replace(NONE, null_rows=10), "10 null rows and duplicates do not fit in 9"),
        (replace(NONE, crashes=10), "10 crashes do not fit in 9"),
        (replace(NONE, null_rows=-1), "negative"),
        (replace(NONE, longest_gap_minutes=0), "longest gap"),
    ],
)
def test_faults_that_do_not_fit_are_refused_and_the_file_stays(
    faults: Faults, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("as it was")
    with pytest.raises(InputError, match=why):
        simulate(path, replace(BTC, minutes=10), faults)
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"file": "as it was"}


@pytest.mark.parametrize("fields", [{"minutes": 0}, {"price": 0.0}, {"price": float("nan")}])
def test_a_market_without_minutes_or_price_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="needs minutes of 1 and a price of"):
        replace(BTC, **fields)


def test_the_sample_is_two_years_of_three_symbols() -> None:
    assert [(market.symbol, market.start, last_day(market)) for market in sample_markets()] == [
        (symbol, date(2024, 1, 1), date(2025, 12, 31))
        for symbol in ("SIMBTCUSDT", "SIMETHUSDT", "SIMSOLUSDT")
    ]


def test_eight_million_rows_are_the_two_kaggle_files() -> None:
    assert [astuple(market)[:3] for market in kaggle_markets(8_000_000)] == [
        ("BTCUSDT", date(2012, 1, 1), 4_800_000),
        ("ETHUSDT", date(2017, 8, 17), 3_200_000),
    ]


@pytest.mark.parametrize("rows", [2, 3, 1000, 8_000_000, 8_000_001, 25_000_000, 100_000_000])
def test_kaggle_markets_hold_the_rows_asked_for_and_none_reaches_2026(rows: int) -> None:
    markets = kaggle_markets(rows)
    assert sum(market.minutes for market in markets) == rows
    assert len({market.symbol for market in markets}) == len(markets)
    assert max(map(last_day, markets)) < date(2026, 1, 1)
    btc = sum(market.minutes for market in markets if market.shape == "kaggle_btc")
    assert btc == pytest.approx(0.6 * rows, abs=len(markets))


def test_more_rows_than_a_pair_holds_are_further_pairs() -> None:
    symbols = [market.symbol for market in kaggle_markets(16_000_001)]
    assert symbols == ["BTCUSDT", "ETHUSDT", "BTC2USDT", "ETH2USDT", "BTC3USDT", "ETH3USDT"]


@pytest.mark.parametrize("rows", [-8_000_000, -1, 0, 1])
def test_kaggle_markets_without_a_minute_each_are_refused(rows: int) -> None:
    with pytest.raises(InputError, match="needs minutes of 1"):
        kaggle_markets(rows)
