"""When windows are closed for good, by where each partition of a topic is."""

from dataclasses import replace

import pytest

from tidemill.events.topics import EVENTS
from tidemill.kafka.closing import Mark, closes

TOPIC = replace(EVENTS, grace_ms=10, idle_ms=1000)
BUSY = 0
SILENT = 1000


def at(newest_ms: int | None, silent_ms: int = BUSY, is_drained: bool = True) -> Mark:
    return Mark(newest_ms, is_drained, silent_ms)


@pytest.mark.parametrize(
    ("marks", "before_ms", "closed_ms"),
    [
        ([at(500)], None, 490),
        ([at(500), at(300)], None, 290),
        # A partition that was just heard of is waited for, however far behind it is.
        ([at(9_000_000), at(300, SILENT - 1)], None, 290),
        # One that is silent is not, where nothing more of it is there to be read.
        ([at(500), at(300, SILENT)], None, 490),
        ([at(500), at(300, SILENT, is_drained=False)], None, 290),
        # Nor one that never had anything, once it was waited for.
        ([at(500), at(None)], None, None),
        ([at(500), at(None, SILENT, is_drained=False)], 7, 7),
        ([at(500), at(None, SILENT)], None, 490),
        # Where all are silent nothing new is closed, and it never goes back.
        ([at(500, SILENT)], 123, 123),
        ([at(500), at(300)], 400, 400),
        ([], 5, 5),
    ],
)
def test_windows_close_by_the_partition_that_is_waited_for_the_longest(
    marks: list[Mark], before_ms: int | None, closed_ms: int | None
) -> None:
    assert closes(TOPIC, marks, before_ms) == closed_ms


def test_a_topic_that_waits_for_nobody_closes_nothing() -> None:
    assert closes(replace(TOPIC, idle_ms=None), [at(500)], None) is None
