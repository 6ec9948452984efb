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
        silent_ms: How long by the clock no event has come out of it; of one that never had any,
            since the topic was first read.
    """

    newest_ms: int | None
    is_drained: bool
    silent_ms: int


def closes(topic: Topic, marks: Iterable[Mark], before_ms: int | None) -> int | None:
    """The watermark of all partitions together: the windows that end by then are closed.

    It is the least of theirs. A partition that was read to its end and has been silent for
    ``idle_ms`` is not waited for: what comes to it later may be late, which the ledger makes known
    before it is read. One that never had anything is waited for likewise.

    Args:
        topic: Says how far a watermark is behind, and how long an idle partition is waited for.
        marks: Of every partition.
        before_ms: Where they were closed up to; it never goes back.
    """
    if topic.idle_ms is None:
        return before_ms
    waited = [m for m in marks if not (m.is_drained and m.silent_ms >= topic.idle_ms)]
    newest = [mark.newest_ms for mark in waited if mark.newest_ms is not None]
    if not newest or len(newest) < len(waited):
        return before_ms
    mark_ms = min(newest) - topic.grace_ms
    return mark_ms if before_ms is None else max(before_ms, mark_ms)
