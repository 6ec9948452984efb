"""A minute lands once: what of a file is good, a duplicate, or cannot be filled."""

import polars as pl
import pytest

from tests.unit.crypto.intake.desk import COUNTS, HEADER, START, Desk, empty, minute
from tidemill.crypto.contracts import (
    LANDED_FILES,
    REJECTED_ROWS,
)
from tidemill.crypto.intake import intervals
from tidemill.errors import InputError


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


def test_a_symbol_far_down_a_file_has_its_bars_length_told_from_its_own_rows(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "SAMPLE_ROWS", 10)
    minutes = "".join(f"AAAUSDT,{minute(n)}" for n in range(30))
    hours = "".join(f"CCCUSDT,{minute(60 * n)}" for n in range(5))
    reports = desk.land(f"symbol,{HEADER}{minutes}{hours}", "all.csv")
    assert [(r.symbol, r.interval_s, r.good) for r in reports] == [
        ("AAAUSDT", 60, 30),
        ("CCCUSDT", 3600, 5),
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
    (landed,) = desk.landing.ledger()
    at = f"{landed['landed_at']:%Y-%m-%d %H:%M}"
    assert report.notes == (f"landed before, on {at} UTC: nothing to do",)
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
