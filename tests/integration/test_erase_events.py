"""A user is erased while events are consumed from a real broker, and every offset still adds up."""

import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.integration.shop import NOON_MS, Shop, click
from tidemill.engines.duck import DuckEngine
from tidemill.events import contracts as c
from tidemill.events import erase
from tidemill.events.erase import TABLES, Eraser
from tidemill.events.following import windowed
from tidemill.events.intake.landing import EventLanding
from tidemill.events.reports.build import Events
from tidemill.kafka import dead
from tidemill.kafka.broker import Broker
from tidemill.lake import stream
from tidemill.lake.store import Lake
from tidemill.windows.follow import standing

pytestmark = pytest.mark.integration

USER = 738_291_645
WINDOWS = (c.EVENT_COUNTS, c.BRAND_METRICS, c.CATEGORY_METRICS, c.EVENT_RATES)


@pytest.fixture
def shop(broker: Broker, tmp_path: Path) -> Shop:
    return Shop.at(broker, tmp_path)


def eraser(shop: Shop, home: Path) -> Eraser:
    lake = Lake(shop.lake.root, shop.lake.catalogue, TABLES)
    return Eraser(
        Events(lake, DuckEngine(), home / "reports"),
        shop.clicks.feed,
        EventLanding(lake, home / "landing"),
    )


def messages(first: int = 0) -> list[bytes]:
    """Forty of two users, some late and some that cannot be used."""
    return [
        click(
            NOON_MS + 1_000 * n - 15_000 * (n % 7 == 0),
            user_id=(7, USER)[n % 2],
            user_session=("s", f"own-{USER}")[n % 2],
            price=-1 if n % 11 == 0 else 9.99,
        )
        for n in range(first, first + 40)
    ]


def holding(home: Path) -> list[str]:
    """The files that hold the user's number."""
    found = []
    for path in (p for p in home.rglob("*") if p.is_file()):
        text = path.read_bytes()
        if path.suffix == ".parquet":
            with duckdb.connect() as con:
                text = str(con.execute(f"select * from read_parquet('{path}')").fetchall()).encode()
        if str(USER).encode() in text:
            found.append(path.name)
    return found


def erased(shop: Shop) -> Any:
    return shop.query(c.RAW_EVENTS, "select count(*) from {} where user_id is null")[0][0]


def test_offsets_and_windows_add_up_after_an_erasure_and_consuming_goes_on(
    shop: Shop, tmp_path: Path
) -> None:
    shop.send([f"{USER} x".encode()])  # its error quotes it, in few letters
    shop.take()
    shop.send(messages())
    shop.take()
    letters = shop.query(c.DEAD_LETTERS, "select count(*) from {}")
    windows = [shop.rows(table) for table in WINDOWS]
    tables = (c.RAW_EVENTS, c.DEAD_LETTERS, c.LATE_EVENTS)
    names = standing(shop.lake, shop.clicks.feed).names
    reached = [stream.reached(shop.lake, table, names) for table in tables]
    # Rows alone: no statistics, no ledger, no catalogue.
    assert {Path(name).suffix for name in holding(tmp_path)} == {".parquet"}

    receipts = eraser(shop, tmp_path).erase(USER, is_purged=True).receipts

    assert holding(tmp_path) == []
    assert [stream.reached(shop.lake, table, names) for table in tables] == reached
    assert [shop.rows(table) for table in WINDOWS] == windows
    assert shop.query(c.DEAD_LETTERS, "select count(*) from {}") == letters
    assert {row.table_name: row.rows for row in receipts}["raw_events"] == erased(shop) == 18
    shop.prove()
    shop.send(messages(40))
    shop.take()
    shop.prove()
    assert shop.query(c.RAW_EVENTS, f"select count(*) > 0 from {{}} where user_id = {USER}") == [
        (True,)
    ]


def test_a_table_that_was_behind_does_not_bring_the_user_back(shop: Shop, tmp_path: Path) -> None:
    shop.send(messages())
    held = shop.clicks.held()
    shop.clicks.consume(held, shop.clicks.unread(held))  # and no table follows yet
    eraser(shop, tmp_path).erase(USER, is_purged=True)
    assert shop.query(c.LATE_EVENTS, "select count(*) > 0 from {} where user_id is null") == [
        (True,)
    ]
    assert holding(tmp_path) == []
    shop.prove()


def test_a_table_that_follows_reads_no_file_that_was_taken_out(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.send(messages())
    held = shop.clicks.held()
    shop.clicks.consume(held, shop.clicks.unread(held))
    monkeypatch.setattr(erase, "follow", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        eraser(shop, tmp_path).erase(USER)
    windowed(shop.clicks, DuckEngine())
    late = "select count(*) > 0, count_if(user_id = 738291645) from {}"
    assert shop.query(c.LATE_EVENTS, late) == [(True, 0)]
    shop.prove()


def test_a_dead_letter_that_was_erased_is_not_sent_again(shop: Shop, tmp_path: Path) -> None:
    shop.send(messages())
    shop.take()
    eraser(shop, tmp_path).erase(USER)
    empty = "select count(*) from {} where value is null"
    [(gone,)] = shop.query(c.DEAD_LETTERS, empty)
    done = dead.replay(shop.clicks)
    assert (gone, done.sent) == (2, 0)
    assert done.left["expected a message, found none"] == gone
    assert shop.query(c.DEAD_LETTERS, empty) == [(gone,)]


def test_erasing_beside_a_consumer_loses_and_doubles_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.send(messages())
    shop.take()
    over, failed = threading.Event(), []

    def consume() -> None:
        n = 40
        while not over.is_set():
            shop.send([click(NOON_MS + 1_000 * n, user_id=n)])
            try:
                shop.take()
            except Exception as error:
                failed.append(error)
                return
            n += 1

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        for user in (USER, 7):
            assert eraser(shop, tmp_path).erase(user, is_purged=True).receipts
    finally:
        over.set()
        consumer.join()
    assert failed == []
    shop.take()
    shop.prove()
    assert holding(tmp_path) == []
    assert erased(shop) == 36
