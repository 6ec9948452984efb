"""Events from a topic to windows in the lake, beside a hand-written script, and in the live tail.

The sides read the same topic on a broker of their own; their windows must be equal, in counts and
in cents. The best of a side's runs counts, but of Spark's, which runs once.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tidemill import compose
from tidemill.bench import events_bare, events_tail
from tidemill.bench.speed import Figure
from tidemill.engines.base import Engine
from tidemill.engines.duck import DuckEngine, connection
from tidemill.errors import InputError, TidemillError
from tidemill.events import contracts as c
from tidemill.events import messages, simulator
from tidemill.events.following import windowed
from tidemill.events.live import FEED
from tidemill.events.shop import Shop
from tidemill.events.topics import EVENTS
from tidemill.kafka import topics
from tidemill.kafka.producer import Sender
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.topics import Topic
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.processes import free_port
from tidemill.settings import Settings

LEAST = 1_000
RUNS = 3
BATCH = 250_000
"""Events that one run of the sensor takes."""

KEY: Literal["user_id"] = "user_id"
"""Users are spread over the partitions, so that a batch is as long in each of them."""
SPARK_EVENTS = 200_000
RATE = 1_000
"""Events a second by their own times: a backlog of as many seconds as there are thousands."""

LIVE = ((1_000, 1_000.0), (10_000, 2_000.0))
"""Events a second, and how many ms the live tail may be behind in 99 of 100 cases."""

WINDOWS = {
    c.EVENT_COUNTS: "event_type, epoch_ms(window_start), event_count, {total_value}",
    c.BRAND_METRICS: "brand, event_type, epoch_ms(window_start), event_count, {total_value}, "
    "{revenue}",
    c.CATEGORY_METRICS: "top_category, epoch_ms(window_start), views, carts, purchases, events, "
    "{revenue}",
}
"""What is compared of each table; money in cents."""


@dataclass
class Report:
    """What a run found.

    Attributes:
        events: How many went through the tables.
        cores: Of this machine.
        figures: What was measured.
        compared: Windows that were equal on all sides, by table.
        notes: What else is to be known.
    """

    events: int
    cores: int
    figures: list[Figure] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        figures = [asdict(f) | {"ratios": f.ratios, "is_met": f.is_met} for f in self.figures]
        return asdict(self) | {"figures": figures}

    def lines(self) -> list[str]:
        """The report as text."""
        head = (
            f"{self.events:,} events keyed by {KEY}, {self.cores} cores, a broker of its own on "
            f"the same machine; rates are the best of {RUNS}, Spark's of one run."
        )
        same = ", ".join(f"{number:,} of {table}" for table, number in self.compared.items())
        told = [head, *(figure.line() for figure in self.figures)]
        return [*told, f"Equal on all sides, in counts and cents: {same} windows.", *self.notes]


@dataclass(frozen=True)
class Backlog:
    """A topic full of events, and who reads it.

    Attributes:
        settings: Where the broker is; homes are made in its home.
        config: How clients connect, in librdkafka's names.
        topic: What is read.
        events: How many it holds.
        batch: How many are taken at a time.
    """

    settings: Settings
    config: Mapping[str, Any]
    topic: Topic
    events: int
    batch: int

    def clicks(self, name: str) -> Subscription:
        """What takes the topic into a lake of its own, in a folder of that name."""
        home = self.settings.home / name
        opened = compose.clicks(replace(self.settings, home=home, lake=home / "lake"))
        return replace(opened, feed=replace(FEED, topic=self.topic))


def run(
    events: int,
    folder: Path,
    live: Sequence[tuple[int, float]] = LIVE,
    seconds: float = events_tail.SECONDS,
    batch: int = BATCH,
    spark_events: int = SPARK_EVENTS,
) -> Report:
    """Measure everything.

    Args:
        events: How many are produced and taken.
        folder: Empty; everything is in it.
        live: Events a second, and the target of each in ms, of the live tail.
        seconds: How long each of these lasts.
        batch: Events of a run of the sensor.
        spark_events: How many Spark takes at most; 0: Spark is left out.

    Raises:
        InputError: Too few events to say something.
        TidemillError: A side lost an event, or made other windows.
    """
    if events < LEAST:
        raise InputError(f"expected at least {LEAST:,} events, found {events:,}")
    settings = replace(Settings.current(folder), kafka_servers="", kafka_port=free_port())
    report = Report(events, os.cpu_count() or 0)
    broker = compose.broker(settings)
    broker.start()
    try:
        with backlog(settings, events, batch) as full:
            sustained(full, report)
            if spark_events >= events:
                sparked(full, report)
        if not spark_events:
            report.notes.append("The Spark path was left out.")
        elif spark_events < events:
            with backlog(settings, max(LEAST, spark_events), batch) as some:
                sparked(some, report)
        for rate, target_ms in live:
            tailed(settings, report, rate, target_ms, seconds)
    finally:
        broker.stop()
    return report


@contextmanager
def backlog(settings: Settings, events: int, batch: int) -> Iterator[Backlog]:
    """A topic with a simulated clickstream, which is taken away at the end."""
    topic = replace(EVENTS, name=f"bench_events_{time.time_ns()}")
    config = compose.kafka(settings)
    topics.ensure(config, [topic])
    told = simulator.Clickstream(Shop(), events, RATE, key=KEY, partitions=topic.partitions)
    now_ms = time.time_ns() // 1_000_000
    frames = simulator.events(told, now_ms - 1000 * events // RATE, size=20_000)
    with (
        connection(settings.memory_limit_mb) as con,
        Sender({**config, "log_level": 0}, topic.name) as sender,
    ):
        for made in messages.simulated(con, frames, told.key):
            sender.send_all(made.pairs(slice(None), now_ms))
        acknowledged = sender.close().acknowledged
    if acknowledged != events:
        raise TidemillError(f"{acknowledged} of {events} events were acknowledged")
    try:
        yield Backlog(settings, config, topic, events, batch)
    finally:
        topics.delete(config, topic.name)


@dataclass(frozen=True)
class Taken:
    """What a run took.

    Attributes:
        seconds: From the first question to the last commit.
        cpu_s: What all threads of this process worked meanwhile.
        reading_s: Of the seconds, those of reading, judging and committing the events.
        batches: In how many runs of the sensor.
    """

    seconds: float
    cpu_s: float
    reading_s: float = 0.0
    batches: int = 1


def sustained(full: Backlog, report: Report) -> None:
    """The whole topic into the windowed tables, in batches as the sensor takes them."""
    runs: list[Taken] = []
    bare: list[Taken] = []
    for n in range(RUNS):
        clicks = full.clicks(f"ours{n}")
        runs.append(ours(full, clicks))
        folder = full.settings.home / f"bare{n}"
        started, used = time.perf_counter(), time.process_time()
        events_bare.windows(full.config, full.topic, full.events, full.batch, folder)
        bare.append(Taken(time.perf_counter() - started, time.process_time() - used))
        report.compared = compare(full, clicks, folder)
        shutil.rmtree(full.settings.home / f"ours{n}")
        shutil.rmtree(folder)
    best, script = (min(all_, key=lambda taken: taken.seconds) for all_ in (runs, bare))
    found = Figure(
        "topic to windowed tables, DuckDB",
        full.events / best.seconds,
        "events/s",
        50_000,
        bare={"bare script": full.events / script.seconds},
    )
    reading = Figure("  of which reading and committing", best.reading_s, "s", None, False)
    rest = Figure("  of which windows", best.seconds - best.reading_s, "s", None, False)
    cpu = [min(taken.cpu_s for taken in all_) for all_ in (runs, bare)]
    report.figures += [found, reading, rest]
    report.notes.append(
        f"The DuckDB path took {best.batches} batches of {full.batch:,} events at most, and "
        f"{cpu[0]:.1f} s of CPU time; the bare script, which keeps no offsets and checks nothing, "
        f"{cpu[1]:.1f} s: where others use the machine too, the steadier figures."
    )


def ours(full: Backlog, clicks: Subscription) -> Taken:
    """Batches through consume and windows until nothing is left."""
    engine = DuckEngine(full.settings.memory_limit_mb)
    started, used = time.perf_counter(), time.process_time()
    reading, batches, rows = 0.0, 0, 0
    while True:
        began = time.perf_counter()
        held = clicks.held()
        spans = clicks.unread(held, full.batch // len(held.marks))
        if not spans:
            break
        rows += clicks.consume(held, spans).rows
        reading += time.perf_counter() - began
        windowed(clicks, engine)
        batches += 1
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - used
    engine.close()
    if rows != full.events:
        raise TidemillError(f"{rows} of {full.events} events became rows")
    return Taken(seconds, cpu_s, reading, batches)


def compare(full: Backlog, clicks: Subscription, folder: Path) -> dict[str, int]:
    """How many windows two sides have alike, by table.

    Raises:
        TidemillError: One of them differs, or there is none.
    """
    found = {}
    for table, shown in WINDOWS.items():
        cents = {n: f"round(100 * {n})::bigint" for n in ("total_value", "revenue")}
        columns = shown.format(**cents)
        mine = f"select {columns} from {clicks.lake.snapshot(table).scan()}"
        other = f"select {columns} from {events_bare.relation(folder, table.name)}"
        found[table.id] = alike(table, mine, other)
    return found


def alike(table: Table, one: str, other: str) -> int:
    """How many rows two queries have, which must be the same."""
    with duck.cursor() as con:
        (rows, differ) = con.execute(
            f"with one as ({one}), other as ({other}) select (select count(*) from one), "
            "(select count(*) from ((from one except all from other) "
            "union all (from other except all from one)))"
        ).fetchall()[0]
    if differ or not rows:
        raise TidemillError(f"{table.id}: {differ} of {rows} windows differ from the bare script's")
    return int(rows)


def sparked(full: Backlog, report: Report) -> None:
    """The topic through Structured Streaming into the windowed tables; once."""
    from tidemill.engines.spark import SparkEngine, session

    master = full.settings.spark_master
    try:
        started = session(master)
    except Exception as error:
        report.notes.append(f"The Spark path was left out: {str(error).splitlines()[0]}")
        return
    try:
        seconds, reading_s = _streamed(full, started, SparkEngine(master))
    finally:
        started.stop()
    name = f"topic to windowed tables, Spark, {full.events:,}"
    report.figures += [
        Figure(name, full.events / seconds, "events/s"),
        Figure("  of which reading and committing", reading_s, "s", None, False),
        Figure("  of which windows", seconds - reading_s, "s", None, False),
    ]
    report.notes.append("Spark's time is without its start.")


def _streamed(full: Backlog, session: Any, engine: Engine) -> tuple[float, float]:
    """Seconds in all, and of reading."""
    from tidemill.kafka.spark_stream import Stream

    clicks = full.clicks("spark")
    stream = Stream(clicks, session, full.settings.home / "points", batch_messages=full.batch)
    started = time.perf_counter()
    stream.run(is_once=True)
    reading_s = time.perf_counter() - started
    windowed(clicks, engine)
    seconds = time.perf_counter() - started
    folder = full.settings.home / "bare"
    events_bare.windows(full.config, full.topic, full.events, full.batch, folder)
    compare(full, clicks, folder)
    return seconds, reading_s


def tailed(settings: Settings, report: Report, rate: int, target_ms: float, seconds: float) -> None:
    """From an event's sending to the live tail, and to its final window in the lake."""
    found = events_tail.measured(settings, rate, seconds)
    name = f"live tail, {found.per_second:,.0f} events/s"
    for what, delays, target in (
        (name, found.update, target_ms),
        ("  final, from the event", found.final, None),
        ("  final, from the window's end", found.closing, None),
    ):
        if delays is None:
            report.notes.append(f"{name}: no event was in a final window by the end.")
            continue
        report.figures += [
            Figure(f"{what}: p50", delays.p50_ms, "ms", None, False),
            Figure(f"{what}: p99", delays.p99_ms, "ms", target, False),
            Figure(f"{what}: max", delays.max_ms, "ms", None, False),
        ]
    report.notes.append(
        f"{name}: three tables were asked for {found.looks:,} times, {found.look_ms:.0f} ms each, "
        f"and the lake took over {found.commits} times; a window is final when the watermark, 10 s "
        "behind, has passed its end and the lake has taken that over."
    )
