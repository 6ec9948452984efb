"""What tells of a user in text: messages, rows and files that could not be used."""

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidemill.events.topics import FIELDS

_UNREADABLE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError)
_TELLING = 6
"""A number of so many digits is hardly anything but an id."""
_OTHERS = {column.name for column in FIELDS} - {"user_id", "user_session"}
_TOKEN = re.compile(rb"[0-9A-Za-z_-]+")


class _Target(Protocol):
    def write(self, line: bytes, /) -> object: ...


@dataclass(frozen=True)
class Traces:
    """How to tell whether a text speaks of a user.

    A JSON object does by what is in its fields, but for those that are known to tell something
    else. Any other text does where the user's number stands in it, with no other digit beside it
    (zeros may be before it); one of few digits, which dates and prices are full of, must stand
    alone between commas, blanks, quotes or the like. Or by a session that nobody else had.

    Attributes:
        number: Finds the number.
        sessions: Sessions of letters, digits, ``_`` and ``-``.
        strange: Other sessions, as each is written in JSON and in CSV.
    """

    number: re.Pattern[bytes]
    sessions: frozenset[bytes]
    strange: tuple[bytes, ...]

    @classmethod
    def of(cls, user_id: int, sessions: Iterable[str]) -> "Traces":
        """Those of a user with these sessions."""
        plain, strange = set(), set()
        for session in sessions:
            told = session.encode()
            if _TOKEN.fullmatch(told):
                plain.add(told)
                continue
            forms = {session, session.replace('"', '""')}
            forms |= {json.dumps(session, ensure_ascii=only)[1:-1] for only in (True, False)}
            strange |= {form.encode() for form in forms}
        return cls(_number(user_id), frozenset(plain), tuple(sorted(strange)))

    def are_in(self, text: bytes | str | None) -> bool:
        """Whether a text speaks of the user."""
        if text is None:
            return False
        told = text.encode() if isinstance(text, str) else text
        return any(map(self._are_in, _leaves(told)))

    def _are_in(self, told: bytes) -> bool:
        if self.number.search(told) or any(session in told for session in self.strange):
            return True
        return bool(self.sessions) and not self.sessions.isdisjoint(_TOKEN.findall(told))


def _number(user_id: int) -> re.Pattern[bytes]:
    digits = b"%d" % abs(user_id)
    if len(digits) >= _TELLING:
        return re.compile(rb"(?<![0-9])0*%s(?![0-9])" % digits)
    sign = b"-" if user_id < 0 else b"[+]?"
    return re.compile(rb"(?<![^\s,;|\"'\[{(])%s0*%s([.]0*)?(?![^\s,;|\"'\]})])" % (sign, digits))


def _leaves(text: bytes) -> Iterator[bytes]:
    """The values of a JSON object that may tell who somebody is; any other text as it is."""
    try:
        told = json.loads(text) if text.lstrip()[:1] == b"{" else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        yield text
        return
    waiting: list[object] = [value for name, value in told.items() if name not in _OTHERS]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        else:
            yield str(value).encode(errors="replace")


def erase_lines(folder: Path, traces: Traces) -> tuple[int, list[str]]:
    """Take the lines that speak of a user out of every file of a folder.

    Files are text, or text in gzip or zip; each is replaced at once.

    Returns:
        How many lines went, and the names of files that cannot be read, which stay as they are.
    """
    gone, unread = 0, []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            try:
                gone += _erased(path, traces)
            except _UNREADABLE:
                unread.append(path.name)
    return gone, unread


def _erased(path: Path, traces: Traces) -> int:
    with path.open("rb") as handle:
        head = handle.read(4)
    beside = path.with_name(f".{path.name}.part")
    try:
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path, "rb") as source, gzip.open(beside, "wb") as target:
                gone = _copied(source, target, traces)
        elif head == b"PK\x03\x04":
            gone = _zip_copied(path, beside, traces)
        else:
            with path.open("rb") as source, beside.open("wb") as target:
                gone = _copied(source, target, traces)
        if gone:
            beside.replace(path)
        return gone
    finally:
        beside.unlink(missing_ok=True)


def _copied(source: Iterable[bytes], target: _Target, traces: Traces) -> int:
    gone = 0
    for line in source:
        if traces.are_in(line):
            gone += 1
        else:
            target.write(line)
    return gone


def _zip_copied(path: Path, beside: Path, traces: Traces) -> int:
    gone = 0
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            if not member.is_dir():
                with old.open(member) as source, new.open(member.filename, "w") as target:
                    gone += _copied(source, target, traces)
    return gone
