"""The live tail: windows of what the lake has committed and of what is still only in Kafka.

The two meet at an offset: a row is in the base when its offset is below the one that the table's
commit tells, and in the tail when it is not. So none is counted twice and none is missed, whenever
the lake commits more.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka.fold import Base, Fold, Slot, load, shown, states
from tidemill.kafka.following import Follower
from tidemill.kafka.spans import Standing, plan
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.uncommitted import Counts, Uncommitted
from tidemill.lake.contracts import Table, polars_schema

if TYPE_CHECKING:
    import polars as pl

MEMORY_MB = 256
REBASE_S = 2.0
RETRY_S = 1.0
PATIENCE_S = 60.0
CLOSE_S = 10.0
"""What a broker that does not answer may hold up the end."""


@dataclass(frozen=True)
class Freshness:
    """The newest message that the windows have, by its own time.

    Attributes:
        event_ms: Time of the newest event, epoch ms; None before the first.
        produced_ms: When the message last produced was, epoch ms.
        delay_ms: From then to when the windows had it.
    """

    event_ms: int | None = None
    produced_ms: int | None = None
    delay_ms: float | None = None


@dataclass(frozen=True)
class State:
    """What the tail knew at one moment; it does not change.

    Attributes:
        folds: How parts become windows.
        base: What the lake had.
        parts: Of base and tail together, by fold and slot.
        newest: Newest event by partition of the topic, epoch ms.
        position: The next offset of each partition.
        ends: The offset after the last message, as the broker last told.
        counts: What became of the messages that the base does not have.
        freshness: Of the newest message.
    """

    folds: Sequence[Fold]
    base: Base
    parts: "Sequence[Mapping[Slot, pl.DataFrame]]"
    newest: Mapping[int, int]
    position: Mapping[int, int]
    ends: Mapping[int, int]
    counts: Counts
    freshness: Freshness = field(default_factory=Freshness)
    _made: "dict[int, pl.DataFrame]" = field(default_factory=dict, init=False, repr=False)

    @property
    def lag(self) -> int:
        """Messages that the topic has and the windows do not, as far as the broker told."""
        return sum(max(0, end - self.position[part]) for part, end in self.ends.items())

    def windows(self, table: Table | None = None) -> "pl.DataFrame":
        """A windowed table's rows, in the order of its key; the first fold's by default."""
        tables = [fold.table for fold in self.folds]
        n = 0 if table is None else tables.index(table)
        if n not in self._made:
            self._made[n] = self._windows(self.folds[n], self.parts[n])
        return self._made[n]

    def _windows(self, fold: Fold, parts: "Mapping[Slot, pl.DataFrame]") -> "pl.DataFrame":
        import polars as pl

        held = self.base.held
        own = (pl.col("topic") == held.topic) & (pl.col("topic_id") == held.topic_id)
        tail = pl.DataFrame(
            [(held.topic, held.topic_id, part, ms) for part, ms in self.newest.items()],
            schema=self.base.newest.schema,
            orient="row",
        )
        newest = pl.concat([self.base.newest.filter(~own), tail])
        names = [column.name for column in fold.table.columns]
        if not parts:
            return pl.DataFrame(schema=polars_schema(fold.table))
        found = fold.windows(pl.concat(parts.values()), newest, self.base.closed_ms)
        return found.select(names).sort(fold.table.key)


class Tail:
    """Keeps windows up to the last message of a topic, in a thread with a consumer of its own.

    Exact at every moment, by offset: which messages are in, the windows of all valid ones, and
    lateness, which hangs on a partition's order alone. Provisional until the lake has them, and
    then as the lake says: which of two messages of one event in *different* partitions counts, and
    which new message keys there is still room for where these are limited. Messages of an event in
    the same partition, or of one that the lake has, are never counted twice.

    It keeps the parts of windows of the newest slots (days, or minutes), and the messages that the
    lake does not have; DuckDB spills these beyond a limit. Older slots are not shown.

    A broker that goes away leaves the windows as they are, and ``lag`` as it was last told. A topic
    made anew begins a new tail within about a second. Where offsets are lost, or anything else
    keeps the windows from being right, ``windows`` raises until it is mended.

    Args:
        subscription: The feed, its lake and the broker.
        folds: How the feed's rows become windows; one, or several that share what was read.
        slots: How many of the newest of the folds' slots that have rows are shown.
        memory_limit_mb: What DuckDB may hold of uncommitted messages before it spills.
        rebase_s: How often at most newer commits are looked for, seconds.
    """

    def __init__(
        self,
        subscription: Subscription,
        folds: Fold | Sequence[Fold],
        slots: int = 2,
        memory_limit_mb: int = MEMORY_MB,
        rebase_s: float = REBASE_S,
    ) -> None:
        """Nothing is read before ``start``."""
        self.subscription = subscription
        self.folds = (folds,) if isinstance(folds, Fold) else tuple(folds)
        self.slots = slots
        self.memory_limit_mb = memory_limit_mb
        self.rebase_s = rebase_s
        self._state: State | None = None
        self._fault: TidemillError | None = None
        self._moved = threading.Condition()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._base: Base | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def start(self) -> None:
        """Begin to follow the topic; where it runs, nothing is done."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="kafka-tail", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop following; the windows stay as they are."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            self._thread = None

    def state(self) -> State:
        """What is known now; waits for the first time that something is.

        Raises:
            TidemillError: What keeps it from being right.
        """
        self._await(lambda state: True, PATIENCE_S)
        state, fault = self._state, self._fault
        if fault is not None:
            raise fault
        if state is None:
            raise TidemillError(
                f"the tail of {self.subscription.feed.topic.name} has nothing to show: "
                + ("it was not started" if self._thread is None else "it is still beginning")
            )
        return state

    def windows(self, table: Table | None = None) -> "pl.DataFrame":
        """A windowed table's rows of the newest slots, up to the last message read.

        Args:
            table: Of which fold; the first by default.

        Raises:
            TidemillError: What keeps them from being right.
        """
        return self.state().windows(table)

    def position(self) -> dict[int, int]:
        """The next offset to read, by partition."""
        return dict(self.state().position)

    @property
    def lag(self) -> int:
        """Messages that the topic has and the windows do not, as far as the broker told."""
        return self.state().lag

    @property
    def freshness(self) -> Freshness:
        """The newest message that the windows have."""
        return self.state().freshness

    def wait(self, position: Mapping[int, int], seconds: float = PATIENCE_S) -> None:
        """Wait until the windows have every message before some offsets.

        Raises:
            TidemillError: They do not in time, or something keeps them from being right.
        """
        self._await(
            lambda s: all(s.position.get(part, -1) >= at for part, at in position.items()), seconds
        )
        at = self.position()
        if any(at.get(part, -1) < wanted for part, wanted in position.items()):
            raise TidemillError(
                f"the tail of {self.subscription.feed.topic.name} did not come to {position} in "
                f"{seconds:.0f} s: it is at {at}"
            )

    def _await(self, is_there: Callable[[State], bool], seconds: float) -> None:
        def is_over() -> bool:
            is_idle = self._thread is None or self._fault is not None
            return is_idle or (self._state is not None and is_there(self._state))

        with self._moved:
            self._moved.wait_for(is_over, seconds)

    def _publish(self, state: State | None, fault: TidemillError | None = None) -> None:
        with self._moved:
            self._state, self._fault = state, fault
            self._moved.notify_all()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with ExitStack() as stack:
                    _Following(self, stack).run(self._ended)
            except TidemillError as error:
                self._publish(self._state, error)
            except Exception as error:
                told = f"the tail of {self.subscription.feed.topic.name} failed: {error}"
                self._publish(self._state, TidemillError(told))
            else:
                continue
            self._ended.wait(RETRY_S)


class _Following:
    """One topic id followed, from a base on."""

    def __init__(self, tail: Tail, stack: ExitStack) -> None:
        self.tail = tail
        sub = tail.subscription
        self.held = sub.held()
        self.base = self._loaded(self.held)
        # Asked again, as the lake may have read on past the first answer.
        plan(self.base.reached, sub.held(), 1)
        at = {p: self.base.reached.get(p, low) for p, (low, _) in self.held.marks.items()}
        con = stack.enter_context(connection(tail.memory_limit_mb))
        self.messages = Uncommitted(con, sub.feed, tail.folds, self.base)
        self.follower = Follower(sub.config, sub.feed.topic, self.held, at)
        stack.callback(self.follower.close)
        self.loader = stack.enter_context(ThreadPoolExecutor(1, "kafka-tail-base"))
        self.coming: Future[Base] | None = None
        self.looked = time.monotonic()
        self.is_over = False
        self.freshness = Freshness()
        self._show([layer.parts for layer in self.base.layers])
        self.messages.prepare()

    def run(self, ended: threading.Event) -> None:
        """Follow until told to end, or the topic is another one."""
        while not (ended.is_set() or self.is_over or self.follower.is_another()):
            frame = self.follower.take()
            if frame is not None:
                new = self.messages.take(frame)
                self._note(frame)
                self._show(self._added(self.parts, new))
            else:
                self._hear()
            self._rebase()

    def _loaded(self, held: Standing) -> Base:
        tail, sub = self.tail, self.tail.subscription
        known = sub.known_keys()
        tail._base = load(sub.lake, sub.feed, tail.folds, tail.slots, held, known, tail._base)
        return tail._base

    def _rebase(self) -> None:
        """Take over what the lake has committed since; it is read in another thread."""
        if self.coming is None:
            if time.monotonic() < self.looked + self.tail.rebase_s:
                return
            self.looked = time.monotonic()
            sub = self.tail.subscription
            now = states(sub.lake, self.tail.folds, sub.feed)
            if now != [layer.state for layer in self.base.layers]:
                self.coming = self.loader.submit(self._loaded, self.held)
        elif self.coming.done():
            before, self.base, self.coming = self.base, self.coming.result(), None
            self.looked = time.monotonic()
            if any(self.base.reached.get(p, -1) < at for p, at in before.reached.items()):
                self.is_over = True  # the table was reset: what it had is wanted again
                return
            new = self.messages.rebase(self.base)
            self.follower.skip(self.base.reached)
            self._show(self._added([layer.parts for layer in self.base.layers], new))

    def _note(self, frame: "pl.DataFrame") -> None:
        """Keep the times of the newest message."""
        produced_ms: Any = frame.get_column("produced_ms").max()
        delay_ms = time.time() * 1000 - produced_ms
        event_ms = max(self.messages.newest.values(), default=None)
        self.freshness = Freshness(event_ms, produced_ms, delay_ms)

    def _added(
        self,
        old: "Sequence[Mapping[Slot, pl.DataFrame]]",
        new: "Sequence[Mapping[Slot, pl.DataFrame]]",
    ) -> "list[Mapping[Slot, pl.DataFrame]]":
        folds = self.tail.folds
        return [fold.added(a, b) for fold, a, b in zip(folds, old, new, strict=True)]

    def _show(self, parts: "Sequence[Mapping[Slot, pl.DataFrame]]") -> None:
        """Let the windows be seen, of the newest slots."""
        self.parts = []
        for layer, mine in zip(self.base.layers, parts, strict=True):
            newest = shown(layer.slots | mine.keys(), self.tail.slots)
            self.parts.append({slot: mine[slot] for slot in newest if slot in mine})
        state = State(
            self.tail.folds,
            self.base,
            self.parts,
            dict(self.messages.newest),
            dict(self.follower.position),
            self.follower.ends(),
            self.messages.counts,
            self.freshness,
        )
        self.tail._publish(state)

    def _hear(self) -> None:
        """Let it be seen how far the topic has come, though nothing was read."""
        state, ends = self.tail._state, self.follower.ends()
        if state is not None and ends != state.ends:
            self.tail._publish(replace(state, ends=ends))
