"""Klines from a local server: paging against recorded answers, and each way an exchange fails."""

import itertools
import math
import os
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.unit.crypto.exchange_server import (
    PASSING,
    SIX,
    START,
    TOLD_WAIT,
    Answer,
    Fault,
    Market,
    Rows,
    Waits,
    changed,
    half_a_page,
    half_a_text,
    market,
    minutes,
    read_answer,
    read_recording,
    refusal,
    row,
    silence,
    the_last_page_again,
    weighing,
)
from tidemill.crypto.exchange import (
    BAR_COLUMNS,
    Exchange,
    ExchangeError,
    interval_seconds,
    parse_klines,
)
from tidemill.errors import InputError, TidemillError

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data"))
RECORDING = DATA / "crypto" / "binance_rest_recorded_http.json.gz"
recorded = pytest.mark.skipif(not RECORDING.exists(), reason=f"no recorded answers at {RECORDING}")
HOURS = (1_588_280_400, 1_593_576_000, "1h")
PRICED = [(at, 1.0 + number) for number, at in enumerate(SIX)]
ONE_WAIT = [random.Random(7).uniform(0, 1)]


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def patient(server: Market, waits: Waits, **settings: Any) -> Exchange:
    """An exchange at ``server`` that never sleeps, with the jitter of seed 7."""
    return Exchange(
        base_url=server.url, wait=waits, clock=waits.clock, rng=random.Random(7), **settings
    )


@dataclass(frozen=True)
class Fetched:
    """What came of fetching: pages, the error that ended them, waits (s) and queries."""

    pages: list[pl.DataFrame]
    error: TidemillError | None
    slept: list[float]
    asked: list[dict[str, str]]

    def opens(self) -> list[int]:
        """Of all bars, in the order given, epoch s."""
        return [at for page in self.pages for at in page["timestamp"].to_list()]

    def priced(self) -> list[tuple[int, float]]:
        """Open time and open price of all bars."""
        return [bar for page in self.pages for bar in page.select("timestamp", "open").rows()]

    def starts(self) -> list[int]:
        """The start that each request asked for, epoch s."""
        return [int(query["startTime"]) // 1000 for query in self.asked]


def fetch(
    script: Sequence[Fault | None] = (),
    *,
    rows: dict[str, Rows] | None = None,
    span: tuple[int, int, str] = (START, START + 360, "1m"),
    limit: int = 3,
    now: float = START + 3600.0,
    **settings: Any,
) -> Fetched:
    """BTCUSDT in ``span``, by default the six minutes from START in pages of three."""
    waits = Waits([], now)
    pages: list[pl.DataFrame] = []
    error = None
    since, until, interval = span
    with market(minutes(*SIX) if rows is None else rows, script) as server:
        exchange = patient(server, waits, **settings)
        try:
            for page in exchange.klines("BTCUSDT", since, until, interval, limit):
                pages.append(page)  # one by one: those before an error are kept
        except TidemillError as raised:
            error = raised
    return Fetched(pages, error, waits.slept, server.asked)


# Reading an answer


def test_a_row_becomes_a_bar_in_seconds_and_numbers() -> None:
    page = parse_klines(
        [[1_700_000_040_000, "1.5", "3", "1", "2.25", "0", 1_700_000_099_999, "", 1, "", "", ""]]
    )
    assert page.rows() == [(1_700_000_040, 1.5, 3.0, 1.0, 2.25, 0.0, 1_700_000_099_999)]
    assert page.columns == [*BAR_COLUMNS, "close_time_ms"]
    assert page.dtypes == [pl.Int64, *[pl.Float64] * 5, pl.Int64]


def test_no_rows_make_an_empty_frame_of_the_same_columns() -> None:
    assert parse_klines([]).schema == parse_klines([row(START)]).schema


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, "abc", r"row 2, open: expected a decimal number > 0, found 'abc'"),
        (2, "NaN", r"row 2, high: .* found 'NaN'"),
        (3, "-1.0", r"row 2, low: .* found '-1.0'"),
        (4, None, r"row 2, close: .* found None"),
        (4, "0.00000000", r"row 2, close: .* > 0, found '0.00000000'"),
        (4, True, r"row 2, close: .* found True"),
        (4, math.nan, r"row 2, close: .* found nan"),
        (4, "1_000", r"row 2, close: .* found '1_000'"),
        (5, "1e999", r"row 2, volume: expected a decimal number >= 0, found '1e999'"),
        (0, str(START * 1000), r"row 2, open time: expected epoch ms .* found '1700000040000'"),
        (0, START, r"row 2, open time: .* found 1700000040\."),
        (0, START * 1_000_000, r"row 2, open time: .* found 1700000040000000\."),
        (0, START * 1000 + 1, r"row 2, open time: .* whole second, found 1700000040001\."),
        (6, START * 1000, r"row 2, close time: expected epoch ms after the open time"),
    ],
)
def test_a_malformed_field_is_refused_by_row_and_name(
    place: int, value: object, message: str
) -> None:
    bad = row(START)
    bad[place] = value
    with pytest.raises(InputError, match=message):
        parse_klines([row(START), bad])


@pytest.mark.parametrize("bad", [[], row(START)[:11], [*row(START), "more"], "text", None, {}])
def test_a_row_of_another_length_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="row 1, length: expected a list of 12 fields"):
        parse_klines([bad])


@pytest.mark.parametrize("payload", [{"code": -1121}, "text", None, 3])
def test_an_answer_that_is_no_list_is_refused(payload: object) -> None:
    with pytest.raises(InputError, match="expected a list of rows, found"):
        parse_klines(payload)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 11),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]),
)
def test_whatever_stands_in_a_field_gives_a_usable_bar_or_an_input_error(
    place: int, value: object
) -> None:
    bent = row(START)
    bent[place] = value
    try:
        page = parse_klines([bent])
    except InputError:
        return
    (bar,) = page.rows()
    assert all(math.isfinite(number) for number in bar)
    assert min(bar[1:5]) > 0
    assert bar[5] >= 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.decimals("0.00000001", "99999999", places=8), min_size=4, max_size=4))
def test_a_price_is_read_to_the_nearest_double(prices: list[Any]) -> None:
    bent = row(START)
    bent[1:5] = [f"{price:f}" for price in prices]
    assert list(parse_klines([bent]).row(0)[1:5]) == [float(price) for price in prices]


def test_an_interval_is_known_by_its_length() -> None:
    lengths = [interval_seconds(name) for name in ("1s", "1m", "5m", "1h", "1d", "1w")]
    assert lengths == [1, 60, 300, 3600, 86400, 604800]


@pytest.mark.parametrize("name", ["1M", "7m", "60", "", "m", "1 m"])
def test_an_interval_without_a_fixed_length_is_refused_before_any_request(name: str) -> None:
    with pytest.raises(InputError, match=rf"interval '{name}' is not one of 1s, 1m, .*1w"):
        Exchange().klines("BTCUSDT", START, START + 60, interval=name)


# Paging


@recorded
def test_two_recorded_pages_come_as_1468_distinct_hours() -> None:
    first = read_answer(RECORDING, interval="1h", startTime="1588280400000")
    second = read_answer(RECORDING, interval="1h", startTime="1591880400000")
    got = fetch(rows=read_recording(RECORDING), span=HOURS, limit=1000)

    assert [page.height for page in got.pages] == [1000, 468]
    assert got.starts() == [1_588_280_400, 1_591_880_400]
    assert got.slept == []
    assert len(set(got.opens())) == 1468
    assert [
        (at * 1000, *(f"{number:.8f}" for number in numbers))
        for at, *numbers in pl.concat(got.pages).rows()
    ] == [tuple(kline[:6]) for kline in first + second]


@recorded
def test_the_three_hours_that_the_exchange_was_down_stay_missing() -> None:
    opens = fetch(rows=read_recording(RECORDING), span=HOURS, limit=1000).opens()
    steps = [(before, after - before) for before, after in itertools.pairwise(opens)]
    assert [step for step in steps if step[1] != 3600] == [(1_593_306_000, 4 * 3600)]


@recorded
def test_a_recorded_hour_of_minutes_starts_at_its_first_whole_minute() -> None:
    span = (1_588_740_088, 1_588_743_720, "1m")
    got = fetch(rows=read_recording(RECORDING), span=span, limit=1000)
    assert got.opens() == list(range(1_588_740_120, 1_588_743_720, 60))
    first = (1_588_740_120, 9033.34, 9039.99, 9032.75, 9033.15, 31.192968)
    assert got.pages[0].row(0) == first


@recorded
@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_on_each_recorded_page_changes_no_bar(name: str) -> None:
    rows = read_recording(RECORDING)
    got = fetch([PASSING[name], None, PASSING[name]], rows=rows, span=HOURS, limit=1000)
    clean = parse_klines(rows["BTCUSDT 1h"][:1468])
    assert len(got.asked) == 4
    assert_frame_equal(pl.concat(got.pages), clean.select(BAR_COLUMNS))


def test_the_last_page_need_not_be_full_and_no_request_follows_it() -> None:
    got = fetch(limit=4)
    assert [page.height for page in got.pages] == [4, 2]
    assert got.starts() == [SIX[0], SIX[4]]


def test_bars_outside_the_range_are_not_given_even_if_the_exchange_sends_them() -> None:
    everything = changed(lambda rows: minutes(*SIX)["BTCUSDT 1m"])
    got = fetch([everything], span=(SIX[1], SIX[4], "1m"))
    assert got.opens() == list(SIX[1:4])
    assert got.asked[0]["endTime"] == str(SIX[4] * 1000 - 1)


@pytest.mark.parametrize(("until", "closed"), [(119, 1), (120, 2), (121, 2), (179, 2), (180, 3)])
def test_a_bar_that_is_still_open_is_not_given(until: int, closed: int) -> None:
    assert fetch(span=(START, START + until, "1m")).opens() == list(SIX[:closed])


def test_only_the_last_bar_can_be_open_whatever_close_time_another_one_tells() -> None:
    late = changed(lambda rows: [[*rows[0][:6], (START + 9999) * 1000, *rows[0][7:]], *rows[1:]])
    assert fetch([late]).priced() == PRICED


@pytest.mark.parametrize("until", [-60, 0, 59])
def test_a_range_without_a_whole_bar_asks_for_nothing(until: int) -> None:
    got = fetch(span=(START, START + until, "1m"))
    assert (got.pages, got.asked) == ([], [])


def test_a_gap_is_given_as_it_is_and_the_bars_behind_it_are_fetched() -> None:
    got = fetch([changed(lambda rows: [rows[0], rows[2]])], limit=4)
    assert got.opens() == [SIX[0], SIX[2], SIX[3], SIX[4], SIX[5]]


def test_an_exchange_without_further_bars_ends_the_pages() -> None:
    got = fetch(rows=minutes(*SIX[:2]))
    assert (got.opens(), got.error, got.slept) == (list(SIX[:2]), None, [])
    assert len(got.asked) == 2


def test_history_before_the_listing_is_skipped_in_one_request() -> None:
    got = fetch(span=(0, START + 360, "1m"), limit=6)
    assert (got.opens(), len(got.asked)) == (list(SIX), 1)


def test_rows_out_of_order_or_twice_in_a_page_come_once_and_in_order() -> None:
    shuffled = changed(lambda rows: [rows[2], rows[0], row(SIX[0], price=99.0), rows[1]])
    assert fetch([shuffled]).priced() == PRICED


# Failures that pass


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_costs_one_wait_and_no_bar(name: str) -> None:
    got = fetch([None, PASSING[name]])
    assert got.priced() == PRICED
    assert got.starts() == [SIX[0], SIX[3], SIX[3]]
    assert got.slept == ([TOLD_WAIT[name]] if name in TOLD_WAIT else ONE_WAIT)


def test_an_exchange_that_falls_silent_is_asked_again() -> None:
    got = fetch([None, silence], timeout_s=0.2)
    assert (got.priced(), got.slept) == (PRICED, ONE_WAIT)


def test_a_repeated_page_is_asked_again_and_counts_once() -> None:
    got = fetch([None, the_last_page_again])
    assert (got.priced(), got.slept) == (PRICED, ONE_WAIT)
    assert got.starts() == [SIX[0], SIX[3], SIX[3]]


def test_of_a_page_that_repeats_in_part_only_the_new_bars_count() -> None:
    overlapping = changed(lambda rows: [row(SIX[1], 50.0), row(SIX[2], 50.0), rows[0]])
    got = fetch([None, overlapping])
    assert (got.priced(), got.slept) == (PRICED, [])


def test_a_page_that_repeats_for_ever_is_given_up() -> None:
    got = fetch([None, *[the_last_page_again] * 9])
    assert got.opens() == list(SIX[:3])
    assert isinstance(got.error, ExchangeError)
    assert f"after 4 tries, the last: HTTP 200, 3 bars, all before {SIX[3]} s" in str(got.error)
    assert (len(got.asked), len(got.slept)) == (5, 3)


@pytest.mark.parametrize("status", [429, 418])
@pytest.mark.parametrize("told", [None, "", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-5"])
def test_without_seconds_in_retry_after_the_default_is_waited(
    status: int, told: str | None
) -> None:
    got = fetch([refusal(status, -1003, "", retry_after=told)], retry_after_s=90.0)
    assert (got.priced(), got.slept) == (PRICED, [90.0])
    assert Exchange().retry_after_s == 120.0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(sorted(PASSING)), max_size=3), max_size=6), st.integers(1, 7)
)
def test_up_to_three_faults_before_each_page_change_no_bar(
    faults: list[list[str]], limit: int
) -> None:
    script = [fault for names in faults for fault in [*(PASSING[name] for name in names), None]]
    got = fetch(script, limit=limit)
    assert got.priced() == PRICED
    assert len(got.slept) == len(got.asked) - len(got.pages)


# Failures that do not pass


def test_four_failed_tries_are_given_up_and_the_error_tells_the_last_one() -> None:
    page = "<html>" + "x" * 193 + "!CUT"
    got = fetch([half_a_page, *[refusal(502, text=page)] * 9])
    assert isinstance(got.error, ExchangeError)
    message = str(got.error)
    assert "GET /api/v3/klines (BTCUSDT 1m from 2023-11-14 22:14:00 UTC)" in message
    assert f"gave up after 4 tries, the last: HTTP 502, answer '{page[:200]}'." in message
    assert "What was stored is kept; run it again to resume" in message
    assert "TIDEMILL_EXCHANGE_URL (now http://127.0.0.1:" in message
    rng = random.Random(7)
    assert got.slept == [rng.uniform(0, 1), rng.uniform(0, 2), rng.uniform(0, 4)]
    assert len(got.asked) == 4


def test_the_wait_grows_to_its_cap_and_is_drawn_from_nothing_to_all_of_it() -> None:
    got = fetch([half_a_text] * 99, retries=60, backoff_s=0.5, backoff_cap_s=8.0)
    assert "after 61 tries" in str(got.error)
    assert all(0 <= seconds <= 0.5 * 2**n for n, seconds in enumerate(got.slept[:5]))
    assert 7 < max(got.slept) <= 8
    assert 0 <= min(got.slept[4:]) < 1


def test_without_retries_the_first_failure_is_the_last() -> None:
    got = fetch([half_a_page], retries=0)
    assert isinstance(got.error, ExchangeError)
    assert "after 1 try, the last: no answer, RemoteProtocolError" in str(got.error)
    assert got.slept == []


def test_being_throttled_counts_among_the_tries() -> None:
    got = fetch([PASSING["429"]] * 9)
    assert isinstance(got.error, ExchangeError)
    assert "after 4 tries, the last: HTTP 429" in str(got.error)
    assert (got.slept, len(got.asked)) == ([7.0] * 3, 4)


@pytest.mark.parametrize("status", [429, 418])
def test_a_ban_of_hours_is_an_error_and_not_a_wait(status: int) -> None:
    got = fetch([refusal(status, -1003, "IP banned", retry_after="7200")])
    assert isinstance(got.error, ExchangeError)
    assert f"wait 7200 s, longer than the 300 s allowed: HTTP {status}" in str(got.error)
    assert (got.slept, len(got.asked)) == ([], 1)


def test_a_longer_wait_can_be_allowed() -> None:
    got = fetch([refusal(418, -1003, "", retry_after="7200")], longest_wait_s=7200)
    assert (got.priced(), got.slept) == (PRICED, [7200.0])


def test_an_unknown_symbol_is_an_input_error_at_once() -> None:
    got = fetch([refusal(400, -1121, "Invalid symbol.")])
    assert isinstance(got.error, InputError)
    assert "refuses BTCUSDT 1m: code -1121, 'Invalid symbol.'. Pairs are written" in str(got.error)
    assert "/api/v3/exchangeInfo lists them" in str(got.error)
    assert (got.slept, len(got.asked)) == ([], 1)


@pytest.mark.parametrize("status", [403, 451])
def test_a_blocked_country_is_told_which_setting_to_change(status: int) -> None:
    got = fetch([refusal(status, 0, "Service unavailable from a restricted location")])
    assert isinstance(got.error, InputError)
    assert f"HTTP {status}, answer" in str(got.error)
    assert "Set TIDEMILL_EXCHANGE_URL to a host that serves you" in str(got.error)
    assert (got.slept, len(got.asked)) == ([], 1)


def test_a_malformed_row_is_not_retried_and_names_its_request() -> None:
    got = fetch([None, changed(lambda rows: [rows[0], [*rows[1][:4], "n/a", *rows[1][5:]]])])
    assert isinstance(got.error, InputError)
    assert "BTCUSDT 1m from 2023-11-14 22:17:00 UTC" in str(got.error)
    assert "row 2, close: expected a decimal number > 0, found 'n/a'" in str(got.error)
    assert (got.opens(), got.slept, len(got.asked)) == (list(SIX[:3]), [], 2)


def test_a_fetch_resumed_after_its_last_bar_gets_the_rest_and_nothing_twice() -> None:
    broken = fetch([None, *[PASSING["HTML with 502"]] * 4])
    assert isinstance(broken.error, ExchangeError)
    rest = fetch(span=(broken.opens()[-1] + 60, START + 360, "1m"))
    assert broken.priced() + rest.priced() == PRICED


def test_a_host_where_nothing_listens_is_given_up() -> None:
    waits = Waits([])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        exchange = Exchange(base_url=f"http://127.0.0.1:{free.getsockname()[1]}", wait=waits)
        with pytest.raises(ExchangeError, match="no answer, ConnectError"):
            list(exchange.klines("BTCUSDT", START, START + 360))
    assert len(waits.slept) == 3


# Weight and settings


def test_over_nine_tenths_of_the_weight_the_next_request_waits_for_the_next_minute() -> None:
    now = START + 3600 + 42.5
    got = fetch([weighing(5401), weighing(5400)], limit=2, now=now)
    assert (got.priced(), got.slept, len(got.asked)) == (PRICED, [17.5], 3)


def test_the_weight_counts_against_the_limit_that_is_set() -> None:
    got = fetch([weighing(1000)], weight_limit=1100)
    assert (got.priced(), got.slept) == (PRICED, [60.0])


def test_a_weight_that_was_waited_for_is_not_waited_for_again() -> None:
    got = fetch([weighing(5500)], limit=2)
    assert (got.priced(), got.slept, len(got.asked)) == (PRICED, [60.0], 3)


def test_after_the_last_page_no_weight_is_waited_for() -> None:
    got = fetch([None, weighing(6000)])
    assert (got.priced(), got.slept) == (PRICED, [])


def test_a_throttled_request_waits_once_and_not_for_the_weight_as_well() -> None:
    def throttled(rows: Rows, sent: list[Rows]) -> Answer:
        answer = PASSING["429"](rows, sent)
        return replace(answer, headers={**answer.headers, "X-MBX-USED-WEIGHT-1M": "6001"})

    got = fetch([throttled])
    assert (got.priced(), got.slept) == (PRICED, [7.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", "api.binance.com"),
        ("base_url", "ftp://api.binance.com"),
        ("base_url", "https://"),
        ("base_url", "http://[::1"),
        ("retries", -1),
        ("timeout_s", 0),
        ("weight_limit", 0),
        ("backoff_s", -1.0),
        ("longest_wait_s", -1.0),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_made(name: str, value: Any) -> None:
    expected = "TIDEMILL_EXCHANGE_URL" if name == "base_url" else name
    with pytest.raises(InputError, match=expected):
        Exchange(**{name: value})


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_limit_that_the_exchange_would_not_keep_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match=f"limit is {limit}, expected 1 to 1000"):
        Exchange().klines("BTCUSDT", START, START + 60, limit=limit)
