"""The inbox: files dropped into ``landing/<domain>/inbox`` land without anyone typing a command."""

import os
import uuid
from pathlib import Path
from typing import Protocol

from tidemill.errors import InputError, UnfinishedError
from tidemill.intake.source import UNFINISHED, writer

SETTLED_S = 10
"""A file is taken once nobody has written to it for this long."""


class Landing(Protocol):
    """What takes the files of a domain.

    Attributes:
        folder: The landing folder of the domain.
    """

    folder: Path

    def told(self, path: Path) -> str:
        """Land a file, and say in a line what became of it.

        Raises:
            InputError: The file cannot be used; nothing of it was taken.
        """
        ...


def folder(landing: Landing) -> Path:
    """Where files are dropped; made on first use."""
    path = landing.folder / "inbox"
    path.mkdir(parents=True, exist_ok=True)
    return path


def waiting(landing: Landing) -> list[Path]:
    """The files in it, by name; hidden ones and folders are none."""
    return sorted(
        path
        for path in folder(landing).iterdir()
        if path.is_file() and not path.name.startswith(".")
    )


def settled(landing: Landing, now_s: float) -> list[Path]:
    """The files that nobody has written to for a while, by name.

    Args:
        landing: Whose inbox.
        now_s: Epoch seconds.
    """
    return [
        path
        for path in waiting(landing)
        if path.suffix.lower() not in UNFINISHED
        and now_s - path.stat().st_mtime >= SETTLED_S
        and writer(path) is None
    ]


def take(landing: Landing, name: str) -> str:
    """Land a file of the inbox and take it out of there; says what became of it.

    A refused file goes to the folder ``refused``, with the reason in a text file beside it. One
    that someone still writes to stays. A file that is gone was taken by an earlier try.
    """
    path = folder(landing) / name
    try:
        seen = path.stat()
    except FileNotFoundError:
        return f"{name}: no longer in the inbox"
    try:
        said = landing.told(path)
    except UnfinishedError as error:
        return f"left for later: {error}"
    except InputError as error:
        if not _is_still(path, seen):
            return f"{name}: no longer in the inbox"
        refused = landing.folder / "refused"
        refused.mkdir(parents=True, exist_ok=True)
        kept = refused / name
        if kept.exists():
            kept = refused / f"{path.stem} {uuid.uuid4().hex[:8]}{path.suffix}"
        try:
            path.replace(kept)
        except FileNotFoundError:  # another run refused it too
            return f"{name}: no longer in the inbox"
        kept.with_name(f"{kept.name}.txt").write_text(f"{error}\n")
        return f"refused: {error}"
    if _is_still(path, seen):  # else a newer file has its name, or another run took it too
        path.unlink(missing_ok=True)
    return said


def _is_still(path: Path, seen: os.stat_result) -> bool:
    """Whether the file of a name is the one that was seen."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (
        seen.st_ino,
        seen.st_size,
        seen.st_mtime_ns,
    )
