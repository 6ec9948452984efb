"""Random cases, drawn apart so that an engine of slow answers is asked about all of them at once.

Hypothesis tries the smallest case first: a test of one example would see that one alone.
"""

from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], cases: int) -> list[T]:
    """Some cases of a strategy, the smallest first; the same ones each time."""
    found: list[T] = []

    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(case: T) -> None:
        found.append(case)

    take()
    return found
