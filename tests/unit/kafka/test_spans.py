"""The plan of what to read next: all that is new, once, and never past a loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.kafka.spans import OffsetsLost, Standing, plan


def standing(marks: dict[int, tuple[int, int]]) -> Standing:
    return Standing("ticks", "id", marks)


MARKS = st.dictionaries(
    st.integers(0, 20),
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda m: (min(m), max(m))),
    max_size=6,
)


@given(MARKS, st.data(), st.integers(1, 60))
def test_plans_one_after_another_cover_each_unread_offset_once(
    marks: dict[int, tuple[int, int]], data: st.DataObject, limit: int
) -> None:
    reached = {
        partition: data.draw(st.integers(low, high))
        for partition, (low, high) in marks.items()
        if data.draw(st.booleans())
    }
    unread = {
        (p, at) for p, (low, high) in marks.items() for at in range(reached.get(p, low), high)
    }
    read: list[tuple[int, int]] = []
    while spans := plan(reached, standing(marks), limit):
        assert [s.partition for s in spans] == sorted({s.partition for s in spans})
        assert all(0 < s.stop - s.start <= limit for s in spans)
        read += [(s.partition, at) for s in spans for at in range(s.start, s.stop)]
        reached |= {s.partition: s.stop for s in spans}
    assert len(read) == len(unread)
    assert set(read) == unread


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 60))
def test_what_is_lost_is_an_error_and_nothing_else_is(low: int, more: int, reached: int) -> None:
    held = standing({0: (low, low + more)})
    if low <= reached <= low + more:
        assert plan({0: reached}, held, 1000) == (
            [(0, reached, low + more)] if reached < low + more else []
        )
    else:
        with pytest.raises(OffsetsLost):
            plan({0: reached}, held, 1000)


def test_each_loss_is_told_by_its_offsets() -> None:
    with pytest.raises(OffsetsLost, match="ticks, partition 3: offsets 5 to 7 were not read"):
        plan({3: 5}, standing({3: (8, 9)}), 10)
    with pytest.raises(OffsetsLost, match="9 offsets were read, but the broker holds 7"):
        plan({3: 9}, standing({3: (0, 7)}), 10)
