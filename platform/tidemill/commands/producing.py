"""What every ``tidemill produce`` needs: a broker with the topic, signals, a line, an account."""

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tidemill import compose
from tidemill.commands import broker, show
from tidemill.errors import InputError
from tidemill.kafka import topics
from tidemill.kafka.producer import Report, Sender
from tidemill.kafka.topics import Topic
from tidemill.settings import Settings

_SHOWN_S = 0.2


def connected(settings: Settings, topic: Topic, files: Iterable[Path] = ()) -> dict[str, Any]:
    """How to reach the broker, once it has the topic.

    Args:
        settings: Where it is.
        topic: What is sent to.
        files: What is to be sent; without them no broker is asked for.

    Raises:
        InputError: One of the files is not there.
        TidemillError: No broker answers.
    """
    for path in files:
        if not path.exists():
            raise InputError(f"{path}: there is no such file")
    broker.require(settings)
    config = compose.kafka(settings)
    topics.ensure({"log_level": 0, **config}, (topic,))
    return config


def account(topic: Topic, report: Report, seconds: float) -> dict[str, Any]:
    """What became of the messages, and how fast they went."""
    return {
        "topic": topic.name,
        **asdict(report),
        "seconds": round(seconds, 2),
        "per_second": round(report.sent / max(seconds, 0.001)),
    }


def print_sent(report: dict[str, Any]) -> None:
    """The line that must add up."""
    show.out.print(
        f"{report['topic']}: {report['sent']:,} sent = {report['acknowledged']:,} acknowledged "
        f"+ {report['failed']:,} failed; {report['retried']:,} sent again on the way"
    )


def print_end(report: dict[str, Any]) -> None:
    """How fast it was, and the reasons of what failed."""
    show.out.print(f"{report['seconds']} s, {report['per_second']:,} messages/s")
    for reason, number in report["errors"].items():
        show.marked(show.out, f"Failed, {number:,}:", reason, "red")


@contextmanager
def told_by_signals(sender: Sender) -> Iterator[None]:
    """Ctrl-C, and a request to end, stop the sender; what is on its way is still accounted for."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: sender.halt()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Line:
    """How far it is, on standard error."""

    def __init__(self, sender: Sender) -> None:
        """Not shown before it is entered."""
        self.sender = sender
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=show.err
        )
        self.task = self.progress.add_task("connecting", total=None)
        self._next = 0.0

    def __enter__(self) -> "Line":
        """Show it."""
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it as it stands."""
        self.progress.stop()

    def reached(self, at_ms: int) -> None:
        """Show the time of the last event sent, epoch ms, a few times a second."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SHOWN_S
        report = self.sender.report
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        told = (
            f"{report.sent:,} sent, {report.acknowledged:,} acknowledged, at {at:%Y-%m-%d %H:%M:%S}"
        )
        self.progress.update(self.task, description=told)
