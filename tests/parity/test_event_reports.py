"""The reports of events: Spark gives what DuckDB gives, to the last digit."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st

from tests.parity.drawn import drawn
from tests.parity.test_engines import by_duckdb, by_spark
from tidemill.engines.base import compiled
from tidemill.engines.duck import DuckEngine
from tidemill.engines.spark import SparkEngine, session, spark_sql
from tidemill.events import contracts as c
from tidemill.events.reports import anomalies, checks, profile, transforms
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import INPUTS as INPUTS_OF_REPORTS
from tidemill.events.reports.build import Events, OfEvents
from tidemill.events.topics import HIGHEST_PRICE
from tidemill.lake import origin
from tidemill.lake.contracts import Table, Type, polars_schema
from tidemill.lake.store import Lake

pytestmark = pytest.mark.integration

USER = 738_291_645
START = datetime(2026, 3, 28, 22)  # where Europe's clocks change at 1:00 of the next day
NASTY = [
    "a",
    "",
    "O'Brien; drop table x",
    "<b>&amp;</b>",
    "line\nfeed",
    "\U0001f6d2|$x_1$",
    "a.b.c",
]
CASES: dict[str, Callable[[Any], Any]] = {
    f.__name__: f
    for f in (
        transforms.brand_report,
        transforms.category_report,
        transforms.funnel,
        transforms.sessions,
        transforms.visits,
        transforms.cohorts,
        anomalies.anomalies,
        profile.profile_columns,
        profile.profile_overall,
        profile.profile_numbers,
        profile.profile_prices,
        profile.profile_values,
    )
}
TABLES = {table.name: table for table in (c.FILE_EVENTS, c.RAW_EVENTS)}
INPUTS: dict[str, dict[str, Type]] = {
    name: {x.name: x.type for x in table.columns} for name, table in TABLES.items()
}
TIMES = st.one_of(
    st.integers(0, 180 * 60).map(lambda at: timedelta(seconds=at)),
    st.integers(0, 86_400_000 * 30).map(lambda at: timedelta(milliseconds=at)),
    st.sampled_from([timedelta(0), timedelta(minutes=30), timedelta(days=-365)]),
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_timestamp": TIMES.map(lambda after: START + after),
            "event_type": st.sampled_from(["view", "view", "cart", "purchase", "remove_from_cart"]),
            "product_id": st.integers(1, 3),
            "category_id": st.sampled_from([None, 7]),
            "category_code": st.sampled_from([None, *NASTY]),
            "brand": st.sampled_from([None, *NASTY]),
            "price": st.one_of(st.sampled_from([0.0, 50.0, 999.99]), st.floats(0, 3000)),
            "user_id": st.sampled_from([None, 1, 2, 3]),
            "user_session": st.sampled_from([None, "s", "t", "u"]),
            "source": st.sampled_from(["files", "sample"]),
        }
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    running = session("local[2]")
    running.conf.set("spark.sql.shuffle.partitions", "2")
    yield running
    running.stop()


def frame(table: Table, events: list[dict[str, Any]]) -> pl.DataFrame:
    schema = polars_schema(table)
    filled = [dict.fromkeys(schema) | e | {"event_time": str(e["event_timestamp"])} for e in events]
    return pl.DataFrame([{name: e[name] for name in schema} for e in filled], schema=schema)


def burst() -> list[dict[str, Any]]:
    """An hour of one view a minute, and thirty of them in one minute."""
    row = {"event_type": "view", "product_id": 1, "price": 1.5, "source": "files"}
    row |= {"user_id": 9, "user_session": "v"}
    at = [60 * n for n in range(60)] + [3000] * 30 + [3600]
    return [row | {"event_timestamp": START + timedelta(seconds=s)} for s in at]


def test_spark_writes_a_report_and_the_partitions_of_visits(spark: Any, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, r.BRAND_REPORT))
    with_spark, with_duckdb = (
        Events(lake, engine, tmp_path) for engine in (SparkEngine("local[2]"), DuckEngine())
    )
    rows = [row | {"event_type": "purchase"} for row in burst()]
    rows += [row | {"user_id": 2, "brand": "b", "source": "sample"} for row in rows]
    filled = frame(c.FILE_EVENTS, rows).with_columns(
        file_id=pl.lit("f"), line=pl.int_range(1, pl.len() + 1), ingested_at=START
    )
    filled = filled.with_columns(pl.col("event_timestamp").dt.date().alias("date"))
    lake.replace_frame(c.FILE_EVENTS, filled, [{"file_id": "f", "date": str(START.date())}])
    for table, name in ((r.BRAND_REPORT, "brand_report"), (c.VISITS, "visits")):
        with_spark.makers()[name]()
        written = with_spark.read(table)
        with_duckdb.makers()[name]()
        assert written.equals(with_duckdb.read(table))
        assert written.height == 2


def test_spark_reads_the_versions_that_its_commit_says_and_logs_nobody(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, r.SESSIONS))
    events = Events(lake, SparkEngine("local[2]"), tmp_path)
    write: Any = events.engine.write

    def send(number: int) -> None:
        row = burst()[0] | {"user_id": USER + number, "user_session": f"s{number}"}
        row |= {"topic": "t", "topic_id": "x", "partition": 0, "offset": number}
        row |= {"produced_at": START, "ingested_at": START, "is_late": False}
        sent = frame(c.RAW_EVENTS, [row]).with_columns(date=pl.col("event_timestamp").dt.date())
        lake.append(c.RAW_EVENTS, sent, "t/0", number + 1)

    def slow(*args: Any) -> Any:
        send(1)
        return write(*args)

    send(0)
    had = lake.snapshot(c.RAW_EVENTS).version
    monkeypatch.setattr(events.engine, "write", slow)
    events.sessions()
    assert events.read(r.SESSIONS)["user_session"].to_list() == ["s0"]
    assert origin.standing(lake, r.SESSIONS, INPUTS_OF_REPORTS)[1] == (-1, had)
    log = lake.folder(r.SESSIONS) / "_delta_log"
    assert not any(str(USER) in path.read_text() for path in log.glob("*.json"))
    monkeypatch.undo()
    events.sessions()
    events.sessions()  # from the same events
    assert events.read(r.SESSIONS).height == 2
    assert checks.sessions_add_up(events) == []


@pytest.mark.parametrize("case", CASES)
def test_both_engines_give_the_same_report(case: str, spark: Any, tmp_path: Path) -> None:
    transform = OfEvents(CASES[case])
    sql, spark_text = compiled(transform, INPUTS, "duckdb"), spark_sql(transform, INPUTS)

    none: dict[str, pl.DataFrame] = {name: frame(t, []) for name, t in TABLES.items()}
    assert by_duckdb(sql, none) == by_spark(spark_text, none, spark, tmp_path)
    cases = drawn(st.tuples(EVENTS, EVENTS), 40)
    files, topic = ([event for case in cases for event in case[n]] for n in range(2))
    frames = {
        "file_events": frame(c.FILE_EVENTS, files + burst()),
        "raw_events": frame(c.RAW_EVENTS, topic),
    }
    assert min(len(files), len(topic)) > 50
    duck = by_duckdb(sql, frames)
    assert duck
    assert duck == by_spark(spark_text, frames, spark, tmp_path)


@pytest.mark.parametrize("case", ["brand_report", "sessions", "visits", "profile_numbers"])
def test_a_hundred_thousand_purchases_at_the_highest_price_add_up_on_both_engines(
    case: str, spark: Any, tmp_path: Path
) -> None:
    transform = OfEvents(CASES[case])
    one = frame(c.RAW_EVENTS, [burst()[0] | {"event_type": "purchase", "price": HIGHEST_PRICE}])
    frames = {
        "file_events": frame(c.FILE_EVENTS, []),
        "raw_events": pl.concat([one] * 100_000),
    }
    duck = by_duckdb(compiled(transform, INPUTS, "duckdb"), frames)
    assert 1e13 in duck[0] or HIGHEST_PRICE in duck[0]
    assert duck == by_spark(spark_sql(transform, INPUTS), frames, spark, tmp_path)
