"""Lines of a plain text: counted, and those that no parser should see taken out.

A CSV parser that meets a stray quote or a byte that is no text may take many lines for one field.
Such lines are found here by looking at each line alone, so that each costs itself and no other.
"""

from dataclasses import dataclass
from pathlib import Path

LONGEST = 1_000_000
"""Bytes in a line; no row of prices or events comes near it."""


@dataclass(frozen=True)
class Survey:
    """What a pass over a text's bytes finds.

    Attributes:
        lines: Lines, a last one without a line end included.
        has_quotes: Whether there is a double quote in it.
        is_sound: Whether every line can be given to a parser, so far as bytes tell.
    """

    lines: int
    has_quotes: bool
    is_sound: bool


def survey(path: Path) -> Survey:
    """Look over a text quickly, without taking lines apart."""
    lines = returns = pairs = 0
    has_quotes, is_sound, is_ascii = False, True, True
    last = b"\n"
    with path.open("rb") as text:
        while block := text.read(LONGEST // 2):
            newlines = block.count(b"\n")
            lines += newlines
            # A line over the longest has a whole block inside it, and so one without a line end.
            is_sound &= newlines > 0 or len(block) < LONGEST // 2
            is_sound &= b"\x00" not in block
            is_ascii &= block.isascii()
            has_quotes |= b'"' in block
            if b"\r" in block or last == b"\r":
                returns += block.count(b"\r")
                pairs += block.count(b"\r\n") + (last == b"\r" and block[:1] == b"\n")
            last = block[-1:]
    is_sound &= returns - pairs <= (last == b"\r")
    return Survey(lines + (last != b"\n"), has_quotes, is_sound and (is_ascii or _is_utf8(path)))


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return False
    return True


def sieve(path: Path, target: Path, skip: int) -> dict[int, str]:
    """Copy a text with each unreadable line emptied; lines keep their numbers.

    Args:
        path: The text.
        target: The copy.
        skip: Lines at the start that are copied as they are.

    Returns:
        The reason by line number, from 1, of each line emptied.
    """
    broken: dict[int, str] = {}
    with path.open("rb") as text, target.open("wb") as out:
        for number, line in enumerate(text, 1):
            bare = line.rstrip(b"\r\n")
            if number > skip and (told := _unclosed(bare) or fault(bare)):
                broken[number] = told
                bare = b""
            out.write(bare + b"\n")
    return broken


def fault(line: bytes) -> str | None:
    """Why a line, without its line end, cannot be given to a parser, quotes aside."""
    if len(line) > LONGEST:
        return f"expected a line of at most {LONGEST} bytes, found {len(line)}"
    if b"\x00" in line:
        return "expected text, found a NUL byte"
    if b"\r" in line:
        return "expected one row on the line, found a carriage return inside it"
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "expected UTF-8 text, found other bytes"
    return None


def _unclosed(line: bytes) -> str | None:
    if line.count(b'"') % 2:
        return "expected a closing quote on the same line, found none"
    return None


def filled(path: Path, skip: int) -> int:
    """Lines after the first ``skip`` that hold more than blanks."""
    with path.open("rb") as text:
        return sum(bool(line.strip()) for number, line in enumerate(text, 1) if number > skip)
