"""Takes a text apart line by line, where DuckDB's parser would not: quotes, blanks, broken bytes.

A parser that meets a stray quote may take many lines for one field. Here a quote that is never
closed costs its own line and no other.
"""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tidemill.events.intake.layout import Layout
from tidemill.intake.lines import LONGEST, fault

ESCAPE = "\x1e"
"""Before a letter, it stands for what would end a field in the copy."""

LINES_OF_A_ROW = 100
"""A quoted field that goes on for more lines is taken for a stray quote."""

SHOWN = 100_000
"""Characters of a rejected row that are kept."""


def numbered(path: Path, target: Path, layout: Layout) -> None:
    """Copy the rows of a text without quotes, a row a line.

    A line of the copy is the number of the line where the row starts, the row as it came where
    that is not in what follows, why it cannot be read if so, and the fields, all escaped.

    Args:
        path: The text.
        target: The copy.
        layout: How to read it.
    """
    mark = layout.delimiter.encode()
    plain = b"%d" + 3 * mark + b"%b\n"
    escape = ESCAPE.encode()
    with path.open("rb") as text, target.open("wb") as out:
        source = _Lines(text)
        for number, line in source:
            if number <= layout.skip or not line.strip():
                continue
            bare = line.rstrip(b"\r\n")
            if number == 1:
                bare = bare.removeprefix(b"\xef\xbb\xbf")
            if told := fault(bare):
                out.write(_row(layout, number, bare.decode("utf-8", "replace"), told, ()))
            elif b'"' in bare or escape in bare:
                out.write(_quoted(layout, number, bare, line[len(line.rstrip(b"\r\n")) :], source))
            elif (found := bare.count(mark) + 1) > layout.width + 1:
                out.write(_row(layout, number, bare.decode(), _too_many(layout, found), ()))
            else:
                out.write(plain % (number, bare))


def unescaped(sql: str, delimiter: str) -> str:
    """SQL of a field of the copy as it was."""
    meant_sql, escape = sql, f"chr({ord(ESCAPE)})"
    for letter, meant in _meanings(delimiter).items():
        meant_sql = f"replace({meant_sql}, {escape} || '{letter}', chr({ord(meant)}))"
    # Few fields have one, and to look for it first is several times as fast.
    return f"case when contains({sql}, {escape}) then {meant_sql} else {sql} end"


@dataclass
class _Lines:
    """Numbered lines of a text, of which some may be looked at beforehand."""

    text: IO[bytes]
    number: int = 0
    ahead: deque[bytes] = field(default_factory=deque)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while line := self.take():
            yield self.number, line

    def take(self) -> bytes:
        line = self.ahead.popleft() if self.ahead else self.text.readline()
        self.number += 1
        return line

    def peek(self, nth: int) -> bytes:
        """The line that ``nth`` + 1 calls of ``take`` away; empty at the end."""
        while len(self.ahead) <= nth:
            line = self.text.readline()
            if not line:
                return b""
            self.ahead.append(line)
        return self.ahead[nth]


def _quoted(layout: Layout, number: int, bare: bytes, ending: bytes, source: _Lines) -> bytes:
    """The copy of a row with quotes, which may go on over the next lines; those are taken then."""
    fields, told = _split(bare.decode(), layout)
    if told == OPEN:
        joined = _joined(layout, bare + ending, source)
        if joined is not None:
            fields, bare = joined
            told = ""
    return _row(layout, number, bare.decode(), told, fields)


def _joined(layout: Layout, found: bytes, source: _Lines) -> tuple[list[str], bytes] | None:
    """Fields and text of a row whose quoted field ends on a later line, None if it does not."""
    quotes = found.count(b'"')
    for nth in range(LINES_OF_A_ROW):
        line = source.peek(nth)
        if not line or len(found) + len(line) > LONGEST or fault(line.rstrip(b"\r\n")):
            return None
        found += line
        quotes += line.count(b'"')
        if b'"' not in line or quotes % 2:
            continue
        bare = found.rstrip(b"\r\n")
        fields, told = _split(bare.decode(), layout)
        # Else the first line is broken by itself, and the others are rows of their own.
        if told or len(fields) < layout.width:
            return None
        for _ in range(nth + 1):
            source.take()
        return fields, bare
    return None


OPEN = "expected a closing quote, found none"


def _split(text: str, layout: Layout) -> tuple[list[str], str]:
    """The fields of a row, and why it has none, if so."""
    try:
        fields = next(csv.reader([text], delimiter=layout.delimiter, strict=True), [])
    except csv.Error as error:
        if "end of data" in str(error):
            return [], OPEN
        if "expected after" in str(error):
            return [], "expected quotes around whole fields, found text after a closing one"
        return [], f"expected fields of text, found otherwise ({error})"
    if len(fields) > layout.width + 1:
        return [], _too_many(layout, len(fields))
    return fields, ""


def _too_many(layout: Layout, found: int) -> str:
    return f"expected {layout.width} fields, found {found}"


def _row(
    layout: Layout, number: int, raw: str, told: str, fields: "list[str] | tuple[()]"
) -> bytes:
    written = [str(number), raw[:SHOWN], told, *fields]
    for letter, meant in reversed(_meanings(layout.delimiter).items()):
        written = [text.replace(meant, ESCAPE + letter) for text in written]
    return layout.delimiter.join(written).encode() + b"\n"


def _meanings(delimiter: str) -> dict[str, str]:
    """Each letter and what it stands for; that of the escape itself comes last when read."""
    return {"n": "\n", "r": "\r", "d": delimiter, "e": ESCAPE}
