"""Events on a real broker become windows, once, and final when nothing can change them."""

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer
from polars.testing import assert_frame_equal

from tests.integration.shop import NOON_MS, Shop, click
from tidemill.events import contracts as c
from tidemill.events import topics as topics_of_events
from tidemill.events.checks_live import published_differs
from tidemill.events.following import PUBLISHED
from tidemill.events.windows import LIVE
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.tail import Tail
from tidemill.lake.contracts import polars_schema
from tidemill.windows import publish
from tidemill.windows.tail import fold_of

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(broker: Broker, tmp_path: Path) -> Shop:
    return Shop.at(broker, tmp_path, partitions=1)


def test_a_window_is_provisional_until_the_watermark_passes_it(shop: Shop) -> None:
    shop.send(click(NOON_MS + 500 * n, price=0.1) for n in range(6))  # 12:00:00 to 12:00:02.5
    shop.take()
    told = (
        "select epoch_ms(window_start), event_count, total_value, avg_price, is_final "
        "from {} order by 1"
    )
    first, second = (NOON_MS, 4, 0.4, 0.1), (NOON_MS + 2000, 2, 0.2, 0.1)
    assert shop.query(c.EVENT_COUNTS, told) == [(*first, False), (*second, False)]
    shop.send([click(NOON_MS + 12_000, "cart")])
    shop.take()
    shop.prove()
    assert shop.query(c.EVENT_COUNTS, told)[:2] == [(*first, True), (*second, False)]
    shop.send([click(NOON_MS + 1_000)])  # behind, and its window is final
    shop.send([click(NOON_MS + 3_999)])  # in time: the window of 12:00:02 ends at 12:00:04
    shop.take()
    shop.prove()
    assert shop.query(c.EVENT_COUNTS, told)[0] == (*first, True)
    assert shop.query(c.EVENT_COUNTS, told)[1][1] == 3
    late = "select epoch_ms(event_timestamp), late_ms, is_counted from {}"
    assert shop.query(c.LATE_EVENTS, late) == [(NOON_MS + 1_000, 1_000, False)]
    assert shop.query(c.RAW_EVENTS, "select count(*) from {}") == [(9,)]


def test_a_late_event_changes_a_window_that_is_open_still(shop: Shop) -> None:
    shop.send([click(NOON_MS), click(NOON_MS + 11_000), click(NOON_MS + 500)])
    shop.take()
    shop.prove()
    told = "select event_count from {} where epoch_ms(window_start) = " + str(NOON_MS)
    assert shop.query(c.EVENT_COUNTS, told) == [(2,)]
    late = "select late_ms, is_counted from {}"
    assert shop.query(c.LATE_EVENTS, late) == [(500, True)]


def test_final_windows_are_published_once_in_their_order(shop: Shop) -> None:
    shop.send(click(NOON_MS + 1000 * n, brand=None if n % 3 else "a'\"<b>") for n in range(60))
    shop.take()
    assert shop.publish() > 0
    assert shop.publish() == 0
    shop.send(click(NOON_MS + 1000 * n, "purchase") for n in range(60, 120))
    shop.take()
    assert shop.publish() > 0
    found = shop.analysed()
    places = [(m["window_end"], m["table"], m["key"]) for m in found]
    assert places == sorted(set(places))
    final = sum(
        shop.query(table, "select count(*) from {} where is_final")[0][0]
        for table in (c.EVENT_COUNTS, c.BRAND_METRICS, c.CATEGORY_METRICS)
    )
    assert len(found) == final
    brands = [m for m in found if m["table"] == "brand_metrics"]
    assert {m["brand"] for m in brands} == {None, "a'\"<b>", "acme"}
    assert (
        sum(m["event_count"] for m in brands)
        == shop.query(c.BRAND_METRICS, "select sum(event_count)::bigint from {} where is_final")[0][
            0
        ]
    )


def test_what_a_killed_publisher_left_on_its_way_is_not_sent_again(shop: Shop) -> None:
    shop.send(click(NOON_MS + 1000 * n) for n in range(60))
    shop.take()
    whole = replace(shop, analytics=replace(shop.analytics, name=f"{shop.analytics.name}_whole"))
    whole.publish()
    want = whole.analysed()
    values = [json.dumps(message) for message in want]

    def sent(some: list[str]) -> None:
        producer = Producer(dict(shop.clicks.config))
        for value in some:
            producer.produce(shop.analytics.name, value)
        assert producer.flush(30) == 0

    topics.ensure(shop.clicks.config, [shop.analytics])
    sent(values[:5])
    (shop.lake.root / ".published" / f"{shop.analytics.name}.sending").touch()
    coming = threading.Timer(0.4, sent, [values[5:10]])
    coming.start()
    shop.publish()
    coming.join()
    assert shop.analysed() == want


def test_pieces_of_any_size_give_the_windows_of_one(broker: Broker, tmp_path: Path) -> None:
    shops = [Shop.at(broker, tmp_path / str(n), partitions=2) for n in range(2)]
    values = [
        click(NOON_MS + 137 * n - 15_000 * (n % 41 == 0), ("view", "cart", "x")[n % 3], price=n / 7)
        for n in range(300)
    ]
    for shop in shops:
        shop.send(values[:200], partition=0)
        shop.send(values[200:], partition=1)
    shops[0].take()
    while shops[1].clicks.unread(shops[1].clicks.held()):
        shops[1].take(limit=37)
    for table in (c.EVENT_COUNTS, c.BRAND_METRICS, c.CATEGORY_METRICS, c.EVENT_RATES):
        one, pieces = (shop.rows(table) for shop in shops)
        assert one == pieces, table.id
    for shop in shops:
        shop.prove()


def test_the_tail_shows_the_windows_that_the_lake_will_have(broker: Broker, tmp_path: Path) -> None:
    shop = Shop.at(broker, tmp_path, partitions=2)
    kinds = ("view", "cart", "purchase")
    values = [
        click(
            NOON_MS + 211 * n - 15_000 * (n % 29 == 0), kinds[n % 3], price=n / 7, brand=str(n % 5)
        )
        for n in range(900)
    ]
    folds = [fold_of(windows, shop.clicks.feed) for windows in LIVE]
    with Tail(shop.clicks, folds, slots=30, rebase_s=0.05) as tail:
        for start in range(0, 900, 300):
            shop.send(values[start : start + 200], partition=0)
            shop.send(values[start + 200 : start + 300], partition=1)
            before = seen(shop, tail)
            shop.take()
            after = seen(shop, tail)
            for windows in LIVE:
                table, name = windows.table, windows.table.name
                had = pl.DataFrame(
                    shop.rows(table), schema=polars_schema(table), orient="row"
                ).sort(table.key)
                assert_frame_equal(after[name], had)
                assert_frame_equal(before[name].drop("is_final"), after[name].drop("is_final"))


def seen(shop: Shop, tail: Tail) -> dict[str, pl.DataFrame]:
    """The tail's windows, up to the last message, once it stands where the lake stands."""
    held = shop.clicks.held()
    tail.wait({part: high for part, (_, high) in held.marks.items() if high})
    deadline = time.monotonic() + 30
    at = [shop.lake.snapshot(windows.table).version for windows in LIVE]
    while [layer.state.version for layer in tail.state().base.layers] != at:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return {windows.table.name: tail.windows(windows.table) for windows in LIVE}


def test_a_partition_that_never_had_anything_is_waited_for_a_while(
    broker: Broker, tmp_path: Path
) -> None:
    shop = Shop.at(broker, tmp_path, partitions=3, idle_ms=1000)
    final = "select count(*) from {} where is_final"
    shop.send([click(NOON_MS), click(NOON_MS + 60_000)], partition=0)
    shop.send([click(NOON_MS + 60_000)], partition=1)
    shop.take()
    assert shop.query(c.EVENT_COUNTS, final) == [(0,)]
    for second in range(4):  # the others are never silent for so long
        time.sleep(0.4)
        shop.send([click(NOON_MS + 61_000 + second)], partition=0)
        shop.send([click(NOON_MS + 61_000 + second)], partition=1)
        shop.take()
    assert shop.query(c.EVENT_COUNTS, final) == [(1,)]
    shop.send([click(NOON_MS + 30_000)], partition=2)  # it was not waited for any longer
    shop.take()
    shop.prove()
    assert shop.query(c.LATE_EVENTS, "select is_counted from {}") == [(False,)]


def test_a_partition_of_messages_that_cannot_be_used_is_not_waited_for(
    broker: Broker, tmp_path: Path
) -> None:
    shop = Shop.at(broker, tmp_path, partitions=2, idle_ms=1000)
    for partition in range(2):
        shop.send([click(NOON_MS)], partition)
    for second in range(4):
        time.sleep(0.4)
        shop.send([b"no JSON"], partition=0)
        shop.send([click(NOON_MS + 60_000 + second)], partition=1)
        shop.take()
    shop.prove()
    assert shop.query(c.EVENT_COUNTS, "select count(*) from {} where is_final") == [(1,)]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1899-12-31"])
def test_a_time_that_no_event_can_have_stops_nothing(
    broker: Broker, tmp_path: Path, at: str
) -> None:
    shop = Shop.at(broker, tmp_path, partitions=1)
    first = "1900-01-01T00:00:00Z"
    for times in ([at], [first], [at, first, NOON_MS]):
        shop.send([click(event_time=time) for time in times])
        shop.take()
    shop.prove()
    assert shop.query(c.DEAD_LETTERS, "select count(*) from {}") == [(2,)]
    (error,) = shop.query(c.DEAD_LETTERS, "select distinct left(error, 55) from {}")
    assert error == ("event_time: expected a time in the years 1900 to 2200, ",)
    days = "select distinct window_start::date::varchar from {} order by 1"
    assert shop.query(c.EVENT_RATES, days) == [("1899-12-31",), ("1900-01-01",), ("2026-01-01",)]


def test_keys_as_long_as_they_may_be_are_published(shop: Shop) -> None:
    worst = "\x01" * topics_of_events.LONGEST_BYTES
    shop.send(
        [
            click(NOON_MS, worst, brand=worst, category_code=worst),
            click(NOON_MS, brand=worst + "x"),
            click(NOON_MS, "y" + worst),
            click(NOON_MS + 60_000),
        ]
    )
    shop.take()
    assert shop.publish() == 3
    assert {m.get("brand") for m in shop.analysed()} == {None, worst}
    assert shop.query(c.DEAD_LETTERS, "select count(*) from {}") == [(2,)]


def test_a_topic_of_windows_that_was_deleted_is_told_of_and_filled_again(shop: Shop) -> None:
    shop.send(click(NOON_MS + 1000 * n) for n in range(60))
    shop.take()
    shop.publish()
    want = shop.analysed()
    topics.delete(shop.clicks.config, shop.analytics.name)
    topics.ensure(shop.clicks.config, [shop.analytics])
    assert published_differs(shop.clicks, shop.analytics) == []  # it may be on its way
    overdue = published_differs(shop.clicks, shop.analytics, patience_s=-60)
    assert {row["side"] for row in overdue} == {"missing"}
    assert len(overdue) == len(want)
    shop.publish()
    assert shop.analysed() == want
    assert published_differs(shop.clicks, shop.analytics, patience_s=-60) == []


def test_windows_of_earlier_events_are_published_after_all_was_forgotten(
    shop: Shop, broker: Broker, tmp_path: Path
) -> None:
    shop.send(click(NOON_MS + 1000 * n) for n in range(60))
    shop.take()
    shop.publish()
    publish.forget(shop.lake, shop.analytics)
    shutil.rmtree(shop.lake.root / c.DOMAIN)
    other = Shop.at(broker, tmp_path, partitions=1)  # of the same lake, as after a reset
    other = replace(other, analytics=shop.analytics)
    before_ms = NOON_MS - 365 * 86_400_000
    other.send(click(before_ms + 1000 * n) for n in range(60))
    other.take()
    assert publish.is_owed(other.lake, other.clicks.feed, PUBLISHED, shop.analytics)
    assert other.publish() > 0
    assert not publish.is_owed(other.lake, other.clicks.feed, PUBLISHED, shop.analytics)
    ends = [message["window_end"] for message in other.analysed()]
    assert max(ends) < NOON_MS
    final = other.query(c.EVENT_COUNTS, "select count(*) from {} where is_final")
    assert [(ends.count(min(ends)), len(set(ends)))] == [(3, final[0][0])]


def test_a_producer_whose_clock_is_ahead_is_refused(broker: Broker, tmp_path: Path) -> None:
    shop = Shop.at(broker, tmp_path, partitions=1, ahead_ms=60_000)
    failed = []
    producer = Producer(dict(shop.clicks.config))
    for ahead_s in (600, 0):
        at_ms = int(time.time() + ahead_s) * 1000
        producer.produce(
            shop.clicks.feed.topic.name,
            click(at_ms),
            timestamp=at_ms,
            on_delivery=lambda error, _: failed.append(error),
        )
        assert producer.flush(30) == 0
    assert [error and error.name() for error in failed] == ["INVALID_TIMESTAMP", None]
