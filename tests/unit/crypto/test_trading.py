"""Claims about signals, the backtest and the return statistics of ``crypto.trading``."""

from datetime import date, timedelta
from itertools import pairwise

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.crypto import trading
from tidemill.crypto.trading import Costs

FREE = Costs(fee_pct=0, slippage_pct=0)
FIRST = date(2024, 1, 1)
PRICES = {"open": pl.Float64, "close": pl.Float64}
prices = st.floats(1, 1000)


def days(
    closes: list[float],
    opens: list[float] | None = None,
    filled: tuple[int, ...] = (),
    first: date = FIRST,
    symbol: str = "A",
) -> pl.DataFrame:
    """A series from its closes; a day opens where the one before closed unless ``opens`` says.

    ``filled`` are the numbers of the days without data, from 0; the averages are real ones.
    """
    opens = opens or [*closes[:1], *closes[:-1]]
    bars = pl.DataFrame({"open": opens, "close": closes}, schema_overrides=PRICES)
    return bars.select(
        symbol=pl.lit(symbol),
        date=pl.Series([first + timedelta(i) for i in range(len(closes))], dtype=pl.Date),
        open="open",
        high=pl.max_horizontal("open", "close"),
        low=pl.min_horizontal("open", "close"),
        close="close",
        volume=pl.lit(1.0),
        cnt=pl.lit(None, pl.Int64),
        is_filled=pl.Series([i in filled for i in range(len(closes))], dtype=pl.Boolean),
        ma7=pl.col("close").rolling_mean(7),
        ma30=pl.col("close").rolling_mean(30),
    )


def averages(*apart: float | None) -> pl.DataFrame:
    """A series whose ma30 is 100 and whose ma7 is ``apart`` above it; None: ma30 is unknown."""
    return days([100.0] * len(apart)).with_columns(
        ma7=pl.Series([100 + (a or 0.0) for a in apart], dtype=pl.Float64),
        ma30=pl.Series([None if a is None else 100.0 for a in apart], dtype=pl.Float64),
    )


def orders(**by_day: str) -> pl.DataFrame:
    """Signals of A by day of January 2024, as ``orders(d2="BUY")``."""
    rows = [("A", date(2024, 1, int(day[1:])), signal) for day, signal in by_day.items()]
    schema = {"symbol": pl.String, "date": pl.Date, "signal": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def crosses(series: pl.DataFrame) -> list[tuple[int, str]]:
    """Day of the month and direction of each signal."""
    found = trading.signals(series)
    return list(zip(found["date"].dt.day().to_list(), found["signal"].to_list(), strict=True))


def curve(series: pl.DataFrame, signals: pl.DataFrame, costs: Costs = FREE) -> list[float]:
    """The strategy's worth at each close."""
    return trading.equity(series, signals, costs)["strategy_equity"].to_list()


# signals


def test_a_golden_cross_buys_and_a_death_cross_sells() -> None:
    series = averages(None, -2, 3, 4, -1)
    golden = ("A", date(2024, 1, 3), "BUY", "golden", 100.0, 103.0, 100.0)
    death = ("A", date(2024, 1, 5), "SELL", "death", 100.0, 99.0, 100.0)
    assert trading.signals(series).rows() == [golden, death]
    assert trading.signals(series).schema == trading.SIGNALS


@pytest.mark.parametrize("first", [1.0, -1.0])
def test_the_first_day_that_knows_both_averages_is_no_cross(first: float) -> None:
    assert crosses(averages(None, None, first, first)) == []


def test_touching_and_going_back_is_no_cross() -> None:
    assert crosses(averages(-1, 0, -1, 0, 0, -1)) == []
    assert crosses(averages(1, 0, 1)) == []


def test_touching_and_going_through_is_one_cross_on_the_first_day_beyond() -> None:
    assert crosses(averages(-1, 0, 0, 1, 2)) == [(4, "BUY")]
    assert crosses(averages(1, 0, -1)) == [(3, "SELL")]


def test_averages_that_begin_equal_have_nothing_to_cross_from() -> None:
    assert crosses(averages(None, 0, 1, -1)) == [(4, "SELL")]


def test_the_rounding_of_equal_averages_is_no_cross() -> None:
    assert crosses(averages(1, -1e-13, 1, -1e-13, 1)) == []
    assert crosses(days([812.3, 903.4, 777.7, *[100.1] * 70])) == []


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), max_size=40))
@settings(deadline=None, max_examples=50)
def test_each_change_of_sign_is_one_cross(apart: list[float]) -> None:
    signs = [np.sign(a) for a in apart if a]
    changes = ["BUY" if b > a else "SELL" for a, b in pairwise(signs) if a != b]
    assert trading.signals(averages(*apart))["signal"].to_list() == changes


@given(st.lists(prices, min_size=31, max_size=60), st.data())
@settings(deadline=None, max_examples=40)
def test_later_prices_change_no_earlier_signal(closes: list[float], data: st.DataObject) -> None:
    known = data.draw(st.integers(30, len(closes)))
    whole = trading.signals(days(closes))
    last = FIRST + timedelta(known - 1)
    assert_frame_equal(whole.filter(pl.col("date") <= last), trading.signals(days(closes[:known])))


# backtest

#          1    2    3    4    5    6    7    8
OPENS = [100, 100, 120, 140, 160, 200, 90, 110.0]
CLOSES = [100, 110, 130, 150, 200, 210, 100, 125.0]
HAND = days(CLOSES, OPENS)
DEAR = Costs(fee_pct=10, slippage_pct=25)
"""BUY: 0.9 / (1.25 open) units for each cash; SELL: 0.75 * 0.9 * open = 0.675 open for each."""


def test_a_backtest_worked_by_hand() -> None:
    signals = orders(d2="BUY", d5="SELL", d6="BUY", d8="SELL")
    # day 3 buys at 120: 0.9 / 150 = 0.006 units; day 6 sells at 200: 0.006 * 135 = 0.81 cash;
    # day 7 buys at 90: 0.81 * 0.9 / 112.5 = 0.00648 units; day 8's SELL has no next open
    worth = [1, 1, 0.78, 0.9, 1.2, 0.81, 0.648, 0.81]
    # the holder buys on day 1 at 100: 0.9 / 125 = 0.0072 units
    held = [0.72, 0.792, 0.936, 1.08, 1.44, 1.512, 0.72, 0.9]
    daily = np.array([b / a - 1 for a, b in pairwise([1, *worth])])
    holding = np.array([b / a - 1 for a, b in pairwise([1, *held])])

    curves = trading.equity(HAND, signals, DEAR)
    assert curves.schema == trading.EQUITY
    assert curves["strategy_equity"].to_list() == pytest.approx(worth)
    assert curves["hold_equity"].to_list() == pytest.approx(held)

    result = trading.backtest(HAND, signals, DEAR, resamples=50)
    assert result.schema == trading.BACKTESTS
    row = result.row(0, named=True)
    low, high = row.pop("ci_low"), row.pop("ci_high")
    assert row == {
        "symbol": "A",
        "strategy": "ma7_ma30_cross",
        "first_date": date(2024, 1, 1),
        "last_date": date(2024, 1, 8),
        "days": 8,
        "trades": 1,
        "open_trades": 1,
        "win_rate": 0.0,
        "total_return_pct": pytest.approx(-19),
        "hold_return_pct": pytest.approx(-10),
        "max_drawdown_pct": pytest.approx(-46),  # from 1.2 to 0.648
        "sharpe": pytest.approx(np.mean(daily) / np.std(daily, ddof=1) * np.sqrt(365)),
        "fee_pct": 10.0,
        "slippage_pct": 25.0,
        "excess_mean_daily_pct": pytest.approx(100 * np.mean(daily - holding)),
        "n_resamples": 50,
    }
    assert low < row["excess_mean_daily_pct"] < high


def test_the_move_from_the_signals_close_to_the_next_open_is_not_earned() -> None:
    series = days([100, 100, 200, 200, 100], [100, 100, 200, 200, 100])
    assert curve(series, orders(d2="BUY")) == [1, 1, 1, 1, 0.5]
    assert curve(series, orders(d2="BUY", d4="SELL")) == [1, 1, 1, 1, 0.5]


def test_a_signal_on_the_last_day_is_not_filled() -> None:
    row = trading.backtest(HAND, orders(d8="BUY"), DEAR).row(0, named=True)
    assert (row["trades"], row["open_trades"], row["total_return_pct"]) == (0, 0, 0.0)
    assert row["win_rate"] is None
    assert row["sharpe"] is None


def test_an_order_waits_over_a_day_without_data() -> None:
    series = days([100, 100, 100, 220], [100, 100, 100, 200], filled=(2,))
    assert curve(series, orders(d2="BUY")) == pytest.approx([1, 1, 1, 1.1])


def test_a_newer_signal_replaces_an_order_that_waits() -> None:
    series = days([100, 100, 100, 220], [100, 100, 100, 200], filled=(2,))
    assert curve(series, orders(d2="BUY", d3="SELL")) == [1, 1, 1, 1]


def test_a_second_buy_and_a_sell_without_a_position_do_nothing() -> None:
    assert curve(HAND, orders(d2="BUY", d4="BUY"), DEAR) == curve(HAND, orders(d2="BUY"), DEAR)
    assert curve(HAND, orders(d1="SELL", d2="SELL"), DEAR) == [1.0] * 8


def test_a_trip_that_gains_less_than_its_costs_is_no_win() -> None:
    series = days([100, 100, 101, 101], [100, 100, 101, 101])
    trip = orders(d1="BUY", d2="SELL")
    assert trading.backtest(series, trip, FREE)["win_rate"].to_list() == [1.0]
    assert trading.backtest(series, trip, Costs(1, 0))["win_rate"].to_list() == [0.0]


def test_win_rate_is_a_share_of_completed_trips() -> None:
    closes = [100.0, 100, 200, 200, 180, 180]
    trips = orders(d1="BUY", d2="SELL", d3="BUY", d4="SELL")
    row = trading.backtest(days(closes, closes), trips, FREE).row(0, named=True)
    assert (row["trades"], row["open_trades"], row["win_rate"]) == (2, 0, 0.5)
    assert row["total_return_pct"] == pytest.approx(80)  # 2 * 0.9


def test_a_loss_on_the_first_day_in_the_market_is_a_drawdown() -> None:
    row = trading.backtest(days([100, 90], [100, 100]), orders(d1="BUY"), FREE)
    assert row["max_drawdown_pct"].to_list() == pytest.approx([-10])


def test_a_steady_gain_has_no_sharpe_as_it_has_no_spread() -> None:
    series = days([110.0, 121.0, 133.1], [100.0, 110.0, 121.0])
    held = trading.backtest(series, orders(d1="BUY"), FREE)
    assert held["sharpe"][0] == pytest.approx(np.sqrt(365) * (0.2 / 3) / 0.05773502692)
    assert trading._sharpe(np.array([0.1, 0.1 + 1e-15, 0.1])) is None


def test_a_series_too_short_for_averages_trades_nothing_and_still_knows_what_holding_gave() -> None:
    series = days([100.0, 120.0])
    row = trading.backtest(series, trading.signals(series), FREE).row(0, named=True)
    assert (row["days"], row["trades"], row["open_trades"]) == (2, 0, 0)
    assert (row["total_return_pct"], row["max_drawdown_pct"]) == (0.0, 0.0)
    assert row["hold_return_pct"] == pytest.approx(20)
    assert row["excess_mean_daily_pct"] == pytest.approx(-10)
    assert (row["win_rate"], row["sharpe"]) == (None, None)


def test_one_day_has_no_interval() -> None:
    row = trading.backtest(days([100.0]), trading.SIGNALS.to_frame()).row(0, named=True)
    assert (row["ci_low"], row["ci_high"], row["n_resamples"]) == (None, None, 0)


def test_the_holder_waits_for_data_too_and_without_any_has_no_return() -> None:
    late = trading.backtest(days([100, 200], [50, 100], filled=(0,)), orders(), FREE)
    assert late["hold_return_pct"].to_list() == pytest.approx([100])
    never = trading.backtest(days([100.0, 100.0], filled=(0, 1)), orders(), FREE)
    assert never.row(0, named=True)["hold_return_pct"] is None
    assert never.row(0, named=True)["excess_mean_daily_pct"] is None


def test_the_interval_repeats_with_its_seed_and_differs_with_another() -> None:
    signals = orders(d2="BUY", d5="SELL")
    one, same, other = (trading.backtest(HAND, signals, seed=seed) for seed in (1, 1, 2))
    assert_frame_equal(one, same)
    assert one.select("ci_low", "ci_high").row(0) != other.select("ci_low", "ci_high").row(0)


def test_without_costs_and_always_in_the_market_the_strategy_is_the_holder() -> None:
    row = trading.backtest(days([100, 90, 120], [100, 100, 90]), orders(d1="BUY"), FREE)
    assert row["total_return_pct"].to_list() == pytest.approx([20])
    assert row["excess_mean_daily_pct"].to_list() == pytest.approx([0])


@given(
    st.lists(st.tuples(prices, prices), min_size=40, max_size=70),
    st.lists(st.tuples(prices, prices), min_size=70, max_size=70),
    st.integers(0, 69),
)
@settings(deadline=None, max_examples=40)
def test_prices_after_a_day_do_not_change_equity_up_to_it(
    bars: list[tuple[float, float]], others: list[tuple[float, float]], last: int
) -> None:
    known = 1 + last % len(bars)
    changed = bars[:known] + others[known : len(bars)]

    def followed(rows: list[tuple[float, float]]) -> list[float]:
        series = days([close for _, close in rows], [opening for opening, _ in rows])
        return curve(series, trading.signals(series), Costs())

    assert followed(changed)[:known] == followed(bars)[:known]


def test_equity_does_follow_later_prices_once_in_the_market() -> None:
    signals = orders(d2="BUY")
    assert curve(HAND, signals)[2] == pytest.approx(130 / 120)
    cheaper = days(CLOSES, [*OPENS[:2], 104.0, *OPENS[3:]])
    assert curve(cheaper, signals)[:3] == pytest.approx([1, 1, 130 / 104])


@given(st.lists(st.tuples(prices, prices), min_size=2, max_size=30), st.data())
@settings(deadline=None, max_examples=40)
def test_costs_never_help(bars: list[tuple[float, float]], data: st.DataObject) -> None:
    series = days([close for _, close in bars], [opening for opening, _ in bars])
    plan = st.lists(st.sampled_from(["BUY", "SELL", None]), min_size=len(bars), max_size=len(bars))
    signals = orders(**{f"d{i + 1}": s for i, s in enumerate(data.draw(plan)) if s})
    free, dear = curve(series, signals, FREE), curve(series, signals, Costs(0.1, 0.05))
    assert all(paid <= unpaid for paid, unpaid in zip(dear, free, strict=True))
    row = trading.backtest(series, signals, resamples=0).row(0, named=True)
    assert -100 <= row["max_drawdown_pct"] <= min(0, row["total_return_pct"])


@pytest.mark.parametrize(
    ("signals", "problem"),
    [
        (orders(d9="BUY"), "1 signals on no day of the series"),
        (orders(d2="HOLD"), "1 signals neither BUY nor SELL"),
        (pl.concat([orders(d2="BUY"), orders(d2="SELL")]), "2 signals twice on one day"),
        (orders(d2="BUY").with_columns(symbol=pl.lit("B")), "1 signals on no day of the series"),
    ],
)
def test_a_signal_that_is_not_the_series_own_is_refused(
    signals: pl.DataFrame, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        trading.backtest(HAND, signals)


@pytest.mark.parametrize("share", [-0.1, 100, float("nan")])
def test_a_cost_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="fee_pct is"):
        Costs(fee_pct=share)
    with pytest.raises(ValueError, match="slippage_pct is"):
        Costs(slippage_pct=share)


def test_fewer_than_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples is -1"):
        trading.backtest(HAND, orders(), resamples=-1)


# the interval


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=70), st.integers(0, 9))
@settings(deadline=None)
@example([1.0, 2.0, 3.0, 4.0, 5.0], 0)  # blocks of 2, the last of them cut to 1
def test_the_interval_is_that_of_blocks_drawn_one_by_one(values: list[float], seed: int) -> None:
    n = len(values)
    length = max(1, round(n ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(0, n, size=(20, n // length + 1))
    means = [
        np.mean([values[(start + i) % n] for start in row for i in range(length)][:n])
        for row in starts.tolist()
    ]
    expected = tuple(np.percentile(means, [2.5, 97.5]))
    assert trading.mean_interval(np.array(values), 20, seed) == pytest.approx(expected, abs=1e-9)


def test_a_constant_is_its_own_interval() -> None:
    assert trading.mean_interval(np.full(50, 0.3), 100, 7) == pytest.approx((0.3, 0.3))


def test_the_interval_holds_the_true_mean_about_19_times_in_20() -> None:
    draws = np.random.default_rng(3).normal(1.0, 2.0, size=(200, 150))
    bounds = [trading.mean_interval(draw, 300, 7) or (9, 9) for draw in draws]
    assert 0.88 <= np.mean([low <= 1 <= high for low, high in bounds]) <= 0.99


def test_the_interval_is_wider_where_neighbours_move_together() -> None:
    noise = np.random.default_rng(5).normal(size=1000)
    low, high = trading.mean_interval(np.repeat(noise[:100], 10), 500, 7) or (0, 0)
    mixed_low, mixed_high = trading.mean_interval(
        np.random.default_rng(6).permutation(np.repeat(noise[:100], 10)), 500, 7
    ) or (0, 0)
    assert high - low > 1.8 * (mixed_high - mixed_low)


# volatility


def test_volatility_is_the_sample_deviation_of_daily_returns_by_half_year() -> None:
    # 29 June to 2 July: +10 %, +30 % in the first half, -10 %, +10 % in the second
    series = days([100.0, 110, 143, 128.7, 141.57], first=date(2024, 6, 28))
    halves = trading.volatility(series)
    assert halves.schema == trading.VOLATILITY
    spread = 10 * 2**0.5  # two values 20 apart
    assert halves.rows() == [
        ("A", "2024H1", date(2024, 6, 28), date(2024, 6, 30), pytest.approx(spread), 2),
        ("A", "2024H2", date(2024, 7, 1), date(2024, 7, 2), pytest.approx(spread), 2),
    ]


def test_a_return_into_or_out_of_a_filled_day_does_not_count() -> None:
    series = days([100.0, 110, 110, 330, 363, 435.6], filled=(2,))  # +10 %, -, -, +10 %, +20 %
    (row,) = trading.volatility(series).rows(named=True)
    assert row["n"] == 3
    assert row["volatility_pct"] == pytest.approx(100 / 3**0.5 / 10)


@pytest.mark.parametrize(("closes", "n"), [([100.0], 0), ([100.0, 110.0], 1)])
def test_a_half_with_fewer_than_two_returns_has_no_volatility(closes: list[float], n: int) -> None:
    (row,) = trading.volatility(days(closes)).rows(named=True)
    assert (row["volatility_pct"], row["n"]) == (None, n)


SQL = """
    with changes as (
        select *, close / lag(close) over (order by date) - 1 as change,
            not is_filled and not lag(is_filled) over (order by date) as counts
        from series
    )
    select symbol, concat(year(date), case when month(date) < 7 then 'H1' else 'H2' end) as half,
        min(date) as first_date, max(date) as last_date,
        stddev_samp(change) filter (where counts) * 100 as volatility_pct,
        count(*) filter (where counts) as n
    from changes group by symbol, half order by half
"""


@given(
    st.lists(st.tuples(prices, st.booleans()), min_size=1, max_size=40),
    st.dates(date(2023, 5, 20), date(2024, 1, 10)),
)
@settings(deadline=None, max_examples=20)
def test_volatility_is_what_sql_says(rows: list[tuple[float, bool]], first: date) -> None:
    gaps = tuple(i for i, (_, is_filled) in enumerate(rows) if is_filled)
    series = days([close for close, _ in rows], filled=gaps, first=first)
    with duckdb.connect() as connection:
        connection.register("series", series.to_arrow())
        expected = connection.sql(SQL).pl()
    assert_frame_equal(trading.volatility(series), expected, check_dtypes=False)


# monthly returns


def months(*closes: float | None, first: date = FIRST) -> pl.DataFrame:
    """A series that has data only on the 15th of each month; None: a month without any."""
    last = pl.select(pl.lit(first).dt.offset_by(f"{len(closes)}mo")).item() - timedelta(1)
    calendar = pl.DataFrame({"date": pl.date_range(first, last, eager=True)})
    month = 12 * (pl.col("date").dt.year() - first.year) + pl.col("date").dt.month() - first.month
    values = pl.Series(closes, dtype=pl.Float64)
    is_real = (pl.col("date").dt.day() == 15) & pl.lit(values).gather(month).is_not_null()
    return calendar.select(
        symbol=pl.lit("A"),
        date="date",
        close=pl.when(is_real).then(pl.lit(values).gather(month)).otherwise(7.0),
        is_filled=~is_real,
    )


def test_a_months_return_is_from_the_last_real_close_of_the_month_before() -> None:
    found = trading.monthly_returns(months(100, 110, 99))
    assert found.schema == trading.MONTHLY_RETURNS
    assert found.rows() == [("A", 2, pytest.approx(10), 1), ("A", 3, pytest.approx(-10), 1)]


def test_the_last_close_of_a_month_counts_and_not_its_first_or_a_filled_one() -> None:
    closes = [50.0, *[100.0] * 30, 300.0, *[120.0] * 27, 60.0]  # January, February 2024
    series = days(closes, filled=(59,))  # 29 February
    assert trading.monthly_returns(series).rows() == [("A", 2, pytest.approx(20), 1)]


def test_neither_a_month_without_data_nor_the_one_after_it_has_a_return() -> None:
    assert trading.monthly_returns(months(100, None, 99, 198)).rows() == [
        ("A", 4, pytest.approx(100), 1)
    ]


def test_the_same_month_of_two_years_gives_one_mean() -> None:
    closes: list[float | None] = [100, 110, *[None] * 10, 100, 130]
    assert trading.monthly_returns(months(*closes)).rows() == [("A", 2, pytest.approx(20), 2)]


def test_a_january_is_measured_from_december() -> None:
    found = trading.monthly_returns(months(100, 150, first=date(2023, 12, 1)))
    assert found.rows() == [("A", 1, pytest.approx(50), 1)]


def test_a_single_month_has_no_return() -> None:
    assert_frame_equal(
        trading.monthly_returns(days([1.0, 2.0])), trading.MONTHLY_RETURNS.to_frame()
    )


@given(st.lists(prices, min_size=2, max_size=30))
@settings(deadline=None, max_examples=30)
def test_monthly_returns_count_each_month_but_the_first(closes: list[float]) -> None:
    found = trading.monthly_returns(months(*closes))
    assert found["n"].sum() == len(closes) - 1
    total = sum(b / a - 1 for a, b in pairwise(closes))
    assert (found["mean_return_pct"] * found["n"]).sum() == pytest.approx(100 * total, abs=1e-6)


# what all of them refuse or pass through


def test_an_empty_series_gives_empty_frames_of_the_right_schema() -> None:
    none = HAND.clear()
    for found, schema in (
        (trading.signals(none), trading.SIGNALS),
        (trading.equity(none, orders()), trading.EQUITY),
        (trading.backtest(none, orders()), trading.BACKTESTS),
        (trading.volatility(none), trading.VOLATILITY),
        (trading.monthly_returns(none), trading.MONTHLY_RETURNS),
    ):
        assert found.is_empty()
        assert found.schema == schema


@pytest.mark.parametrize(
    ("series", "problem"),
    [
        (pl.concat([HAND, days([1.0], symbol="B")]), r"one symbol at a time, found \['A', 'B'\]"),
        (HAND.filter(pl.col("close") != 130), "A: 2024-01-04 is not the day after"),
        (pl.concat([HAND, HAND.tail(1)]), "A: 2024-01-08 is not the day after"),
        (HAND.reverse(), "A: 2024-01-07 is not the day after"),
    ],
)
def test_what_is_no_calendar_of_one_symbol_is_refused(series: pl.DataFrame, problem: str) -> None:
    for function in (trading.signals, trading.volatility, trading.monthly_returns):
        with pytest.raises(ValueError, match=problem):
            function(series)
    with pytest.raises(ValueError, match=problem):
        trading.backtest(series, orders())


@pytest.mark.parametrize("price", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_close_that_is_no_price_is_refused_with_its_day(price: float | None) -> None:
    broken = HAND.with_columns(
        close=pl.when(pl.col("date") == date(2024, 1, 3)).then(price).otherwise("close")
    )
    for function in (trading.volatility, trading.monthly_returns):
        with pytest.raises(ValueError, match="A: 1 days without a usable close, first: 2024-01-03"):
            function(broken)
    with pytest.raises(ValueError, match="1 days without a usable open, first: 2024-01-03"):
        trading.backtest(HAND.with_columns(open=broken["close"]), orders())
