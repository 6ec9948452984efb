"""Dead letters that today's rules take go back to their topic once; lost offsets are given up."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.desk import Desk
from tests.integration.shop import NOON_MS as SHOP_MS
from tests.integration.shop import Shop, click
from tests.unit.kafka.messages import NOON_MS, tick
from tidemill import compose
from tidemill.errors import TidemillError
from tidemill.events import contracts as c
from tidemill.kafka import dead, resent, topics
from tidemill.kafka.broker import Broker
from tidemill.lake.commit import Overtaken
from tidemill.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def desk(broker: Broker, tmp_path: Path) -> Desk:
    """A desk that has taken two symbols of at most two, and has five dead letters."""
    desk = Desk.at(broker, tmp_path, max_symbols=2)
    for n, symbol in enumerate(["AA", "BB", "CC", "DD", "CC"]):
        desk.produce([(symbol.encode(), tick(symbol, at=NOON_MS + n))])
    desk.produce([(None, b"not json"), (None, b"x")], partition=1)
    desk.catch_up()
    assert (desk.prove()["good"], desk.prove()["dead"]) == (2, 5)
    return desk


def with_room(desk: Desk, symbols: int) -> Desk:
    return replace(desk, feed=replace(desk.feed, max_keys=symbols))


def test_what_todays_rules_take_is_sent_again_once_and_the_rest_stays(desk: Desk) -> None:
    assert dead.replay(desk.subscription).sent == 0
    roomy = with_room(desk, 3)
    done = dead.replay(roomy.subscription)
    assert done.sent == 2
    assert sorted(done.left.values()) == [1, 1, 1]
    assert "expected JSON, found not json" in done.left

    roomy.catch_up()
    counted = roomy.prove()
    assert (counted["good"], counted["dead"], counted["duplicate"]) == (4, 5, 0)
    marked = roomy.query('select value from {dead} where replayed_at is not null order by "offset"')
    assert marked == [(tick("CC", at=NOON_MS + 2),), (tick("CC", at=NOON_MS + 4),)]
    assert dead.replay(roomy.subscription).sent == 0


def test_a_letter_goes_back_as_it_came_and_says_where_it_was(desk: Desk) -> None:
    roomy = with_room(desk, 3)
    dead.replay(roomy.subscription)
    consumer = Consumer(desk.config | {"group.id": "test"})
    consumer.assign([TopicPartition(desk.feed.topic.name, 0, 5)])
    first, second = consumer.consume(2, timeout=20)
    consumer.close()
    place = f"{desk.subscription.held().topic_id}/0/2".encode()
    assert (first.key(), first.value()) == (b"CC", tick("CC", at=NOON_MS + 2))
    assert first.headers() == [("tidemill-replay", place)]
    assert second.value() == tick("CC", at=NOON_MS + 4)


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_ticks_sent_but_not_marked_are_not_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = with_room(desk, 4)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dead, "_mark", killed)
        dead.replay(roomy.subscription)
    assert dead.replay(roomy.subscription).sent == 3
    roomy.catch_up()
    counted = roomy.prove()
    assert (counted["good"], counted["dead"], counted["duplicate"]) == (5, 5, 0)


class Clicks:
    """A shop whose clicks at even prices were dead letters, and are taken by today's rules."""

    def __init__(self, broker: Broker, home: Path, count: int = 12) -> None:
        """Send clicks in turn to three partitions, and take them by yesterday's rules."""
        odd = {"price is odd": "price % 2 = 1"}
        self.prices = [float(n) for n in range(count)]
        self.strict = Shop.at(broker, home, rules=odd)
        self.name = self.strict.clicks.feed.topic.name
        for partition in range(3):
            values = [click(SHOP_MS + n, price=n) for n in range(partition, count, 3)]
            self.strict.send(values, partition)
        self.strict.take()
        self.shop = Shop.of(broker.servers, home, self.name)
        self.dead = count // 2

    def replay(self) -> int:
        return dead.replay(self.shop.clicks).sent

    def ended(self) -> int:
        """How many messages the topic was given."""
        marks = topics.offsets(self.shop.clicks.config, self.name, 3)
        return sum(after for _, after in marks)

    def marked(self) -> Any:
        return self.shop.query(c.DEAD_LETTERS, "select count(replayed_at), count(*) from {}")

    def prove(self) -> None:
        """Each event is in the table once, each letter is marked, and nothing is noted."""
        self.shop.take()
        taken = self.shop.query(c.RAW_EVENTS, "select price from {} order by 1")
        assert [price for (price,) in taken] == self.prices
        assert self.marked() == [(self.dead, self.dead)]
        self.shop.prove()
        assert self.replay() == 0
        assert not list((self.shop.lake.root / ".replayed").glob("*.sending"))


@pytest.fixture
def clicks(broker: Broker, tmp_path: Path) -> Clicks:
    return Clicks(broker, tmp_path)


def test_clicks_sent_but_not_marked_are_found_and_marked(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(dead, "_mark", killed)
            clicks.replay()
        assert clicks.marked() == [(0, 6)]
    clicks.shop.take()  # what was sent may be consumed before it is marked
    assert clicks.replay() == 6
    assert clicks.ended() == 12 + 6
    clicks.prove()


def test_a_replay_stopped_in_the_midst_of_sending_goes_on_with_the_rest(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dead._Sender._handed

    def stops(self: Any, *letter: Any) -> bool:
        if self.sent == 2:
            self._producer.flush(30)
            raise KeyboardInterrupt
        return real(self, *letter)

    for sent in (2, 4):  # the second one is stopped when it goes on with the rest
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(dead._Sender, "_handed", stops)
            clicks.replay()
        assert (clicks.ended(), clicks.marked()) == (12 + sent, [(sent - 2, 6)])
    assert clicks.replay() == 4
    assert clicks.ended() == 12 + 6
    clicks.prove()


def test_a_letter_marked_before_keeps_the_time_of_its_mark(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", killed)
        clicks.replay()
    query = 'select "partition", "offset", replayed_at from {} where replayed_at is not null'
    before = set(clicks.shop.query(c.DEAD_LETTERS, query))
    assert clicks.marked() == [(6, 6)]
    clicks.shop.take()
    value, end = click(SHOP_MS, price=50), clicks.shop.clicks.held().marks[0][1]
    clicks.strict.send([value])
    clicks.strict.take()
    producer = Producer(dict(clicks.shop.clicks.config))
    header = resent.header(clicks.shop.clicks.held().topic_id, 0, end)
    producer.produce(clicks.name, value, headers=[header], timestamp=SHOP_MS)
    assert producer.flush(30) == 0
    assert clicks.replay() == 1
    assert clicks.marked() == [(7, 7)]
    assert before < set(clicks.shop.query(c.DEAD_LETTERS, query))


def test_headers_of_others_and_letters_seen_twice_mark_nothing_else(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dead, "_mark", killed)
        clicks.replay()
    held = clicks.shop.clicks.held()
    producer = Producer(dict(clicks.shop.clicks.config))
    names = [b"x", b"\xff/1/2", b"", None, f"{held.topic_id}/0/{10**30}".encode()]
    # Another home on this broker may have sent the same letter.
    names += [resent.header(held.topic_id, 0, 0)[1]] * 2
    for n, name in enumerate(names):
        value = click(SHOP_MS + n, price=100 + n)
        producer.produce(clicks.name, value, headers=[(resent.HEADER, name)], timestamp=SHOP_MS)
        clicks.prices.append(100.0 + n)
    assert producer.flush(30) == 0
    assert clicks.replay() == 6
    clicks.prove()


def test_what_comes_late_from_a_killed_replay_is_waited_for(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dead._Sender, "_handed", killed)
        clicks.replay()
    assert clicks.ended() == 12
    query = 'select topic_id, "partition", "offset", value from {} order by all'
    letters = clicks.shop.query(c.DEAD_LETTERS, query)
    producer = Producer(dict(clicks.shop.clicks.config))

    def comes(_: float) -> None:
        if letters:
            *place, value = letters.pop()
            header = resent.header(*place)
            producer.produce(clicks.name, value, headers=[header], timestamp=SHOP_MS)
            assert producer.flush(30) == 0

    monkeypatch.setattr(resent.letters, "__defaults__", (comes,))
    assert clicks.replay() == 6
    assert letters == []
    assert clicks.ended() == 12 + 6
    clicks.prove()


def test_what_retention_took_of_a_killed_replay_is_told(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dead, "_mark", killed)
        clicks.replay()
    clicks.shop.take()
    client = AdminClient(dict(clicks.shop.clicks.config))
    (done,) = client.delete_records([TopicPartition(clicks.name, 1, 5)]).values()
    done.result()
    lost = r"offsets 4 to 4 of partition 1 are gone by retention. Delete \S+sending to send again"
    with pytest.raises(TidemillError, match=lost):
        clicks.replay()
    assert clicks.marked() == [(0, 6)]


REPLAY = """
import sys
import time
from pathlib import Path
from tests.integration.shop import Shop
from tidemill.kafka import dead

servers, home, name = sys.argv[1:]
real = dead._Sender._handed
dead._Sender._handed = lambda *letter: time.sleep(0.005) or real(*letter)
dead.replay(Shop.of(servers, Path(home), name).clicks)
"""


def test_a_replay_killed_in_the_midst_of_sending_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    clicks = Clicks(broker, tmp_path, 3_000)
    script = [sys.executable, "-c", REPLAY, broker.servers, str(tmp_path), clicks.name]
    for _ in range(2):
        before, deadline = clicks.ended(), time.monotonic() + 60
        with subprocess.Popen(script) as process:
            while clicks.ended() < before + 20 and time.monotonic() < deadline:
                time.sleep(0.05)
            process.kill()
        assert before < clicks.ended() < 3_000 + clicks.dead
    assert clicks.marked()[0][0] > 0
    clicks.replay()
    assert clicks.ended() == 3_000 + clicks.dead
    clicks.prove()


def test_a_second_replay_waits_for_the_first(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, found = dead._mark, []

    def slow(*asked: Any) -> None:
        rival = threading.Thread(target=lambda: found.append(clicks.replay()))
        rival.start()
        rivals.append(rival)
        rival.join(3)
        real(*asked)

    rivals: list[threading.Thread] = []
    monkeypatch.setattr(dead, "_mark", slow)
    assert clicks.replay() == 6
    rivals[0].join(60)
    assert found == [0]
    clicks.prove()


def test_nothing_is_marked_that_the_broker_did_not_take(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = with_room(desk, 4)
    with monkeypatch.context() as patched:
        patched.setattr(dead._Sender, "_handed", lambda self, *_: not self._failed.append("gone"))
        with pytest.raises(TidemillError, match=r"3 were not \(gone\); none is marked"):
            dead.replay(roomy.subscription)
    assert desk.query("select count(*) from {dead} where replayed_at is null") == [(5,)]
    assert dead.replay(roomy.subscription).sent == 3


def test_letters_that_come_while_others_are_marked_are_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, real = with_room(desk, 4), type(desk.lake).replace
    rivals = iter([1])

    def raced(*args: Any, **named: Any) -> Any:
        if next(rivals, None):
            desk.produce([(None, b"another")])
            roomy.catch_up()
        return real(*args, **named)

    monkeypatch.setattr(type(desk.lake), "replace", raced)
    assert dead.replay(roomy.subscription).sent == 3
    roomy.catch_up()
    counted = roomy.prove()
    assert (counted["good"], counted["dead"]) == (5, 6)
    assert issubclass(Overtaken, TidemillError)


def tidemill(home: Path, broker: Broker, *arguments: str, code: int = 0) -> Any:
    settings = {"TIDEMILL_HOME": str(home), "TIDEMILL_KAFKA_SERVERS": broker.servers}
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", *arguments],
        env=os.environ | settings | {"TIDEMILL_MAX_SYMBOLS": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr


def test_the_command_line_replays_and_gives_up_lost_offsets(broker: Broker, tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = replace(Settings.current(home), kafka_servers=broker.servers, max_symbols=1)
    subscription = compose.live_prices(settings)
    topics.ensure(subscription.config, [subscription.feed.topic])
    desk = Desk(broker.servers, subscription.lake, subscription.feed)
    now_ms = NOON_MS
    desk.produce(
        [(b"AA", tick("AA", at=now_ms)), (b"BB", tick("BB", at=now_ms))],
        at_ms=int(time.time() * 1000),
    )
    desk.produce([(None, b"x")], at_ms=int(time.time() * 1000))
    held = desk.subscription.held()
    desk.subscription.consume(held, desk.subscription.unread(held))

    told = tidemill(home, broker, "replay-dead-letters", "--json")
    assert told == [{"topic": "crypto_prices", "sent": 1, "left": {"expected JSON, found x": 1}}]
    assert "0 sent again, 1 left" in tidemill(home, broker, "replay-dead-letters", "crypto_prices")
    assert "there is no topic 'x'" in tidemill(home, broker, "accept-loss", "x", code=2)
    assert "no offset was lost" in tidemill(home, broker, "accept-loss", "crypto_prices")

    place = TopicPartition("crypto_prices", 0, held.marks[0][1] + 1)
    client = AdminClient(desk.config)  # destroyed with its futures if nothing names it
    (done,) = client.delete_records([place]).values()
    done.result()
    asked = tidemill(home, broker, "accept-loss", "crypto_prices", code=1)
    assert "These offsets of crypto_prices are lost: partition 0, 3 to 3" in asked
    told = tidemill(home, broker, "accept-loss", "crypto_prices", "--yes", "--json")
    assert told == [{"partition": 0, "start": 3, "stop": 4, "lost": 1}]
    assert desk.prove()["lost"] == 1
