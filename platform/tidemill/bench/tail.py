"""How long after it is produced an event shows in the windows of the live tail."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from tidemill.errors import TidemillError
from tidemill.kafka import topics
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.tail import Tail
from tidemill.lake.store import Lake

SYMBOLS = tuple(f"BENCH{letter}USDT" for letter in "ABCDEFGHIJ")
RATE = 1000
SECONDS = 20.0
WARM_S = 3.0
LOOK_S = 0.01
COMMIT_S = 5.0
LONGEST_S = 30.0


@dataclass(frozen=True)
class Measured:
    """What a run showed; times are from ``produce()`` to the answer of ``windows()``.

    Attributes:
        p50_ms: Half of the events were seen within it.
        p99_ms: All but one in a hundred were.
        max_ms: All were.
        n: Events.
        per_second: Events produced a second, which a busy machine may keep below what was asked.
        commits: How often the lake took the events over meanwhile.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    n: int
    per_second: float
    commits: int


def measured(
    config: Mapping[str, Any],
    folder: Path,
    rate: int = RATE,
    seconds: float = SECONDS,
    commit_s: float = COMMIT_S,
) -> Measured:
    """Produce events at a steady rate, and look when each is in the windows.

    Producer, tail and consumer are threads of this process, so that one clock tells all; apart,
    they would have more of the machine.

    Args:
        config: How clients connect, in librdkafka's names; a topic of its own is made, and taken
            away at the end.
        folder: Where the lake goes.
        rate: Events a second.
        seconds: How long; the first three seconds more are not counted.
        commit_s: How often the lake consumes what has come; 0: never.

    Raises:
        TidemillError: The broker fails, or events do not show.
    """
    sub = _subscription(config, folder)
    topics.ensure(config, [sub.feed.topic])
    run = _Run(sub, rate, WARM_S + seconds, commit_s)
    try:
        with Tail(sub, _fold()) as tail:
            tail.state()
            delays = run.delays(tail)
    finally:
        _drop(config, sub.feed.topic.name)
    delays.sort()
    return Measured(
        p50_ms=1000 * percentile(delays, 0.5),
        p99_ms=1000 * percentile(delays, 0.99),
        max_ms=1000 * delays[-1],
        n=len(delays),
        per_second=run.per_second,
        commits=run.commits,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least of some values, in order, that ``share`` of them do not pass."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _subscription(config: Mapping[str, Any], folder: Path) -> Subscription:
    from dataclasses import replace

    from tidemill.crypto import live
    from tidemill.crypto.topics import PRICES

    topic = replace(PRICES, name=f"bench_tail_{time.time_ns()}")
    return Subscription(Lake(folder), replace(live.feed(len(SYMBOLS)), topic=topic), config)


def _fold() -> Any:
    from tidemill.crypto.live_tail import DAYS

    return DAYS


def _drop(config: Mapping[str, Any], name: str) -> None:
    from confluent_kafka.admin import AdminClient

    client = AdminClient(dict(config))
    client.delete_topics([name])[name].result()


@dataclass
class _Run:
    """A producer, a consumer into the lake, and someone who looks."""

    sub: Subscription
    rate: int
    seconds: float
    commit_s: float
    commits: int = 0
    per_second: float = 0.0
    sent: dict[str, list[float]] = field(default_factory=dict)
    faults: list[BaseException] = field(default_factory=list)

    def delays(self, tail: Tail) -> list[float]:
        """From each event's ``produce()`` to when it was seen, in seconds, but of the first."""
        self.sent = {symbol: [] for symbol in SYMBOLS}
        ended = threading.Event()
        producing = threading.Thread(target=self._guarded, args=(self._produce,))
        consuming = threading.Thread(target=self._guarded, args=(lambda: self._consume(ended),))
        producing.start()
        consuming.start()
        try:
            return self._look(tail, producing)
        finally:
            producing.join()
            ended.set()
            consuming.join()

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as error:
            self.faults.append(error)

    def _produce(self) -> None:
        """Events of all symbols in turn, each at its time; a late one is sent at once."""
        from confluent_kafka import Producer

        producer = Producer(dict(self.sub.config) | {"acks": "all", "linger.ms": 5})
        count = round(self.rate * self.seconds)
        began = time.perf_counter()
        first_ms = time.time_ns() // 1_000_000
        for n in range(count):
            ahead = began + n / self.rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            symbol = SYMBOLS[n % len(SYMBOLS)]
            event_ms = first_ms + n * 1000 // self.rate
            told = {"symbol": symbol, "price": 100.0 + n % 97, "timestamp": event_ms}
            self.sent[symbol].append(time.perf_counter())
            producer.produce(self.sub.feed.topic.name, json.dumps(told).encode(), symbol)
            producer.poll(0)
        self.per_second = count / (time.perf_counter() - began)
        producer.flush(LONGEST_S)

    def _consume(self, ended: threading.Event) -> None:
        while self.commit_s and not ended.wait(self.commit_s):
            held = self.sub.held()
            spans = self.sub.unread(held)
            if spans:
                self.sub.consume(held, spans)
                self.commits += 1

    def _look(self, tail: Tail, producing: threading.Thread) -> list[float]:
        """Look at the windows again and again until every event has been seen."""
        seen = dict.fromkeys(SYMBOLS, 0)
        delays: list[float] = []
        began = last = time.perf_counter()
        while producing.is_alive() or any(seen[s] < len(self.sent[s]) for s in SYMBOLS):
            if self.faults:
                raise TidemillError(f"the benchmark of the tail failed: {self.faults[0]}")
            found = tail.windows().group_by("symbol").agg(_ticks())
            now = time.perf_counter()
            for symbol, ticks in found.iter_rows():
                for at in self.sent[symbol][seen[symbol] : ticks]:
                    last = now
                    if at > began + WARM_S:
                        delays.append(now - at)
                seen[symbol] = max(seen[symbol], ticks)
            if now > last + LONGEST_S:
                left = sum(len(self.sent[s]) - seen[s] for s in SYMBOLS)
                raise TidemillError(f"{left} events did not show in {LONGEST_S:.0f} s")
            time.sleep(LOOK_S)
        return delays


def _ticks() -> Any:
    import polars as pl

    return pl.col("ticks").sum()
