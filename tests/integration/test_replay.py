"""A topic read again as a batch gives the rows, and the days, that the stream gave."""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_spark_stream import consume, of, produce, rows, to_lake
from tests.integration.test_spark_stream import servers as servers
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.checks_live import replay_differs
from tidemill.crypto.intake.landing import Landing
from tidemill.engines.duck import DuckEngine, connection
from tidemill.engines.spark import session
from tidemill.kafka import reread
from tidemill.kafka.subscription import Subscription
from tidemill.lake.contracts import polars_schema

pytestmark = pytest.mark.integration


@pytest.fixture
def crypto(tmp_path: Path) -> Iterator[Crypto]:
    engine = DuckEngine()
    lake = to_lake(tmp_path / "lake", of("none"), {}).lake
    yield Crypto(lake, engine, Landing(lake, tmp_path / "landing", 256))
    engine.close()


def filled(crypto: Crypto, servers: Mapping[str, Any], topic: str) -> Subscription:
    """A lake that took a topic in three runs, with its days made."""
    sub = Subscription(crypto.lake, of(topic), servers, memory_limit_mb=256)
    for seed in range(3):
        produce(servers, topic, 200, seed)
        consume(sub)
    crypto.live_daily_ohlc(crypto.live_dates())
    return sub


def test_days_made_from_the_stream_are_those_of_the_topic_read_again(
    servers: Mapping[str, Any], crypto: Crypto
) -> None:
    sub = filled(crypto, servers, "again")
    assert len(rows(sub, c.DEAD_LETTERS)) > 0
    assert replay_differs(crypto, sub) == []


def test_a_tick_that_live_prices_lost_shows_when_the_topic_is_read_again(
    servers: Mapping[str, Any], crypto: Crypto
) -> None:
    sub = filled(crypto, servers, "lost")
    day = sorted({row[-1] for row in rows(sub)})[1]
    _change(crypto, c.LIVE_PRICES, day, lambda frame: frame.slice(1))
    crypto.live_daily_ohlc([day])

    found = replay_differs(crypto, sub)

    assert {(row["side"], row["date"]) for row in found} == {("missing", day), ("too many", day)}


def test_a_bar_that_was_tampered_with_shows_when_the_topic_is_read_again(
    servers: Mapping[str, Any], crypto: Crypto
) -> None:
    sub = filled(crypto, servers, "tampered")
    day = sorted({row[-1] for row in rows(sub)})[0]
    _change(
        crypto,
        c.LIVE_DAILY_OHLC,
        day,
        lambda frame: frame.with_columns(daily_high=frame["daily_high"] + 1),
    )

    found = replay_differs(crypto, sub)

    assert {row["date"] for row in found} == {day}


def test_a_day_whose_ticks_are_not_all_read_again_is_not_compared(
    servers: Mapping[str, Any], crypto: Crypto
) -> None:
    sub = filled(crypto, servers, "part")
    day = sorted({row[-1] for row in rows(sub)})[0]
    _change(crypto, c.LIVE_DAILY_OHLC, day, lambda frame: frame.clear())
    assert replay_differs(crypto, sub, limit=60) == []


def test_a_topic_read_in_one_pass_gives_what_several_runs_gave_on_both_engines(
    servers: Mapping[str, Any], crypto: Crypto
) -> None:
    feed = of("both", max_symbols=10)
    sub = Subscription(crypto.lake, feed, servers, memory_limit_mb=256)
    for seed in range(3):
        produce(servers, "both", 150, seed)
        consume(sub)
    held = sub.held()
    columns = ", ".join(f'"{column.name}"' for column in c.LIVE_PRICES.columns)

    with connection() as con:
        reread.read(con, feed, servers, held, reread.whole(held))
        in_duckdb = con.execute(f"select {columns} from {reread.ROWS} order by all").fetchall()
    running = session("local[2]")
    try:
        frame = reread.read_with_spark(running, feed, servers, held, reread.whole(held))
        in_spark = sorted(tuple(row) for row in frame.collect())
    finally:
        running.stop()

    assert in_duckdb == rows(sub)
    assert in_spark == sorted(rows(sub))


def _change(crypto: Crypto, table: Any, day: date, how: Any) -> None:
    """Change the rows of a day behind everybody's back."""
    import polars as pl

    with connection() as con:
        now = crypto.lake.snapshot(table).scan()
        was = con.execute(f"from {now} where date = ?", [day]).to_arrow_table()
    frame = pl.DataFrame(pl.from_arrow(was)).cast(pl.Schema(polars_schema(table)))
    crypto.lake.replace_frame(table, how(frame), [{"date": str(day)}])
