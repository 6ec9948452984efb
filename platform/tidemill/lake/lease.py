"""Leases: who reads which version of a table and who writes to it, so that vacuum keeps the files.

A lease is a locked file. The lock goes with its process, so one that was killed holds nothing.
"""

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tidemill.lake.contracts import Table


def _folder(root: Path, table: Table) -> Path:
    return root / ".leases" / table.domain / table.name


@contextmanager
def reading(root: Path, versions: Iterable[tuple[Table, int]]) -> Iterator[None]:
    """Hold these versions of these tables while the block runs.

    Who may not write to the lake holds nothing, and has the time that vacuum retains.
    """
    with ExitStack() as stack:
        for table, version in versions:
            with suppress(PermissionError):
                _hold(stack, _folder(root, table), version)
        yield


def _hold(stack: ExitStack, folder: Path, version: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with _gate(folder):
        path = folder / f"{version}.{uuid.uuid4().hex}"
        handle = stack.enter_context(path.open("w"))
        fcntl.flock(handle, fcntl.LOCK_EX)
    stack.callback(path.unlink, missing_ok=True)


@contextmanager
def writing(root: Path, table: Table) -> Iterator[None]:
    """Say that files are being written that no version names yet, while the block runs."""
    folder = _folder(root, table)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "writing").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def is_written(root: Path, table: Table) -> bool:
    """Whether anyone is in ``writing``."""
    folder = _folder(root, table)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "writing").open("a") as handle:
        return not _taken(handle)


@contextmanager
def alone(root: Path, table: Table) -> Iterator[bool]:
    """Keep everybody out of ``writing`` while the block runs; false where somebody is in it."""
    folder = _folder(root, table)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "writing").open("a") as handle:
        yield _taken(handle)


@contextmanager
def held(root: Path, table: Table) -> Iterator[set[int]]:
    """The leased versions of a table; no new lease is given while the block runs."""
    folder = _folder(root, table)
    folder.mkdir(parents=True, exist_ok=True)
    with _gate(folder):
        found = set()
        for path in folder.glob("[0-9]*.*"):
            # A reader that ends takes its file away without asking at the gate.
            with suppress(FileNotFoundError), path.open("r+") as handle:
                if _taken(handle):
                    path.unlink()
                else:
                    found.add(int(path.name.split(".")[0]))
        yield found


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    handle = os.open(folder / "gate", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _taken(handle: "IO[Any]") -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
