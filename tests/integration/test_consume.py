"""What a real broker holds is in the lake once, whatever happens on the way."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tests.integration.desk import Desk
from tests.unit.kafka.messages import NOON_MS, tick
from tidemill.errors import TidemillError
from tidemill.kafka import audit, batch, ledger, reader, topics
from tidemill.kafka import consume as consuming
from tidemill.kafka import feed as feeds
from tidemill.kafka.broker import Broker
from tidemill.kafka.spans import OffsetsLost, Span
from tidemill.lake import commit, stream

pytestmark = pytest.mark.integration


@pytest.fixture
def desk(broker: Broker, tmp_path: Path) -> Desk:
    return Desk.at(broker, tmp_path)


def delete_before(desk: Desk, offset: int, partition: int = 0) -> None:
    """What retention does, at once."""
    client = AdminClient(desk.config)
    place = TopicPartition(desk.feed.topic.name, partition, offset)
    (done,) = client.delete_records([place]).values()
    done.result()


def test_every_message_is_good_late_duplicate_or_dead_once(desk: Desk) -> None:
    desk.ticks(range(100))
    desk.ticks(range(50), partition=1, symbol="ETHUSDT")
    odd: list[tuple[bytes | None, bytes | None]] = [
        (None, tick(at=NOON_MS + 200)),
        (b"BTCUSDT", tick(at=NOON_MS)),
        (b"BTCUSDT", tick(at=NOON_MS - 4_000_000)),
        (b"BTCUSDT", None),
        (b"BTCUSDT", b""),
        (b"\xff", b"\xff\xfe"),
        (None, tick(price=-1)),
        (None, tick(at=NOON_MS + 3_600_001)),
        (None, tick(symbol="NEWUSDT", exchange={"name": "x"})),
    ]
    desk.produce(odd)
    (done,) = desk.catch_up()
    assert desk.prove() == {
        "consumed": 159,
        "good": 152,
        "late": 1,
        "duplicate": 1,
        "dead": 5,
        "absent": 0,
        "lost": 0,
    }
    assert (done.rows, done.dates) == (153, ("2026-01-01",))
    kept = desk.query('select key, value from {dead} order by "offset"')
    assert kept == [odd[n] for n in (3, 4, 5, 6, 7)]
    assert desk.catch_up() == []


def test_a_span_asked_for_again_or_overlapping_is_taken_once(desk: Desk) -> None:
    desk.ticks(range(100))
    held = desk.subscription.held()
    first = desk.subscription.consume(held, [Span(0, 0, 60)])
    assert desk.subscription.consume(held, [Span(0, 0, 60)]) == consuming.Consumed()
    assert desk.subscription.consume(held, [Span(0, 10, 40)]) == consuming.Consumed()
    second = desk.subscription.consume(held, [Span(0, 30, 100)])
    assert [(a.start, a.stop, a.good) for d in (first, second) for a in d.accounts] == [
        (0, 60, 60),
        (60, 100, 40),
    ]
    assert desk.prove()["good"] == 100


def test_a_span_that_would_leave_a_hole_is_refused(desk: Desk) -> None:
    desk.ticks(range(100))
    held = desk.subscription.held()
    with pytest.raises(TidemillError, match="offsets 0 to 9 come before 10 and were not consumed"):
        desk.subscription.consume(held, [Span(0, 10, 20)])
    desk.subscription.consume(held, [Span(0, 0, 20)])
    with pytest.raises(TidemillError, match="ask for a span from 20 on"):
        desk.subscription.consume(held, [Span(0, 21, 30)])
    desk.catch_up()
    assert desk.prove()["good"] == 100


def test_two_that_take_the_same_span_at_once_take_it_once(desk: Desk) -> None:
    desk.ticks(range(2000))
    held = desk.subscription.held()
    gate = threading.Barrier(3)
    done: list[consuming.Consumed] = []

    def work() -> None:
        gate.wait()
        done.append(desk.subscription.consume(held, [Span(0, 0, 2000)]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(d.rows for d in done) == [0, 0, 2000]
    assert desk.prove()["good"] == 2000
    files = list(desk.lake.folder(desk.feed.table).rglob("*.parquet"))
    assert len(files) == 1, "what the slower ones wrote is left behind"


CRASHES: list[tuple[Any, str, int]] = [
    (reader._Reading, "frame", 1),  # while reading
    (consuming.Chunks, "_bury", 1),  # between rows and dead letters
    (consuming.Chunks, "_count", 1),
    (stream, "add", 1),  # before the ledger's commit
    (stream, "add", 2),  # before that of the dead letters
    (stream, "add", 3),  # before that of the rows
    (commit, "commit_files", 1),
]


@pytest.mark.parametrize(("where", "what", "nth"), CRASHES)
@pytest.mark.parametrize("is_after", [False, True])
def test_an_error_at_any_step_loses_nothing_and_doubles_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: Any, what: str, nth: int, is_after: bool
) -> None:
    desk.ticks(range(40))
    desk.produce([(None, b"not json"), (None, tick(at=NOON_MS))])
    real, calls = getattr(where, what), iter(range(1, 1000))

    def broken(*args: Any, **named: Any) -> Any:
        is_the_one = next(calls) == nth
        if is_the_one and not is_after:
            raise OSError("no space left on device")
        found = real(*args, **named)
        if is_the_one:
            raise OSError("no space left on device")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(where, what, broken)
        with pytest.raises(OSError, match="no space left"):
            desk.catch_up()
    desk.ticks(range(40, 60))
    desk.catch_up()
    counted = desk.prove()
    assert (counted["good"], counted["duplicate"], counted["dead"]) == (60, 1, 1)


def test_batches_that_a_crash_left_behind_are_rolled_forward_in_their_order(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ticks(range(90))
    held = desk.subscription.held()
    with monkeypatch.context() as stuck:
        stuck.setattr(batch, "roll_forward", lambda lake, feed: 0)
        for start in (0, 30, 60):
            desk.subscription.consume(held, [Span(0, start, start + 30)])
    assert {f["fault"] for f in desk.faults()} == {
        "live_prices has not reached the ledger",
        "dead_letters has not reached the ledger",
    }
    told = feeds._ledger
    with monkeypatch.context() as shuffled:
        shuffled.setattr(
            feeds, "_ledger", lambda lake, feed, where: sorted(told(lake, feed, where))[::-1]
        )
        shuffled.setattr(feeds, "_staged", feeds._staged)
        assert feeds.roll_forward(desk.lake, desk.feed) == 3
    assert desk.prove()["good"] == 90


def test_tables_that_were_rolled_back_are_filled_again_from_the_ledger(desk: Desk) -> None:
    desk.ticks(range(30))
    desk.catch_up(limit=10)
    desk.lake.rollback(desk.feed.table, 0)
    assert {f["fault"] for f in desk.faults()} == {"live_prices has not reached the ledger"}
    desk.catch_up()
    assert feeds.roll_forward(desk.lake, desk.feed) in (0, 3)
    assert desk.prove()["good"] == 30


def test_a_rival_that_rolled_forward_meanwhile_is_no_fault(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ticks(range(60))
    held = desk.subscription.held()
    with monkeypatch.context() as stuck:
        stuck.setattr(batch, "roll_forward", lambda lake, feed: 0)
        for start in (0, 30):
            desk.subscription.consume(held, [Span(0, start, start + 30)])
    behind = feeds._behind(desk.lake, desk.feed)
    feeds.roll_forward(desk.lake, desk.feed)
    monkeypatch.setattr(feeds, "_behind", lambda lake, feed: behind)
    feeds.roll_forward(desk.lake, desk.feed)
    assert desk.prove()["good"] == 60


def test_an_event_told_again_in_a_later_run_is_a_duplicate_in_any_time_zone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        for _ in range(2):
            desk.ticks(range(20))
            desk.catch_up()
    finally:
        monkeypatch.undo()
        time.tzset()
    counted = desk.prove()
    assert (counted["good"], counted["duplicate"]) == (20, 20)


def test_a_topic_made_again_is_read_from_its_start(desk: Desk) -> None:
    desk.ticks(range(30))
    desk.catch_up()
    old = desk.subscription.held()
    client = AdminClient(desk.config)
    (gone,) = client.delete_topics([desk.feed.topic.name]).values()
    gone.result()
    while desk.feed.topic.name in topics.described(desk.config):
        time.sleep(0.1)
    topics.ensure(desk.config, [desk.feed.topic])
    desk.ticks(range(20, 70))
    with pytest.raises(TidemillError, match="was deleted and created again: expected the topic"):
        desk.subscription.consume(old, [Span(0, 30, 50)])
    desk.catch_up()
    counted = desk.prove()
    assert (counted["good"], counted["duplicate"]) == (70, 10)
    assert len(desk.query("select distinct topic_id from {spans}")) == 2


def test_what_retention_took_is_told_and_can_be_given_up(desk: Desk) -> None:
    desk.ticks(range(50))
    desk.catch_up(limit=50)
    held = desk.subscription.held()
    assert ledger.accept_loss(desk.lake, desk.feed, held) == []
    desk.ticks(range(50, 200))
    desk.ticks(range(10), partition=1, symbol="ETHUSDT")
    delete_before(desk, 120)
    with pytest.raises(OffsetsLost, match="offsets 50 to 119 were not read") as told:
        desk.catch_up()
    assert f"'tidemill accept-loss {desk.feed.topic.name}'" in str(told.value)
    with pytest.raises(OffsetsLost, match="does not hold offsets 50 to 199"):
        desk.subscription.consume(held, [Span(0, 50, 200)])
    assert desk.counted()["consumed"] == 50

    held = desk.subscription.held()
    assert ledger.accept_loss(desk.lake, desk.feed, held) == [Span(0, 50, 120)]
    assert ledger.accept_loss(desk.lake, desk.feed, held) == []
    desk.catch_up()
    counted = desk.prove()
    assert (counted["good"], counted["lost"]) == (140, 70)


def test_offsets_without_a_message_are_an_error_unless_the_topic_has_gaps(desk: Desk) -> None:
    settings = {"transactional.id": desk.feed.topic.name}
    producer = Producer(desk.config | settings)
    producer.init_transactions()
    for is_kept in (True, False, True):
        producer.begin_transaction()
        for n in range(5):
            at = NOON_MS + n + 10 * is_kept + producer_count(desk)
            producer.produce(desk.feed.topic.name, tick(at=at), b"BTCUSDT", 0)
        producer.flush()  # what is still waiting would never be sent where it is aborted
        if is_kept:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    while producer_count(desk) < 18:  # the last mark is written after its commit was answered
        time.sleep(0.05)
    with pytest.raises(TidemillError, match="8 of the offsets 0 to 17 hold no message") as told:
        desk.catch_up()
    assert "declare the topic with has_gaps; else messages were lost" in str(told.value)
    assert desk.counted()["consumed"] == 0

    gaps = replace(desk, feed=replace(desk.feed, topic=replace(desk.feed.topic, has_gaps=True)))
    gaps.catch_up()
    counted = gaps.prove()
    assert (counted["good"], counted["absent"]) == (10, 8)


def producer_count(desk: Desk) -> int:
    """How many offsets were given out, so that each round of ticks has times of its own."""
    return sum(high for _, high in desk.subscription.held().marks.values())


def test_a_clock_that_jumps_makes_dead_letters_of_what_it_misdates_alone(desk: Desk) -> None:
    client = AdminClient(desk.config)
    kept = [
        ConfigEntry(
            "message.timestamp.after.max.ms",
            str(2**63 - 1),
            incremental_operation=AlterConfigOpType.SET,
        )
    ]
    resource = ConfigResource(ResourceType.TOPIC, desk.feed.topic.name, incremental_configs=kept)
    (altered,) = client.incremental_alter_configs([resource]).values()
    altered.result()
    for n, at_ms in enumerate([1, NOON_MS, NOON_MS + 10**10, 2**62]):
        desk.produce([(b"BTCUSDT", tick(at=NOON_MS + n))], at_ms=at_ms)
    desk.catch_up()
    counted = desk.prove()
    assert (counted["good"], counted["dead"]) == (2, 2)
    errors = desk.query('select error from {dead} order by "offset"')
    assert [error.split(",")[0] for (error,) in errors] == [
        "timestamp: expected at most 3600000 ms after the message's own time",
        "message's own time: expected a time in the years 1900 to 2200",
    ]


def test_symbols_over_the_cap_are_dead_letters_and_known_ones_go_on(
    broker: Broker, tmp_path: Path
) -> None:
    desk = Desk.at(broker, tmp_path, max_symbols=3)
    for n, symbol in enumerate(["AA", "BB", "CC", "DD", "AA", "EE"]):
        desk.produce([(symbol.encode(), tick(symbol, at=NOON_MS + n))])
    desk.catch_up(limit=2)
    assert desk.prove()["good"] == 4
    kept = desk.query('select error, key, value from {dead} order by "offset"')
    assert [(key, value) for _, key, value in kept] == [
        (b"DD", tick("DD", at=NOON_MS + 3)),
        (b"EE", tick("EE", at=NOON_MS + 5)),
    ]
    assert [error for error, _, _ in kept] == [
        "symbol: expected one of the 3 that may be registered (TIDEMILL_MAX_SYMBOLS), found the "
        f"new one {name}"
        for name in ("DD", "EE")
    ]


def test_huge_messages_are_dead_letters_in_bounded_memory(broker: Broker, tmp_path: Path) -> None:
    desk = Desk.at(broker, tmp_path, partitions=1)
    client = AdminClient(desk.config)
    size = ConfigEntry("max.message.bytes", "20000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, desk.feed.topic.name, incremental_configs=[size])
    (altered,) = client.incremental_alter_configs([resource]).values()
    altered.result()
    huge = b'{"symbol": "' + b"A" * (10 << 20) + b'"}'
    desk.produce([(None, huge)] * 100)
    desk.ticks(range(10))
    peak = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss)

    before = psutil.Process().memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    desk.catch_up()
    ended.set()
    watcher.join()
    counted = desk.prove()
    assert (counted["good"], counted["dead"]) == (10, 100)
    assert desk.query("select min(octet_length(value)) from {dead}") == [(len(huge),)]
    assert peak[0] - before < 900 << 20, "1 GB of messages must not all be held at once"


FULL = """
import resource, sys
from pathlib import Path
from tests.integration.desk import Desk, feed_of
from tidemill.crypto.topics import PRICES
from tidemill.lake.store import Lake
from dataclasses import replace
servers, name, home = sys.argv[1:]
topic = replace(PRICES, name=name, partitions=2)
desk = Desk(servers, Lake(Path(home) / "lake"), feed_of(topic))
held = desk.subscription.held()
desk.subscription.unread(held)
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
desk.catch_up()
"""


def test_a_full_disk_is_told_leaves_nothing_half_and_the_next_run_goes_on(
    desk: Desk, tmp_path: Path
) -> None:
    desk.ticks(range(20))
    desk.catch_up()
    desk.ticks(range(20, 20_000))
    command = [sys.executable, "-c", FULL, desk.servers, desk.feed.topic.name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1], done.stderr
    files = list(desk.lake.folder(desk.feed.table).rglob("*.parquet"))
    assert len(files) == 1, "a half-written file is left behind"
    assert desk.faults() == []
    desk.catch_up()
    assert desk.prove()["good"] == 20_000


def test_the_audit_finds_every_fault_that_is_made_on_purpose(desk: Desk) -> None:
    desk.ticks(range(30))
    desk.produce([(None, b"x")])
    desk.catch_up(limit=10)
    assert desk.faults() == []
    tables = {"rows": desk.feed.table, "dead": desk.feed.dead, "spans": desk.feed.spans}

    def found(name: str, sql: str) -> list[tuple[Any, ...]]:
        """What the audit tells when a table's rows are these instead, the offsets as they are."""
        table = tables[name]
        version = desk.lake.snapshot(table).version
        rows = pl.DataFrame(
            desk.query(sql),
            schema=[c.name for c in table.columns],
            orient="row",
            infer_schema_length=None,
        )
        dates = [{"date": d} for d in ("2026-01-01",)] if table.partition_by else [{}]
        desk.lake.replace_frame(table, rows, dates)
        told = desk.faults()
        desk.lake.rollback(table, version)
        assert desk.faults() == []
        return sorted((f["fault"], f.get("start", -1), f["expected"], f["found"]) for f in told)

    assert found("rows", 'from {rows} where "offset" <> 3') == [("rows", 0, 10, 9)]
    assert found("rows", 'from {rows} union all from {rows} where "offset" = 12') == [
        ("rows", 10, 10, 11)
    ]
    doubled = 'select * replace (if("offset" = 13, 12, "offset") as "offset") from {rows}'
    assert found("rows", doubled) == [("rows", 10, 10, 10)]
    beyond = 'select * replace (if("offset" = 29, 500, "offset") as "offset") from {rows}'
    assert found("rows", beyond) == [("rows", 20, 10, 9), ("rows", 30, 0, 1)]
    assert found("dead", "from {dead} where false") == [("dead letters", 30, 1, 0)]
    assert [f[0] for f in found("spans", 'from {spans} where "start" <> 10')] == ["hole", "rows"]
    longer = 'select * replace (if("start" = 10, 9, "start") as "start") from {spans}'
    assert {f[0] for f in found("spans", longer)} >= {"does not add up", "overlap"}
    last = 'from {spans} where "start" <> 30'
    assert {f[0] for f in found("spans", last)} >= {
        "dead letters",
        "consumed_spans has not reached the ledger",
    }
    wrong = 'select * replace (if("start" = 0, 11, good) as good) from {spans}'
    assert {f[0] for f in found("spans", wrong)} >= {"does not add up", "rows"}


def test_an_audit_of_what_one_took_is_not_misled_by_what_others_take_meanwhile(
    desk: Desk,
) -> None:
    desk.ticks(range(40))
    held = desk.subscription.held()
    desk.subscription.consume(held, [Span(0, 0, 20)])
    desk.subscription.consume(held, [Span(0, 20, 40)])
    stop = threading.Event()

    def work() -> None:
        n = 40
        while not stop.is_set():
            desk.ticks(range(n, n + 5))
            desk.catch_up()
            n += 5

    rival = threading.Thread(target=work)
    rival.start()
    try:
        for _ in range(25):
            topic = desk.feed, held.topic_id
            assert audit.faults(desk.lake, *topic, [Span(0, 20, 40)]) == []
            assert audit.faults(desk.lake, *topic, [Span(0, 25, 37)]) == []
            assert desk.faults() == []
    finally:
        stop.set()
        rival.join()


def test_what_retention_takes_of_a_partition_before_its_first_read_is_seen(desk: Desk) -> None:
    desk.ticks(range(5))
    desk.catch_up()
    desk.ticks(range(100, 200), partition=1, symbol="ETHUSDT")
    delete_before(desk, 60, partition=1)
    with pytest.raises(OffsetsLost, match="partition 1: offsets 0 to 59 were not read"):
        desk.catch_up()
    held = desk.subscription.held()
    assert ledger.accept_loss(desk.lake, desk.feed, held) == [Span(1, 0, 60)]
    desk.catch_up()
    assert desk.faults() == []
    assert desk.lake.snapshot(desk.feed.table).rows == 45
