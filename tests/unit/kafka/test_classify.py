"""Lateness and duplicates are the same however the messages were batched."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kafka.messages import NOON_MS, frame, tick
from tidemill.crypto import live
from tidemill.kafka.batch import Batch
from tidemill.kafka.consume import Chunks
from tidemill.kafka.spans import Span, Standing
from tidemill.lake.store import Lake

FEED = live.feed(10)
GRACE_MS = FEED.topic.grace_ms
SYMBOLS = ("AAUSDT", "BBUSDT")
"""One a partition, as their keys would place them."""


def judged(messages: pl.DataFrame, cuts: list[int]) -> tuple[list[Any], list[Any]]:
    """The rows, and the account of each partition, of messages that come in these chunks."""
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        held = Standing(FEED.topic.name, "id", {})
        counts = dict(messages.group_by("partition").len().rows())
        spans = [Span(partition, 0, n) for partition, n in sorted(counts.items())]
        with Batch(lake, FEED, held, spans, 512) as batch:
            chunks = Chunks(batch, set())
            edges = [0, *sorted({min(cut, messages.height) for cut in cuts}), messages.height]
            for start, stop in pairwise(edges):
                if start < stop:
                    chunks.take(messages[start:stop])
            batch.refuse_gaps()
            batch.commit()
            found: list[Any] = []
            for file in batch.rows:
                path = str(lake.folder(FEED.table) / file.relative)
                found += batch.con.execute(
                    'select "partition", "offset", symbol, price, epoch_ms(event_time), is_late '
                    f"from '{path}'"
                ).fetchall()
            return sorted(found), [vars(a) for a in batch.accounts.values()]


def by_hand(messages: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """Partition, offset and lateness of the messages that tell a new event, one at a time."""
    newest: dict[int, int] = {}
    offsets = {0: 0, 1: 0}
    seen, found = set(), []
    for partition, at in messages:
        if (partition, at) not in seen:
            is_late = at < newest.get(partition, at) - GRACE_MS
            found.append((partition, offsets[partition], is_late))
        seen.add((partition, at))
        newest[partition] = max(at, newest.get(partition, at))
        offsets[partition] += 1
    return sorted(found)


STEPS = st.sampled_from(
    [0, 1, 2, GRACE_MS - 1, GRACE_MS, GRACE_MS + 1, 2 * GRACE_MS, 20 * GRACE_MS]
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), STEPS), min_size=1, max_size=25),
    st.lists(st.integers(1, 25), max_size=4),
)
def test_any_cut_into_chunks_gives_what_counting_by_hand_gives(
    messages: list[tuple[int, int]], cuts: list[int]
) -> None:
    parts = [partition for partition, _ in messages]
    values = [tick(SYMBOLS[p], 1.0 + n, NOON_MS - at) for n, (p, at) in enumerate(messages)]
    whole = frame(values, parts)
    rows, accounts = judged(whole, cuts)
    hand = by_hand([(p, -at) for p, at in messages])
    assert [(row[0], row[1], row[5]) for row in rows] == hand
    assert (rows, accounts) == judged(whole, [])
    assert sum(a["late"] for a in accounts) == sum(is_late for *_, is_late in hand)
    assert sum(a["good"] + a["late"] + a["duplicate"] for a in accounts) == len(messages)
