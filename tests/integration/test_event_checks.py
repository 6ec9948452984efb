"""What must hold across the tables of live events is seen to hold, and seen where it does not."""

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer

from tests.integration.shop import NOON_MS, Shop, click
from tidemill.events import contracts as c
from tidemill.events.checks_live import counts_every_event, late_not_told, published_differs
from tidemill.events.checks_replay import replay_differs
from tidemill.kafka.broker import Broker
from tidemill.lake import duck
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.store import Lake

pytestmark = pytest.mark.integration

KINDS = ("view", "cart", "purchase", "x")
MIDNIGHT_MS = NOON_MS + 12 * 3_600_000


@pytest.fixture(scope="module")
def filled(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop]:
    """Three batches around midnight with late and dead messages; one partition is behind."""
    home = tmp_path_factory.mktemp("filled")
    shop = Shop.at(broker, home, partitions=2)
    for batch in range(3):
        values: list[bytes | None] = [
            click(
                MIDNIGHT_MS - 60_000 + 400 * n - 15_000 * (n % 17 == 0),
                KINDS[n % 4],
                price=n % 900 / 100,
                brand=(None, "a", "O'B\n<b>")[n % 3],
                category_code=("", "a.b", "c")[n % 3],
            )
            for n in range(150 * batch, 150 * batch + 150)
        ]
        values.insert(40, b"no JSON")
        shop.send(values[:100], 0, MIDNIGHT_MS)
        if batch != 1:
            shop.send(values[100:], 1, MIDNIGHT_MS)
        shop.take()
    shop.prove()
    assert shop.query(c.LATE_EVENTS, "select distinct is_counted from {}") == [(False,)]
    return home, shop


@pytest.fixture
def shop(filled: tuple[Path, Shop], tmp_path: Path) -> Shop:
    """The same topic, with a copy of the lake."""
    home, shop = filled
    shutil.copytree(home / "lake", tmp_path / "lake")
    lake = Lake(tmp_path / "lake", None, c.TABLES)
    analytics = replace(shop.analytics, name=f"windows_{uuid.uuid4().hex[:8]}")
    return replace(shop, clicks=replace(shop.clicks, lake=lake), analytics=analytics)


def change(shop: Shop, table: Table, how: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Change a table's rows behind everybody's back."""
    now = shop.lake.snapshot(table)
    with duck.cursor() as con:
        was = pl.DataFrame(con.sql(f"from {now.scan()} order by all").to_arrow_table())
    frame = how(was.cast(pl.Schema(polars_schema(table))))
    old = {tuple(sorted(file.partition.items())) for file in now.files}
    shop.lake.replace_frame(table, frame, [dict(partition) for partition in old])


def one_more(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The first row with one more in a column."""
    first = pl.int_range(pl.len()) == 0
    return lambda frame: frame.with_columns(
        pl.when(first).then(pl.col(column) + 1).otherwise(pl.col(column)).alias(column)
    )


def without_first(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.slice(1)


def tables(found: list[dict[str, Any]]) -> set[str]:
    return {row["table"] for row in found}


def test_what_holds_is_seen_to_hold(shop: Shop) -> None:
    assert counts_every_event(shop.clicks) == []
    assert late_not_told(shop.clicks) == []
    assert replay_differs(shop.clicks) == []
    shop.publish()
    assert published_differs(shop.clicks, shop.analytics) == []


def test_tables_that_are_behind_the_events_are_held_against_what_they_have_seen(
    shop: Shop,
) -> None:
    shop.send((click(MIDNIGHT_MS + 200_000 + n) for n in range(9)), 0, MIDNIGHT_MS)
    held = shop.clicks.held()
    shop.clicks.consume(held, shop.clicks.unread(held))
    assert counts_every_event(shop.clicks) == []
    assert late_not_told(shop.clicks) == []
    assert replay_differs(shop.clicks) == []


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (c.EVENT_COUNTS, "event_count"),
        (c.EVENT_COUNTS, "total_value"),
        (c.BRAND_METRICS, "event_count"),
        (c.BRAND_METRICS, "revenue"),
        (c.CATEGORY_METRICS, "events"),
        (c.CATEGORY_METRICS, "views"),
        (c.CATEGORY_METRICS, "revenue"),
        (c.EVENT_RATES, "event_count"),
    ],
)
def test_a_window_with_one_too_many_is_told(shop: Shop, table: Table, column: str) -> None:
    change(shop, table, one_more(column))
    found = counts_every_event(shop.clicks)
    assert tables(found) == {table.id}
    assert {row["measure"].removesuffix("_fixed") for row in found} == {column}
    [(side, more), (other, less)] = [
        (row["side"], row[column]) for row in replay_differs(shop.clicks)
    ]
    assert (side, other) == ("missing", "too many")
    assert less == more + 1


@pytest.mark.parametrize(
    "table", [c.EVENT_COUNTS, c.BRAND_METRICS, c.CATEGORY_METRICS, c.EVENT_RATES]
)
def test_a_window_that_is_gone_is_told(shop: Shop, table: Table) -> None:
    change(shop, table, without_first)
    assert tables(counts_every_event(shop.clicks)) == {table.id}
    assert [(row["table"], row["side"]) for row in replay_differs(shop.clicks)] == [
        (table.id, "missing")
    ]


def test_an_event_that_raw_events_lost_is_told(shop: Shop) -> None:
    change(shop, c.RAW_EVENTS, without_first)
    windows = {table.id for table in c.WINDOWS}
    assert tables(counts_every_event(shop.clicks)) == windows
    found = replay_differs(shop.clicks)
    assert [(row["table"], row["side"]) for row in found] == [(c.RAW_EVENTS.id, "missing")]


@pytest.mark.parametrize("how", [without_first, one_more("late_ms"), one_more("offset")])
def test_late_events_that_are_not_those_of_raw_events_are_told(
    shop: Shop, how: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    change(shop, c.LATE_EVENTS, how)
    assert late_not_told(shop.clicks)
    assert counts_every_event(shop.clicks) == []


def test_windows_whose_events_are_not_all_read_again_are_not_compared(shop: Shop) -> None:
    assert replay_differs(shop.clicks, limit=120) == []
    change(shop, c.EVENT_COUNTS, one_more("event_count"))  # of the first window
    assert replay_differs(shop.clicks, limit=120) == []
    change(shop, c.EVENT_COUNTS, lambda frame: one_more("event_count")(frame.reverse()))
    assert len(replay_differs(shop.clicks, limit=120)) == 2


def test_a_window_that_was_published_twice_or_not_at_all_or_otherwise_is_told(shop: Shop) -> None:
    shop.publish()
    sent = shop.analysed()
    again = json.dumps(sent[-1], separators=(",", ":"))
    producer = Producer(dict(shop.clicks.config))
    producer.produce(shop.analytics.name, again)
    assert producer.flush(30) == 0
    [told] = published_differs(shop.clicks, shop.analytics)
    assert (told["side"], told["key"]) == ("too many", sent[-1]["key"])

    change(shop, c.EVENT_COUNTS, one_more("event_count"))
    found = published_differs(shop.clicks, shop.analytics)
    assert sorted(row["side"] for row in found) == ["missing", "too many", "too many"]

    change(shop, c.EVENT_COUNTS, lambda frame: pl.concat([frame.slice(1), shifted(frame)]))
    found = published_differs(shop.clicks, shop.analytics)
    assert "missing" in {row["side"] for row in found}


def shifted(frame: pl.DataFrame) -> pl.DataFrame:
    """The first window, as one of another type."""
    return frame.head(1).with_columns(event_type=pl.lit("zoom"))


def test_windows_that_are_on_their_way_into_the_topic_are_not_told_of(shop: Shop) -> None:
    shop.publish()
    shop.send((click(MIDNIGHT_MS + 300_000 + 1000 * n) for n in range(60)), 0, MIDNIGHT_MS)
    shop.take()
    assert published_differs(shop.clicks, shop.analytics) == []


def test_what_no_publisher_wrote_is_told(shop: Shop) -> None:
    shop.publish()
    producer = Producer(dict(shop.clicks.config))
    producer.produce(shop.analytics.name, b"\xff no JSON")
    assert producer.flush(30) == 0
    [told] = published_differs(shop.clicks, shop.analytics)
    assert told["side"] == "too many"
