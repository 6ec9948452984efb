"""Bars in a JSON document, rewritten as lines of CSV, a line a record.

Known shapes: a list of objects or of lists; one such list inside objects; an object of columns, as
pandas and chart servers write it; and JSON Lines.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.crypto.intake.files import role_of, symbol_in
from tidemill.errors import InputError

NEEDED = {"open", "high", "low", "close"}


def as_csv(
    path: Path, target: Path, shown: str
) -> tuple[Path, tuple[str, ...] | None, str | None, tuple[str, ...]]:
    """Rewrite a JSON document.

    Returns:
        ``target``; the columns' names, None for records that are lists; a trading pair that the
        document names beside its records; and notes for the report.

    Raises:
        InputError: It is no JSON, or has not exactly one list of bars.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        records, symbol, notes = _lines(text) or _document(text, shown)
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: this JSON is not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{shown}: this is no JSON, or it is cut short: {error}") from error
    except RecursionError as error:
        raise InputError(f"{shown}: this JSON is nested too deeply for a list of bars") from error
    is_object = any(isinstance(record, dict) for record in records)
    names: dict[str, None] = {}
    for record in records if is_object else ():
        names |= dict.fromkeys(record if isinstance(record, dict) else ())
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        for record in records:
            writer.writerow(_fields(record, list(names) if is_object else None))
    return target, tuple(names) if is_object else None, symbol, notes


def _lines(text: str) -> tuple[list[Any], str | None, tuple[str, ...]] | None:
    """The records of JSON Lines, an unreadable line as its text and a blank one as None."""
    lines = text.split("\n")
    filled = [line for line in lines if line.strip()]
    if (
        len(filled) < 2
        or not _is_record(_loaded(filled[0]))
        or not any(_is_record(_loaded(line)) for line in filled[1:3])
    ):
        return None
    records = [_loaded(line) if line.strip() else None for line in lines]
    while records and records[-1] is None:
        records.pop()
    return records, None, ()


def _loaded(line: str) -> Any:
    try:
        return json.loads(line, parse_float=str, parse_int=str)
    except json.JSONDecodeError:
        return line


def _is_record(value: Any) -> bool:
    return isinstance(value, dict | list)


def _document(text: str, shown: str) -> tuple[list[Any], str | None, tuple[str, ...]]:
    document = json.loads(text, parse_float=str, parse_int=str)
    found = list(_tables(document, ""))
    if not found:
        raise InputError(f"{shown}: found no list of bars in this JSON")
    if len(found) > 1:
        places = ", ".join(place or "the top" for place, _ in found[:4])
        raise InputError(
            f"{shown}: found {len(found)} lists of bars in this JSON ({places}); "
            "put each in a file of its own"
        )
    named = document if isinstance(document, dict) else {}
    symbols = [str(named[k]) for k in ("symbol", "pair", "ticker", "name") if k in named]
    symbol = next((s for text in symbols if (s := symbol_in(text))), None)
    return found[0][1], symbol, ("rejected rows of JSON are counted by record, not by line",)


def _tables(value: Any, place: str) -> Iterator[tuple[str, list[Any]]]:
    """Each list of bars, with the keys that lead to it; lists are not searched for lists."""
    if isinstance(value, list):
        if any(_looks_like_bar(record) for record in value[:20]):
            yield place, value
    elif isinstance(value, dict):
        columns = _columns(value)
        if columns:
            yield place, columns
            return
        if _looks_like_bar(value) and not any(map(_is_record, value.values())):
            yield place, [value]
            return
        for key, inner in value.items():
            yield from _tables(inner, f"{place}.{key}".strip("."))


def _looks_like_bar(record: Any) -> bool:
    if isinstance(record, dict):
        return {role_of(name) for name in record} >= NEEDED
    return isinstance(record, list) and len(record) >= 5 and not any(map(_is_record, record))


def _columns(value: Mapping[str, Any]) -> list[Any] | None:
    """The records of an object of columns: lists of one length, or objects with the same keys."""
    columns = {name: v for name, v in value.items() if _is_record(v)}
    if not {role_of(name) for name in columns} >= NEEDED:
        return None
    if all(isinstance(v, dict) for v in columns.values()):
        keys = list(next(iter(columns.values())))
        index = {} if any(role_of(name) == "time" for name in columns) else {"time": keys}
        lists: dict[str, Sequence[Any]] = index | {
            name: [v.get(key) for key in keys] for name, v in columns.items()
        }
    elif all(isinstance(v, list) for v in columns.values()):
        lists = columns
    else:
        return None
    length = max(len(v) for v in lists.values())
    kept = {name: v for name, v in lists.items() if len(v) == length}
    return [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)]


def _fields(record: Any, names: Sequence[str] | None) -> list[str]:
    """A record's values as text on one line; one that is no record gives one field, so too few."""
    if record is None:
        return []
    if isinstance(record, dict) and names is not None:
        return [_text(record.get(name)) for name in names]
    if isinstance(record, list) and names is None and record:
        return [_text(value) for value in record]
    return [_text(record) or "nothing"]


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
