"""``tidemill produce events``: a simulated clickstream or files of one into Kafka."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tidemill.commands import producing, show
from tidemill.errors import InputError, TidemillError
from tidemill.events import messages, replay
from tidemill.events.messages import KEYS, Messages
from tidemill.events.topics import TYPES
from tidemill.kafka import resume, topics
from tidemill.kafka.ahead import made_ahead
from tidemill.kafka.pace import Pace, rate_of, speed_of
from tidemill.kafka.producer import Sender
from tidemill.kafka.topics import Topic
from tidemill.settings import Settings

DEFAULT_RATE = "100"
_STAMPED_TOGETHER = 1000
_LEAD_MS = 500  # between the making of the first simulated event and its sending


@dataclass(frozen=True)
class Order:
    """What to produce, as the command line has it.

    Attributes:
        files: Clickstreams to send; none means that one is simulated.
        rate: Messages a second, or ``max``; by default 100, where no speed is told.
        speed: ``1x``, ``60x``, ``max``: files by the times of their events.
        key: What messages are keyed by, ``event_type`` or ``user_id``.
        limit: Messages at most.
        is_endless: Whether to start files again at their end.
        is_resumed: Whether to go on where an earlier replay of the same files was.
        is_restamped: Whether to move the times of files so that the first event is now.
        faults: What to break in the simulated clickstream, as ``late=0.01,broken=0.001``.
        seed: Of the simulated clickstream.
    """

    files: tuple[Path, ...] = ()
    rate: str | None = None
    speed: str | None = None
    key: str = KEYS[0]
    limit: int | None = None
    is_endless: bool = False
    is_resumed: bool = False
    is_restamped: bool = False
    faults: str | None = None
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.key not in KEYS:
            raise InputError(f"--key {self.key}: expected {' or '.join(KEYS)}")
        of_files = {
            "--speed": self.speed,
            "--loop": self.is_endless,
            "--resume": self.is_resumed,
            "--restamp": self.is_restamped,
        }
        if not self.files and (told := [name for name, value in of_files.items() if value]):
            raise InputError(f"{', '.join(told)}: for files of events alone; name one")
        if self.files and self.faults:
            raise InputError("--faults are for simulated events alone; leave the files out")
        self.pace()

    @property
    def per_second(self) -> float | None:
        """Messages a second; None for as fast as it goes, or by the speed."""
        return rate_of(self.rate or (DEFAULT_RATE if self.speed is None else "max"))

    def pace(self, sender: Sender | None = None) -> Pace:
        """When messages go: by a rate they are due evenly, so what was held up is caught up with.

        Raises:
            InputError: The speed or the rate is none.
        """
        sleep = time.sleep if sender is None else sender.wait
        if self.speed is not None:
            return Pace(speed_of(self.speed), self.per_second, sleep=sleep)
        return Pace(None if self.per_second is None else 1.0, sleep=sleep)


def produce(
    settings: Settings, order: Order, topic: Topic
) -> tuple[dict[str, Any], TidemillError | None]:
    """Send until the end, the limit or Ctrl-C.

    Args:
        settings: Where the broker is.
        order: What to send.
        topic: Where to.

    Returns:
        The account, and what ended it early.

    Raises:
        InputError: The order cannot be; nothing was sent.
        TidemillError: No broker answers.
    """
    config = producing.connected(settings, topic, order.files)
    partitions = topics.described(config)[topic.name]
    ended: TidemillError | None = None
    tally = _Tally()
    with ExitStack() as held:
        sender = held.enter_context(Sender(config, topic.name))
        newest_ms = None if order.is_resumed else _newest_ms(config, topic, partitions)
        source = _replayed if order.files else _simulated
        made, left_out = held.enter_context(source(settings, order, topic, config, partitions))
        batches = held.enter_context(made_ahead(made))
        first = next(batches, None)
        warning = _warned(order, topic, newest_ms, first)
        if warning:
            show.marked(show.err, "Late:", warning, "yellow")
        with producing.told_by_signals(sender), producing.Line(sender) as line:
            if first and not order.files and order.per_second:
                sender.wait((first.due_ms[0] - _now_ms()) / 1000)  # it has not happened yet
            began = time.monotonic()
            try:
                todo = chain([first] if first else [], batches)
                _send(sender, _in_time(todo, order, topic), order, tally, line)
            except TidemillError as error:
                ended = error
            report = sender.close()
    account = producing.account(topic, report, time.monotonic() - began)
    return account | tally.told() | {"left_out": left_out, "warning": warning}, ended


def print_report(report: dict[str, Any]) -> None:
    """The account as a line a number."""
    producing.print_sent(report)
    told = ", ".join(f"{number:,} {name}" for name, number in report["by_type"].items())
    show.out.print(f"Of them: {told or 'none'}")
    if report["skipped"]:
        show.out.print(f"{report['skipped']:,} rows could not be used and were not sent")
        for line in report["left_out"]:
            show.marked(show.out, "Left out:", line, "yellow")
    if any(report["faults"].values()):
        made = ", ".join(f"{number:,} {name}" for name, number in report["faults"].items())
        show.out.print(f"Faults made: {made}")
    producing.print_end(report)


def _in_time(batches: Iterable[Messages], order: Order, topic: Topic) -> Iterator[Messages]:
    """Batches as long as the topic takes their times; those of files that go as they are, any.

    Raises:
        InputError: Events stamped anew would be too far ahead of their messages; none of them goes.
    """
    for batch in batches:
        ahead_ms = max(batch.times_ms, default=0) - _now_ms()
        if order.is_restamped and order.speed != "1x" and ahead_ms > topic.ahead_ms:
            raise InputError(
                f"the next events would be of {ahead_ms // 1000} seconds from now, and the topic "
                f"takes {topic.ahead_ms // 1000}: send them with --speed 1x, as they happen, or "
                "without --restamp"
            )
        yield batch


def _send(
    sender: Sender,
    batches: Iterable[Messages],
    order: Order,
    tally: "_Tally",
    line: producing.Line,
) -> None:
    """Send messages, each when it is due, until they end or the sender is halted.

    Raises:
        UnsentError: The broker takes nothing any more.
    """
    pace, left = order.pace(sender), order.limit
    for batch in batches:
        due = batch.due_ms if left is None else batch.due_ms[:left]
        for part in pace.slices(due, lambda: sender.is_halted):
            for start in range(part.start, part.stop, _STAMPED_TOGETHER):
                some = slice(start, min(part.stop, start + _STAMPED_TOGETHER))
                before = sender.report.sent
                try:
                    sender.send_all(batch.pairs(some, time.time_ns() // 1_000_000))
                finally:
                    tally.sent(batch, start, start + sender.report.sent - before)
            line.reached(batch.times_ms[part.stop - 1])
        if left is not None:
            left -= len(due)
        if left == 0 or sender.is_halted:
            return
        tally.ended(batch)


class _Tally:
    """What was sent, by event type and fault, and the rows that were passed over on the way."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._types: Counter[str] = Counter()
        self._faults: Counter[tuple[str, str]] = Counter()
        self._skipped = 0

    def sent(self, batch: Messages, start: int, stop: int) -> None:
        """Count messages of a batch, and what was passed over on the way to them."""
        self._skipped += bisect_left(batch.skipped, stop) - bisect_left(batch.skipped, start)
        types = batch.types[start:stop]
        if batch.faults is None:
            self._types.update(types)
        else:
            self._faults.update(zip(batch.faults[start:stop], types, strict=True))

    def ended(self, batch: Messages) -> None:
        """Count what is behind the last message of a batch, all of which were sent."""
        self._skipped += len(batch.skipped) - bisect_left(batch.skipped, len(batch.bodies))

    def told(self) -> dict[str, Any]:
        """``by_type`` (without what is broken), ``skipped`` rows, ``faults`` made.

        Late events are in ``behind`` too, where they are behind the watermark.
        """
        from tidemill.events.simulator import BROKEN

        types, faults = Counter(self._types), Counter[str]()
        for (fault, name), number in self._faults.items():
            faults[fault] += number
            if fault not in BROKEN:
                types[name] += number
        named = {name: types.pop(name) for name in TYPES if name in types}
        return {
            "by_type": named | dict(sorted(types.items())),
            "skipped": self._skipped,
            "faults": {
                "late": faults["late"] + faults["behind"],
                "behind": faults["behind"],
                "duplicates": faults["duplicate"],
                "broken": sum(faults[kind] for kind in BROKEN),
            },
        }


Made = tuple[Iterator[Messages], tuple[str, ...]]
"""Messages, and a line about the rows of each file that has some which are no events."""


@contextmanager
def _simulated(
    settings: Settings, order: Order, topic: Topic, config: dict[str, Any], partitions: int
) -> Iterator[Made]:
    """A clickstream whose events happen when they are sent."""
    from tidemill.engines.duck import connection
    from tidemill.events import simulator
    from tidemill.events.shop import Shop

    told = simulator.Clickstream(
        Shop(seed=order.seed),
        order.limit,
        order.per_second,
        faults=simulator.Faults.of(order.faults) if order.faults else simulator.Faults(),
        key="user_id" if order.key == "user_id" else "event_type",
        partitions=partitions,
    )
    with connection(settings.memory_limit_mb) as con:
        start_ms = _now_ms() + (0 if told.rate is None else _LEAD_MS)
        yield messages.simulated(con, simulator.events(told, start_ms), order.key), ()


@contextmanager
def _replayed(
    settings: Settings, order: Order, topic: Topic, config: dict[str, Any], partitions: int
) -> Iterator[Made]:
    """The rows of files, behind what the topic has where the replay is resumed."""
    from tidemill.engines.duck import connection, shortage_told

    limit_mb, shown = settings.memory_limit_mb, ", ".join(map(str, order.files))

    def told(batches: Iterator[Messages]) -> Iterator[Messages]:
        """They are made in another thread, where this block sees no error."""
        with shortage_told(limit_mb, shown):
            yield from batches

    after = {}
    if order.is_resumed:
        after = messages.marks(topic.name, resume.last_values(config, topic.name, partitions))
    with connection(limit_mb) as con:
        # Rows are judged, counted and, for --resume, found again before the first of them goes.
        with shortage_told(limit_mb, shown), show.err.status(f"Reading {shown} first"):
            source = replay.read(con, order.files)
        plan = replay.Plan(order.key, partitions, order.per_second, order.is_endless, after=after)
        if order.speed is not None:
            plan = replace(plan, rate=None)
        if order.is_restamped:
            plan = replace(plan, restamp_ms=_now_ms())
        yield told(replay.Replay(con, source, plan).batches()), source.left_out


def _newest_ms(config: dict[str, Any], topic: Topic, partitions: int) -> int | None:
    """The time of the newest of the partitions' last events, epoch ms."""
    from tidemill.lake.duck import cursor

    with cursor() as con:
        return messages.newest_ms(con, resume.peek(config, topic.name, partitions))


def _warned(
    order: Order, topic: Topic, newest_ms: int | None, first: Messages | None
) -> str | None:
    """Whether what is to be sent is behind what the topic has, as a line to say so."""
    if first is None or not first.times_ms:
        return None
    if newest_ms is not None and first.times_ms[0] < newest_ms - topic.grace_ms:
        behind_s = (newest_ms - first.times_ms[0]) // 1000
        return (
            f"topic {topic.name} holds an event {behind_s:,} s newer than the first one to be "
            "sent, so these will be late; --restamp moves the times of files to now"
        )
    if order.is_endless and not order.is_restamped:
        return "from the second round on events will be late; --restamp moves their times on"
    return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
