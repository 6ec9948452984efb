"""The virtual clock, on a clock that only sleeping moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import InputError
from tidemill.kafka.pace import Pace


class Clock:
    """Goes on by what is slept, and by nothing else."""

    def __init__(self, now: float = 1000.0) -> None:
        """Nothing slept yet."""
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def sent(pace: Pace, clock: Clock, *batches: list[int]) -> list[tuple[int, float]]:
    """Each event's time and when it went, seconds after the first clock."""
    began = clock.now
    return [
        (at, round(clock.now - began, 2))
        for times in batches
        for part in pace.slices(times)
        for at in times[part]
    ]


def test_at_a_speed_events_go_at_their_own_distances_divided() -> None:
    clock = Clock()
    times = [60_000, 60_000, 120_000, 180_000]
    assert sent(Pace(60, None, clock, clock.sleep), clock, times) == [
        (60_000, 0.0),
        (60_000, 0.0),
        (120_000, 1.0),
        (180_000, 2.0),
    ]


def test_the_next_batch_goes_on_from_the_first() -> None:
    clock = Clock()
    pace = Pace(1, None, clock, clock.sleep)
    assert sent(pace, clock, [0, 500], [2000]) == [(0, 0.0), (500, 0.5), (2000, 2.0)]


def test_a_sender_that_was_late_catches_up_and_does_not_drift() -> None:
    clock = Clock()
    pace = Pace(1, None, clock, clock.sleep)
    slices = pace.slices([0, 1000, 2000, 5000])
    assert next(slices) == slice(0, 1)
    clock.now += 2.5
    assert next(slices) == slice(1, 3)
    assert next(slices) == slice(3, 4)
    assert clock.now == pytest.approx(1005.0, abs=0.01)


def test_as_fast_as_it_goes_nothing_waits() -> None:
    clock = Clock()
    assert list(Pace(None, None, clock, clock.sleep).slices([0, 10**12])) == [slice(0, 2)]
    assert clock.slept == []


def test_a_rate_caps_every_stretch_and_is_reached() -> None:
    clock = Clock()
    went = sent(Pace(None, 100, clock, clock.sleep), clock, [0] * 500)
    for begin in range(0, 50):
        within = [at for _, at in went if begin / 10 <= at < begin / 10 + 1]
        assert len(within) <= 111
    assert 4.5 < went[-1][1] < 5.1


def test_a_rate_that_was_not_used_does_not_come_as_a_burst() -> None:
    clock = Clock()
    pace = Pace(None, 100, clock, clock.sleep)
    list(pace.slices([0]))
    clock.now += 60
    assert next(pace.slices([0] * 500)) == slice(0, 10)


def test_it_ends_when_told_even_while_it_waits() -> None:
    clock = Clock()
    pace = Pace(1, None, clock, clock.sleep)
    assert list(pace.slices([0, 10**9], lambda: bool(clock.slept))) == [slice(0, 1)]


@given(
    st.lists(st.integers(0, 10**7), min_size=1, max_size=30),
    st.one_of(st.none(), st.floats(0.1, 1e6)),
    st.one_of(st.none(), st.floats(0.5, 1e6)),
)
def test_every_event_goes_once_in_order_at_any_speed_and_rate_and_none_too_early(
    times: list[int], speed: float | None, rate: float | None
) -> None:
    clock = Clock(0.0)
    times.sort()
    gone = []
    for part in Pace(speed, rate, clock, clock.sleep).slices(times):
        gone += times[part]
        if speed is not None:
            assert gone[-1] <= times[0] + clock.now * speed * 1000 + 1e-3
    assert gone == times


@pytest.mark.parametrize(("speed", "rate"), [(0, None), (-1, None), (None, 0), (float("nan"), 1)])
def test_a_speed_or_rate_that_is_none_is_refused(speed: float | None, rate: float | None) -> None:
    with pytest.raises(InputError, match="expected a number above 0"):
        Pace(speed, rate)
