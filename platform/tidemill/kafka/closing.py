"""Up to where the windows of a topic are closed for good."""

from collections.abc import Iterable
from dataclasses import dataclass

from tidemill.kafka.topics import Topic


@dataclass(frozen=True)
class Mark:
    """Where a partition is.

    Attributes:
        newest_ms: Its newest event, epoch ms; None before the first.
        is_drained: Whether all that it held when it was asked was read.
    """

    newest_ms: int | None
    is_drained: bool


def closes(topic: Topic, marks: Iterable[Mark], before_ms: int | None) -> int | None:
    """The watermark of all partitions together: the windows that end by then are closed.

    It is the least of theirs. One that was read to its end holds the others up by ``idle_ms`` at
    most: what comes to it later is then late, which the ledger makes known before it is read.

    Args:
        topic: Says how far a watermark is behind, and how long an idle partition is waited for.
        marks: Of every partition.
        before_ms: Where they were closed up to; it never goes back.
    """
    found = list(marks)
    seen = [mark for mark in found if mark.newest_ms is not None]
    newest = [mark.newest_ms for mark in seen if mark.newest_ms is not None]
    if topic.idle_ms is None or not newest:
        return before_ms
    if any(mark.newest_ms is None and not mark.is_drained for mark in found):
        return before_ms  # its first messages are still to be read
    floor = max(newest) - topic.idle_ms
    held = [
        max(ms, floor) if mark.is_drained else ms for mark, ms in zip(seen, newest, strict=True)
    ]
    mark_ms = min(held) - topic.grace_ms
    return mark_ms if before_ms is None else max(before_ms, mark_ms)
