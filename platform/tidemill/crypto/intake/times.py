"""How a candle file writes times, told from a sample; and the SQL that reads them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

from tidemill.crypto.intake.numerals import NUMBER, Numbers, column, like, most, number
from tidemill.errors import InputError
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb

FORMATS = (
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S.%g",
    "%Y%m%d %H:%M:%S",
    "%Y%m%d %H:%M",
    "%Y%m%d %H%M%S",
    "%Y%m%d %H%M",
    "%Y%m%d",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M",
    "%Y%m%dT%H%M%SZ",
    "%Y.%m.%d %H:%M:%S",
    "%Y.%m.%d %H:%M",
    "%Y.%m.%d",
    "%Y-%m-%d %I-%p",
    "%b %d, %Y",
    "%d-%b-%Y",
    "%d %b %Y",
)
SLASHED = tuple(
    f"%m{mark}%d{mark}{year}{clock}"  # %y goes first, as %Y takes the year 24 too
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%g")
    for mark in "/-"
    for year in ("%y", "%Y")
)
_DAY = r"\d{8}|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_CLOCK = r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?|\d{4}|\d{6}"
_DIGIT_DATE = r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\d{4}|\d{6})?"


@dataclass(frozen=True)
class Times:
    """How a file writes times.

    Attributes:
        is_epoch: Whether times are numbers since 1970 rather than text.
        is_end: Whether times name the end of the bar.
        is_iso: Whether written times begin with the year, as 2024-01-31 or 2024/1/31.
        is_slashed: Whether dates are written 1/2/2024, the day or the month first.
        has_zone: Whether written times name their zone.
        formats: Of written times that are not ISO, the likeliest first.
        is_day: Whether they are days, with no time of day.
        bar_s: Length of a bar from its start to its end, None where the end is not told.
    """

    is_epoch: bool
    is_end: bool
    is_iso: bool
    is_slashed: bool
    has_zone: bool
    formats: tuple[str, ...]
    is_day: bool
    bar_s: int | None


def is_split(days: Sequence[str], clocks: Sequence[str]) -> bool:
    """Whether one column holds the day and another the time of day."""
    return like(days, _DAY) and like(clocks, _CLOCK)


def told(
    rows: Sequence[Sequence[str]], time: int, end: int | None, clock: int | None, is_end: bool
) -> Times:
    """How a file writes times, told from some of its rows.

    Args:
        rows: Fields of each.
        time: Index of the column with the times, or the days.
        end: Index of another that tells the ends of the bars, if any.
        clock: Index of the column with the time of day, if it is not beside the date.
        is_end: Whether the column's name says that it is the end of a bar.
    """
    times = [value for value in column(rows, time) if re.search(r"\d", value)]
    is_epoch = clock is None and like(times, NUMBER) and not like(times, _DIGIT_DATE)
    bar_s = None
    if is_epoch:
        starts = [_seconds(time) for time in times if re.fullmatch(NUMBER, time)]
        lasts = [59 <= second % 60 < 59.9995 for second in starts]
        ends = [_seconds(time) for time in column(rows, end) if re.fullmatch(NUMBER, time)]
        lengths = [e - s for e, s in zip(ends, starts, strict=False) if 0 < e - s < 1e9]
        if lengths:
            bar_s = ceil(median(lengths))
    else:
        seen = column(rows, clock) if clock is not None else times
        lasts = [re.search(r"\d:\d\d:59(\.\d+)?(\D|$)", time) is not None for time in seen]
    is_iso = clock is None and like(times, r"\d{4}[-/]\d{1,2}[-/]\d{1,2}.*")
    is_slashed = like(times, r"\d{1,2}[/-]\d{1,2}[/-](\d{4}|\d{2})(\D.*)?")
    if clock is not None:
        pairs = [row for row in rows if len(row) > max(time, clock)]
        times = [f"{row[time].strip()} {row[clock].strip()}" for row in pairs]
    formats = SLASHED if is_slashed else FORMATS
    return Times(
        is_epoch=is_epoch,
        is_end=is_end or most(lasts, 0.9),
        is_iso=is_iso,
        is_slashed=is_slashed,
        has_zone=like(times, r".*\d:\d\d.*(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)"),
        formats=formats if is_epoch or is_iso else tuple(_likeliest(formats, times)),
        is_day=not is_epoch and clock is None and like(times, _DAY, 0.9),
        bar_s=bar_s,
    )


def _seconds(time: str) -> float:
    """Epoch seconds of a number in any unit that its magnitude tells."""
    size = abs(float(time))
    unit = 1 if size < 1e11 else 1e3 if size < 1e14 else 1e6 if size < 1e17 else 1e9
    return float(time) / unit


def _likeliest(formats: Sequence[str], times: Sequence[str]) -> list[str]:
    """The formats, those that read most of the times first; a slashed one may be the other way."""

    def reads(form: str, time: str) -> bool:
        try:
            datetime.strptime(time, form.replace("%g", "%f"))
        except ValueError:
            return False
        return True

    def count(form: str) -> int:
        ways = {form, _day_first(form)} if formats is SLASHED else {form}
        return max(sum(reads(way, time) for time in times[:50]) for way in ways)

    return sorted(formats, key=count, reverse=True)


def _day_first(form: str) -> str:
    return form.replace("%m", "%D").replace("%d", "%m").replace("%D", "%d")


def slashed(
    con: "duckdb.DuckDBPyConnection", relation: str, field: str, times: Times, shown: str
) -> Times:
    """The formats of a file that writes dates as 1/2/2024, from the numbers over 12 in all of it.

    Raises:
        InputError: No date tells whether the day or the month comes first, or they differ.
    """
    parts = ", ".join(
        f"try_cast(regexp_extract({field}, '(\\d{{1,2}})[/-](\\d{{1,2}})[/-]', {n}) as INT) as p{n}"
        for n in (1, 2)
    )
    first, second, example = con.execute(
        "select count(*) filter (p1 between 13 and 31), count(*) filter (p2 between 13 and 31), "
        f"any_value(left(seen, 40)) from (select {parts}, {field} as seen from {relation})"
    ).fetchone() or (0, 0, "")
    if first > 100 * second:
        forms = tuple(_day_first(form) for form in times.formats)
    elif second > 100 * first:
        forms = times.formats
    else:
        found = "both ways of writing are in it" if first else "no date in it has a day over 12"
        raise InputError(
            f"{shown}: in {example!r} the day or the month may come first, and {found}; "
            "write dates as 2024-01-31"
        )
    return Times(**{**vars(times), "formats": forms})


def seconds(field: str, times: Times, numbers: Numbers, is_number: bool = False) -> str:
    """SQL of the epoch seconds of a time, NULL for none.

    The unit of a number is told by its magnitude, row by row, since a file joined from two exports
    has two. No time from 2010 to 2100 can be taken for one in another unit.

    Args:
        field: The time as text.
        times: How the file writes times.
        numbers: How it writes numbers.
        is_number: The field is a DOUBLE already.
    """
    n = field if is_number else number(field, Numbers(decimal=numbers.decimal))
    from_number = (
        f"case when abs({n}) < 1e11 then {n} when abs({n}) < 1e14 then {n} / 1e3 "
        f"when abs({n}) < 1e17 then {n} / 1e6 when abs({n}) < 1e20 then round({n} / 1e9, 3) end"
    )
    formats = ", ".join(text_literal(form) for form in times.formats)
    from_iso = f"epoch(try_cast({field} as TIMESTAMPTZ))"
    from_other = f"epoch(try_strptime({field}, [{formats}]))"
    from_padded = f"epoch(try_cast(trim({field}) as TIMESTAMPTZ))"
    if is_number:
        tried = [from_number]
    elif times.is_epoch:
        tried = [from_number, from_iso, from_padded]
    elif times.is_iso:
        tried = [from_iso, from_other, from_number, from_padded]
    else:
        tried = [from_other, from_iso, from_number, from_padded]
    found = f"coalesce({', '.join(tried)})"
    if times.is_end:  # 00:00:59 and 00:00:59.999 both say that the minute is over
        found = f"case when {found} % 60 >= 59 then floor({found} / 60) * 60 + 60 else {found} end"
    return found
