"""Seeded one-minute candles with known faults: a CSV file, and the truth about it to compare with.

Reading files back does not belong here: the truth shares no code with what is held against it.
Places are counted in *rows*: the minutes that a file keeps, in time order, without duplicates. The
price takes one step a row, so the market stands still inside a gap. Random numbers are drawn row by
row from one stream a quantity, so a file does not depend on how many rows are made at a time.
"""

from dataclasses import astuple, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

from tidemill.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAMPLE_START = date(2024, 1, 1)
SAMPLE_END = date(2025, 12, 31)

_DAY_MINUTES = 1440
_CHUNK_DAYS = 300  # made and written at a time; bounds memory, changes no byte
_LOWEST_PRICE = 0.01  # below it, six decimals no longer hold the spread of a minute
_BAND = np.log(30)  # a price stays within 1/30 and 30 times the first one
_SIGMA = 0.0009  # log return of a minute: about 65 % a year
_TURNOVER = 50_000.0  # median traded in a minute, quote asset
_CRASH_DEPTHS = (0.56, 0.79)  # rounding keeps the low 55 to 80 % below the previous close
_LATEST_ROWS = 300  # between a row and its duplicate
_PAIR_ROWS = 8_000_000
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Market:
    """What to simulate for one symbol.

    Attributes:
        symbol: Trading pair, as BTCUSDT. It takes part in the seed, so symbols differ.
        start: UTC day of the first minute.
        minutes: Calendar minutes covered, before faults, > 0.
        price: Price before the first minute, quote asset, at least 0.01.
        shape: ``kaggle_btc`` is ``Timestamp,Open,...`` with float seconds (1325412060.0),
            ``kaggle_eth`` is ``timestamp,open,...`` with integer seconds.

    Raises:
        InputError: ``minutes`` or ``price`` is too low.
    """

    symbol: str
    start: date
    minutes: int
    price: float
    shape: Literal["kaggle_btc", "kaggle_eth"]

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.minutes < 1 or not _LOWEST_PRICE <= self.price < np.inf:
            raise InputError(f"{self} needs minutes of 1 and a price of {_LOWEST_PRICE}, or more")


@dataclass(frozen=True)
class Faults:
    """How many of each fault to place; the defaults fit a market of a month or more.

    Attributes:
        gaps: Runs of missing minutes, half of them of 1, two in five of 2 to 60, the rest longer.
        longest_gap_minutes: Length of the longest gap. The default takes out whole UTC days.
        null_rows: Rows with nothing but a timestamp.
        exact_duplicates: Rows that come again, 0 to 300 rows later.
        conflicting_duplicates: Rows whose minute comes again with other prices and volume.
        crashes: Minutes whose low is 55 to 80 % below the previous close.
    """

    gaps: int = 40
    longest_gap_minutes: int = 3 * _DAY_MINUTES
    null_rows: int = 200
    exact_duplicates: int = 100
    conflicting_duplicates: int = 20
    crashes: int = 2


_MODEST = Faults()


@dataclass(frozen=True)
class Truth:
    """What a file holds, known from before it was written.

    Attributes:
        symbol: Trading pair.
        rows: Data lines in the file.
        good: Distinct minutes in the file, null rows included.
        exact_duplicates: Lines that repeat an earlier one.
        conflicting_duplicates: Lines that repeat an earlier minute with other values.
        null_rows: Lines with nothing but a timestamp.
        gaps: ``start_s`` and ``end_s`` (first and last missing minute, epoch s), ``minutes``.
        crashes: ``timestamp`` (epoch s), ``previous_close``, ``low``, ``move_pct`` between them.
        daily: ``symbol``, ``date``, ``daily_open``, ``daily_high``, ``daily_low``,
            ``daily_close``, ``daily_volume``, ``cnt`` (minutes); none for a day without rows. The
            first line of a minute counts; a null row has the last close as its four prices.
    """

    symbol: str
    rows: int
    good: int
    exact_duplicates: int
    conflicting_duplicates: int
    null_rows: int
    gaps: pl.DataFrame
    crashes: pl.DataFrame
    daily: pl.DataFrame


def simulate(path: Path, market: Market, faults: Faults = _MODEST, seed: int = 7) -> Truth:
    """Write one market's candles as CSV, replacing ``path`` when they are complete.

    Lines are in time order, save that a duplicate follows its first by 0 to 300 rows. Prices have
    2 decimals from 10 up and 6 below, volumes 8. The folder of ``path`` is made.

    Args:
        path: The file.
        market: What to simulate.
        faults: What to break.
        seed: At least 0. The same market, faults and seed give the same bytes.

    Returns:
        What is in the file; its frames are in time order.

    Raises:
        InputError: The market has too few minutes for the faults, or a count is negative.
    """
    run = _Run(market, faults, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        for first, stop in run.plan.chunks(market.minutes):
            run.lines(first, stop).write_csv(file, include_header=first == 0)
    partial.replace(path)
    return Truth(
        symbol=market.symbol,
        rows=run.plan.rows + run.plan.repeated.size,
        good=run.plan.rows,
        exact_duplicates=faults.exact_duplicates,
        conflicting_duplicates=faults.conflicting_duplicates,
        null_rows=faults.null_rows,
        gaps=run.plan.gaps(run.epoch_s),
        crashes=pl.concat(run.crashes),
        daily=pl.concat(run.days),
    )


def sample_markets(start: date = SAMPLE_START, end: date = SAMPLE_END) -> tuple[Market, ...]:
    """Three symbols over the UTC days ``start`` to ``end``, both included, for a first start.

    Their names say that they are simulated: no real price lands beside them.

    Raises:
        InputError: ``end`` is before ``start``.
    """
    minutes = ((end - start).days + 1) * _DAY_MINUTES
    return (
        Market("SIMBTCUSDT", start, minutes, 42_283.58, "kaggle_btc"),
        Market("SIMETHUSDT", start, minutes, 2_281.87, "kaggle_eth"),
        Market("SIMSOLUSDT", start, minutes, 101.72, "kaggle_eth"),
    )


def kaggle_markets(rows: int) -> tuple[Market, ...]:
    """Markets like the two Kaggle files, for benchmarks.

    60 % of a pair is BTC from 2012-01-01 and 40 % ETH from 2017-08-17. Over 8,000,000 rows there
    are further pairs (BTC2USDT, ETH2USDT, ...), all of about one size, so that none reaches 2026.
    The minutes of all come to ``rows``; faults change what the files hold by under 1 %.

    Raises:
        InputError: ``rows`` is below 2, so a market would be without a minute.
    """
    pairs = max(1, -(-rows // _PAIR_ROWS))
    markets: list[Market] = []
    for pair in range(pairs):
        size = rows // pairs + (pair < rows % pairs)
        btc = size * 3 // 5
        name = f"{pair + 1}USDT" if pair else "USDT"
        markets += [
            Market(f"BTC{name}", date(2012, 1, 1), btc, 4_000.0, "kaggle_btc"),
            Market(f"ETH{name}", date(2017, 8, 17), size - btc, 300.0, "kaggle_eth"),
        ]
    return tuple(markets)


@dataclass(frozen=True)
class _Plan:
    """Where faults go, in rows."""

    rows: int  # of the market
    gap_rows: Ints  # the row before each gap, ascending and distinct, so that gaps never touch
    gap_minutes: Ints  # length of each gap
    nulls: Ints  # rows without values, ascending
    crashes: Ints  # ascending; they and the rows before them have no other fault
    depths: Floats  # share of the previous close that each crash falls
    repeated: Ints  # rows that come twice; none is null
    after: Ints  # the row that each of them comes again after, ascending
    factors: Floats  # price of the second over the first; 1 for an exact duplicate

    @classmethod
    def draw(cls, minutes: int, faults: Faults, rng: Generator) -> Self:
        """Place ``faults`` at random in a market of ``minutes``, or raise ``InputError``."""
        if faults.longest_gap_minutes < 1 or min(astuple(faults)) < 0:
            raise InputError(f"{faults} has a negative count, or no minute in its longest gap")
        gap_minutes = _gap_lengths(faults, rng)
        rows = minutes - int(gap_minutes.sum())
        places = np.arange(rows)
        gap_rows = np.sort(_pick(places[:-1], faults.gaps, "gaps", rng))
        after_row = np.delete(places, np.append(0, gap_rows + 1))
        crashes = np.sort(_pick(after_row, faults.crashes, "crashes", rng))
        repeats = faults.exact_duplicates + faults.conflicting_duplicates
        free = np.delete(places, np.concatenate([[0], crashes, crashes - 1]))
        broken = _pick(free, faults.null_rows + repeats, "null rows and duplicates", rng)
        repeated, nulls = broken[:repeats], np.sort(broken[repeats:])
        late = rng.integers(1, _LATEST_ROWS, repeats, endpoint=True) * rng.choice([0, 1], repeats)
        after = np.minimum(repeated + late, rows - 1)
        factors = 1 + rng.uniform(0.005, 0.02, repeats) * rng.choice([-1, 1], repeats)
        factors[: faults.exact_duplicates] = 1.0
        depths = rng.uniform(*_CRASH_DEPTHS, faults.crashes)
        order = np.argsort(after)
        again = (repeated[order], after[order], factors[order])
        return cls(rows, gap_rows, gap_minutes, nulls, crashes, depths, *again)

    def minutes(self, rows: Ints) -> Ints:
        """The calendar minute of each row, counted from the market's first."""
        missing: Ints = np.append(0, np.cumsum(self.gap_minutes))
        return rows + missing.take(np.searchsorted(self.gap_rows, rows))

    def chunks(self, minutes: int) -> list[tuple[int, int]]:
        """Cut the rows of a market of ``minutes`` at midnights, as (first, stop); none is empty."""
        step = _CHUNK_DAYS * _DAY_MINUTES
        ends = np.arange(0, minutes + step, step)
        gap_starts = self.minutes(self.gap_rows) + 1
        missing = np.clip(ends[:, None] - gap_starts, 0, self.gap_minutes).sum(axis=1)
        return list(pairwise(np.unique(np.minimum(ends - missing, self.rows)).tolist()))

    def gaps(self, epoch_s: int) -> pl.DataFrame:
        """The gaps as in ``Truth``, of a market that starts at ``epoch_s``."""
        start_s = epoch_s + 60 * (self.minutes(self.gap_rows) + 1)
        end_s = start_s + 60 * (self.gap_minutes - 1)
        return pl.DataFrame({"start_s": start_s, "end_s": end_s, "minutes": self.gap_minutes})


class _Run:
    """One market on its way to its file, chunk by chunk: whole days, in order.

    A chunk is an array of shape (6, n): epoch s, open, high, low, close, volume by row.
    """

    def __init__(self, market: Market, faults: Faults, seed: int) -> None:
        """Place the faults, or raise ``InputError``."""
        plan_rng, walk_rng = np.random.default_rng([seed, *market.symbol.encode()]).spawn(2)
        self.plan = _Plan.draw(market.minutes, faults, plan_rng)
        self.epoch_s = (market.start - date(1970, 1, 1)).days * 86_400
        self.crashes: list[pl.DataFrame] = []
        self.days: list[pl.DataFrame] = []
        self._market = market
        self._walk = _Walk(market, walk_rng)
        self._close = market.price
        self._again = np.zeros((6, self.plan.repeated.size))

    def lines(self, first: int, stop: int) -> pl.DataFrame:
        """The file's lines for rows ``first`` up to ``stop``; their truth is added to the lists."""
        minutes = self.plan.minutes(np.arange(first, stop))
        chunk = np.vstack([self.epoch_s + 60 * minutes, self._walk.candles(minutes)])
        self.crashes.append(self._crash(chunk, first, stop))
        chunk[1:, self.plan.nulls[_within(self.plan.nulls, first, stop)] - first] = np.nan
        self.days.append(self._daily(_frame(chunk)))
        lines = _frame(self._repeat(chunk, first, stop))
        is_btc = self._market.shape == "kaggle_btc"
        return lines.rename(str.capitalize) if is_btc else lines.cast({"timestamp": pl.Int64})

    def _crash(self, chunk: Floats, first: int, stop: int) -> pl.DataFrame:
        """Put the crashes into ``chunk``, and say what they are."""
        crashes = _within(self.plan.crashes, first, stop)
        at = self.plan.crashes[crashes] - first
        previous = np.where(at > 0, chunk[4, at - 1], self._close)
        low = _rounded(previous * (1 - self.plan.depths[crashes]))
        chunk[3, at] = low
        found = {"timestamp": chunk[0, at].astype(np.int64), "previous_close": previous}
        return pl.DataFrame(found | {"low": low, "move_pct": 100 * (low / previous - 1)})

    def _daily(self, candles: pl.DataFrame) -> pl.DataFrame:
        """The chunk's days as in ``Truth``, from its rows before any is repeated."""
        close = pl.col("close").forward_fill().fill_null(self._close)
        filled = candles.with_columns(pl.col(_PRICES).fill_null(close))
        self._close = filled["close"][-1]
        symbol = pl.lit(self._market.symbol).alias("symbol")
        day = pl.from_epoch(pl.col("timestamp").cast(pl.Int64)).dt.date().alias("date")
        return filled.group_by(symbol, day, maintain_order=True).agg(
            daily_open=pl.col("open").first(),
            daily_high=pl.col("high").max(),
            daily_low=pl.col("low").min(),
            daily_close=pl.col("close").last(),
            daily_volume=pl.col("volume").sum(),
            cnt=pl.len().cast(pl.Int64),
        )

    def _repeat(self, chunk: Floats, first: int, stop: int) -> Floats:
        """The chunk with the lines that come again in it, be they of this chunk or before."""
        plan, again = self.plan, self._again
        made = np.flatnonzero((plan.repeated >= first) & (plan.repeated < stop))
        again[:, made] = chunk[:, plan.repeated[made] - first]
        other = made[plan.factors[made] != 1]
        again[1:5, other] = _rounded(again[1:5, other] * plan.factors[other])
        again[5, other] = np.round(again[5, other] * plan.factors[other] + 0.001, 8)
        due = _within(plan.after, first, stop)
        return np.insert(chunk, plan.after[due] - first + 1, again[:, due], axis=1)


class _Walk:
    """A reflected geometric random walk with fat tails, busy hours and calm and wild months."""

    def __init__(self, market: Market, rng: Generator) -> None:
        """Start at the market's price."""
        days = -(-market.minutes // _DAY_MINUTES)
        self._mood = np.exp(_folded(np.cumsum(rng.normal(0, 0.1, days)), 0.7))
        self._busy = 1 - 0.3 * np.cos(np.linspace(0, 2 * np.pi, _DAY_MINUTES))
        self._rngs = rng.spawn(5)
        self._price = market.price
        self._at = 0.0  # log of price over first price, before reflection

    def candles(self, minutes: Ints) -> Floats:
        """Candles of the next rows, at the calendar ``minutes``: OHLCV by row, shape (5, n)."""
        moves, spreads, highs, lows, volumes = self._rngs
        n = minutes.size
        pace = self._mood[minutes // _DAY_MINUTES] * self._busy[minutes % _DAY_MINUTES]
        sigma = _SIGMA * pace
        normal = moves.standard_normal(n, dtype=np.float32)
        # the cube gives fat tails at a variance of about 1
        steps = sigma * (0.75 * normal + 0.075 * normal**3)
        # summed on from the carried value, to the bit what one long sum would be
        walk = np.cumsum(np.append(self._at, steps))
        self._at = float(walk[-1])
        prices = self._price * np.exp(_folded(walk, _BAND))

        out = np.empty((5, n))
        out[0] = prices[:-1] * (1 + 2e-5 * spreads.standard_normal(n, dtype=np.float32))
        out[3] = prices[1:]
        up = 0.5 * sigma * highs.standard_exponential(n, dtype=np.float32)
        down = 0.5 * sigma * lows.standard_exponential(n, dtype=np.float32)
        out[1] = np.maximum(out[0], out[3]) * (1 + up)
        out[2] = np.minimum(out[0], out[3]) * (1 - down)
        out[:4] = _rounded(out[:4])  # monotone, so high and low stay outside
        activity = volumes.standard_normal(n, dtype=np.float32)
        traded = np.exp(0.9 * activity) * pace * _TURNOVER / prices[1:]
        out[4] = np.where(activity > -2.3, np.round(traded, 8), 0.0)
        return out


def _frame(chunk: Floats) -> pl.DataFrame:
    """A chunk's columns, NaN as null."""
    return pl.DataFrame(chunk, ("timestamp", *_PRICES, "volume"), orient="col", nan_to_null=True)


def _gap_lengths(faults: Faults, rng: Generator) -> Ints:
    """Minutes of each gap, in random order; one of them is the longest."""
    longest = faults.longest_gap_minutes
    lengths = np.ones(faults.gaps, dtype=np.int64)
    if longest > 1:
        medium = faults.gaps * 2 // 5
        lengths[:medium] = rng.integers(2, min(60, longest), medium, endpoint=True)
    if longest > 60:
        long = faults.gaps // 10
        lengths[-long - 1 : -1] = np.exp(rng.uniform(np.log(61), np.log(longest + 1), long))
    lengths[-1:] = longest
    return rng.permutation(lengths)


def _pick(places: Ints, count: int, what: str, rng: Generator) -> Ints:
    """``count`` of ``places``, none twice, in random order, or raise ``InputError``."""
    if count > places.size:
        raise InputError(f"{count} {what} do not fit in {places.size} minutes: lengthen the market")
    return rng.choice(places, count, replace=False)


def _within(rows: Ints, first: int, stop: int) -> slice:
    """Where ascending ``rows`` are in ``first`` up to ``stop``."""
    return slice(*np.searchsorted(rows, (first, stop)))


def _folded(walk: Floats, band: float) -> Floats:
    """A walk reflected between -``band`` and ``band``."""
    return np.abs((walk - band) % (4 * band) - 2 * band) - band


def _rounded(prices: Floats) -> Floats:
    """Prices as an exchange shows them: 2 decimals from 10 up, 6 below."""
    return np.where(prices < 10, np.round(prices, 6), np.round(prices, 2))
