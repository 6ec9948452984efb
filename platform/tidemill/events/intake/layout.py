"""Which column of a clickstream file is which: by its header, or by the order of the spec."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tidemill.errors import InputError
from tidemill.events.topics import FIELDS

NAMES = tuple(field.name for field in FIELDS)
DELIMITERS = (",", ";", "\t", "|")
TAKEN = "events are taken from CSV text, as it is, in gzip or in zip"
SAMPLE_LINES = 200
FEW = 3
"""Names that a line must hold to be a header."""


@dataclass(frozen=True)
class Layout:
    """How to read a plain clickstream file.

    Attributes:
        delimiter: Between fields.
        skip: Lines before the first row.
        width: Fields in a row.
        places: Index of each of the nine columns.
    """

    delimiter: str
    skip: int
    width: int
    places: Mapping[str, int]


def layout(path: Path, shown: str) -> Layout:
    """How to read a plain file.

    Args:
        path: UTF-8 text.
        shown: What messages call the file.

    Raises:
        InputError: It lacks a column, has one twice, or its columns cannot be told.
    """
    with path.open("rb") as handle:
        head = islice(iter(lambda: handle.readline(1 << 20), b""), SAMPLE_LINES)
        lines = [line.decode("utf-8", "replace") for line in head]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    at, first = next(((n, line) for n, line in enumerate(lines) if line.strip()), (0, ""))
    for delimiter in DELIMITERS:
        found = _split(first, delimiter)
        if len(set(map(_plain, found)) & set(NAMES)) >= FEW:
            if not any(line.strip() for line in lines[at + 1 :]):
                raise InputError(f"{shown}: a header ({', '.join(found)}) and no rows under it")
            return Layout(delimiter, at + 1, len(found), _places(found, shown))
    return _without_header(lines, first, shown)


def _places(names: Sequence[str], shown: str) -> dict[str, int]:
    plain = [_plain(name) for name in names]
    listed = ", ".join(name[:60] for name in names[:40])
    if lacking := [name for name in NAMES if name not in plain]:
        raise InputError(
            f"{shown}: expected the columns {', '.join(NAMES)}, found none called "
            f"{', '.join(lacking)}; it has {listed}. Rename them in its header"
        )
    if twice := [name for name in NAMES if plain.count(name) > 1]:
        raise InputError(
            f"{shown}: expected each column once, found {', '.join(twice)} more than once in "
            f"{listed}. Take one out, or rename it"
        )
    return {name: plain.index(name) for name in NAMES}


def _without_header(lines: Sequence[str], first: str, shown: str) -> Layout:
    """The layout of a file whose first line is a row: the nine columns in their order."""
    filled = [line for line in lines if line.strip()]
    for delimiter in DELIMITERS:
        split = [_split(line, delimiter) for line in filled]
        rows = [row for row in split if len(row) == len(NAMES) and _is_row(row)]
        # A file cut out of a larger one begins and ends within a line, so not every one is asked.
        if 2 * len(rows) > len(split) and (_is_row(split[0]) or len(split[0]) < len(NAMES)):
            return Layout(delimiter, 0, len(NAMES), {name: n for n, name in enumerate(NAMES)})
    raise InputError(
        f"{shown}: expected a header naming {', '.join(NAMES)}, or rows of these nine fields in "
        f"this order, found {first.strip()[:120]!r} in the first line. Put a header above it"
    )


def _is_row(fields: Sequence[str]) -> bool:
    """Whether there is a digit where a row has its time and its product."""
    return len(fields) > 2 and all(re.match(r"\d", fields[n]) for n in (0, 2))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _split(line: str, delimiter: str) -> list[str]:
    try:
        fields = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:  # a field longer than the module takes, or a NUL: no line to learn from
        return []
    return [field.strip() for field in fields]
