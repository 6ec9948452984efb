"""The live tail says what the lake will say, wherever the lake stands meanwhile."""

import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import psutil
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from polars.testing import assert_frame_equal

from tidemill.bench import tail as bench
from tidemill.crypto import contracts as c
from tidemill.crypto import live
from tidemill.crypto.live_tail import DAYS
from tidemill.crypto.topics import PRICES
from tidemill.errors import TidemillError
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.spans import OffsetsLost, Span
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.tail import Tail
from tidemill.lake import duck
from tidemill.lake.contracts import polars_schema
from tidemill.lake.store import Lake

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 1, 20, tzinfo=UTC)
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
Message = tuple[str, bytes]


@pytest.fixture
def sub(broker: Broker, tmp_path: Path) -> Subscription:
    """A topic and a lake of the test's own."""
    topic = replace(PRICES, name=f"prices_{tmp_path.name}")
    config = {"bootstrap.servers": broker.servers}
    topics.ensure(config, [topic])
    feed = replace(live.feed(max_symbols=len(SYMBOLS)), topic=topic)
    return Subscription(Lake(tmp_path / "lake"), feed, config)


def tick(symbol: str, price: float, at: datetime) -> Message:
    told = {"symbol": symbol, "price": price, "timestamp": round(at.timestamp() * 1000)}
    return symbol, json.dumps(told).encode()


def ticks(count: int, seed: int = 1) -> list[Message]:
    """Ticks of two days: some late, some out of order, some told again, some that are none."""
    draw = random.Random(seed)
    found: list[Message] = []
    for n in range(count):
        at = START + timedelta(hours=9) * n / count
        if draw.random() < 0.05:
            at -= timedelta(minutes=draw.randrange(55, 300))
        symbol = draw.choice(SYMBOLS)
        found.append(tick(symbol, draw.randrange(1, 9000) / 8, at - timedelta(seconds=n % 3)))
        if draw.random() < 0.1:
            found.append(draw.choice(found))
        if draw.random() < 0.05:
            found.append((symbol, draw.choice([b"", b"{", b"\xff", b'{"symbol": "AAAUSDT"}'])))
    return found


def send(sub: Subscription, messages: Sequence[Message]) -> dict[int, int]:
    """Produce messages and wait for them; the ends of the partitions after that."""
    producer = Producer(dict(sub.config) | {"acks": "all", "enable.idempotence": True})
    for key, value in messages:
        producer.produce(sub.feed.topic.name, key=key, value=value)
    assert producer.flush(30) == 0
    return {partition: high for partition, (_, high) in sub.held().marks.items()}


def consume(sub: Subscription) -> None:
    held = sub.held()
    sub.consume(held, sub.unread(held))


def committed(sub: Subscription) -> pl.DataFrame:
    """The days of the rows in the lake, folded one by one in plain Python."""
    with duck.cursor() as con:
        rows = pl.DataFrame(
            con.sql(f"from {sub.lake.snapshot(c.LIVE_PRICES).scan()}").to_arrow_table()
        )
        newest = con.execute(
            'select topic_id, "partition", max(newest_event_at) '
            f"from {sub.lake.snapshot(c.CONSUMED_SPANS).scan()} group by all"
        ).fetchall()
    marks = {(topic_id, part): at - timedelta(hours=1) for topic_id, part, at in newest}
    windows = defaultdict(list)
    for row in rows.iter_rows(named=True):
        windows[row["symbol"], row["date"]].append(row)
    days = []
    for (symbol, day), found in sorted(windows.items()):
        found.sort(key=lambda r: (r["event_time"], r["topic_id"], r["partition"], r["offset"]))
        first, last = found[0], found[-1]
        prices = [row["price"] for row in found]
        origins = {(row["topic_id"], row["partition"]) for row in found}
        days.append(
            {
                "symbol": symbol,
                "daily_open": first["price"],
                "daily_high": max(prices),
                "daily_low": min(prices),
                "daily_close": last["price"],
                "ticks": len(found),
                "late_ticks": sum(row["is_late"] for row in found),
                "cnt": len({row["event_time"].replace(second=0, microsecond=0) for row in found}),
                "first_at": first["event_time"],
                "first_offset": first["offset"],
                "last_at": last["event_time"],
                "last_offset": last["offset"],
                "is_closed": all(marks[origin].date() > day for origin in origins),
                "date": day,
            }
        )
    return pl.DataFrame(days, schema=polars_schema(c.LIVE_DAILY_OHLC))


def waited(tail: Tail, ends: dict[int, int]) -> pl.DataFrame:
    tail.wait(ends)
    return tail.windows()


def rebased(tail: Tail, sub: Subscription) -> None:
    """Wait until the tail stands on what the lake has now."""
    deadline = time.monotonic() + 30
    while tail.state().base.snapshot != sub.lake.snapshot(c.LIVE_PRICES):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("seed", range(3))
def test_it_says_what_the_lake_says_once_that_has_everything_wherever_the_two_part(
    sub: Subscription, seed: int
) -> None:
    draw = random.Random(seed)
    messages = ticks(3000, seed)
    cuts = sorted(draw.sample(range(len(messages)), 4))
    seen = []
    for start, stop in pairwise([0, *cuts, len(messages)]):
        ends = send(sub, messages[start:stop])
        with Tail(sub, DAYS) as tail:
            seen.append(waited(tail, ends))
            assert tail.lag == 0
        held = sub.held()
        spans = [s._replace(stop=draw.randint(s.start, s.stop)) for s in sub.unread(held)]
        sub.consume(held, [span for span in spans if span.start < span.stop])
    with Tail(sub, DAYS) as tail:
        assert_frame_equal(waited(tail, ends), seen[-1])
        counts = tail.state().counts
    assert counts.dead > 0
    assert counts.duplicate > 0
    consume(sub)
    assert_frame_equal(seen[-1], committed(sub))
    assert seen[-1].get_column("late_ticks").sum() > 0
    assert Counter(seen[-1].get_column("is_closed")) == {True: 4, False: 4}


def test_the_lake_may_commit_while_it_runs(sub: Subscription) -> None:
    messages = ticks(4000)
    with Tail(sub, DAYS, rebase_s=0.05) as tail:
        for start in range(0, len(messages), 300):
            ends = send(sub, messages[start : start + 300])
            if start % 900 == 300:
                held = sub.held()
                sub.consume(held, [Span(p, a, b - (b - a) // 3) for p, a, b in sub.unread(held)])
        before = waited(tail, ends)
        ticks_seen = before.get_column("ticks").sum()
        consume(sub)
        while tail.state().base.snapshot != sub.lake.snapshot(c.LIVE_PRICES):
            assert tail.windows().get_column("ticks").sum() == ticks_seen
        assert_frame_equal(tail.windows(), before)
        assert_frame_equal(before, committed(sub))
        state = tail.state()
    assert (state.counts.read, state.lag) == (0, 0)


def test_only_the_newest_days_are_shown_and_they_are_whole(sub: Subscription) -> None:
    noon = START.replace(hour=12)
    old = [tick("AAAUSDT", 1.0 + day, noon + timedelta(days=day)) for day in range(4)]
    send(sub, old)
    consume(sub)
    with Tail(sub, DAYS, slots=2) as tail:
        ends = send(sub, [tick("AAAUSDT", 9.0, noon - timedelta(hours=1))])
        found = waited(tail, ends)
        assert found.get_column("daily_open").to_list() == [3.0, 4.0]
        ends = send(sub, [tick("AAAUSDT", 5.0, noon + timedelta(days=4))])
        assert waited(tail, ends).get_column("daily_open").to_list() == [4.0, 5.0]
        consume(sub)
        rebased(tail, sub)
        assert tail.windows().get_column("daily_open").to_list() == [4.0, 5.0]


def test_a_symbol_over_the_cap_is_not_shown(sub: Subscription) -> None:
    send(sub, [tick(symbol, 1.0, START) for symbol in SYMBOLS[:3]])
    consume(sub)
    with Tail(sub, DAYS) as tail:
        send(sub, [tick("DDDUSDT", 1.0, START)])
        found = waited(tail, send(sub, [tick("EEEUSDT", 1.0, START)]))
        assert found.get_column("symbol").to_list() == list(SYMBOLS)
        assert tail.state().counts.dead == 1


def test_it_goes_on_when_the_broker_comes_back(sub: Subscription, broker: Broker) -> None:
    messages = ticks(1000)
    with Tail(sub, DAYS) as tail:
        before = waited(tail, send(sub, messages[:500]))
        running = broker.status()
        assert running is not None
        process = psutil.Process(running.pid)
        os.kill(running.pid, signal.SIGKILL)
        process.wait(30)
        time.sleep(1.5)
        assert_frame_equal(tail.windows(), before)
        broker.start()
        after = waited(tail, send(sub, messages[500:]))
    consume(sub)
    assert_frame_equal(after, committed(sub))


def recreated(sub: Subscription) -> None:
    topic = sub.feed.topic
    client = AdminClient(dict(sub.config))
    client.delete_topics([topic.name])[topic.name].result()
    deadline = time.monotonic() + 30
    while topic.name in topics.described(sub.config):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    topics.ensure(sub.config, [topic])


def test_a_topic_made_anew_is_read_from_its_start(sub: Subscription) -> None:
    noon = START.replace(hour=12)
    with Tail(sub, DAYS) as tail:
        send(sub, [tick("AAAUSDT", 1.0, noon)] * 3)
        consume(sub)
        waited(tail, send(sub, [tick("AAAUSDT", 2.0, noon + timedelta(minutes=1))]))
        first = tail.state().base.held.topic_id
        recreated(sub)
        # More than the old one had: its offsets alone would not tell that it is another.
        again = [tick("AAAUSDT", 3.0 + n, noon + timedelta(minutes=2 + n)) for n in range(9)]
        ends = send(sub, again)
        deadline = time.monotonic() + 30
        while tail._state is None or tail._state.base.held.topic_id == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = waited(tail, ends)
    assert found.select("daily_open", "daily_close", "ticks").rows() == [(1.0, 11.0, 10)]
    consume(sub)
    assert_frame_equal(found, committed(sub))


def test_offsets_that_retention_took_are_told_and_not_passed_over(sub: Subscription) -> None:
    client = AdminClient(dict(sub.config))
    ends = send(sub, [tick("AAAUSDT", 1.0 + n, START + timedelta(seconds=n)) for n in range(9)])
    held = sub.held()
    sub.consume(held, [Span(part, 0, min(end, 4)) for part, end in ends.items() if end])
    gone = [TopicPartition(held.topic, part, end) for part, end in ends.items() if end]
    for future in client.delete_records(gone).values():
        future.result()
    with Tail(sub, DAYS) as tail, pytest.raises(OffsetsLost, match="offsets 4 to 8 were not read"):
        tail.windows()


def test_a_topic_that_is_not_there_is_told(sub: Subscription) -> None:
    missing = replace(sub, feed=replace(sub.feed, topic=replace(PRICES, name="no_such_topic")))
    with Tail(missing, DAYS) as tail, pytest.raises(TidemillError, match="topic no_such_topic at"):
        tail.windows()
    with pytest.raises(TidemillError, match="it was not started"):
        Tail(sub, DAYS).windows()


def test_it_tells_how_far_it_has_come_and_how_fresh_it_is(sub: Subscription) -> None:
    with Tail(sub, DAYS) as tail:
        assert tail.windows().is_empty()
        assert tail.freshness.event_ms is None
        ends = send(sub, [tick("AAAUSDT", 1.0, START)])
        waited(tail, ends)
        assert tail.position() == ends
        fresh = tail.freshness
    assert fresh.event_ms == START.timestamp() * 1000
    assert fresh.delay_ms is not None and fresh.delay_ms >= 0


def test_the_benchmark_sees_every_event_and_leaves_no_topic(broker: Broker, tmp_path: Path) -> None:
    config = {"bootstrap.servers": broker.servers}
    before = topics.described(config)
    found = bench.measured(config, tmp_path, rate=100, seconds=1.0, commit_s=1.0)
    assert 90 <= found.n <= 110
    assert 0 < found.p50_ms <= found.p99_ms <= found.max_ms
    assert found.commits > 0
    deadline = time.monotonic() + 30
    while topics.described(config) != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_percentile_is_one_of_the_values() -> None:
    assert [bench.percentile([1.0, 2.0, 3.0], share) for share in (0.0, 0.5, 0.99)] == [1, 2, 3]
