"""Makes each crypto table for a symbol, or for some of its months, from the tables before it."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.crypto import contracts as c
from tidemill.crypto import ohlc, pending, transforms
from tidemill.crypto.intake.landing import Landing
from tidemill.crypto.pending import MINUTE_S, Live, Months, Pending
from tidemill.engines.base import Engine, ParquetSource, Source, TableSource
from tidemill.lake import duck
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, Type, polars_schema, text_literal
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, Written

if TYPE_CHECKING:
    import polars as pl

LANDED = {
    "symbol": Type.STRING,
    "timestamp": Type.BIGINT,
    "open": Type.DOUBLE,
    "high": Type.DOUBLE,
    "low": Type.DOUBLE,
    "close": Type.DOUBLE,
    "volume": Type.DOUBLE,
}


LedgerRow = dict[str, Any]
Plan = tuple[Callable[..., Any], dict[str, Source]]
"""A transform and what it reads, by the names of its arguments."""

TRIES = 5
"""Of making a table whose sources change meanwhile."""


class Crypto:
    """Makes the crypto tables in a lake with an engine.

    Args:
        lake: Where the tables are.
        engine: What runs the transforms.
        landing: Where the rows come in.
        reports: Folder of what is written for people; beside the rows by default.
    """

    def __init__(
        self, lake: Lake, engine: Engine, landing: Landing, reports: Path | None = None
    ) -> None:
        """Nothing is read before the first table is made."""
        self.reports = reports or landing.folder / "reports"
        self.lake = lake
        self.engine = engine
        self.landing = landing

    def symbols(self) -> list[str]:
        """The symbols that have landed or have live ticks, sorted."""
        landed = {row["symbol"] for row in self.landing.ledger() if row["good"]}
        return sorted(landed | set(self.live().symbols))

    def months(self, symbol: str) -> Months | None:
        """The months that a symbol's good rows span; None where nothing has landed of it."""
        return pending.months(self.landing, symbol)

    def waiting(self) -> list[Pending]:
        """What landed after its months were last made, a file and symbol each."""
        return pending.waiting(self.lake, self.landing)

    def pending(self) -> list[Pending]:
        """What is still to be made of what has landed."""
        return pending.pending(self.lake, self.landing)

    def live(self) -> Live:
        """The symbols that have live ticks, and the days whose bars wait to be made."""
        return pending.live_days(self.lake)

    def unmerged(self) -> list[str]:
        """The symbols whose live days the series does not have as they are now."""
        return pending.unmerged(self.lake)

    def live_dates(self) -> list[date]:
        """The days whose live bars wait to be made, sorted."""
        return list(self.live().dates)

    def raw_candles(self, symbol: str, months: Months) -> Written:
        """Minute bars of some months, from the landing folder."""
        start, end = months.span_s()

        def plan() -> Plan:
            files = self._landed(symbol, lambda row: row["interval_s"] == MINUTE_S)
            needed = _overlapping(files, start, end)
            inside, seed = f"timestamp >= {start} and timestamp < {end}", None
            has_empty = any(row["empty_prices"] for _, row in needed)
            if has_empty:
                seed = self._last_price_before(files, start)
            if seed is not None:
                inside = f"({inside} or timestamp = {seed})"
                needed = _overlapping(files, seed, end)
            landed = ParquetSource(
                paths=[path for path, _ in needed],
                columns=LANDED | {"is_seed": Type.BOOLEAN},
                select={name: name for name in LANDED}
                | {"symbol": text_literal(symbol), "is_seed": f"timestamp < {start}"},
                where=inside,
            )
            transform = transforms.raw_candles if has_empty else transforms.whole_candles
            return transform, {"landed": landed}

        return self._write(c.RAW_CANDLES, plan, months.partitions(symbol))

    def raw_bars(self, symbols: Sequence[str]) -> Written:
        """Bars longer than a minute, from the landing folder."""
        return self._write(
            c.RAW_BARS,
            lambda: (transforms.raw_bars, {"landed": self._longer_bars(symbols)}),
            [{"symbol": symbol} for symbol in symbols],
        )

    def daily_ohlc(self, symbol: str, months: Months) -> Written:
        """Daily bars of some months."""
        start, end = months.span_s()
        partitions = months.partitions(symbol)

        def plan() -> Plan:
            minutes = TableSource(self.lake, c.RAW_CANDLES, partitions)
            inside = f"timestamp >= {start} and timestamp < {end}"
            bars = self._longer_bars([symbol], inside)
            return transforms.daily_ohlc, {"raw_candles": minutes, "longer_bars": bars}

        return self._write(c.DAILY_OHLC, plan, partitions)

    def live_daily_ohlc(self, dates: Sequence[date]) -> Written:
        """Bars of some days of live ticks, of every symbol.

        Ticks that come meanwhile do not make it begin again, as they may never cease: the day
        waits once more, since its ticks are not counted. A rival's bars do.
        """
        partitions: list[Partition] = [{"date": str(day)} for day in dates]
        ticks = TableSource(self.lake, c.LIVE_PRICES, partitions)
        spans = TableSource(self.lake, c.CONSUMED_SPANS)
        bars = TableSource(self.lake, c.LIVE_DAILY_OHLC, partitions)
        plan: Plan = ohlc.live_daily_ohlc, {"live_prices": ticks, "consumed_spans": spans}
        return self._write(c.LIVE_DAILY_OHLC, lambda: plan, partitions, bars.state)

    def merged_daily_ohlc(self, symbols: Sequence[str]) -> Written:
        """Daily bars, and the live ones of the days that lack them."""
        partitions: list[Partition] = [{"symbol": symbol} for symbol in symbols]
        listed = ", ".join(text_literal(symbol) for symbol in symbols)
        daily = TableSource(self.lake, c.DAILY_OHLC, partitions)
        days = TableSource(self.lake, c.LIVE_DAILY_OHLC, where=f"symbol in ({listed})")
        plan: Plan = ohlc.merged_daily_ohlc, {"daily_ohlc": daily, "live_daily_ohlc": days}
        return self._write(c.MERGED_DAILY_OHLC, lambda: plan, partitions)

    def candle_gaps(self, symbols: Sequence[str]) -> Written:
        """Missing minutes."""
        return self._of_symbols(c.CANDLE_GAPS, transforms.candle_gaps, c.RAW_CANDLES, symbols)

    def price_jumps(self, symbols: Sequence[str]) -> Written:
        """Large moves."""
        return self._of_symbols(c.PRICE_JUMPS, transforms.price_jumps, c.RAW_CANDLES, symbols)

    def filled_series(self, symbols: Sequence[str]) -> Written:
        """The complete calendar with moving averages."""
        return self._of_symbols(
            c.FILLED_SERIES, transforms.filled_series, c.MERGED_DAILY_OHLC, symbols
        )

    def prophet_input(self, symbols: Sequence[str]) -> Written:
        """What a forecast learns from."""
        return self._of_symbols(
            c.PROPHET_INPUT, transforms.prophet_input, c.MERGED_DAILY_OHLC, symbols
        )

    def signals(self, symbols: Sequence[str]) -> Written:
        """Crosses of the moving averages."""
        from tidemill.crypto import trading

        return self._from_series(c.SIGNALS, trading.signals, symbols)

    def backtests(self, symbols: Sequence[str]) -> Written:
        """What following the signals would have made."""
        from tidemill.crypto import trading

        def backtest(series: "pl.DataFrame") -> "pl.DataFrame":
            return trading.backtest(series, trading.signals(series))

        return self._from_series(c.BACKTESTS, backtest, symbols)

    def volatility(self, symbols: Sequence[str]) -> Written:
        """Deviation of daily returns by half-year."""
        from tidemill.crypto import trading

        return self._from_series(c.VOLATILITY, trading.volatility, symbols)

    def monthly_returns(self, symbols: Sequence[str]) -> Written:
        """Mean return by calendar month."""
        from tidemill.crypto import trading

        return self._from_series(c.MONTHLY_RETURNS, trading.monthly_returns, symbols)

    def all(self) -> list[Written]:
        """Every table, over all that has landed and the live days that wait."""
        symbols = self.symbols()
        made = []
        for symbol in symbols:
            months = self.months(symbol)
            if months is not None:
                made += [self.raw_candles(symbol, months), self.daily_ohlc(symbol, months)]
        dates = self.live_dates()
        if dates:
            made.append(self.live_daily_ohlc(dates))
        return made + [make(symbols) for make in self.of_symbols().values()]

    def of_symbols(self) -> dict[str, Callable[[Sequence[str]], Written]]:
        """What makes each table that is made a symbol at a time after the daily bars, in order."""
        return {
            "raw_bars": self.raw_bars,
            "candle_gaps": self.candle_gaps,
            "price_jumps": self.price_jumps,
            "merged_daily_ohlc": self.merged_daily_ohlc,
            "filled_series": self.filled_series,
            "prophet_input": self.prophet_input,
            "signals": self.signals,
            "backtests": self.backtests,
            "volatility": self.volatility,
            "monthly_returns": self.monthly_returns,
        }

    def series(self, symbol: str) -> "pl.DataFrame":
        """The filled series of a symbol, by date."""
        return self.read(c.FILLED_SERIES, symbol)

    def read(self, table: Table, symbol: str) -> "pl.DataFrame":
        """A symbol's rows of a table, in the table's order."""
        import polars as pl

        relation = self.lake.snapshot(table).within([{"symbol": symbol}]).scan()
        order = ", ".join(f'"{name}"' for name in table.sort_by or table.key)
        with duck.cursor() as con:
            found = con.sql(f"select * from {relation} order by {order}").to_arrow_table()
        return pl.DataFrame(found, schema=polars_schema(table))

    def _of_symbols(
        self, table: Table, transform: Callable[..., Any], source: Table, symbols: Sequence[str]
    ) -> Written:
        partitions = [{"symbol": symbol} for symbol in symbols]
        rows = TableSource(self.lake, source, partitions)
        return self._write(table, lambda: (transform, {source.name: rows}), partitions)

    def _from_series(
        self,
        table: Table,
        make: "Callable[[pl.DataFrame], pl.DataFrame]",
        symbols: Sequence[str],
    ) -> Written:
        import polars as pl

        partitions = [{"symbol": symbol} for symbol in symbols]
        series = TableSource(self.lake, c.FILLED_SERIES, partitions)

        def work() -> Written:
            started, read = time.perf_counter(), series.state()
            rows = pl.concat([make(self.series(symbol)) for symbol in symbols])
            written = self.lake.replace_frame(
                table, rows, partitions, lambda: series.state() == read
            )
            return replace(
                written,
                seconds=time.perf_counter() - started,
                sql=f"-- Polars: {make.__module__}.{make.__name__}",
            )

        return _until_still(work)

    def _write(
        self,
        table: Table,
        plan: Callable[[], Plan],
        partitions: Sequence[Partition],
        watched: Callable[[], Hashable] | None = None,
    ) -> Written:
        """Replace partitions by what a plan gives.

        Args:
            table: What to write.
            plan: Asked again before the commit, should it name other files by then.
            partitions: Of the table.
            watched: What must not change meanwhile; None for all that is read.
        """

        def work() -> Written:
            transform, sources = plan()
            read = watched() if watched else _states(sources)

            def still() -> bool:
                return (watched() if watched else _states(plan()[1])) == read

            return self.engine.write(self.lake, table, transform, sources, partitions, still)

        return _until_still(work)

    def _landed(
        self, symbol: str, wanted: Callable[[LedgerRow], bool]
    ) -> list[tuple[Path, LedgerRow]]:
        return [
            (self.landing.folder / row["path"], row)
            for row in self.landing.ledger(symbol)
            if row["path"] and wanted(row)
        ]

    def _longer_bars(self, symbols: Sequence[str], where: str = "true") -> ParquetSource:
        files = [
            found
            for symbol in symbols
            for found in self._landed(symbol, lambda row: row["interval_s"] > MINUTE_S)
        ]
        by_file = {
            "symbol": _by_file(files, lambda row: text_literal(row["symbol"]), "''"),
            "interval_s": _by_file(files, lambda row: str(row["interval_s"]), "0"),
            "source": _by_file(files, lambda row: text_literal(row["file"]), "''"),
        }
        return ParquetSource(
            paths=[path for path, _ in files],
            columns=LANDED | {"interval_s": Type.BIGINT, "source": Type.STRING},
            select={name: name for name in LANDED} | by_file,
            where=where,
        )

    def _last_price_before(
        self, files: Sequence[tuple[Path, LedgerRow]], start_s: int
    ) -> int | None:
        """When a price was last known before ``start_s``, for empty prices right after it."""
        start = datetime.fromtimestamp(start_s, UTC).replace(tzinfo=None)
        earlier = [path for path, row in files if row["first_at"] < start]
        if not earlier:
            return None
        listed = ", ".join(text_literal(str(path)) for path in earlier)
        with duck.cursor() as con:
            found = con.execute(
                f"select max(timestamp) from read_parquet([{listed}]) "
                f"where timestamp < {start_s} and close is not null"
            ).fetchone()
        return found[0] if found else None


def _overlapping(
    files: Sequence[tuple[Path, LedgerRow]], start_s: int, end_s: int
) -> list[tuple[Path, LedgerRow]]:
    """The landed files that may have bars from ``start_s`` to before ``end_s``."""
    start, end = (datetime.fromtimestamp(s, UTC).replace(tzinfo=None) for s in (start_s, end_s))
    return [(p, row) for p, row in files if row["first_at"] < end and row["last_at"] >= start]


def _states(sources: Mapping[str, Source]) -> list[Hashable]:
    return [source.state() for source in sources.values()]


def _until_still(work: Callable[[], Written]) -> Written:
    """Do work again when what it read changed before its commit."""
    for left in reversed(range(TRIES)):
        try:
            return work()
        except Overtaken:
            if not left:
                raise
    raise AssertionError("unreachable")


def _by_file(
    files: Sequence[tuple[Path, LedgerRow]],
    value: Callable[[LedgerRow], str],
    otherwise: str,
) -> str:
    """SQL that gives a value of the ledger's row for the file that a row is in."""
    cases = " ".join(f"when {text_literal(path.name)} then {value(row)}" for path, row in files)
    file = "regexp_extract(filename, '[^/]+$', 0)"
    return f"case {file} {cases} else {otherwise} end" if cases else otherwise
