"""A row that is no good is rejected with its line and reason, and costs no other."""

import gzip
import math
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.crypto.intake.desk import (
    HEADER,
    NOW,
    START,
    Desk,
    database,
    empty,
    minute,
)
from tidemill.crypto.intake import files, source
from tidemill.crypto.intake import rows as reading
from tidemill.errors import InputError

TIME = "time: expected 2010-01-01 to 2026-01-02, found "
BAD_ROWS: dict[str, tuple[str, str]] = {
    # at is the minute after the start, which no good row has
    "text in a number": ("{at},100,abc,100,100,1", "high: expected a number, found abc"),
    "a unit in a number": ("{at},$100,100,100,100,1", "open: expected a number, found $100"),
    "a decimal comma": ('{at},100,100,100,"1,5",1', "close: expected a number, found 1,5"),
    "hexadecimal": ("{at},100,100,100,100,0x10", "volume: expected a number, found 0x10"),
    "a negative price": ("{at},-100,100,100,100,1", "open: expected above 0, found -100"),
    "a price of zero": ("{at},100,100,0,100,1", "low: expected above 0, found 0"),
    "a negative volume": ("{at},100,100,100,100,-1", "volume: expected at least 0, found -1"),
    "high below low": ("{at},100,99,101,100,1", "high 99 is below low 101"),
    "open above high": ("{at},103,102,100,101,1", "open 103 is outside low 100 to high 102"),
    "open above high, no low": (
        "{at},103,102,,101,1",
        "open 103 is outside low unknown to high 102",
    ),
    "close below low": ("{at},101,102,100,99,1", "close 99 is outside low 100 to high 102"),
    "Inf": ("{at},100,inf,100,100,1", "high: expected a finite number, found inf"),
    "-Infinity": ("{at},100,100,-Infinity,100,1", "low: expected a finite number, found -Infinity"),
    "infinite by size": ("{at},100,1e999,100,100,1", "high: expected a finite number, found 1e999"),
    "an infinite volume": (
        "{at},100,100,100,100,inf",
        "volume: expected a finite number, found inf",
    ),
    "NaN with a sign": ("{at},100,100,100,-nan,1", "close: expected a finite number, found -nan"),
    "1970": ("0,100,100,100,100,1", f"{TIME}0 (1970-01-01)"),
    "1970, written": ("1970-01-01 00:00:00,1,1,1,1,1", f"{TIME}1970-01-01 00:00:00 (1970-01-01)"),
    "1969": ("-60,100,100,100,100,1", f"{TIME}-60 (1969-12-31)"),
    "2200": ("7258118400,100,100,100,100,1", f"{TIME}7258118400 (2200-01-01)"),
    "2200 in ms": ("7258118400000,1,1,1,1,1", f"{TIME}7258118400000 (2200-01-01)"),
    "the day after tomorrow": ("1767312000,1,1,1,1,1", f"{TIME}1767312000 (2026-01-02)"),
    "a number too large for a time": (
        "1e25,100,100,100,100,1",
        "time: expected Unix time or a date, found 1e25",
    ),
    "no time": (",100,100,100,100,1", "time: expected one, found nothing"),
    "NaN for a time": ("NaN,100,100,100,100,1", "time: expected one, found nothing"),
    "text for a time": (
        "tomorrow,100,100,100,100,1",
        "time: expected Unix time or a date, found tomorrow",
    ),
    "a day that is not in the calendar": (
        "2024-02-30,100,100,100,100,1",
        "time: expected Unix time or a date, found 2024-02-30",
    ),
    "the header again": (HEADER.strip(), "time: expected Unix time or a date, found timestamp"),
    "inside a minute": (
        f"{START + 90},100,100,100,100,1",
        "time: expected the start of a minute, found second 30",
    ),
    "inside a second": (
        f"{START + 60}.5,100,100,100,100,1",
        f"time: expected the start of a minute, found {START + 60}.5",
    ),
    "a field too few": ("{at},100,100,100,100", "expected 6 fields, found 5"),
    "fields too many": ("{at},100,100,100,100,1,2,3", "expected 6 fields, found 8"),
    "nothing but commas": (",,,,,", "time: expected one, found nothing"),
    "a comment": ("# the exchange was down", "expected 6 fields, found 1"),
    "a quote left open": (
        '"{at},100,100,100,100,1',
        "expected a closing quote on the same line, found none",
    ),
    "a quote inside": (
        '{at},100,"100"0,100,100,1',
        "expected quotes around whole fields, found one inside",
    ),
    "a quote inside, and a field too few": (
        '{at},100,"100"0,100,100',
        "expected quotes around whole fields, found one inside",
    ),
    "a carriage return inside": (
        "{at},100,100\r,100,100,1",
        "expected one row on the line, found a carriage return inside it",
    ),
    "a NUL byte": ("{at},100,1\x0000,100,100,1", "expected text, found a NUL byte"),
}


def judged(path: Path) -> tuple[list[int], list[tuple[Any, ...]]]:
    """The minutes of the good rows; line, reason and raw text of the others."""
    con, _ = database()
    with source.plain(path) as text:
        limit_s = int((NOW + timedelta(days=1)).timestamp())
        parsed = reading.parse(con, text, files.layout(text), "BTCUSDT", True, limit_s)
        good = con.execute("select (ts - ?) // 60 from parsed where reason is null", [START])
        minutes = [n for (n,) in good.fetchall()]
        return minutes, list(reading.rejected(con, parsed))


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_rejected_with_its_line_and_reason_and_costs_no_other(
    tmp_path: Path, fault: str
) -> None:
    row, reason = BAD_ROWS[fault]
    raw = row.format(at=START + 60)
    path = tmp_path / "BTCUSDT.csv"
    path.write_text(f"{HEADER}{minute(0)}{raw}\n{''.join(map(minute, range(2, 6)))}", newline="")
    shown = raw.replace("\x00", "\ufffd")
    assert judged(path) == ([0, 2, 3, 4, 5], [(3, reason, shown)])


def test_a_file_with_every_fault_lands_what_is_good_in_it(desk: Desk) -> None:
    content = HEADER + minute(0)
    for n, (row, _) in enumerate(BAD_ROWS.values()):
        content += row.format(at=START + 60) + "\n" + minute(2 + n)
    bad = len(BAD_ROWS)
    assert desk.counts(content) == (2 * bad + 1, bad + 1, 0, 0, bad)
    expected = [(3 + 2 * n, reason) for n, (_, reason) in enumerate(BAD_ROWS.values())]
    assert [(line, reason) for _, line, reason, _ in desk.rejected()] == expected
    desk.audit()


def test_bytes_that_are_no_text_cost_their_own_line(desk: Desk) -> None:
    content = (HEADER + minute(0) + minute(1) + minute(2)).encode()
    bad = content.replace(f"{START + 60},100".encode(), f"{START + 60},1\xff0".encode("latin-1"))
    assert desk.counts(bad) == (3, 2, 0, 0, 1)
    ((_, line, reason, raw),) = desk.rejected()
    assert (line, reason) == (3, "expected UTF-8 text, found other bytes")
    assert raw == f"{START + 60},1\ufffd0,100,100,100,1"


def test_text_that_is_not_ascii_is_text(desk: Desk) -> None:
    header = HEADER.strip() + ",заметка\n"
    rows = [minute(n).strip() + ",чаёвня\n" for n in range(3)]
    assert desk.counts(header + "".join(rows)) == (3, 3, 0, 0, 0)


def test_a_very_long_line_costs_itself_alone(desk: Desk) -> None:
    long = "9" * 2_500_000
    assert desk.counts(HEADER + minute(0) + long + "\n" + minute(1)) == (3, 2, 0, 0, 1)
    ((_, line, reason, raw),) = desk.rejected()
    assert (line, reason) == (3, "expected a line of at most 1000000 bytes, found 2500000")
    assert len(raw) == 2000


def test_a_field_over_two_lines_costs_both_and_no_other(desk: Desk) -> None:
    row = f'{START + 60},100,100,"1\n00",100,1\n'
    assert desk.counts(HEADER + minute(0) + row + minute(2)) == (4, 2, 0, 0, 2)
    assert [(line, raw) for _, line, _, raw in desk.rejected()] == [
        (3, f'{START + 60},100,100,"1'),
        (4, '00",100,1'),
    ]


def test_two_stray_quotes_do_not_swallow_what_is_between_them(desk: Desk) -> None:
    rows = [minute(n) for n in range(40)]
    rows[5] = rows[5].replace(",100,1\n", ',"100,1\n')
    rows[30] = rows[30].replace(",100,1\n", ',"100,1\n')
    assert desk.counts(HEADER + "".join(rows)) == (40, 38, 0, 0, 2)
    assert [line for _, line, _, _ in desk.rejected()] == [7, 32]


def test_a_last_line_cut_short_is_rejected(desk: Desk) -> None:
    assert desk.counts(HEADER + minute(0) + minute(1)[:20]) == (2, 1, 0, 0, 1)
    assert desk.rejected()[0][1:3] == (3, "expected 6 fields, found 4")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "https://example.org\n# two lines\n\n"])
def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path, start: str, end: str) -> None:
    body = [minute(0), "\n", "   \n", "oops\n", minute(1), "\n", minute(2).replace("100", "x")]
    path = tmp_path / "BTCUSDT.csv"
    text = f"{start}{HEADER}{''.join(body)}\n".replace("\n", end)
    path.write_text(text, encoding="utf-8", newline="")
    minutes, rejected = judged(path)
    before = start.count("\n")
    assert (minutes, [line for line, _, _ in rejected]) == ([0, 1], [before + 5, before + 8])


def test_what_stands_above_the_header_is_no_row_whatever_it_holds(desk: Desk) -> None:
    content = f'# it"s\n# \x00\n{HEADER}{minute(0)}"oops\n{minute(1)}'
    assert desk.counts(content) == (3, 2, 0, 0, 1)
    assert [line for _, line, _, _ in desk.rejected()] == [5]


@pytest.mark.parametrize("has_quotes", [False, True])
def test_lines_are_right_in_a_file_that_is_read_in_pieces(desk: Desk, has_quotes: bool) -> None:
    random, count, bad = Random(5), 160_000, 200
    note = "x" * 220  # 40 MB in all: more than the parser takes at once
    faults = ["oops", "1,2", ",,,,,,", "1,2,3,4,5,6,7,8", "x,1,1,1,1,1,1"]
    rows = [minute(n).replace("\n", f",{note}\n") for n in range(count)]
    if has_quotes:
        rows = [row.replace(",1,", ',"1",') for row in rows]
        faults += ['"1,2,3', '1,"2"3,4,5,6,7,8']
    places = random.sample(range(count), bad + 50)
    for n in places[:bad]:
        rows[n] = random.choice(faults) + "\n"
    for n in places[bad:]:
        rows[n] += "\n"  # a blank line after it
    text = HEADER.replace("\n", ",note\n") + "".join(rows)
    expected = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line in faults]

    assert desk.counts(text) == (count, count - bad, 0, 0, bad)
    assert [(line, raw) for _, line, _, raw in desk.rejected()] == expected


def test_rows_inside_a_minute_do_not_tell_how_long_the_others_are(desk: Desk) -> None:
    halves = [minute(n).replace(str(START + 60 * n), str(START + 60 * n + 30)) for n in range(3)]
    assert desk.counts(HEADER + "".join([*map(minute, range(5)), *halves])) == (8, 5, 0, 0, 3)


def test_a_volume_of_minus_nothing_is_nothing(desk: Desk) -> None:
    desk.land(HEADER + minute(0).replace(",1\n", ",-0.0\n"))
    assert math.copysign(1, desk.kept()[0][5]) == 1.0


def test_rows_without_volume_or_with_nothing_in_it_are_good(desk: Desk) -> None:
    content = HEADER + minute(0).replace(",1\n", ",\n") + minute(1).replace(",1\n", ",0\n")
    assert desk.counts(content) == (2, 2, 0, 0, 0)
    assert [row[5] for row in desk.kept()] == [None, 0.0]


def test_a_file_whose_rows_are_all_bad_is_refused_with_the_commonest_reasons(desk: Desk) -> None:
    rows = [
        *(f"{START + 60 * n},100,100,100,-{n + 1},1\n" for n in range(3)),
        *(f"{n},100,100,100,100,1\n" for n in range(5)),
        "oops\n",
    ]
    with pytest.raises(InputError) as refusal:
        desk.land(HEADER + "".join(rows))
    assert str(refusal.value) == (
        f"{desk.inbox}/BTCUSDT.csv: none of its 9 rows can be used, so nothing was taken: "
        f"{TIME}0 (1970-01-01) (line 5, and 4 more like it); "
        "close: expected above 0, found -1 (line 2, and 2 more like it); "
        "expected 6 fields, found 1 (line 10)"
    )
    assert desk.is_untouched()


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", "BTCUSDT.csv", r"the file is empty \(0 bytes\)"),
        (HEADER, "BTCUSDT.csv", "and no rows under it"),
        (HEADER.replace("close", "price2") + minute(0), "BTCUSDT.csv", "no column for close"),
        (minute(0), "BTCUSDT.csv", "Say it with --columns"),
        (HEADER + minute(0), "candles.csv", "say it with --symbol, for example --symbol BTCUSDT"),
        (b"PAR1...", "BTCUSDT.csv", "this is a Parquet file"),
        (gzip.compress((HEADER + minute(0)).encode(), mtime=0)[:-9], "BTCUSDT.csv.gz", "cut short"),
        (HEADER + "x,1,1,1,1,1\n", "BTCUSDT.csv", "none of its 1 rows can be used"),
        (HEADER + empty(0) + empty(1), "BTCUSDT.csv", "none of its 2 rows can be used"),
    ],
)
def test_a_refused_file_leaves_nothing(
    desk: Desk, content: str | bytes, name: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        desk.land(content, name)
    assert str(refusal.value).startswith(f"{desk.inbox / name}: ")
    assert "\n" not in str(refusal.value)
    assert "tidemill-ingest" not in str(refusal.value)
    assert desk.is_untouched()


# Duplicates
