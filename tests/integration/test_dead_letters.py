"""Dead letters that today's rules take go back to their topic once; lost offsets are given up."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.desk import Desk
from tests.unit.kafka.messages import NOON_MS, tick
from tidemill import compose
from tidemill.errors import TidemillError
from tidemill.kafka import dead, topics
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


def test_letters_sent_but_not_marked_are_duplicates_of_the_next_replay(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = with_room(desk, 4)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dead, "_mark", killed)
        dead.replay(roomy.subscription)
    assert dead.replay(roomy.subscription).sent == 3
    roomy.catch_up()
    counted = roomy.prove()
    assert (counted["good"], counted["dead"], counted["duplicate"]) == (5, 5, 3)


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
