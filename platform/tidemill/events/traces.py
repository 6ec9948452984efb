"""What tells of a user in text: messages, rows and files that could not be used."""

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tidemill.events.topics import EVENTS

_UNREADABLE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError)
_TELLING = 6
"""A number of so many digits is hardly anything but an id."""
_OTHERS = {c.name for c in EVENTS.value} - {"user_id", "user_session"} | {"n", "produced_at"}
"""Fields of messages that do not tell who."""
_AROUND = rb"\s,;|\"'\[\](){}:=\\\x00"
"""What may stand beside a number of few digits."""
_CLOCK = re.compile(rb"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_TOKEN = re.compile(rb"[0-9A-Za-z_-]+")


class _Target(Protocol):
    def write(self, line: bytes, /) -> object: ...


@dataclass(frozen=True)
class Traces:
    """How to tell whether a text speaks of a user.

    It does where a session stands in it that nobody else had, or the user's number with no other
    digit beside it; zeros may be before it. A number of few digits, which dates and prices are full
    of, must stand alone between commas, blanks, quotes or the like; and of a JSON object it is
    looked for in the fields alone that are not known to tell something else.

    Attributes:
        number: Finds the number.
        is_short: Whether it has few digits.
        sessions: Sessions of letters, digits, ``_`` and ``-``.
        strange: Other sessions, as each is written in JSON and in CSV.
    """

    number: re.Pattern[bytes]
    is_short: bool
    sessions: frozenset[bytes]
    strange: tuple[bytes, ...]

    @classmethod
    def of(cls, user_id: int, sessions: Iterable[str]) -> "Traces":
        """Those of a user with these sessions."""
        digits = b"%d" % abs(user_id)
        is_short = len(digits) < _TELLING
        number = rb"(?<![0-9])0*%s(?![0-9])" % digits
        if is_short:
            sign = b"-" if user_id < 0 else b"[+]?"
            number = rb"(?<![^%s])%s0*%s([.]0*)?(?![^%s])" % (_AROUND, sign, digits, _AROUND)
        plain, strange = set(), set()
        for session in sessions:
            told = session.encode()
            if _TOKEN.fullmatch(told):
                plain.add(told)
                continue
            forms = {session, session.replace('"', '""')}
            forms |= {json.dumps(session, ensure_ascii=only)[1:-1] for only in (True, False)}
            strange |= {form.encode() for form in forms}
        return cls(re.compile(number), is_short, frozenset(plain), tuple(sorted(strange)))

    def are_in(self, text: bytes | str | None) -> bool:
        """Whether a text speaks of the user."""
        if text is None:
            return False
        told = text.encode() if isinstance(text, str) else text
        leaves = _leaves(told, self.is_short)
        if leaves is None:
            leaves = [_CLOCK.sub(b"", told)]
        if not self.is_short:
            leaves.append(told)
        return any(map(self.number.search, leaves)) or self._has_session(told)

    def _has_session(self, told: bytes) -> bool:
        if any(session in told for session in self.strange):
            return True
        return bool(self.sessions) and not self.sessions.isdisjoint(_TOKEN.findall(told))


def _leaves(text: bytes, is_choosy: bool) -> list[bytes] | None:
    """The names and values in a JSON object, each one of a name that is there twice.

    Args:
        text: Any; None is the answer where it is no JSON object.
        is_choosy: Leave out what fields hold that tell something else than who.
    """
    try:
        told = json.loads(text, object_pairs_hook=_Pairs, parse_float=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, _Pairs):
        return None
    found: list[bytes] = []
    waiting: list[Any] = [told]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Pairs):
            for name, held in value:
                is_nested = isinstance(held, list)
                if is_nested or not (is_choosy and name in _OTHERS):
                    waiting += [name, held]
        elif isinstance(value, list):
            waiting += value
        else:
            found.append(str(value).encode(errors="replace"))
    return found


class _Pairs(list[Any]):
    """Names and values of a JSON object."""


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
