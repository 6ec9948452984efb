"""Events on a real broker become windows, once, and final when nothing can change them."""

import json
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
from tidemill.events.windows import LIVE
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.tail import Tail
from tidemill.lake.contracts import polars_schema
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
                assert_frame_equal(after[name].drop("is_final"), had.drop("is_final"))
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
