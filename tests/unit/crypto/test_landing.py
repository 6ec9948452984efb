"""Each row of a file lands once: as good, as a duplicate, or rejected with line and reason."""

import gzip
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.crypto import duplicates, files, source
from tidemill.crypto import landing as module
from tidemill.crypto import rows as reading
from tidemill.crypto.build import Crypto
from tidemill.crypto.contracts import (
    CANDLE_GAPS,
    DAILY_OHLC,
    LANDED_FILES,
    PRICE_JUMPS,
    RAW_CANDLES,
    REJECTED_ROWS,
    TABLES,
)
from tidemill.crypto.landing import Landed, Landing
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.engines.duck import DuckEngine, connection
from tidemill.errors import InputError, TidemillError
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

START = 1_704_067_200  # 2024-01-01 00:00 UTC
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "timestamp,open,high,low,close,volume\n"
COUNTS = ("rows", "good", "exact_duplicates", "conflicting_duplicates", "rejected")


def minute(n: int, price: str = "100") -> str:
    """A good row, ``n`` minutes after the start."""
    return f"{START + 60 * n},{price},{price},{price},{price},1\n"


def empty(n: int) -> str:
    """A row with nothing but its time."""
    return f"{START + 60 * n},,,,,\n"


@cache
def database() -> tuple[duckdb.DuckDBPyConnection, ExitStack]:
    """One for all tests, as opening it takes longer than reading a small file; open to the end."""
    stack = ExitStack()
    con = stack.enter_context(connection())
    con.execute("set preserve_insertion_order = true")
    return con, stack


def queried(sql: str) -> list[tuple[Any, ...]]:
    return database()[0].execute(sql).fetchall()


class Desk:
    """A landing in a folder of its own, and questions to it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first file."""
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True)
        self.lake = Lake(folder / "lake", None, TABLES)
        self.landing = Landing(self.lake, folder / "landing")

    def save(self, content: str | bytes, name: str = "BTCUSDT.csv") -> Path:
        path = self.inbox / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, content: str | bytes, name: str = "BTCUSDT.csv", **more: Any) -> list[Landed]:
        return self.landing.land_file(self.save(content, name), now=NOW, **more)

    def counts(self, content: str | bytes, name: str = "BTCUSDT.csv") -> tuple[int, ...]:
        """Rows, good, exact and conflicting duplicates, rejected."""
        (report,) = self.land(content, name)
        return tuple(getattr(report, name) for name in COUNTS)

    def rejected(self) -> list[tuple[Any, ...]]:
        """File, line, reason and raw text of all rejected rows."""
        scan = self.lake.snapshot(REJECTED_ROWS).scan()
        return queried(f"select file, line, reason, raw from {scan} order by 1, 2")

    def kept(self, symbol: str = "BTCUSDT", interval_s: int = 60) -> list[tuple[Any, ...]]:
        """The good rows: minute from the start, prices, volume; by time."""
        paths = [
            str(self.landing.folder / row["path"])
            for row in self.landing.ledger(symbol)
            if row["path"] and row["interval_s"] == interval_s
        ]
        found = queried(f"select * from read_parquet({paths}) order by 1")
        return [((at - START) // 60, *values) for at, *values in found]

    def audit(self) -> None:
        """See that ledger, rejected rows and landing folder tell one story, and keep contracts."""
        ledger = self.landing.ledger()
        for row in ledger:
            assert row["rows"] == sum(row[name] for name in COUNTS[1:])
            assert row["rows"] > 0
        scan = self.lake.snapshot(REJECTED_ROWS).scan()
        written = dict(queried(f"select sha256, count(*) from {scan} group by 1"))
        told: dict[str, int] = {}
        for row in ledger:
            told[row["sha256"]] = told.get(row["sha256"], 0) + row["rejected"]
        assert written == {digest: n for digest, n in told.items() if n}
        for table in (LANDED_FILES, REJECTED_ROWS):
            assert self.lake.inspect(table, [{}], 1)[0] == {}
        assert self.parquet() == {row["path"] for row in ledger if row["path"]}
        assert not (self.landing.folder / module.UNFINISHED).exists()

    def parquet(self) -> set[str]:
        folder = self.landing.folder
        return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet*")}

    def is_untouched(self) -> bool:
        """Whether neither table has a row, and the landing folder no file but the lock."""
        rows = sum(self.lake.snapshot(table).rows for table in (LANDED_FILES, REJECTED_ROWS))
        files = [p for p in self.landing.folder.rglob("*") if p.is_file() and p.name != ".lock"]
        return rows == 0 and files == []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


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
        (gzip.compress((HEADER + minute(0)).encode())[:-9], "BTCUSDT.csv.gz", "cut short"),
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


def test_a_repeated_minute_counts_once_and_the_first_stays(desk: Desk) -> None:
    rows = [minute(0), minute(1, "101"), minute(1, "101"), minute(1, "102"), minute(0)]
    assert desk.counts(HEADER + "".join(rows)) == (5, 2, 2, 1, 0)
    assert [row[:2] for row in desk.kept()] == [(0, 100.0), (1, 101.0)]
    desk.audit()


def test_a_newest_first_file_keeps_the_first_in_it_too(desk: Desk) -> None:
    rows = [minute(3), minute(2, "102"), minute(2, "202"), minute(1), minute(0)]
    assert desk.counts(HEADER + "".join(rows)) == (5, 4, 0, 1, 0)
    assert [row[:2] for row in desk.kept()] == [(0, 100.0), (1, 100.0), (2, 102.0), (3, 100.0)]
    (path,) = desk.parquet()
    assert pl.read_parquet(desk.landing.folder / path)["timestamp"].is_sorted()


def test_of_two_files_the_one_that_landed_first_stays(desk: Desk) -> None:
    assert desk.counts(HEADER + minute(0) + minute(1) + minute(2)) == (3, 3, 0, 0, 0)
    second = HEADER + minute(1) + minute(2, "999") + minute(3) + minute(1, "5") + minute(3)
    assert desk.counts(second, "BTCUSDT 2.csv") == (5, 1, 2, 2, 0)
    assert [row[:2] for row in desk.kept()] == [(n, 100.0) for n in range(4)]
    desk.audit()


def test_a_file_in_another_unit_or_order_is_the_same_minutes(desk: Desk) -> None:
    desk.land(HEADER + minute(0) + minute(1))
    again = HEADER + "".join(f"{START + 60 * n}000,100.0,1e2,100,+100,1.00\n" for n in (1, 0))
    assert desk.counts(again, "BTCUSDT ms.csv") == (2, 0, 2, 0, 0)
    assert len(desk.parquet()) == 1


def test_bars_of_another_interval_or_symbol_are_no_duplicates(desk: Desk) -> None:
    desk.land(HEADER + minute(0) + minute(1))
    hours = HEADER + minute(0) + minute(60) + minute(120)
    assert desk.counts(hours, "BTCUSDT hours.csv") == (3, 3, 0, 0, 0)
    assert desk.counts(HEADER + minute(0) + minute(1), "ETHUSDT.csv") == (2, 2, 0, 0, 0)
    assert len(desk.kept(interval_s=3600)) == 3


def test_several_symbols_in_one_file_are_counted_apart(desk: Desk) -> None:
    rows = [
        f"BTC/USDT,{minute(0)}",
        f"eth_usdt,{minute(0)}",
        f"BTC/USDT,{minute(1)}",
        f"BTC/USDT,{minute(1)}",
        f"eth_usdt,{minute(1).replace('100', '-1')}",
        f"..,{minute(2)}",
        f",{minute(2)}",
        "oops\n",
    ]
    reports = desk.land(f"symbol,{HEADER}{''.join(rows)}", "BNBUSDT.csv")
    desk.audit()
    assert [(r.symbol, *(getattr(r, name) for name in COUNTS)) for r in reports] == [
        ("BTCUSDT", 3, 2, 1, 0, 0),
        ("ETHUSDT", 2, 1, 0, 0, 1),
        ("", 3, 0, 0, 0, 3),
    ]
    assert [(line, reason) for _, line, reason, _ in desk.rejected()] == [
        (6, "open: expected above 0, found -1"),
        (7, "symbol: expected letters and digits, found .."),
        (8, "symbol: expected letters and digits, found nothing"),
        (9, "expected 7 fields, found 1"),
    ]


def test_a_given_symbol_stands_for_what_a_column_says(desk: Desk) -> None:
    (report,) = desk.land(f"symbol,{HEADER}Bitcoin,{minute(0)}", symbol="btc-usd")
    assert (report.symbol, report.good) == ("BTCUSD", 1)


def test_a_report_has_the_notes_on_its_own_symbol_alone(desk: Desk) -> None:
    hours = [f"ETHUSDT,{minute(60 * n)}" for n in range(3)]
    minutes = [f"BTCUSDT,{minute(n)}" for n in range(3)]
    btc, eth = desk.land(f"symbol,{HEADER}{''.join(hours + minutes)}")
    assert btc.notes == ()
    assert eth.notes == ("bars of 3600 s, kept at that interval in crypto.raw_bars",)


def test_a_row_that_is_none_is_rejected_once_though_dates_are_looked_at_twice(desk: Desk) -> None:
    rows = [f"BTC,{day:02}/01/2024,1,1,1,1,1\n" for day in range(1, 20)]
    content = f"symbol,{HEADER}{''.join(rows)}oops\n1,2\n"
    (report,) = desk.land(content, symbol="BTCUSDT")
    assert tuple(getattr(report, name) for name in COUNTS) == (21, 19, 0, 0, 2)
    assert [line for _, line, _, _ in desk.rejected()] == [21, 22]


def test_a_symbol_given_for_a_file_of_many_is_refused(desk: Desk) -> None:
    rows = [f"{name},{minute(0)}" for name in ("BTC/USDT", "eth-usdt", "..", "BTCUSDT")]
    words = (
        r"its column 'symbol' names 2 trading pairs \(BTCUSDT, ETHUSDT\), and --symbol XUSD would"
    )
    with pytest.raises(InputError, match=words):
        desk.land(f"symbol,{HEADER}{''.join(rows)}", symbol="X-USD")
    assert desk.is_untouched()


def test_the_same_file_under_another_name_changes_nothing(desk: Desk) -> None:
    content = HEADER + minute(0) + minute(0) + minute(1) + "oops\n"
    desk.land(content)
    before = [desk.lake.snapshot(t).version for t in (LANDED_FILES, REJECTED_ROWS)]
    assert desk.counts(content, "copy of BTCUSDT.csv") == (4, 0, 3, 0, 1)
    (report,) = desk.land(content, "copy of BTCUSDT.csv")
    assert report.file == "copy of BTCUSDT.csv"
    assert report.notes == ("landed before, on 2026-01-01 00:00 UTC: nothing to do",)
    after = [desk.lake.snapshot(t).version for t in (LANDED_FILES, REJECTED_ROWS)]
    assert after == before


def test_the_same_file_for_another_symbol_lands(desk: Desk) -> None:
    content = HEADER + minute(0) + minute(1) + "oops\n"
    desk.land(content, "candles.csv", symbol="BTCUSD")
    (report,) = desk.land(content, "candles.csv", symbol="BTCUSDT")
    assert (report.symbol, report.good, report.rejected) == ("BTCUSDT", 2, 1)
    assert len(desk.kept("BTCUSDT")) == len(desk.kept("BTCUSD")) == 2
    assert len(desk.rejected()) == 1  # a line of a file is rejected once


# Empty prices


def test_an_empty_row_with_no_earlier_price_is_rejected(desk: Desk) -> None:
    rows = [empty(0), empty(1), minute(2), empty(3), minute(4)]
    assert desk.counts(HEADER + "".join(rows)) == (5, 3, 0, 0, 2)
    reason = "prices: expected one, found none, and no earlier row has one to fill it from"
    assert [(line, why) for _, line, why, _ in desk.rejected()] == [(2, reason), (3, reason)]
    assert desk.kept()[1] == (3, None, None, None, None, None)
    desk.audit()


def test_an_empty_row_after_an_earlier_file_s_price_is_good(desk: Desk) -> None:
    desk.land(HEADER + minute(0))
    assert desk.counts(HEADER + empty(5) + minute(6), "BTCUSDT 2.csv") == (2, 2, 0, 0, 0)


def test_an_empty_row_before_an_earlier_file_s_price_is_rejected(desk: Desk) -> None:
    desk.land(HEADER + minute(5))
    assert desk.counts(HEADER + empty(4) + minute(6), "BTCUSDT 2.csv") == (2, 1, 0, 0, 1)


def test_an_empty_row_for_a_minute_that_landed_is_a_duplicate(desk: Desk) -> None:
    desk.land(HEADER + minute(5))
    assert desk.counts(HEADER + empty(5) + minute(6), "BTCUSDT 2.csv") == (2, 1, 0, 1, 0)


def test_an_empty_first_row_does_not_displace_the_price_of_its_minute(desk: Desk) -> None:
    assert desk.counts(HEADER + empty(0) + minute(0) + minute(1)) == (3, 2, 0, 0, 1)
    assert desk.kept()[0] == (0, 100.0, 100.0, 100.0, 100.0, 1.0)


def test_a_row_with_some_prices_is_good(desk: Desk) -> None:
    rows = [f"{START},,,,100,1\n", f"{START + 60},100,,,,\n", f"{START + 120},,105,,,\n"]
    (report,) = desk.land(HEADER + "".join(rows))
    assert (report.good, report.empty_prices) == (3, 3)


@pytest.mark.parametrize("pad", ["", " "])
def test_any_word_for_nothing_is_nothing(desk: Desk, pad: str) -> None:
    words = ["NaN", "nan", "null", "NULL", "None", "NA", "N/A", "-", "--", '""', ""]
    rows = [",".join([str(START + 60 * n), *[pad + w] * 5]) for n, w in enumerate(words, 1)]
    (report,) = desk.land(HEADER + minute(0).replace(",", f",{pad}") + "\n".join(rows))
    assert (report.good, report.empty_prices) == (len(words) + 1, len(words))


def test_a_longer_bar_without_a_price_is_rejected(desk: Desk) -> None:
    rows = [minute(60 * n) for n in range(4)] + [empty(240)]
    assert desk.counts(HEADER + "".join(rows)) == (5, 4, 0, 0, 1)
    assert (
        desk.rejected()[0][2]
        == "prices: expected four, found an empty one, which only minutes may have"
    )


def test_a_bar_off_the_grid_of_its_file_is_rejected(desk: Desk) -> None:
    rows = [minute(60 * n + 30) for n in range(8)] + [minute(35)]
    assert desk.counts(HEADER + "".join(rows)) == (9, 8, 0, 0, 1)
    assert desk.rejected()[0][1:3] == (
        10,
        "time: expected a bar each 3600 s, found one 300 s after",
    )


# An oracle


@dataclass(frozen=True)
class Row:
    """A line of a file: a minute and its values, or a fault."""

    minute: int
    values: tuple[float | None, ...]
    fault: str | None = None

    def line(self) -> str:
        if self.fault is not None:
            return self.fault.format(at=START + 60 * self.minute)
        return ",".join(
            ["" if v is None else repr(v) for v in (START + 60 * self.minute, *self.values)]
        )


class Oracle:
    """The rules of landing, once more and in the plainest way."""

    def __init__(self) -> None:
        """Nothing has landed."""
        self.landed: dict[int, tuple[float | None, ...]] = {}

    def land(self, content: Sequence[Row]) -> tuple[int, ...]:
        """The counts of a file, as in ``COUNTS``."""
        new: dict[int, tuple[float | None, ...]] = {}
        exact = conflicting = rejected = 0
        known = [m for m, values in self.landed.items() if values[3] is not None]
        for row in content:
            priced = [r.minute for r in content if r.fault is None and r.values[3] is not None]
            is_empty = row.fault is None and row.values[0] is None and row.values[3] is None
            is_lost = not any(m < row.minute for m in priced) and not any(
                m <= row.minute for m in known
            )
            if row.fault is not None or (is_empty and is_lost):
                rejected += 1
                continue
            taken = self.landed.get(row.minute, new.get(row.minute))
            if taken is None:
                new[row.minute] = row.values
            elif taken == row.values:
                exact += 1
            else:
                conflicting += 1
        self.landed |= new
        return len(content), len(new), exact, conflicting, rejected


PRICES = st.sampled_from([(10.0, 12.0, 9.0, 11.0, 1.5), (10.0, 12.0, 9.0, 11.5, 1.5)])
PARTIAL = st.sampled_from(
    [(None, None, None, None, None), (None, None, None, 11.0, 2.0), (10.0, None, None, None, None)]
)
FAULT_LINES = st.sampled_from(
    ["oops", "{at},1,2", "{at},1,x,1,1,1", "{at},5,4,3,-2,1", "0,1,1,1,1,1", "{at},1,2,3,1,1",
     ",,,,,", '"{at},1,1,1,1,1', "{at},inf,1,1,1,1", "{at},1,1,1,1,1,1", "{at}.5,1,1,1,1,1"]
)  # fmt: skip
ROWS = st.builds(
    Row,
    st.integers(0, 12),
    st.one_of(PRICES, PRICES, PARTIAL),
    st.one_of(st.none(), st.none(), st.none(), FAULT_LINES),
)
FILES = st.lists(ROWS, min_size=1, max_size=14)


# Each file ends in minutes without a gap, so that it is a minute file whatever comes before them.
ANCHORS = [Row(100 + n, (10.0, 12.0, 9.0, 11.0, 1.5)) for n in range(12)]


def sorted_out(folder: Path, number: int, content: Sequence[Row]) -> tuple[int, ...]:
    """The counts of a file that lands after those of the same folder with smaller numbers."""
    text = HEADER + "\n".join(row.line() for row in content)
    path = folder / f"BTCUSDT {number}.csv"
    path.write_text(text.replace("\n", "\n\n" if number % 2 else "\n"), newline="")
    con, _ = database()
    with source.plain(path) as plain:
        parsed = reading.parse(con, plain, files.layout(plain), "BTCUSDT", True, 1_800_000_000)
        earlier, target = sorted(folder.glob("*.parquet")), folder / f"{number}.parquet"
        found = duplicates.classify(con, "BTCUSDT", 60, earlier, target)
        lines = [line for line, _, _ in reading.rejected(con, parsed)]
    assert found["rejected"] == len(lines) - len(parsed.broken)
    assert len(set(lines)) == len(lines)
    return parsed.rows, *(found[name] for name in COUNTS[1:4]), len(lines)


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(content=st.lists(FILES, min_size=1, max_size=3))
def test_random_files_with_random_faults_land_as_the_oracle_says(content: list[list[Row]]) -> None:
    oracle = Oracle()
    with TemporaryDirectory() as folder:
        for number, lines in enumerate([*file, *ANCHORS] for file in content):
            counts = sorted_out(Path(folder), number, lines)
            assert counts == oracle.land(lines)
            assert counts[0] == sum(counts[1:])
        kept = queried(f"select * from read_parquet('{folder}/*.parquet')")
    assert {(at - START) // 60: tuple(values) for at, *values in kept} == oracle.landed


# Crashes, rivals, and files that do not hold still


def failing(monkeypatch: pytest.MonkeyPatch, table: Table, error: BaseException) -> None:
    """Let the next append to ``table`` fail."""
    append = Lake.append

    def broken(self: Lake, to: Table, *args: Any) -> Any:
        if to == table:
            monkeypatch.undo()
            raise error
        return append(self, to, *args)

    monkeypatch.setattr(Lake, "append", broken)


@pytest.mark.parametrize("table", [REJECTED_ROWS, LANDED_FILES], ids=lambda table: str(table.name))
@pytest.mark.parametrize(
    "error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
def test_an_error_between_the_commits_leaves_nothing_and_a_rerun_lands(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, table: Table, error: BaseException
) -> None:
    content = HEADER + minute(0) + minute(1) + "oops\n" + empty(2)
    failing(monkeypatch, table, error)
    with pytest.raises(type(error)):
        desk.land(content)
    assert desk.is_untouched()
    assert desk.counts(content) == (4, 3, 0, 0, 1)
    desk.audit()


KILLED = """
import os, sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tidemill.crypto.contracts import LANDED_FILES, TABLES
from tidemill.crypto.landing import Landing
from tidemill.lake.store import Lake
append = Lake.append
def killed(self, table, *args):
    if table == LANDED_FILES:
        os._exit(9)
    return append(self, table, *args)
Lake.append = killed
folder = Path(sys.argv[1])
landing = Landing(Lake(folder / "lake", None, TABLES), folder / "landing")
landing.land_file(Path(sys.argv[2]), now=datetime(2026, 1, 1, tzinfo=UTC))
"""


def test_what_a_killed_landing_left_is_gone_with_the_next(desk: Desk, tmp_path: Path) -> None:
    content = HEADER + empty(0) + minute(1) + "oops\n"
    path = desk.save(content)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, path], check=False)
    assert done.returncode == 9
    assert len(desk.rejected()) == 2  # between the commits

    assert desk.counts(HEADER + minute(-5), "BTCUSDT early.csv") == (1, 1, 0, 0, 0)
    assert desk.rejected() == []
    # now the empty row has a price before it, so the first try's count would be wrong
    assert desk.counts(content) == (3, 2, 0, 0, 1)
    assert [line for _, line, _, _ in desk.rejected()] == [4]
    desk.audit()


def test_an_error_after_the_ledger_s_commit_does_not_undo_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Lake.append

    def unpublished(self: Lake, to: Table, *args: Any) -> Any:
        append(self, to, *args)
        if to == LANDED_FILES:
            monkeypatch.undo()
            raise OSError("the catalogue's disk is full")

    monkeypatch.setattr(Lake, "append", unpublished)
    with pytest.raises(OSError, match="catalogue"):
        desk.land(HEADER + minute(0) + "oops\n")
    desk.audit()
    assert len(desk.kept()) == len(desk.rejected()) == 1


def test_too_little_memory_is_told_with_the_way_to_allow_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate\nhints")

    monkeypatch.setattr(duplicates, "classify", full)
    with pytest.raises(
        TidemillError, match=r"1024 MiB are too few \(Out .*\); allow more with TIDE"
    ):
        desk.land(HEADER + minute(0))
    assert desk.is_untouched()


def test_a_folder_that_cannot_be_written_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise duckdb.IOException("IO Error: No space left on device")

    monkeypatch.setattr(duplicates, "classify", full)
    with pytest.raises(TidemillError, match="landing: IO Error: No space left on device"):
        desk.land(HEADER + minute(0))
    assert desk.is_untouched()


def test_a_note_cut_short_by_a_crash_is_no_obstacle(desk: Desk) -> None:
    desk.land(HEADER + minute(0))
    (desk.landing.folder / module.UNFINISHED).write_text('{"sha256": "ab')
    assert desk.counts(HEADER + minute(1), "BTCUSDT 2.csv") == (1, 1, 0, 0, 0)


RIVAL = """
import sys
from pathlib import Path
from tidemill.crypto.contracts import TABLES
from tidemill.crypto.landing import Landing
from tidemill.lake.store import Lake
folder = Path(sys.argv[1])
for path in sys.argv[2:]:
    Landing(Lake(folder / "lake", None, TABLES), folder / "landing").land_file(Path(path))
"""


def test_two_processes_landing_overlapping_files_count_each_minute_once(
    desk: Desk, tmp_path: Path
) -> None:
    paths = []
    for number in range(4):  # each overlaps the one before by half, and differs from it in a value
        rows = [
            minute(n, str(100 + number * (n % 2))) for n in range(50 * number, 50 * number + 100)
        ]
        paths.append(desk.save(HEADER + "".join(rows) + "oops\n", f"BTCUSDT {number}.csv"))
    rivals = [
        subprocess.Popen([sys.executable, "-c", RIVAL, tmp_path, *paths[i::2], *paths])
        for i in range(2)
    ]
    assert [rival.wait(60) for rival in rivals] == [0, 0]
    desk.audit()
    ledger = desk.landing.ledger()
    assert sorted(row["position"] for row in ledger) == [0, 1, 2, 3]
    assert [sum(row[name] for row in ledger) for name in COUNTS] == [404, 250, 75, 75, 4]
    assert [row[0] for row in desk.kept()] == list(range(250))


def growing(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, path: Path) -> None:
    """Let ``path`` grow while ``name`` works."""
    inner = getattr(place, name)

    def slow(*args: Any, **more: Any) -> Any:
        found = inner(*args, **more)
        with path.open("a") as handle:
            handle.write(minute(9))
        return found

    monkeypatch.setattr(place, name, slow)


@pytest.mark.parametrize(
    ("place", "name"), [(files, "layout"), (reading, "parse"), (module, "_digest")]
)
def test_a_file_that_grows_while_it_is_read_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    path = desk.save(HEADER + minute(0) + minute(1))
    growing(monkeypatch, place, name, path)
    with pytest.raises(
        InputError, match=r"is still being written \(\d+ bytes at the start, \d+ now\)"
    ):
        desk.landing.land_file(path, now=NOW)
    assert desk.is_untouched()
    monkeypatch.undo()
    assert desk.landing.land_file(path, now=NOW)[0].good == 3


def test_a_file_that_is_being_moved_away_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.save(HEADER + minute(0))
    digest = module._digest

    def moved(file: Path) -> str:
        found = digest(file)
        file.unlink()
        return found

    monkeypatch.setattr(module, "_digest", moved)
    with pytest.raises(InputError, match="there is no such file"):
        desk.landing.land_file(path, now=NOW)
    assert desk.is_untouched()


def test_a_file_that_another_takes_the_place_of_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = desk.save(HEADER + minute(0)), desk.save(HEADER + minute(1), "other.csv")
    at = path.stat()
    os.utime(other, ns=(at.st_atime_ns, at.st_mtime_ns))  # and it is as long
    parse = reading.parse

    def replaced(*args: Any) -> Any:
        found = parse(*args)
        other.replace(path)
        return found

    monkeypatch.setattr(reading, "parse", replaced)
    with pytest.raises(InputError, match="is still being written"):
        desk.landing.land_file(path, now=NOW)
    assert desk.is_untouched()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells who writes")
def test_a_file_that_someone_has_open_for_writing_is_refused(desk: Desk) -> None:
    path = desk.save(HEADER)
    with path.open("a") as handle:
        handle.write(minute(0))
        handle.flush()
        words = rf"is still being written \(process {os.getpid()} has it open for writing\)"
        with pytest.raises(InputError, match=words):
            desk.landing.land_file(path, now=NOW)
    assert desk.is_untouched()
    with path.open("rb"):  # a reader is no writer
        assert desk.landing.land_file(path, now=NOW)[0].good == 1


@pytest.mark.parametrize("name", ["it's", "[a-b] *?{x,y}", 'a=b "c"', "比特币 €"])
def test_the_landing_folder_may_have_a_strange_name(tmp_path: Path, name: str) -> None:
    desk = Desk(tmp_path)
    desk.landing = Landing(desk.lake, tmp_path / name / "symbol=X" / "landing")
    desk.land(HEADER + minute(0) + "oops\n")
    assert desk.counts(HEADER + minute(0) + minute(1), "BTCUSDT 2.csv") == (2, 1, 1, 0, 0)
    assert [row[0] for row in desk.kept()] == [0, 1]
    desk.audit()


# Rows that are no file's


def frame(*rows: tuple[float | None, ...]) -> pl.DataFrame:
    schema = dict.fromkeys(("timestamp", "open", "high", "low", "close", "volume"), pl.Float64)
    return pl.DataFrame(rows, schema, orient="row").with_columns(pl.col("timestamp").cast(pl.Int64))


def test_fetched_rows_are_judged_and_counted_like_a_file_s(desk: Desk) -> None:
    rows = frame(
        (START, 100.0, 100.0, 100.0, 100.0, 1.0),
        (START, 100.0, 100.0, 100.0, 100.0, 1.0),
        (START + 60, 100.0, 99.0, 100.0, 100.0, 1.0),
        (START + 90, 100.0, 100.0, 100.0, 100.0, 1.0),
        (START + 120, 100.0, 100.0, 100.0, float("nan"), 1.0),
    )
    (report,) = desk.landing.land_rows(rows, "BTCUSDT", "https://exchange BTCUSDT 1m", 60)
    desk.audit()
    assert tuple(getattr(report, name) for name in COUNTS) == (5, 1, 1, 0, 3)
    assert [(file, line, reason) for file, line, reason, _ in desk.rejected()] == [
        ("https://exchange BTCUSDT 1m", 3, "high 99.0 is below low 100.0"),
        ("https://exchange BTCUSDT 1m", 4, "time: expected the start of a minute, found second 30"),
        ("https://exchange BTCUSDT 1m", 5, "close: expected a finite number, found nan"),
    ]
    (again,) = desk.landing.land_rows(rows, "BTCUSDT", "https://exchange BTCUSDT 1m", 60)
    assert (again.good, again.notes[0][:13]) == (0, "landed before")


def test_no_fetched_rows_land_as_nothing(desk: Desk) -> None:
    assert desk.landing.land_rows(frame(), "BTCUSDT", "https://exchange", 60) == []
    assert desk.is_untouched()


# The simulator knows what is in its file


@pytest.mark.parametrize(("shape", "minutes"), [("kaggle_btc", 200_000), ("kaggle_eth", 50_000)])
def test_a_simulated_market_lands_and_becomes_the_tables_that_its_truth_tells(
    desk: Desk, shape: Any, minutes: int
) -> None:
    market = Market("BTCUSDT", datetime(2019, 11, 20, tzinfo=UTC).date(), minutes, 8_000.0, shape)
    faults = Faults(120, 4_000, 1_500, exact_duplicates=400, conflicting_duplicates=150, crashes=12)
    path = desk.inbox / "sample_BTCUSDT_1m.csv"
    truth = simulate(path, market, faults)

    (report,) = desk.landing.land_file(path)

    assert (report.rows, report.good) == (truth.rows, truth.good)
    assert report.exact_duplicates == truth.exact_duplicates
    assert report.conflicting_duplicates == truth.conflicting_duplicates
    assert (report.rejected, report.empty_prices) == (0, truth.null_rows)
    crypto = Crypto(desk.lake, DuckEngine(), desk.landing)
    months = crypto.months("BTCUSDT")
    assert months is not None
    assert crypto.raw_candles("BTCUSDT", months).rows == truth.good
    crypto.daily_ohlc("BTCUSDT", months)
    crypto.candle_gaps(["BTCUSDT"])
    crypto.price_jumps(["BTCUSDT"])

    filled = crypto.read(RAW_CANDLES, "BTCUSDT").filter("is_filled")
    assert filled.height == truth.null_rows
    gaps = crypto.read(CANDLE_GAPS, "BTCUSDT").select(
        start_s=pl.col("start").dt.epoch("s"), end_s=pl.col("end").dt.epoch("s"), minutes="minutes"
    )
    assert_frame_equal(gaps, truth.gaps)
    daily = crypto.read(DAILY_OHLC, "BTCUSDT").select(truth.daily.columns)
    assert_frame_equal(daily, truth.daily, check_dtypes=False, rel_tol=1e-12, abs_tol=0)
    assert_frame_equal(
        daily.drop("daily_volume"),
        truth.daily.drop("daily_volume"),
        check_dtypes=False,
        check_exact=True,
    )
    jumps = (
        crypto.read(PRICE_JUMPS, "BTCUSDT")
        .filter("is_over_50")
        .select("timestamp", "previous_close", "move_pct", low="price")
    )
    assert_frame_equal(jumps.select(truth.crashes.columns), truth.crashes, rel_tol=1e-12)
    for table in (RAW_CANDLES, DAILY_OHLC, CANDLE_GAPS, PRICE_JUMPS):
        parts = [{"symbol": "BTCUSDT"}]
        assert desk.lake.inspect(table, parts, 1)[0] == {}
