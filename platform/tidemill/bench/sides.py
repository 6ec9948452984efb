"""What each side of ``candles`` does, for ``measure.alone``.

The bare side is the SQL that someone who knows DuckDB would write for these very files, with the
same memory limit and threads. It keeps no account of rows, refuses nothing and commits nothing, so
it is a floor, not a rival.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill import compose
from tidemill.bench.measure import Work
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake.contracts import Table, text_literal
from tidemill.settings import Settings

if TYPE_CHECKING:
    import duckdb

_LINES = """
select timestamp::BIGINT as timestamp, open, high, low, close, volume, row_number() over () as line
from read_csv({csv}, header = true, columns = {{'timestamp': 'DOUBLE', 'open': 'DOUBLE',
    'high': 'DOUBLE', 'low': 'DOUBLE', 'close': 'DOUBLE', 'volume': 'DOUBLE'}})
"""
_FIRST = "from ({lines}) qualify row_number() over (partition by timestamp order by line) = 1"
_NOT_AGAIN = """
from lines where line not in (
    select line from (
        select line, row_number() over (partition by timestamp order by line) as nth
        from lines semi join (select timestamp from lines group by 1 having count(*) > 1)
            using (timestamp))
    where nth > 1)
"""
_RAW = """
copy (
    select timestamp, datetime, coalesce(open, last_close) as open,
        coalesce(high, last_close) as high, coalesce(low, last_close) as low,
        coalesce(close, last_close) as close, coalesce(volume, 0) as volume,
        close is null as is_filled, {symbol} as symbol,
        year(datetime)::INTEGER as year, month(datetime)::INTEGER as month
    from (
        select *, make_timestamp(timestamp * 1000000) as datetime,
            last_value(close ignore nulls) over (order by timestamp) as last_close
        from ({bars})))
to {target} (format parquet, compression zstd, partition_by (symbol, year, month), append true)
"""
_DAILY = """
copy (
    select date, min_by(open, timestamp) as daily_open, max(high) as daily_high,
        min(low) as daily_low, max_by(close, timestamp) as daily_close,
        sum(volume order by timestamp) as daily_volume, count(*) as cnt, '1m' as source, symbol,
        year(date)::INTEGER as year, month(date)::INTEGER as month
    from (select *, datetime::DATE as date from {raw})
    group by symbol, date)
to {target} (format parquet, compression zstd, partition_by (symbol, year, month))
"""
_FILLED = """
copy (
    with calendar as (
        select symbol, unnest(generate_series(min(date), max(date), interval 1 day))::DATE as date
        from {daily} group by symbol),
    series as (
        select *, daily_close is null as is_filled, last_value(daily_close ignore nulls)
            over (partition by symbol order by date) as last_close
        from calendar left join {daily} using (symbol, date))
    select date, coalesce(daily_open, last_close) as open,
        coalesce(daily_high, last_close) as high, coalesce(daily_low, last_close) as low,
        last_close as close, coalesce(daily_volume, 0) as volume, coalesce(cnt, 0) as cnt,
        is_filled,
        case when count(*) over week = 7 then avg(last_close) over week end as ma7,
        case when count(*) over month = 30 then avg(last_close) over month end as ma30, symbol
    from series
    window week as (partition by symbol order by date rows 6 preceding),
        month as (partition by symbol order by date rows 29 preceding))
to {target} (format parquet, compression zstd, partition_by (symbol))
"""


def land(workdir: str) -> Work:
    """Ours: land each file and make its minutes."""
    crypto, files = opened(workdir, "ours"), _files(workdir)

    def work() -> None:
        for path in files:
            crypto.landing.land_file(path)
        for symbol in crypto.symbols():
            months = crypto.months(symbol)
            assert months is not None
            crypto.raw_candles(symbol, months)

    return work


def fold(workdir: str) -> Work:
    """Ours: daily bars, their merge and the filled series, from the minutes ``land`` left."""
    crypto = opened(workdir, "ours", is_fresh=False)

    def work() -> None:
        symbols = crypto.symbols()
        for symbol in symbols:
            months = crypto.months(symbol)
            assert months is not None
            crypto.daily_ohlc(symbol, months)
        crypto.merged_daily_ohlc(symbols)
        crypto.filled_series(symbols)

    return work


def chain(workdir: str) -> Work:
    """Ours: from the files to every table."""
    crypto, files = opened(workdir, "chain"), _files(workdir)

    def work() -> None:
        for path in files:
            crypto.landing.land_file(path)
        crypto.all()

    return work


def windows(workdir: str) -> Work:
    """Bare: one statement a file, repeated minutes told by a window over all rows."""
    folder, files = _emptied(Path(workdir) / "bare" / "raw"), _files(workdir)

    def work() -> None:
        with bare(folder.parent) as con:
            for path in files:
                lines = _LINES.format(csv=text_literal(str(path)))
                con.execute(_raw(_FIRST.format(lines=lines), path, folder))

    return work


def repeats(workdir: str) -> Work:
    """Bare: rows in a table first, so that a window sees only the minutes that are repeated."""
    folder, files = _emptied(Path(workdir) / "bare" / "raw"), _files(workdir)

    def work() -> None:
        with bare(folder.parent) as con:
            for path in files:
                lines = _LINES.format(csv=text_literal(str(path)))
                con.execute(f"create or replace temp table lines as {lines}")
                con.execute(_raw(_NOT_AGAIN, path, folder))

    return work


def fold_bare(workdir: str) -> Work:
    """Bare: daily bars and the filled series, from the minutes that the bare side left."""
    base = Path(workdir) / "bare"
    daily, filled = _emptied(base / "daily"), _emptied(base / "filled")

    def work() -> None:
        with bare(base) as con:
            raw = hive(base / "raw", c.RAW_CANDLES)
            con.execute(_DAILY.format(raw=raw, target=text_literal(str(daily))))
            days = hive(daily, c.DAILY_OHLC)
            con.execute(_FILLED.format(daily=days, target=text_literal(str(filled))))

    return work


def settings(workdir: str, name: str) -> Settings:
    """The settings of a home of this benchmark: the memory that the user set, nothing else."""
    home = Path(workdir).absolute() / name
    limit = Settings.current().memory_limit_mb
    return Settings(home=home, lake=home / "lake", memory_limit_mb=limit)


def opened(workdir: str, name: str, is_fresh: bool = True) -> Crypto:
    """The library with its heavy imports done, over a home of this benchmark."""
    import deltalake  # noqa: F401
    import duckdb  # noqa: F401
    import ibis
    import polars  # noqa: F401

    ibis.to_sql(ibis.table({"n": "int64"}, name="n"), dialect="duckdb")  # imports the dialect
    home = settings(workdir, name)
    if is_fresh:
        _emptied(home.home)
    return compose.crypto(home)


def _files(workdir: str) -> list[Path]:
    return sorted((Path(workdir) / "csv").glob("*.csv"))


def _emptied(folder: Path) -> Path:
    import duckdb  # noqa: F401  bare sides start here, and imports are not in the time

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _raw(bars: str, path: Path, folder: Path) -> str:
    symbol, target = text_literal(path.stem), text_literal(str(folder))
    return _RAW.format(bars=bars, symbol=symbol, target=target)


def hive(folder: Path, table: Table) -> str:
    """SQL of the bare side's files of a table, with the contract's types."""
    by = ", ".join(f"'{name}': {table.column(name).type.value}" for name in table.partition_by)
    files = text_literal(f"{folder}/**/*.parquet")
    return f"read_parquet({files}, hive_partitioning = true, hive_types = {{{by}}})"


@contextmanager
def bare(base: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """DuckDB as it comes, with our memory limit and a place to spill in ``base``."""
    import duckdb

    with duckdb.connect() as con:
        con.execute(f"set memory_limit = '{Settings.current().memory_limit_mb}MiB'")
        con.execute(f"set temp_directory = {text_literal(str(base / 'spill'))}")
        con.execute("set enable_progress_bar = false")
        yield con
