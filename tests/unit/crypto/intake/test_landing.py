"""Landing is whole or nothing, whatever ends it and whoever else writes; and ends in tables."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.unit.crypto.intake.desk import COUNTS, HEADER, NOW, START, Desk, empty, minute
from tidemill.crypto.build import Crypto
from tidemill.crypto.contracts import (
    CANDLE_GAPS,
    DAILY_OHLC,
    LANDED_FILES,
    PRICE_JUMPS,
    RAW_CANDLES,
    REJECTED_ROWS,
)
from tidemill.crypto.intake import duplicates, files
from tidemill.crypto.intake import landing as module
from tidemill.crypto.intake import rows as reading
from tidemill.crypto.intake.landing import Landing
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.engines.duck import DuckEngine
from tidemill.errors import InputError, TidemillError
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake


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
from tidemill.crypto.intake.landing import Landing
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
from tidemill.crypto.intake.landing import Landing
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
