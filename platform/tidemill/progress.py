"""Who wants to know what is being written: the command line's progress bar, a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
_listeners: list[Listener] = []


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Call ``listener(table id, partitions, rows)`` after each commit while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(table: str, partitions: int, rows: int) -> None:
    """Say that a commit was made."""
    for listener in _listeners:
        listener(table, partitions, rows)
