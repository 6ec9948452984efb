"""Signals, their backtest, and return statistics of one symbol's daily series.

Pure functions from a Polars frame to a Polars frame, and the schema of each result. All read a
``series``: one symbol's complete calendar of UTC days, sorted, with ``symbol``, ``date``, ``open``,
``high``, ``low``, ``close`` (quote asset), ``volume`` (base asset, NULL where unknown), ``cnt``,
``is_filled`` (the day had no data and copies the last close), and ``ma7``, ``ma30`` (quote asset),
NULL until 7 and 30 rows exist. One that has several symbols, or days missing, repeated or out of
order, raises ValueError, as does a price in use that is no positive number. Drawing belongs in
``charts``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

STRATEGY = "ma7_ma30_cross"
DAYS_A_YEAR = 365
"""Crypto trades on every day of the year."""
TOUCH = 1e-9
"""Averages closer than this share of ma30 are equal: sums of one constant differ by rounding."""
STILL = 1e-12
"""A standard deviation of daily returns up to this is rounding, and counts as 0."""

_DAY = {"symbol": pl.String, "date": pl.Date}
_SPAN = {"first_date": pl.Date, "last_date": pl.Date}
SIGNALS = pl.Schema(
    _DAY
    | dict.fromkeys(("signal", "cross"), pl.String)
    | dict.fromkeys(("close", "ma7", "ma30"), pl.Float64)
)
EQUITY = pl.Schema(_DAY | dict.fromkeys(("strategy_equity", "hold_equity"), pl.Float64))
_FIGURES = (
    *("win_rate", "total_return_pct", "hold_return_pct", "max_drawdown_pct", "sharpe"),
    *("fee_pct", "slippage_pct", "excess_mean_daily_pct", "ci_low", "ci_high"),
)
BACKTESTS = pl.Schema(
    {"symbol": pl.String, "strategy": pl.String}
    | _SPAN
    | dict.fromkeys(("days", "trades", "open_trades"), pl.Int64)
    | dict.fromkeys(_FIGURES, pl.Float64)
    | {"n_resamples": pl.Int64}
)
VOLATILITY = pl.Schema(
    {"symbol": pl.String, "half": pl.String} | _SPAN | {"volatility_pct": pl.Float64, "n": pl.Int64}
)
MONTHLY_RETURNS = pl.Schema(
    {"symbol": pl.String, "month": pl.Int32, "mean_return_pct": pl.Float64, "n": pl.Int64}
)


@dataclass(frozen=True)
class Costs:
    """What a trade costs, in percent; the fee is taken from what the trade gives.

    Attributes:
        fee_pct: Share of the traded amount that the exchange keeps, 0 to below 100.
        slippage_pct: How much worse than the open the fill is, 0 to below 100.

    Raises:
        ValueError: A share outside that.
    """

    fee_pct: float = 0.1
    slippage_pct: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        for name, share in (("fee_pct", self.fee_pct), ("slippage_pct", self.slippage_pct)):
            if not 0 <= share < 100:
                raise ValueError(f"{name} is {share}; give percent, from 0 to below 100")

    def bought(self, cash: float, price: float) -> float:
        """Units of the base asset that ``cash`` (quote asset) buys at a market ``price``."""
        return cash * (1 - self.fee_pct / 100) / (price * (1 + self.slippage_pct / 100))

    def sold(self, units: float, price: float) -> float:
        """Cash (quote asset) that ``units`` of the base asset bring at a market ``price``."""
        return units * price * (1 - self.slippage_pct / 100) * (1 - self.fee_pct / 100)


DEFAULT_COSTS = Costs()


@dataclass(frozen=True)
class _Account:
    """An account's way through a series: capital 1.0 before its first day.

    Attributes:
        equity: Worth at each day's close, in shares of the capital.
        results: Net return of each completed round trip, as a share.
        is_open: Whether it holds the asset at the end.
    """

    equity: Floats
    results: tuple[float, ...]
    is_open: bool

    def returns(self) -> Floats:
        """Daily returns as shares, one a day; the first is against the capital."""
        gained: Floats = self.equity / np.append(1.0, self.equity[:-1]) - 1
        return gained


def signals(series: pl.DataFrame) -> pl.DataFrame:
    """Find the days on which the 7-day average crosses the 30-day average.

    The sign of a day is that of ma7 - ma30; a day whose averages are equal (to ``TOUCH``) has
    none. A day crosses when its sign is not that of the last earlier day that had one: so each
    change of sign gives one cross, touching and going back gives none, touching and going
    through gives one on the first day beyond, and the first sign of all gives none.

    Returns:
        Rows of ``SIGNALS`` by date: golden cross (to ma7 > ma30) is BUY, death cross SELL.

    Source: spec/crypto.md, signals.
    """
    if series.is_empty():
        return SIGNALS.to_frame()
    _check(series)
    apart = pl.col("ma7") - pl.col("ma30")
    is_apart = apart.is_finite() & (apart.abs() > TOUCH * pl.col("ma30").abs())
    is_up = pl.col("sign") > 0
    return (
        series.with_columns(sign=pl.when(is_apart).then(apart.sign()))
        .with_columns(before=pl.col("sign").forward_fill().shift(1))
        .filter(pl.col("sign") != pl.col("before"))
        .with_columns(
            signal=pl.when(is_up).then(pl.lit("BUY")).otherwise(pl.lit("SELL")),
            cross=pl.when(is_up).then(pl.lit("golden")).otherwise(pl.lit("death")),
        )
        .select(SIGNALS.names())
        .cast(SIGNALS)
    )


def equity(
    series: pl.DataFrame, signals: pl.DataFrame, costs: Costs = DEFAULT_COSTS
) -> pl.DataFrame:
    """Follow the strategy and a plain holder from day to day; ``backtest`` says how both trade.

    Returns:
        Rows of ``EQUITY``: worth at the close, in shares of the capital (1.0 before the first
        day), an open position marked to the close without costs of leaving it.
    """
    if series.is_empty():
        return EQUITY.to_frame()
    strategy, hold = _accounts(series, signals, costs)
    worth = {"strategy_equity": strategy.equity, "hold_equity": hold.equity}
    return series.select("symbol", "date", **worth).cast(EQUITY)


def backtest(
    series: pl.DataFrame,
    signals: pl.DataFrame,
    costs: Costs = DEFAULT_COSTS,
    resamples: int = 1000,
    seed: int = 7,
) -> pl.DataFrame:
    """Trade the signals, long only, all in or all out, and compare with holding.

    A signal is known at the close of its day and filled at the open of the next day that has
    data; a filled day has no open of its own, so an order waits over it, until a newer signal
    replaces it. A signal on the last day is not filled. A BUY while long and a SELL while in
    cash do nothing. The holder buys at the first open that has data, at the same costs. A
    position open at the end is marked to the last close.

    Args:
        series: One symbol's calendar.
        signals: Rows of ``SIGNALS`` of the same symbol and days.
        costs: Fee and slippage of each fill.
        resamples: Bootstrap resamples, >= 0; with 0 there is no interval.
        seed: Of the bootstrap.

    Returns:
        One row of ``BACKTESTS``, none for an empty series. ``trades`` are completed round
        trips, ``win_rate`` the share of them (0 to 1) with a gain after costs, NULL without
        any. Drawdown is of the daily equity, from its highest before, <= 0. ``sharpe`` is of
        all days' returns, annualised, NULL where they do not vary. ``excess_mean_daily_pct``
        is the mean of strategy minus hold returns with its 95 % interval, percent a day.

    Raises:
        ValueError: A signal is not of the series, repeated or unknown; ``resamples`` < 0.

    Source: spec/crypto.md, backtests.
    """
    if resamples < 0:
        raise ValueError(f"resamples is {resamples}; give 0 or more")
    if series.is_empty():
        return BACKTESTS.to_frame()
    strategy, hold = _accounts(series, signals, costs)
    row = {
        "symbol": series["symbol"][0],
        "strategy": STRATEGY,
        "first_date": series["date"][0],
        "last_date": series["date"][-1],
        "days": series.height,
        "fee_pct": costs.fee_pct,
        "slippage_pct": costs.slippage_pct,
    }
    return pl.DataFrame([row | _figures(strategy, hold, resamples, seed)], schema=BACKTESTS)


def mean_interval(values: Floats, resamples: int, seed: int) -> tuple[float, float] | None:
    """Bound the mean of an ordered sample by a circular block bootstrap, at 95 %.

    Blocks of round(n ** (1/3)) neighbours keep the dependence between near days; a block that
    runs over the end goes on at the start, so each value is as likely as any other.

    Returns:
        The 2.5 and 97.5 percentiles of the means, in the unit of ``values`` (shape (n,), in
        time's order); None for n < 2 or no resamples.

    Source: Politis and Romano (1992), A circular block-resampling procedure.
    """
    n = len(values)
    if n < 2 or resamples == 0:
        return None
    length = max(1, round(n ** (1 / 3)))
    whole, rest = divmod(n, length)
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[:length])))))
    starts = np.random.default_rng(seed).integers(0, n, size=(resamples, whole + 1))
    first, last = starts[:, :whole], starts[:, whole]
    totals = (sums[first + length] - sums[first]).sum(axis=1) + sums[last + rest] - sums[last]
    low, high = np.percentile(totals / n, [2.5, 97.5]).tolist()
    return low, high


def volatility(series: pl.DataFrame) -> pl.DataFrame:
    """Spread of daily returns by half-year.

    A simple return counts, in the half of its day, when that day and the day before both had
    data; a filled day would add a return of 0, and the day after it one of several days.

    Returns:
        Rows of ``VOLATILITY`` by half, as ``2024H1``: its first and last day in the series,
        sample standard deviation in percent (NULL where n < 2), number of returns.

    Source: spec/crypto.md, volatility.
    """
    if series.is_empty():
        return VOLATILITY.to_frame()
    _check(series, "close")
    is_real = ~pl.col("is_filled")
    change = pl.col("close") / pl.col("close").shift(1) - 1
    number = (pl.col("date").dt.month() + 5) // 6
    return (
        series.with_columns(
            half=pl.format("{}H{}", pl.col("date").dt.year(), number),
            change=pl.when(is_real & is_real.shift(1)).then(change),
        )
        .group_by("symbol", "half", maintain_order=True)
        .agg(
            first_date=pl.col("date").first(),
            last_date=pl.col("date").last(),
            volatility_pct=100 * pl.col("change").std(ddof=1),
            n=pl.col("change").count(),
        )
        .cast(VOLATILITY)
    )


def monthly_returns(series: pl.DataFrame) -> pl.DataFrame:
    """Mean return of each calendar month over the years.

    A month's return is its last close that had data against that of the month before it, and
    exists only where both months have one: the first month has none, nor has one after a hole.

    Returns:
        Rows of ``MONTHLY_RETURNS`` by month, 1 to 12: mean return in percent and the number of
        years in it; a month without any is left out.

    Source: spec/crypto.md, monthly_returns.
    """
    if series.is_empty():
        return MONTHLY_RETURNS.to_frame()
    _check(series, "close")
    closes = (
        series.filter(~pl.col("is_filled"))
        .group_by("symbol", start=pl.col("date").dt.truncate("1mo"), maintain_order=True)
        .agg(pl.col("close").last())
    )
    before = closes.select("symbol", pl.col("start").dt.offset_by("1mo"), base="close")
    return (
        closes.join(before, on=["symbol", "start"])
        .group_by("symbol", month=pl.col("start").dt.month())
        .agg(mean_return_pct=100 * (pl.col("close") / pl.col("base") - 1).mean(), n=pl.len())
        .sort("symbol", "month")
        .cast(MONTHLY_RETURNS)
    )


def _check(series: pl.DataFrame, *prices: str) -> None:
    """Refuse what is no series, or has no positive finite number in a column of ``prices``."""
    symbols = series["symbol"].unique()
    if len(symbols) > 1:
        raise ValueError(f"one symbol at a time, found {sorted(symbols.to_list(), key=str)}")
    torn = series.filter(pl.col("date").diff().fill_null(timedelta(1)) != timedelta(1))
    if torn.height:
        raise ValueError(
            f"{symbols[0]}: {torn['date'][0]} is not the day after its row before; fill and sort"
        )
    for name in prices:
        is_price = (pl.col(name) > 0) & pl.col(name).is_finite()
        bad = series.filter(~is_price.fill_null(False))
        if bad.height:
            raise ValueError(
                f"{symbols[0]}: {bad.height} days without a usable {name},"
                f" first: {bad['date'][0]}, {bad[name][0]}"
            )


def _accounts(
    series: pl.DataFrame, signals: pl.DataFrame, costs: Costs
) -> tuple[_Account, _Account]:
    """The account that follows the signals, and the one that buys at once and holds."""
    _check(series, "open", "close")
    return (
        _trade(series, _orders(series, signals), None, costs),
        _trade(series, [None] * series.height, "BUY", costs),
    )


def _orders(series: pl.DataFrame, signals: pl.DataFrame) -> list[str | None]:
    """The signal of each day of the series, None where it has none; refuses what is no signal."""
    if signals.is_empty():
        return [None] * series.height
    key = ["symbol", "date"]
    is_order = pl.col("signal").is_in(["BUY", "SELL"]).fill_null(False)
    for problem, rows in (
        ("on no day of the series", signals.join(series, on=key, how="anti")),
        ("twice on one day", signals.filter(pl.struct(key).is_duplicated())),
        ("neither BUY nor SELL", signals.filter(~is_order)),
    ):
        if rows.height:
            raise ValueError(f"{rows.height} signals {problem}, first: {rows.row(0)}")
    placed = series.select(key).join(signals, on=key, how="left", maintain_order="left")
    return placed["signal"].to_list()


def _trade(
    series: pl.DataFrame, orders: Iterable[str | None], waiting: str | None, costs: Costs
) -> _Account:
    """Walk through the days: fill the ``waiting`` order at the open, then read the day's own."""
    cash, units, staked = 1.0, 0.0, 1.0
    worth: list[float] = []
    results: list[float] = []
    days = series.select("open", "close", "is_filled").iter_rows()
    for (opening, close, is_filled), order in zip(days, orders, strict=True):
        if waiting is not None and not is_filled:
            if waiting == "BUY" and units == 0:
                staked, cash, units = cash, 0.0, costs.bought(cash, opening)
            elif waiting == "SELL" and units > 0:
                cash, units = costs.sold(units, opening), 0.0
                results.append(cash / staked - 1)
            waiting = None
        worth.append(cash + units * close)
        waiting = order or waiting
    return _Account(np.array(worth), tuple(results), units > 0)


def _sharpe(returns: Floats) -> float | None:
    """Mean over sample standard deviation of daily returns, annualised; None without spread."""
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return float(returns.mean()) / spread * math.sqrt(DAYS_A_YEAR) if spread > STILL else None


def _figures(
    strategy: _Account, hold: _Account, resamples: int, seed: int
) -> dict[str, float | int | None]:
    """The columns of ``BACKTESTS`` that come from what the two accounts did."""
    wins = [result > 0 for result in strategy.results]
    excess = 100 * (strategy.returns() - hold.returns()) if hold.is_open else np.empty(0)
    interval = mean_interval(excess, resamples, seed)
    low, high = interval or (None, None)
    peaks = np.maximum.accumulate(strategy.equity)  # from 1.0: no fill is before the second day
    return {
        "trades": len(wins),
        "open_trades": int(strategy.is_open),
        "win_rate": sum(wins) / len(wins) if wins else None,
        "total_return_pct": 100 * (float(strategy.equity[-1]) - 1),
        "hold_return_pct": 100 * (float(hold.equity[-1]) - 1) if hold.is_open else None,
        "max_drawdown_pct": 100 * float((strategy.equity / peaks - 1).min()),
        "sharpe": _sharpe(strategy.returns()),
        "excess_mean_daily_pct": float(excess.mean()) if len(excess) else None,
        "ci_low": low,
        "ci_high": high,
        "n_resamples": resamples if interval else 0,
    }
