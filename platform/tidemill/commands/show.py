"""How the command line shows things: tables for people, JSON for scripts."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 180
"""Columns where nobody looks at a terminal; Rich would squeeze tables into 80."""

# Most of what is shown comes from files, SQL and errors, where "[/b]" and ":100:" are just text.
out = Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


def as_json(value: Any) -> None:
    """Print a value as one JSON document on standard output."""
    json.dump(value, sys.stdout, default=_plain, indent=2)
    sys.stdout.write("\n")


def as_text(value: Any) -> Any:
    """Bytes as the text that they are; what is none of it is shown by its number."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return as_text(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    is_grouped: bool = True,
) -> None:
    """Print rows with a header, numbers to the right.

    Args:
        names: Of the columns.
        rows: Values.
        title: Above it.
        is_grouped: Whether whole numbers are shown as 1,234; one may be a year.
    """
    drawn = Table(title=title, title_justify="left", header_style="bold")
    numeric = [
        all(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows)
        for i in range(len(names))
    ]
    for name, is_numeric in zip(names, numeric, strict=True):
        drawn.add_column(name, justify="right" if is_numeric and rows else "left")
    for row in rows:
        drawn.add_row(*[_cell(value, is_grouped) for value in row])
    out.print(drawn)


def _cell(value: Any, is_grouped: bool = True) -> str:
    if value is None:
        return "NULL"
    if is_grouped and isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def pairs(values: Mapping[str, Any]) -> None:
    """Print names and values, a line each."""
    for name, value in values.items():
        marked(out, f"{name}:", _cell(value), "bold")


def marked(console: Console, mark: str, text: str, style: str) -> None:
    """Print a line of text behind a mark in a style of its own, unbroken however long."""
    console.print(Text.assemble((mark, style), f" {text}"), soft_wrap=True)
