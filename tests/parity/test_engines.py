"""Spark against DuckDB: one transform, the same rows, to the last digit."""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st
from pyspark.errors import AnalysisException

from tests.parity.drawn import drawn
from tidemill.crypto import contracts as c
from tidemill.crypto import ohlc, transforms
from tidemill.crypto.build import LANDED
from tidemill.engines.base import ParquetSource, compiled
from tidemill.engines.duck import connection
from tidemill.engines.spark import SparkEngine, folded_once, session, spark_sql
from tidemill.errors import ContractError
from tidemill.lake.contracts import Column, Table, Type
from tidemill.lake.store import Lake, Written

pytestmark = pytest.mark.integration

START_S = 1_704_067_200 + 86_400 * 58  # two days before the end of a leap February
Columns = Mapping[str, Type]
POLARS: dict[Type, Any] = {
    Type.STRING: pl.String,
    Type.INT: pl.Int32,
    Type.BIGINT: pl.Int64,
    Type.DOUBLE: pl.Float64,
    Type.BOOLEAN: pl.Boolean,
    Type.DATE: pl.Date,
    Type.TIMESTAMP: pl.Datetime("us"),
}


def of(table: Any) -> Columns:
    return {column.name: column.type for column in table.columns}


CASES: dict[str, tuple[Callable[..., Any], dict[str, Columns]]] = {
    "raw_candles": (transforms.raw_candles, {"landed": LANDED | {"is_seed": Type.BOOLEAN}}),
    "whole_candles": (transforms.whole_candles, {"landed": LANDED | {"is_seed": Type.BOOLEAN}}),
    "raw_bars": (
        transforms.raw_bars,
        {"landed": LANDED | {"interval_s": Type.BIGINT, "source": Type.STRING}},
    ),
    "candle_gaps": (transforms.candle_gaps, {"raw_candles": of(c.RAW_CANDLES)}),
    "price_jumps": (transforms.price_jumps, {"raw_candles": of(c.RAW_CANDLES)}),
    "daily_ohlc": (
        transforms.daily_ohlc,
        {
            "raw_candles": of(c.RAW_CANDLES),
            "longer_bars": LANDED | {"interval_s": Type.BIGINT, "source": Type.STRING},
        },
    ),
    "live_daily_ohlc": (
        ohlc.live_daily_ohlc,
        {"live_prices": of(c.LIVE_PRICES), "consumed_spans": of(c.CONSUMED_SPANS)},
    ),
    "merged_daily_ohlc": (
        ohlc.merged_daily_ohlc,
        {"daily_ohlc": of(c.DAILY_OHLC), "live_daily_ohlc": of(c.LIVE_DAILY_OHLC)},
    ),
    "filled_series": (
        transforms.filled_series,
        {"merged_daily_ohlc": of(c.MERGED_DAILY_OHLC)},
    ),
    "prophet_input": (
        transforms.prophet_input,
        {"merged_daily_ohlc": of(c.MERGED_DAILY_OHLC)},
    ),
}
UNIQUE = {
    "landed": ("symbol", "timestamp"),
    "raw_candles": ("symbol", "timestamp"),
    "longer_bars": ("symbol", "interval_s", "timestamp"),
    "daily_ohlc": ("symbol", "date"),
    "live_daily_ohlc": ("symbol", "date"),
    "merged_daily_ohlc": ("symbol", "date"),
    "live_prices": c.LIVE_PRICES.key,
    "consumed_spans": c.CONSUMED_SPANS.key,
}
LACKING = {
    "landed": {"open", "high", "low", "close", "volume"},
    "longer_bars": {"volume"},
    "live_prices": set(),
    "live_daily_ohlc": set(),
    "consumed_spans": {"newest_event_at"},
    "merged_daily_ohlc": {"cnt", "daily_volume"},
}
"""What may be empty, beside ``cnt`` of any other table."""
# Few instants, so that ticks of a day share its first and its last, some of them at midnight.
MIDNIGHT = datetime(2024, 3, 1)
INSTANTS = [MIDNIGHT + timedelta(milliseconds=n) for n in (-1, 0, 1)]
INSTANTS += [datetime(2024, 3, 1, 0, 59, 59), datetime(2024, 3, 1, 1), datetime(2024, 3, 2, 1)]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    running = session("local[2]")
    yield running
    running.stop()


def value(name: str, type_: Type) -> st.SearchStrategy[Any]:
    if name == "symbol":
        return st.sampled_from(["A", "B"])
    if name in ("timestamp",):
        return st.integers(0, 4 * 1440).map(lambda minute: START_S + 60 * minute)
    if name == "interval_s":
        return st.sampled_from([300, 3600, 86_400, 604_800])
    if name == "date":
        return st.integers(0, 80).map(lambda day: date.fromordinal(738_000 + day))
    if name in ("event_time", "newest_event_at"):
        return st.sampled_from(INSTANTS)
    if name in ("topic", "topic_id"):
        return st.sampled_from(["p", "q"])
    if name == "partition":
        return st.integers(0, 2)
    if name == "source":
        return st.sampled_from(["a.csv", "b.csv"])
    if type_ is Type.BOOLEAN:
        return st.booleans()
    if type_ in (Type.INT, Type.BIGINT):
        return st.integers(1, 12)
    if type_ is Type.DOUBLE:
        return st.floats(1e-6, 1e7, allow_nan=False).map(lambda x: x + 0.1)
    return st.just(None)


def frames(name: str, columns: Columns) -> st.SearchStrategy[pl.DataFrame]:
    """Unordered rows, distinct by key, with empty prices where they may be, and ties in prices."""
    may_lack = LACKING.get(name, {"cnt"})
    row = st.tuples(
        *[
            st.one_of(st.none(), value(n, t)) if n in may_lack else value(n, t)
            for n, t in columns.items()
        ]
    )
    keys = [list(columns).index(k) for k in UNIQUE[name]]
    rows = st.lists(row, max_size=60, unique_by=lambda r: tuple(r[k] for k in keys))
    schema = {n: POLARS[t] for n, t in columns.items()}
    made = rows.map(lambda found: pl.DataFrame(found, schema=schema, orient="row"))
    if name != "live_prices":
        return made
    return made.map(lambda found: found.with_columns(date=pl.col("event_time").dt.date()))


@pytest.mark.parametrize("case", CASES)
def test_both_engines_give_the_same_rows(case: str, spark: Any, tmp_path: Path) -> None:
    transform, inputs = CASES[case]
    strategy = st.fixed_dictionaries({n: frames(n, columns) for n, columns in inputs.items()})

    sql, spark_text = compiled(transform, inputs, "duckdb"), spark_sql(transform, inputs)
    cases = drawn(strategy, 12)
    for given_frames in (cases[0], in_one(cases)):
        if case in ("raw_bars", "whole_candles"):
            given_frames["landed"] = given_frames["landed"].drop_nulls()
        duck = by_duckdb(sql, given_frames)
        assert duck == by_spark(spark_text, given_frames, spark, tmp_path)
    assert duck


def in_one(cases: list[dict[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """All cases at once: symbols and topics of each have names of their own."""
    named = [
        {
            name: frame.with_columns(
                pl.col(column) + str(n) for column in ("symbol", "topic") if column in frame.columns
            )
            for name, frame in case.items()
        }
        for n, case in enumerate(cases)
    ]
    return {name: pl.concat([case[name] for case in named]) for name in named[0]}


def test_spark_folds_a_part_of_a_query_once_and_forgets_it_at_the_end(spark: Any) -> None:
    spark.range(9).createOrReplaceTempView("nine")
    part = "WITH a AS (SELECT id % 2 AS k, COUNT(*) AS n FROM nine GROUP BY 1)"
    with folded_once(spark, f"{part} SELECT a.n FROM a JOIN a AS b ON a.n = b.n") as rows:
        assert sorted(row.n for row in rows.collect()) == [4, 5]
        plan = rows._jdf.queryExecution().optimizedPlan().toString()
        assert plan.count("InMemoryRelation") == 2
        assert kept(spark) == 1
    assert kept(spark) == 0
    with pytest.raises(AnalysisException), folded_once(spark, f"{part} SELECT x FROM a JOIN a"):
        pass
    assert kept(spark) == 0


def kept(spark: Any) -> int:
    """Frames that Spark keeps; there is a part of the test's query exactly as long."""
    count = int(spark.sparkContext._jsc.sc().getPersistentRDDs().size())
    assert spark.catalog.tableExists("a") == bool(count)
    return count


def by_duckdb(sql: str, inputs: Mapping[str, pl.DataFrame]) -> list[tuple[Any, ...]]:
    with connection() as con:
        for name, frame in inputs.items():
            con.register(name, frame.to_arrow())
        return in_order(con.execute(sql).fetchall())


def by_spark(
    sql: str, inputs: Mapping[str, pl.DataFrame], spark: Any, folder: Path
) -> list[tuple[Any, ...]]:
    for name, frame in inputs.items():
        path = folder / f"{name}.parquet"
        frame.write_parquet(path)
        spark.read.parquet(str(path)).repartition(3).createOrReplaceTempView(name)
    with folded_once(spark, sql) as found:
        return in_order([tuple(row) for row in found.collect()])


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    assert not any(isinstance(v, float) and math.isnan(v) for row in rows for v in row)
    return sorted(rows, key=str)


BARS = Table(
    "crypto",
    "bars",
    "Bars.",
    (
        Column("price", Type.DOUBLE, "Price.", low=0),
        Column("symbol", Type.STRING, "Pair."),
    ),
    partition_by=("symbol",),
    key=("symbol", "price"),
    rules={"price is no seven": "price <> 7"},
)


def same(bars: Any) -> Any:
    return bars


@pytest.mark.parametrize(
    ("price", "told"),
    [
        (-1.0, "price >= 0"),
        (7.0, "price is no seven"),
        (math.nan, "price is finite"),
        (math.inf, "price is finite"),
        (None, "price is not null"),
    ],
)
def test_spark_refuses_rows_that_break_the_contract_before_anyone_sees_them(
    price: float | None, told: str, spark: Any, tmp_path: Path
) -> None:
    lake, engine = Lake(tmp_path / "lake", None, (BARS,)), SparkEngine("local[2]")
    path = tmp_path / "bars.parquet"

    def write(prices: list[float | None]) -> Written:
        frame = pl.DataFrame({"price": prices, "symbol": ["A"] * len(prices)})
        frame.cast({"price": pl.Float64}).write_parquet(path)
        source = ParquetSource([path], of(BARS), {name: name for name in of(BARS)})
        return engine.write(lake, BARS, same, {"bars": source}, [{"symbol": "A"}], lambda: True)

    assert write([1.0, 2.0]).rows == 2
    spark.catalog.clearCache()
    version = lake.snapshot(BARS).version
    with pytest.raises(ContractError, match=told):
        write([1.0, price])
    assert lake.snapshot(BARS).version == version
