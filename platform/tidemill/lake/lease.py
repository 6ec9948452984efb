"""Leases: a reader says which version of a table it is reading, so that vacuum keeps its files.

A lease is a locked file. The lock goes with its process, so a reader that was killed holds nothing.
"""

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidemill.lake.contracts import Table


def _folder(root: Path, table: Table) -> Path:
    return root / ".leases" / table.domain / table.name


@contextmanager
def reading(root: Path, versions: Iterable[tuple[Table, int]]) -> Iterator[None]:
    """Hold these versions of these tables while the block runs."""
    with ExitStack() as stack:
        for table, version in versions:
            folder = _folder(root, table)
            folder.mkdir(parents=True, exist_ok=True)
            with _gate(folder):
                path = folder / f"{version}.{uuid.uuid4().hex}"
                handle = stack.enter_context(path.open("w"))
                fcntl.flock(handle, fcntl.LOCK_EX)
            stack.callback(path.unlink, missing_ok=True)
        yield


@contextmanager
def held(root: Path, table: Table) -> Iterator[set[int]]:
    """The leased versions of a table; no new lease is given while the block runs."""
    folder = _folder(root, table)
    folder.mkdir(parents=True, exist_ok=True)
    with _gate(folder):
        found = set()
        for path in folder.glob("[0-9]*.*"):
            with path.open("r+") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.add(int(path.name.split(".")[0]))
                else:
                    path.unlink(missing_ok=True)
        yield found


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    handle = os.open(folder / "gate", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
