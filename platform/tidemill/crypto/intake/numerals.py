"""How a candle file writes numbers, told from a sample; and the SQL that reads them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidemill.errors import InputError
from tidemill.lake.contracts import text_literal

EMPTY = (
    *("", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none", "NA", "N/A", "n/a"),
    *("#N/A", "<NA>", "-", "--"),
)
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_UNCLEAR = r"-?[1-9]\d{0,2},\d{3}"


@dataclass(frozen=True)
class Numbers:
    """How a file writes numbers.

    Attributes:
        decimal: Before the fraction: a point or a comma.
        thousands: Between groups of three digits: a comma, a point or nothing.
        has_suffix: Whether volumes are written 1.5K or 2M.
        is_padded: Whether there are blanks around values.
    """

    decimal: str = "."
    thousands: str = ""
    has_suffix: bool = False
    is_padded: bool = False


def most(found: Iterable[bool], share: float = 0.5) -> bool:
    """Whether over ``share`` of them hold, and there is one."""
    values = list(found)
    return sum(values) > share * len(values)


def like(values: Sequence[str], pattern: str, share: float = 0.5) -> bool:
    """Whether over ``share`` of the values match, and there is one."""
    return most((re.fullmatch(pattern, value) is not None for value in values), share)


def column(rows: Sequence[Sequence[str]], index: int | None) -> list[str]:
    """The values of a column that are not empty, without the blanks around them."""
    found = [row[index].strip() for row in rows if index is not None and index < len(row)]
    return [value for value in found if value not in EMPTY]


def told(rows: Sequence[Sequence[str]], columns: Sequence[int], volume: int, shown: str) -> Numbers:
    """How a file writes numbers, told from some of its rows.

    Args:
        rows: Fields of each.
        columns: Indexes of the columns with numbers.
        volume: Index of the one with volumes.
        shown: What messages call the file.

    Raises:
        InputError: All that is known is a comma before three digits, as in 1,234.
    """
    fields = [row[index] for row in rows for index in columns if index < len(row)]
    has_suffix = like(column(rows, volume), r"[\d.,]+[KMBkmb]", 0.2)
    values = [v.strip().rstrip("KMBkmb" if has_suffix else "") for v in fields]

    def count(pattern: str) -> int:
        return sum(re.fullmatch(pattern, value) is not None for value in values)

    points, unclear = count(r"-?\d*\.\d+"), count(_UNCLEAR)
    commas = count(r"-?(\d+,(\d{1,2}|\d{4,})|(0|\d{4,}),\d{3})")
    comma_groups = count(r"-?\d{1,3}((,\d{3})+\.\d*|(,\d{3}){2,})")
    point_groups = count(r"-?\d{1,3}((\.\d{3})+,\d*|(\.\d{3}){2,})")
    is_padded = any(field != field.strip() for field in fields)
    with_comma = commas + point_groups
    if with_comma > points + comma_groups and with_comma * 10 > len(values):  # not a stray one
        return Numbers(",", "." if point_groups else "", has_suffix, is_padded)
    if comma_groups or (unclear and points):
        return Numbers(".", ",", has_suffix, is_padded)
    if unclear * 2 > len(values):
        example = next(value for value in values if re.fullmatch(_UNCLEAR, value))
        raise InputError(
            f"{shown}: {example!r} may be over a thousand or have a fraction, and no number among "
            "the first rows tells which; write numbers with a decimal point and without groups"
        )
    return Numbers(".", "", has_suffix, is_padded)


def cleaned(field: str, numbers: Numbers) -> str:
    """SQL of a field without the blanks around it, NULL where nothing is left."""
    if not numbers.is_padded:
        return field
    empty = ", ".join(text_literal(e) for e in EMPTY)
    return f"(case when trim({field}) not in ({empty}) then trim({field}) end)"


def number(field: str, numbers: Numbers, may_have_suffix: bool = False) -> str:
    """SQL of a number, NULL for what is none, or is written in another way than the file's."""
    factor = ""
    if numbers.has_suffix and may_have_suffix:
        last = f"upper(right({field}, 1))"
        factor = f" * case {last} when 'K' then 1e3 when 'M' then 1e6 when 'B' then 1e9 else 1 end"
        field = f"rtrim({field}, 'KMBkmb')"
    if numbers.decimal == "," or numbers.thousands:
        point = r"\." if numbers.decimal == "." else ","
        groups = {"": "", ".": r"|\d{1,3}(\.\d{3})+", ",": r"|\d{1,3}(,\d{3})+"}[numbers.thousands]
        shape = rf"\s*[-+]?(\d*{groups})({point}\d*)?([eE][-+]?\d+)?\s*"
        bare = f"replace({field}, '{numbers.thousands}', '')" if numbers.thousands else field
        point_for = f"replace({bare}, '{numbers.decimal}', '.')"
        field = f"(case when regexp_full_match({field}, '{shape}') then {point_for} end)"
    return f"try_cast({field} as DOUBLE){factor}"
