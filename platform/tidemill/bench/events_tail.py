"""How long after it is sent an event is in the windows of the live tail, and in final ones.

Who sends, and who takes the events into the lake, are processes of their own, as they are in use;
the tail and who looks at its windows share one, as in the dashboard. Times are by the machine's
clock, which is the same for all of them.
"""

import multiprocessing
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from tidemill import compose
from tidemill.bench.tail import percentile
from tidemill.errors import TidemillError
from tidemill.events import contracts as c
from tidemill.events.following import PUBLISHED, windowed
from tidemill.events.live import FEED
from tidemill.events.topics import EVENTS
from tidemill.kafka import topics
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.tail import Tail
from tidemill.kafka.topics import Topic
from tidemill.settings import Settings
from tidemill.windows.tail import fold_of

if TYPE_CHECKING:
    import polars as pl

SECONDS = 30.0
WARM_S = 3.0
LOOK_S = 0.1
COMMIT_S = 5.0
LONGEST_S = 60.0
SIZE_MS = 2_000


@dataclass(frozen=True)
class Delays:
    """Times of some events, in ms: half, 99 of 100, and all of them are within."""

    n: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, times_ms: Iterable[float]) -> Self | None:
        """From all of them; None where there is none."""
        found = sorted(times_ms)
        if not found:
            return None
        return cls(len(found), percentile(found, 0.5), percentile(found, 0.99), found[-1])


@dataclass(frozen=True)
class Measured:
    """What a run showed.

    Attributes:
        update: From when a message was made to when all three tables of windows, asked for, had it.
        final: From an event's own time to when the lake had its window for good; None where it had
            no such window by the end.
        closing: The same, from the window's end.
        per_second: Events sent a second, which a busy machine may keep below what was asked.
        looks: How often the windows were asked for.
        look_ms: How long an answer took, on average.
        commits: How often the lake took events over meanwhile.
    """

    update: Delays | None
    final: Delays | None
    closing: Delays | None
    per_second: float
    looks: int
    look_ms: float
    commits: int


@dataclass
class _Look:
    """Who looks at the windows: what they had, and when.

    Attributes:
        seen: When (epoch ms), and the next offset of each partition by then.
        taken_s: What the answers took.
    """

    seen: "list[tuple[float, Mapping[int, int]]]" = field(default_factory=list)
    taken_s: float = 0.0

    def look(self, tail: Tail) -> int:
        """Ask for all three tables, of one moment; how many messages they have."""
        started = time.perf_counter()
        state = tail.state()
        for windows in PUBLISHED:
            state.windows(windows.table)
        self.taken_s += time.perf_counter() - started
        self.seen.append((time.time() * 1000, state.position))
        return sum(state.position.values())


def measured(settings: Settings, rate: int, seconds: float = SECONDS) -> Measured:
    """Send events at a steady rate, and look when each is in the windows.

    Args:
        settings: Where the broker is; a topic of its own is made, and taken away at the end.
        rate: Events a second.
        seconds: How long; the first three seconds more are not counted.

    Raises:
        TidemillError: A part fails, or events do not show.
    """
    topic = replace(EVENTS, name=f"bench_tail_{time.time_ns()}")
    config = compose.kafka(settings)
    topics.ensure(config, [topic])
    count = round(rate * (WARM_S + seconds))
    home = settings.home / topic.name
    settings = replace(settings, home=home, lake=home / "lake")
    try:
        clicks = _clicks(settings, config, topic)
        folds = [fold_of(windows, clicks.feed) for windows in PUBLISHED]
        with Tail(clicks, folds) as tail:
            tail.state()
            looked, finals = _observed(settings, config, tail, topic, rate, count)
            _refuse_others(tail, count)
        return _told(_sent(config, topic, count), looked, finals)
    finally:
        topics.delete(config, topic.name)


def _clicks(settings: Settings, config: Mapping[str, Any], topic: Topic) -> Subscription:
    return replace(compose.clicks(settings), config=config, feed=replace(FEED, topic=topic))


def _observed(
    settings: Settings, config: Mapping[str, Any], tail: Tail, topic: Topic, rate: int, count: int
) -> "tuple[_Look, list[tuple[float, int]]]":
    """Look until every event is in the windows, while others send and commit."""
    spawn = multiprocessing.get_context("spawn")
    ended, heard = spawn.Event(), spawn.Queue()
    told = (settings, dict(config), topic.name)
    sending = spawn.Process(target=_send, args=(*told[1:], rate, count), daemon=True)
    taking = spawn.Process(target=_take, args=(*told, ended, heard), daemon=True)
    taking.start()
    sending.start()
    try:
        looked = _look(tail, count, (sending, taking))
    finally:
        ended.set()
        sending.terminate()
    finals = heard.get(timeout=LONGEST_S)
    taking.join(LONGEST_S)
    return looked, finals


def _look(tail: Tail, count: int, others: Sequence[Any]) -> _Look:
    looked, had, last = _Look(), -1, time.monotonic()
    while had < count:
        now = looked.look(tail)
        if now > had:
            had, last = now, time.monotonic()
        if any(other.exitcode for other in others):
            raise TidemillError("the benchmark of the tail failed: one of its processes ended")
        if time.monotonic() > last + LONGEST_S:
            raise TidemillError(f"{count - had} events did not show in {LONGEST_S:.0f} s")
        time.sleep(LOOK_S)
    return looked


def _refuse_others(tail: Tail, count: int) -> None:
    """See that the windows hold as many events as were sent."""
    for windows, column in zip(PUBLISHED, ("event_count", "event_count", "events"), strict=True):
        counted = tail.windows(windows.table).get_column(column).sum()
        if counted != count:
            raise TidemillError(f"{windows.table.id}: {counted} of {count} events are in the tail")


def _send(config: Mapping[str, Any], name: str, rate: int, count: int) -> None:
    """A process that sends events as ``tidemill produce events`` does, each at its time."""
    from tidemill.engines.duck import connection
    from tidemill.events import messages, simulator
    from tidemill.events.shop import Shop
    from tidemill.kafka.ahead import made_ahead
    from tidemill.kafka.pace import Pace
    from tidemill.kafka.producer import Sender

    told = simulator.Clickstream(Shop(), count, rate)
    with connection() as con, Sender({**config, "log_level": 0}, name) as sender:
        start_ms = time.time_ns() // 1_000_000 + 1000
        made = messages.simulated(con, simulator.events(told, start_ms), told.key)
        with made_ahead(made) as batches:
            first = next(batches)
            sender.wait((first.due_ms[0] - time.time_ns() // 1_000_000) / 1000)
            pace = Pace(1.0, sleep=sender.wait)
            for batch in (one for some in ([first], batches) for one in some):
                for part in pace.slices(batch.due_ms, lambda: False):
                    sender.send_all(batch.pairs(part, time.time_ns() // 1_000_000))
        sender.close()


def _take(settings: Settings, config: Mapping[str, Any], name: str, ended: Any, heard: Any) -> None:
    """A process that takes events into the lake, and tells how far windows are final."""
    from tidemill.engines.duck import DuckEngine
    from tidemill.lake import duck

    clicks = _clicks(settings, config, replace(EVENTS, name=name))
    engine = DuckEngine(settings.memory_limit_mb)
    found: list[tuple[float, int]] = []
    while not ended.wait(COMMIT_S):
        held = clicks.held()
        spans = clicks.unread(held)
        if not spans:
            continue
        clicks.consume(held, spans)
        windowed(clicks, engine)
        now_ms = time.time() * 1000
        with duck.cursor() as con:
            (end_ms,) = con.execute(
                "select max(epoch_ms(window_end)) filter (is_final) "
                f"from {clicks.lake.snapshot(c.EVENT_COUNTS).scan()}"
            ).fetchall()[0]
        found.append((now_ms, end_ms or 0))
    engine.close()
    heard.put(found)


def _sent(config: Mapping[str, Any], topic: Topic, count: int) -> "pl.DataFrame":
    """Partition, offset, event_ms and sent_ms (their produced_at) of all messages."""
    import polars as pl

    from tidemill.engines.duck import connection
    from tidemill.kafka import reader
    from tidemill.kafka.decode import decode
    from tidemill.kafka.spans import plan, standing

    held = standing(config, topic.name)
    frames = []
    with connection() as con:
        for chunk in reader.chunks(config, topic.name, plan({}, held, 1 << 40)):
            decode(con, topic, chunk)
            told = con.sql(
                """
                select "partition", "offset", event_ms, (text->>'produced_at')::bigint as sent_ms
                from decoded join raw_messages using ("partition", "offset")
                """
            )
            frames.append(pl.DataFrame(told.to_arrow_table()))
    found = pl.concat(frames)
    if found.height != count:
        raise TidemillError(f"{found.height} of {count} events were sent")
    return found


def _told(sent: "pl.DataFrame", looked: _Look, finals: "list[tuple[float, int]]") -> Measured:
    import polars as pl

    began, ended = (int(sent.select(at("sent_ms")).item()) for at in (pl.min, pl.max))
    counted = sent.filter(pl.col("sent_ms") >= began + 1000 * WARM_S)
    seen = _seen(counted, looked)
    final = _final(sent, finals)
    return Measured(
        update=Delays.of((seen["seen_ms"] - seen["sent_ms"]).to_list()),
        final=Delays.of((final["final_ms"] - final["event_ms"]).to_list()),
        closing=Delays.of((final["final_ms"] - final["end_ms"]).to_list()),
        per_second=sent.height / max((ended - began) / 1000, 0.001),
        looks=len(looked.seen),
        look_ms=1000 * looked.taken_s / len(looked.seen),
        commits=len(finals),
    )


def _seen(sent: "pl.DataFrame", looked: _Look) -> "pl.DataFrame":
    """With seen_ms: when the first look was that had an event."""
    import polars as pl

    looks = [(at, part, next_ - 1) for at, had in looked.seen for part, next_ in had.items()]
    schema = {"seen_ms": pl.Float64, "partition": pl.Int32, "offset": pl.Int64}
    first = pl.DataFrame(looks, schema=schema, orient="row").group_by("partition", "offset").min()
    return sent.sort("offset").join_asof(
        first.sort("offset"),
        on="offset",
        by="partition",
        strategy="forward",
        check_sortedness=False,
    )


def _final(sent: "pl.DataFrame", finals: "list[tuple[float, int]]") -> "pl.DataFrame":
    """With end_ms, of the window, and final_ms: when it was final; those that were by the end."""
    import polars as pl

    schema = {"final_ms": pl.Float64, "end_ms": pl.Int64}
    first = pl.DataFrame(finals, schema=schema, orient="row").group_by("end_ms").min()
    ends = sent.with_columns(end_ms=(pl.col("event_ms") // SIZE_MS + 1) * SIZE_MS)
    return (
        ends.sort("end_ms")
        .join_asof(first.sort("end_ms"), on="end_ms", strategy="forward")
        .drop_nulls("final_ms")
    )
