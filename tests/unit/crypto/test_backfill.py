"""Backfills from a local exchange: what is asked for, what lands, and what a stop leaves behind."""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.crypto.exchange_server import (
    PASSING,
    START,
    Fault,
    Market,
    Recorded,
    Rows,
    Waits,
    changed,
    market,
    minutes,
    read_recording,
    row,
)
from tests.unit.crypto.intake.desk import COUNTS, HEADER, Desk, queried
from tests.unit.crypto.test_exchange import RECORDING, recorded
from tidemill.crypto import backfill as module
from tidemill.crypto.backfill import Fetched, Span, backfill, landed_until, missing_spans
from tidemill.crypto.exchange import Exchange, ExchangeError
from tidemill.errors import InputError

NINE = range(START, START + 540, 60)
BROKEN = [PASSING["HTML with 502"]] * 4
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@dataclass(frozen=True)
class Trip:
    """One backfill: what it returned, and the span of each request, epoch s."""

    done: Fetched
    asked: list[Span]


def exchange_at(server: Market, now: float = START + 3600.0) -> Exchange:
    """An exchange that never sleeps, seen at ``now`` (epoch s)."""
    waits = Waits([], now)
    return Exchange(base_url=server.url, wait=waits, clock=waits.clock, rng=random.Random(7))


def trip(
    desk: Desk,
    server: Market,
    script: Sequence[Fault | None] = (),
    *,
    span: Span = (START, START + 540),
    now: float = START + 3600.0,
    heard: Callable[[int], None] = lambda rows: None,
) -> Trip:
    """Backfill BTCUSDT, with a script for the requests of this backfill alone."""
    before = len(server.asked)
    server.script = [*[None] * before, *script]
    done = backfill(desk.landing, exchange_at(server, now), "BTCUSDT", *span, heard)
    asked = [(int(q["startTime"]) // 1000, int(q["endTime"]) // 1000 + 1) for q in server.asked]
    return Trip(done, asked[before:])


def kept(desk: Desk) -> list[tuple[int, float]]:
    """Time (epoch s) and open price of what has landed, by time."""
    rows = [row for row in desk.landing.ledger("BTCUSDT") if row["path"]]
    if not rows:
        return []
    paths = [str(desk.landing.folder / row["path"]) for row in rows]
    return queried(f"select timestamp, open from read_parquet({paths}) order by 1")


def priced(rows: Recorded) -> list[tuple[int, float]]:
    return [(bar[0] // 1000, float(bar[1])) for bar in rows["BTCUSDT 1m"]]


def csv(*opens: int, price: str = "100") -> str:
    return HEADER + "".join(f"{at},{price},{price},{price},{price},1\n" for at in opens)


# What is missing


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ([], [(0, 9)]),
        ([[0, 1, 2]], [(3, 9)]),
        ([[6, 7, 8]], [(0, 6)]),
        ([[2, 3], [5, 6]], [(0, 2), (4, 5), (7, 9)]),
        ([[5, 6], [2, 3]], [(0, 2), (4, 5), (7, 9)]),
        ([[0, 2, 3, 8]], []),
        ([[1, 2, 3, 4, 5, 6], [2, 3]], [(0, 1), (7, 9)]),
        ([[-3, -2, -1]], [(0, 9)]),
        ([[9, 10]], [(0, 9)]),
        ([[-1, 0, 1], [8, 9, 10]], [(2, 8)]),
    ],
)
def test_missing_is_what_no_file_reaches_over(
    desk: Desk, files: list[list[int]], missing: list[Span]
) -> None:
    for number, file in enumerate(files):
        desk.land(csv(*(START + 60 * n for n in file)), f"{number}_BTCUSDT.csv")
    found = missing_spans(desk.landing, "BTCUSDT", START, START + 540)
    assert [((a - START) // 60, (b - START) // 60) for a, b in found] == missing


def test_bars_longer_than_a_minute_and_other_symbols_cover_nothing(desk: Desk) -> None:
    desk.land(csv(*range(START // 3600 * 3600, START + 18000, 3600)))
    desk.land(csv(*NINE), "ETHUSDT.csv")
    assert missing_spans(desk.landing, "BTCUSDT", START, START + 540) == [(START, START + 540)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 25), st.integers(1, 8)), max_size=6),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_each_minute_is_either_missing_or_covered(
    spans: list[tuple[int, int]], since: int, until: int
) -> None:
    covered = [(start, start + length) for start, length in spans]

    class Nothing:
        def ledger(self, symbol: str) -> list[dict[str, Any]]:
            return []

    found = missing_spans(Nothing(), "X", since, until, covered)  # type: ignore[arg-type]
    missing = {at for start, end in found for at in range(start, end)}
    taken = {at for start, end in covered for at in range(start, end)}
    assert missing == set(range(since, until)) - taken
    assert all(a < b for a, b in found)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_each_symbol_goes_on_after_its_last_landed_minute(desk: Desk) -> None:
    desk.land(csv(*NINE[3:6]), "a_BTCUSDT.csv")
    desk.land(csv(*NINE[:2]), "b_BTCUSDT.csv")
    desk.land(csv(NINE[0]), "ETHUSDT.csv")
    desk.land(csv(*range(START // 3600 * 3600, START + 18000, 3600)), "SOLUSDT.csv")
    assert landed_until(desk.landing) == {"BTCUSDT": NINE[6], "ETHUSDT": NINE[1]}


# Fetching


def test_a_second_backfill_asks_only_for_what_came_since(desk: Desk) -> None:
    with market(minutes(*NINE)) as server:
        first = trip(desk, server, span=(START, NINE[6]))
        again = trip(desk, server, span=(START, NINE[6]))
        more = trip(desk, server)
    assert first.asked == [(START, NINE[6])]
    assert (again.asked, again.done) == ([], Fetched(0, (), ()))
    assert more.asked == [(NINE[6], START + 540)]
    assert (more.done.rows, more.done.good) == (3, 3)
    assert kept(desk) == priced(minutes(*NINE))
    desk.audit()


def test_what_lies_between_files_is_fetched_and_no_more(desk: Desk) -> None:
    desk.land(csv(*NINE[2:4]), "a_BTCUSDT.csv")
    desk.land(csv(*NINE[6:7]), "b_BTCUSDT.csv")
    with market(minutes(*NINE)) as server:
        got = trip(desk, server)
    assert got.asked == [(NINE[0], NINE[2]), (NINE[4], NINE[6]), (NINE[7], START + 540)]
    assert got.done.spans == tuple(got.asked)
    assert [at for at, _ in kept(desk)] == list(NINE)
    assert [price for _, price in kept(desk)] == [1, 2, 100, 100, 5, 6, 100, 8, 9]
    desk.audit()


def test_the_start_is_included_and_the_end_is_not(desk: Desk) -> None:
    with market(minutes(*NINE)) as server:
        trip(desk, server, span=(NINE[2], NINE[5]))
    assert [at for at, _ in kept(desk)] == list(NINE[2:5])


@pytest.mark.parametrize(("seconds", "count"), [(59, 0), (60, 1), (119, 1), (120, 2)])
def test_a_bar_that_is_open_at_the_end_waits_for_the_next_backfill(
    desk: Desk, seconds: int, count: int
) -> None:
    with market(minutes(*NINE)) as server:
        trip(desk, server, span=(START, START + seconds))
        assert [at for at, _ in kept(desk)] == list(NINE[:count])
        trip(desk, server)
    assert kept(desk) == priced(minutes(*NINE))


def test_an_end_in_the_future_takes_no_bar_that_is_still_open(desk: Desk) -> None:
    with market(minutes(*NINE)) as server:
        got = trip(desk, server, span=(START, START + 86_400), now=NINE[4] + 30.0)
    assert got.asked == [(START, NINE[4] + 30)]
    assert [at for at, _ in kept(desk)] == list(NINE[:4])


@pytest.mark.parametrize("until", [START - 60, START])
def test_an_end_before_the_start_asks_for_nothing(desk: Desk, until: int) -> None:
    with market(minutes(*NINE)) as server:
        assert trip(desk, server, span=(START, until)) == Trip(Fetched(0, (), ()), [])


def test_pages_are_told_as_they_come(desk: Desk) -> None:
    heard: list[int] = []
    with market(minutes(*NINE), most=4) as server:
        got = trip(desk, server, heard=heard.append)
    assert heard == [4, 4, 1]
    assert (got.done.rows, len(got.done.landed)) == (9, 1)


def test_a_full_batch_lands_before_the_next_page(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    landed: list[int] = []
    with market(minutes(*NINE), most=2) as server:
        got = trip(desk, server, heard=lambda rows: landed.append(len(kept(desk))))
    assert landed == [0, 0, 4, 4, 8]
    assert [report.good for report in got.done.landed] == [4, 4, 1]
    assert trip_is_whole(desk)


def trip_is_whole(desk: Desk) -> bool:
    """Whether all nine minutes are in, once, and every table tells of it."""
    desk.audit()
    return kept(desk) == priced(minutes(*NINE))


# Stopped midway


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_what_came_before_a_failure_lands_and_the_next_backfill_goes_on(
    desk: Desk, pages: int
) -> None:
    with market(minutes(*NINE), most=3) as server:
        failed = trip(desk, server, [*[None] * pages, *BROKEN])
        assert isinstance(failed.done.error, ExchangeError)
        assert (failed.done.rows, failed.done.good) == (3 * pages, 3 * pages)
        assert kept(desk) == priced(minutes(*NINE))[: 3 * pages]
        rest = trip(desk, server)
    assert rest.asked[0] == (NINE[3 * pages], START + 540)
    assert rest.done.rows == 9 - 3 * pages
    assert trip_is_whole(desk)


def test_a_bad_row_ends_it_and_the_pages_before_are_kept(desk: Desk) -> None:
    bad = changed(lambda rows: [[*rows[0][:4], "n/a", *rows[0][5:]]])
    with market(minutes(*NINE), most=3) as server:
        got = trip(desk, server, [None, bad])
    assert isinstance(got.done.error, InputError)
    assert len(kept(desk)) == 3


def test_an_unknown_symbol_is_told_and_nothing_is_made(desk: Desk) -> None:
    with market({}) as server:
        got = trip(desk, server)
    assert "refuses BTCUSDT 1m: code -1121" in str(got.done.error)
    assert desk.is_untouched()


def test_ctrl_c_keeps_the_pages_that_came(desk: Desk) -> None:
    heard: list[int] = []

    def stop(rows: int) -> None:
        heard.append(rows)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with market(minutes(*NINE), most=3) as server:
        with pytest.raises(KeyboardInterrupt):
            trip(desk, server, heard=stop)
        assert len(kept(desk)) == 6
        assert trip(desk, server).asked[0] == (NINE[6], START + 540)
    assert trip_is_whole(desk)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.crypto.intake.desk import Desk
from tests.unit.crypto.exchange_server import START
from tidemill.crypto import backfill
from tidemill.crypto.exchange import Exchange

folder, url, pages = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
heard = []

def kill(rows):
    heard.append(rows)
    if len(heard) == pages:
        os.kill(os.getpid(), signal.SIGKILL)

backfill.BATCH_ROWS = 4
desk = Desk(folder)
backfill.backfill(desk.landing, Exchange(url), "BTCUSDT", START, START + 540, kill)
"""


@pytest.mark.parametrize(("pages", "landed"), [(2, 0), (3, 4), (5, 8)])
def test_a_killed_backfill_keeps_its_batches_and_the_next_one_goes_on(
    tmp_path: Path, pages: int, landed: int
) -> None:
    with market(minutes(*NINE), most=2) as server:
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "desk"), server.url, str(pages)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])},
            timeout=120,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        (tmp_path / "desk" / "inbox").rmdir()
        desk = Desk(tmp_path / "desk")
        assert len(kept(desk)) == landed
        assert trip(desk, server).asked[0] == (NINE[landed], START + 540)
    assert trip_is_whole(desk)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=4), st.integers(1, 4), st.integers(1, 6))
def test_however_often_it_fails_the_end_is_that_of_one_whole_run(
    tmp_path_factory: pytest.TempPathFactory, failures: list[int], most: int, batch: int
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with pytest.MonkeyPatch.context() as patch, market(minutes(*NINE), most=most) as server:
        patch.setattr(module, "BATCH_ROWS", batch)
        fetched = sum(trip(desk, server, [*[None] * n, *BROKEN]).done.rows for n in failures)
        last = trip(desk, server).done
    assert last.error is None
    assert fetched + last.rows == len(NINE)
    assert trip_is_whole(desk)


# Gaps of the exchange


GAPPY = minutes(*NINE[2:4], *NINE[6:])


@pytest.mark.parametrize("batch", [1, 2, 3, 50_000])
def test_a_gap_of_the_exchange_is_not_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", batch)
    with market(GAPPY, most=1) as server:
        trip(desk, server)
        assert trip(desk, server).asked == []
    assert kept(desk) == priced(GAPPY)


def test_a_gap_where_a_backfill_was_stopped_is_asked_for_once(desk: Desk) -> None:
    with market(GAPPY, most=2) as server:
        trip(desk, server, [None, *BROKEN])
        assert trip(desk, server).asked == [(NINE[4], START + 540), (NINE[8], START + 540)]
        assert trip(desk, server).asked == []


def test_what_is_missing_at_the_end_is_asked_for_until_it_comes(desk: Desk) -> None:
    with market(minutes(*NINE[:5])) as server:
        trip(desk, server)
        assert trip(desk, server).asked == [(NINE[5], START + 540)]
        server.rows = minutes(*NINE)
        assert trip(desk, server).done.good == 4
    assert trip_is_whole(desk)


def test_an_empty_answer_is_no_proof_of_a_gap(desk: Desk) -> None:
    desk.land(csv(*NINE[:3]), "a_BTCUSDT.csv")
    desk.land(csv(*NINE[6:]), "b_BTCUSDT.csv")
    empty = changed(lambda rows: [])
    with market(minutes(*NINE)) as server:
        assert trip(desk, server, [empty]).done == Fetched(0, (), ((NINE[3], NINE[6]),))
        assert trip(desk, server).done.good == 3


def test_another_exchange_is_asked_for_the_gaps_of_the_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 1)
    with market(GAPPY, most=1) as server:
        trip(desk, server)
    with market(minutes(*NINE)) as other:
        got = trip(desk, other)
        assert trip(desk, other).asked == []
    assert got.asked == [(NINE[0], NINE[2]), (NINE[4], NINE[6])]
    assert len(kept(desk)) == 9


# The account


def test_a_row_that_another_file_landed_meanwhile_is_a_duplicate_of_it(desk: Desk) -> None:
    def land(rows: int) -> None:
        desk.land(csv(NINE[1], price="7") + csv(NINE[2], price="3").removeprefix(HEADER))

    rows = minutes(*NINE)
    rows["BTCUSDT 1m"][2] = [*row(NINE[2], price=3.0)[:5], "1", *row(NINE[2])[6:]]
    with market(rows) as server:
        got = trip(desk, server, heard=land)
    (report,) = got.done.landed
    assert tuple(getattr(report, name) for name in COUNTS) == (9, 7, 1, 1, 0)
    assert dict(kept(desk))[NINE[1]] == 7.0
    desk.audit()


def test_the_ledger_tells_what_became_of_each_row_that_was_fetched(desk: Desk) -> None:
    rows = minutes(*NINE)
    for at in (0, 4):
        rows["BTCUSDT 1m"][at][2] = "0.5"  # its high is below its low
    with market(rows) as server:
        got = trip(desk, server)
        again = trip(desk, server)
    (told,) = desk.landing.ledger()
    assert tuple(told[name] for name in COUNTS) == (9, 7, 0, 0, 2)
    assert got.done.rows == 9 and got.done.good == 7
    assert told["file"].endswith(" BTCUSDT 1m") and told["file"].startswith("http://127.0.0.1:")
    assert len(desk.rejected()) == 2
    assert again.asked == []
    desk.audit()


@recorded
def test_recorded_minutes_land_as_they_were_answered_whatever_fails_between(desk: Desk) -> None:
    rows: Rows = list(read_recording(RECORDING)["BTCUSDT 1m"])
    opens = [bar[0] // 1000 for bar in rows]
    span = opens[0], opens[-1] + 60
    with market({"BTCUSDT 1m": rows}, most=500) as server:
        trip(desk, server, [None, PASSING["half a page"], None, *BROKEN], span=span, now=2e9)
        last = trip(desk, server, span=span, now=2e9)
        assert trip(desk, server, span=span, now=2e9).asked == []
    assert last.done.error is None
    assert kept(desk) == priced({"BTCUSDT 1m": rows})
    desk.audit()
