"""Who wants to know what is being written: the command line's progress bar, a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
_listeners: list[Listener] = []
Noter = Callable[[str], None]
_noters: list[Noter] = []


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


@contextmanager
def noted_by(noter: Noter) -> Iterator[None]:
    """Call ``noter(text)`` with how far long work has come, while the block runs."""
    _noters.append(noter)
    try:
        yield
    finally:
        _noters.remove(noter)


def note(text: str) -> None:
    """Say how far work has come that has nothing to commit yet."""
    for noter in _noters:
        noter(text)
