"""Spark takes a topic into the lake as DuckDB does, and neither repeats nor loses what is taken."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.shop import Shop, click
from tidemill.crypto import contracts as c
from tidemill.crypto import live
from tidemill.crypto.topics import PRICES
from tidemill.engines.spark import SparkEngine, session
from tidemill.errors import TidemillError
from tidemill.events import contracts as events
from tidemill.events.following import windowed
from tidemill.kafka import audit, topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Span
from tidemill.kafka.spark_stream import Stream, Taken
from tidemill.kafka.subscription import Subscription
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

pytestmark = pytest.mark.integration

NOON_MS = 1_767_268_800_000
HOUR_MS = 3_600_000
BAD: list[bytes | None] = [
    *(b"", b"{", b"[1]", b"\xff\xfe", None),
    b'{"symbol": "A", "price": 1, "timestamp": 1}',
    b'{"symbol": "AB", "price": -1.0, "timestamp": 1767268800000}',
    b'{"symbol": "AB", "price": NaN, "timestamp": 1767268800000}',
    b'{"symbol": "AB", "timestamp": 1767268800000}',
    b'{"symbol": "AB", "price": 1.0, "timestamp": 4102444800000}',
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    # Below the ports that the system gives to clients, which may come between.
    broker = Broker(tmp_path_factory.mktemp("kafka"), random.randrange(20_000, 32_000))
    broker.start()
    yield {"bootstrap.servers": broker.servers}
    broker.stop()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    running = session("local[2]")
    yield running
    running.stop()


def of(topic: str, max_symbols: int = 4) -> Feed:
    return replace(live.feed(max_symbols), topic=replace(PRICES, name=topic))


def to_lake(root: Path, feed: Feed, config: Mapping[str, Any]) -> Subscription:
    return Subscription(Lake(root), feed, config, memory_limit_mb=256)


def produce(config: Mapping[str, Any], topic: str, count: int, seed: int = 7) -> None:
    """Ticks of six symbols over four days: some late, some twice, and what is no tick."""
    chance = random.Random(seed)
    topics.ensure(config, [replace(PRICES, name=topic, retention=timedelta(days=36_500))])
    producer = Producer(dict(config) | {"acks": "all", "partitioner": "murmur2_random"})
    step = 4 * 24 * HOUR_MS // count
    for n in range(count):
        name = f"SIM{chance.choice('AAABBBCCCDEF')}"
        at = NOON_MS + n * step - chance.choice([0, 0, 0, 2 * HOUR_MS, 30 * 60_000])
        value = {"symbol": name, "price": chance.randint(1, 9999) / 8, "timestamp": at}
        text = json.dumps(value).encode()
        for _ in range(chance.choice([1, 1, 1, 1, 2])):
            producer.produce(topic, text, name.encode(), timestamp=at + chance.randint(0, 9))
        if chance.random() < 0.05:
            key = chance.choice([b"SIMA", b"other", None])
            producer.produce(topic, chance.choice(BAD), key, timestamp=NOON_MS)
        producer.poll(0)
    assert producer.flush(30) == 0


def rows(sub: Subscription, table: Table = c.LIVE_PRICES) -> list[Any]:
    with duck.cursor() as con:
        found = con.execute(f"from {sub.lake.snapshot(table).scan()} order by all")
        return found.fetchall()


def sums(sub: Subscription) -> list[Any]:
    """The ledger of each partition, added up."""
    counts = ", ".join(f"sum({n})" for n in ("consumed", "good", "late", "duplicate", "dead"))
    with duck.cursor() as con:
        ledger = sub.lake.snapshot(c.CONSUMED_SPANS).scan()
        return con.execute(
            f'select "partition", min("start"), max("stop"), {counts}, max(newest_event_at) '
            f"from {ledger} group by 1 order by 1"
        ).fetchall()


def consume(sub: Subscription) -> Subscription:
    held = sub.held()
    sub.consume(held, sub.unread(held))
    return sub


def test_spark_fills_the_tables_with_the_rows_that_duckdb_fills_them_with(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path
) -> None:
    feed = of("same")
    produce(servers, "same", 3000)
    want = consume(to_lake(tmp_path / "duck", feed, servers))
    got = to_lake(tmp_path / "spark", feed, servers)

    Stream(got, spark, tmp_path / "checkpoints").run(is_once=True)

    assert all(map(sum, zip(*(row[3:8] for row in sums(want)), strict=True)))
    assert sums(got) == sums(want)
    assert rows(got) == rows(want)
    assert rows(got, c.DEAD_LETTERS) == rows(want, c.DEAD_LETTERS)
    assert audit.faults(got.lake, feed) == []


def test_a_stream_that_is_over_ends_behind_the_batch_at_work(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path
) -> None:
    feed = of("over")
    produce(servers, "over", 3000)
    both = to_lake(tmp_path / "both", feed, servers)
    flow = Stream(both, spark, tmp_path / "checkpoints")
    flow.is_over = flow._at_work.locked
    flow.run()
    spark.sparkContext.setLogLevel("ERROR")
    assert flow.failure is None
    assert rows(both) == rows(consume(to_lake(tmp_path / "duck", feed, servers)))


def test_what_duckdb_takes_between_two_micro_batches_is_not_taken_twice(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path
) -> None:
    feed = of("between")
    both = to_lake(tmp_path / "both", feed, servers)
    flow = Stream(both, spark, tmp_path / "checkpoints")
    for seed in range(3):
        produce(servers, "between", 150, seed)
        if seed == 1:
            consume(both)
        else:
            flow.run(True)
    want = consume(to_lake(tmp_path / "duck", feed, servers))

    assert rows(both) == rows(want)
    assert sums(both) == sums(want)
    assert audit.faults(both.lake, feed) == []


def test_a_rival_that_takes_offsets_of_the_micro_batch_at_work_is_not_doubled(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = of("rival")
    produce(servers, "rival", 300)
    both = to_lake(tmp_path / "both", feed, servers)
    still = Stream._refuse_another
    held = both.held()
    half = [Span(s.partition, s.start, s.stop // 2) for s in both.unread(held)]

    def overtaken(flow: Stream) -> None:
        still(flow)
        both.consume(held, half)  # nothing, the second time

    monkeypatch.setattr(Stream, "_refuse_another", overtaken)
    Stream(both, spark, tmp_path / "checkpoints").run(True)
    want = consume(to_lake(tmp_path / "duck", feed, servers))

    assert rows(both) == rows(want)
    assert sums(both) == sums(want)
    assert audit.faults(both.lake, feed) == []


@pytest.mark.parametrize("loss", ["last commit", "checkpoint", "lake"])
def test_whichever_of_checkpoint_and_lake_loses_its_end_the_lake_is_right(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path, loss: str
) -> None:
    topic = f"loses-{loss.replace(' ', '-')}"
    feed = of(topic)
    sub = to_lake(tmp_path / "lake", feed, servers)
    flow = Stream(sub, spark, tmp_path / "checkpoints")
    for seed in (1, 2):
        produce(servers, topic, 150, seed)
        flow.run(True)
    if loss == "last commit":
        max(flow.checkpoint.glob("commits/[0-9]*"), key=lambda path: int(path.name)).unlink()
    elif loss == "checkpoint":
        shutil.rmtree(flow.checkpoint)
    else:
        for table in (feed.spans, feed.dead, feed.table):
            sub.lake.rollback(table, sub.lake.snapshot(table).version - 1)
    produce(servers, topic, 150, 3)
    flow.run(True)
    want = consume(to_lake(tmp_path / "duck", feed, servers))

    assert rows(sub) == rows(want)
    assert sums(sub) == sums(want)
    assert audit.faults(sub.lake, feed) == []


KILLED = """
    import os, signal, sys
    from datetime import timedelta
    from pathlib import Path
    from dataclasses import replace
    from tidemill.crypto import live
    from tidemill.crypto.topics import PRICES
    from tidemill.engines.spark import session
    from tidemill.kafka import spark_stream
    from tidemill.kafka.subscription import Subscription
    from tidemill.lake import stream
    from tidemill.lake.store import Lake

    servers, topic, root, checkpoints, place = sys.argv[1:]
    feed = replace(live.feed(4), topic=replace(PRICES, name=topic))
    commits = []
    add = stream.add

    def dying(lake, table, files, moves, is_first=False):
        if place == "before" and table is feed.spans and commits.count(table.name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        done = add(lake, table, files, moves, is_first)
        commits.append(table.name)
        last = {"ledger": feed.spans, "dead": feed.dead, "after": feed.table}.get(place)
        if table is last and commits.count(table.name) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    stream.add = dying
    sub = Subscription(Lake(Path(root)), feed, {"bootstrap.servers": servers}, 256)
    running = session("local[2]")
    spark_stream.Stream(sub, running, Path(checkpoints), batch_messages=150).run(True)
"""


PLACES = ["before", "ledger", "after"] if "TIDEMILL_FAULTS" in os.environ else ["ledger"]


@pytest.mark.parametrize("place", PLACES)
def test_a_driver_killed_in_a_micro_batch_loses_and_doubles_nothing(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path, place: str
) -> None:
    topic = f"killed-{place}"
    feed = of(topic)
    produce(servers, topic, 400)
    sub = to_lake(tmp_path / "lake", feed, servers)
    script = [sys.executable, "-c", textwrap.dedent(KILLED), servers["bootstrap.servers"], topic]
    done = subprocess.run(
        [*script, str(sub.lake.root), str(tmp_path / "checkpoints"), place],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    taken = sum(row[3] for row in sums(sub))
    assert 0 < taken < sum(high for _, high in sub.held().marks.values())

    Stream(sub, spark, tmp_path / "checkpoints").run(True)
    want = consume(to_lake(tmp_path / "duck", feed, servers))

    assert rows(sub) == rows(want)
    assert sums(sub) == sums(want)
    assert audit.faults(sub.lake, feed) == []


def test_a_lake_rolled_back_under_a_running_stream_ends_it_with_what_to_do(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path
) -> None:
    feed = of("under")
    produce(servers, "under", 300)
    sub = to_lake(tmp_path / "lake", feed, servers)

    def undo(_: Taken) -> None:
        for table in (feed.spans, feed.dead, feed.table):
            sub.lake.rollback(table, 0)

    flow = Stream(sub, spark, tmp_path / "checkpoints", told=undo, batch_messages=150)
    with pytest.raises(TidemillError, match="start the stream again"):
        flow.run(True)

    Stream(sub, spark, tmp_path / "checkpoints").run(True)
    assert sum(row[3] for row in sums(sub)) == sum(high for _, high in sub.held().marks.values())
    assert audit.faults(sub.lake, feed) == []


def test_spark_makes_the_windows_that_duckdb_makes_of_a_stream_of_events(
    servers: Mapping[str, Any], spark: Any, tmp_path: Path
) -> None:
    in_spark = Shop.on(servers["bootstrap.servers"], tmp_path / "spark", partitions=2)
    in_duckdb = replace(
        in_spark,
        clicks=replace(in_spark.clicks, lake=Lake(tmp_path / "duck" / "lake", None, events.TABLES)),
    )
    flow = Stream(in_spark.clicks, spark, tmp_path / "checkpoints")
    kinds, brands = ("view", "cart", "purchase", "x"), (None, "a", "O'B\n<b>")
    for start in (0, 200):
        values: list[bytes | None] = [
            click(
                NOON_MS + 300 * n - 15_000 * (n % 23 == 0),
                kinds[n % 4],
                price=n / 100,
                brand=brands[n % 3],
            )
            for n in range(start, start + 200)
        ]
        in_spark.send([*values[:120], b"{"], partition=0)
        in_spark.send(values[120:], partition=1)
        flow.run(is_once=True)
        windowed(in_spark.clicks, SparkEngine("local[2]"))
        in_duckdb.take()

    for shop in (in_spark, in_duckdb):
        shop.prove()
    for table in (*events.WINDOWS, events.LATE_EVENTS):
        found = in_spark.rows(table)
        assert found
        assert found == in_duckdb.rows(table), table.id
