"""Making the next batch while one is sent, so that the pace does not stumble over it."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
_LOOK_S = 0.1


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Maker(Generic[T]):
    """Goes through batches in a thread of its own, a few ahead of who takes them."""

    def __init__(self, batches: Iterable[T], depth: int) -> None:
        self._batches = batches
        self._made: queue.Queue[T | _End] = queue.Queue(depth)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            for batch in self._batches:
                self._put(batch)
                if self._is_over.is_set():
                    return
            self._put(_End())
        except BaseException as error:  # who takes the batches is to have it
            self._put(_End(error))

    def _put(self, item: T | _End) -> None:
        while not self._is_over.is_set():
            try:
                self._made.put(item, timeout=_LOOK_S)
                return
            except queue.Full:
                continue

    def taken(self) -> Iterator[T]:
        while not isinstance(item := self._made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def end(self) -> None:
        self._is_over.set()
        self._thread.join()


@contextmanager
def made_ahead(batches: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Batches in their order, made in another thread, which ends with the block.

    What fails there is raised where the batch would have come.

    Args:
        batches: Where they come from; used by that thread alone.
        depth: How many may wait.
    """
    maker = _Maker(batches, depth)
    try:
        yield maker.taken()
    finally:
        maker.end()
