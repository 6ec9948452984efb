"""A virtual clock: when each event of the past may be sent; it knows no domain and no broker."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from tidemill.errors import InputError

_TANK_S = 0.1


class Pace:
    """Tells when events may go, by their own times and a speed, a rate, both or neither.

    At speed s the event of time t goes at start + (t - t0) / s, where t0 is the time of the first
    event that it is asked about. What goes, and in what order, is the same at every speed.

    Args:
        speed: Virtual seconds a second, > 0; None is as fast as it goes.
        rate: Messages a second at most, > 0; None is no limit.
        clock: Now, seconds, that never goes back.
        sleep: Waits so many seconds; may come back earlier.

    Raises:
        InputError: A speed or a rate that is not above 0.
    """

    def __init__(
        self,
        speed: float | None = None,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The clock starts with the first event."""
        for name, value in (("speed", speed), ("rate", rate)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name}: expected a number above 0, found {value}")
        self.speed = speed
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._start: tuple[float, int] | None = None
        self._tank = 1.0
        self._filled: float | None = None

    def slices(
        self, times_ms: Sequence[int], stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[slice]:
        """Give the events in consecutive slices, each when it may be sent.

        Args:
            times_ms: Times of events, epoch ms, in order; further calls go on from the last one.
            stopped: Whether to end early, asked before each slice and after each sleep.

        Yields:
            Slices of ``times_ms``, not empty.
        """
        at = 0
        while at < len(times_ms) and not stopped():
            now = self._clock()
            if self._start is None:
                self._start = now, times_ms[0]
            stop, wait_s = self._reach(times_ms, at, now)
            if stop > at:
                yield slice(at, stop)
                at = stop
            else:
                self._sleep(wait_s)

    def _reach(self, times_ms: Sequence[int], at: int, now: float) -> tuple[int, float]:
        """Up to which event it may go now, and how long to wait where that is none, seconds."""
        stop, wait_s = len(times_ms), 0.0
        if self.speed is not None:
            assert self._start is not None
            start, first_ms = self._start
            stop = bisect_right(times_ms, first_ms + (now - start) * self.speed * 1000, at)
            if stop == at:
                # A float's width below its due time would be asked again with nothing to wait.
                due = start + (times_ms[at] - first_ms) / 1000 / self.speed
                return at, max(due - now, 0.001)
        if self.rate is not None:
            allowed, wait_s = self._allowed(now)
            stop = min(stop, at + allowed)
            self._tank -= stop - at
        return stop, wait_s

    def _allowed(self, now: float) -> tuple[int, float]:
        """How many the rate lets through now, and the wait for the next, seconds.

        What was not used for a while does not add up: it would come as a burst above the rate.
        """
        assert self.rate is not None
        spent = 0.0 if self._filled is None else now - self._filled
        self._filled = now
        self._tank = min(max(1.0, self.rate * _TANK_S), self._tank + spent * self.rate)
        return int(self._tank), max((1 - self._tank) / self.rate, 0.001)


def speed_of(text: str) -> float | None:
    """A speed as the command line takes it: ``1x``, ``60x``, ``0.5x``; None for ``max``.

    Raises:
        InputError: It is none of these.
    """
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise InputError(f"--speed {text}: expected a number with an x, as 60x, or max")
    return speed


def rate_of(text: str) -> float | None:
    """A rate as the command line takes it: messages a second; None for ``max``.

    Raises:
        InputError: It is neither.
    """
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise InputError(f"--rate {text}: expected a number of messages a second, or max")
    return rate
