"""The command line as a user types it, each command a process of its own."""

import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock

from tidemill.commands.reset import reset
from tidemill.crypto.contracts import LANDED_FILES, LIVE, REJECTED_ROWS, TABLES
from tidemill.crypto.intake.accounts import COUNTS
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.errors import TidemillError
from tidemill.settings import Settings

HEADER = "timestamp,open,high,low,close,volume\n"
START_S = 1_704_067_200


def tidemill(
    home: Path, *arguments: str, code: int = 0, timeout: int = 300
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", *arguments],
        env=os.environ | {"TIDEMILL_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(home: Path, *arguments: str, code: int = 0) -> Any:
    return json.loads(tidemill(home, *arguments, "--json", code=code).stdout)


def candles(path: Path, minutes: int, price: float = 100.0) -> Path:
    rows = [
        f"{START_S + 60 * n},{price},{price + 2},{price - 2},{price + n % 3 - 1},1.5"
        for n in range(minutes)
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with forty days of minutes landed and made."""
    folder = tmp_path_factory.mktemp("cli")
    home = folder / "a home"
    path = candles(folder / "ABCUSDT.csv", 40 * 1440)
    with path.open("a") as file:
        file.write(f"{START_S + 60},100,102,98,99,1.5\n")  # conflicts with the second minute
        file.write(f"{START_S},100,102,98,99,1.5\n")  # repeats the first
        file.write(f"{START_S + 40 * 86400},100,102,98,abc,1.5\n")
    (landed,) = told(home, "ingest", "crypto", str(path))["landed"]
    assert [landed[name] for name in COUNTS] == [40 * 1440 + 3, 40 * 1440, 1, 1, 1]
    report = told(home, "run", "crypto")
    assert report["failed_checks"] == report["errors"] == []
    assert report["landed"] == {name: landed[name] for name in COUNTS}
    return home


def test_what_was_made_can_be_asked_for(home: Path) -> None:
    query = (
        "select symbol, count(*) as n, min(date) as lo, max(date) as hi "
        "from crypto.filled_series group by 1"
    )
    want = [{"symbol": "ABCUSDT", "n": 40, "lo": "2024-01-01", "hi": "2024-02-09"}]
    assert told(home, "sql", query) == want
    with duckdb.connect(str(home / "tidemill.duckdb"), read_only=True) as con:
        assert [str(v) for v in con.execute(query).fetchall()[0]] == [
            str(v) for v in want[0].values()
        ]


def test_a_rejected_row_is_shown_with_its_line_and_reason(home: Path) -> None:
    (row,) = told(home, "sql", "select line, reason, raw from crypto.rejected_rows")
    assert row["line"] == 40 * 1440 + 4
    assert row["reason"] == "close: expected a number, found abc"
    assert row["raw"].endswith(",abc,1.5")


def test_sql_goes_out_as_csv_json_and_parquet(home: Path, tmp_path: Path) -> None:
    query = "select date, daily_close from crypto.daily_ohlc order by 1 limit 2"
    shown = tidemill(home, "sql", query, "--format", "csv").stdout.splitlines()
    assert shown[0] == "date,daily_close" and len(shown) == 3
    for name in ("rows.parquet", "rows.csv", "rows.json"):
        tidemill(home, "sql", query, "--output", str(tmp_path / name))
        found = duckdb.execute(f"select count(*) from '{tmp_path / name}'").fetchall()
        assert found == [(2,)]


@pytest.mark.parametrize(
    "query",
    [
        "delete from crypto.signals",
        "copy (select 1) to 'x.csv'",
        "select * from read_csv('/etc/passwd')",
        "select 1; drop view crypto.signals",
        "nonsense",
    ],
)
def test_sql_that_does_not_only_read_is_refused(home: Path, query: str) -> None:
    done = tidemill(home, "sql", query, code=2)
    assert done.stderr.startswith("tidemill: ")


def test_a_refused_file_is_one_message_and_the_others_land(home: Path, tmp_path: Path) -> None:
    good = candles(tmp_path / "XYZUSDT.csv", 10)
    cut = tmp_path / "CUTUSDT.csv.gz"
    cut.write_bytes(gzip.compress(good.read_bytes())[:60])
    report = told(home, "ingest", "crypto", str(cut), str(good), code=2)
    assert [landed["symbol"] for landed in report["landed"]] == ["XYZUSDT"]
    (refusal,) = report["refused"]
    assert "CUTUSDT.csv.gz" in refusal and "cut short" in refusal
    waiting = told(home, "status")["pending"]
    assert [work["symbol"] for work in waiting] == ["XYZUSDT"]
    landed = told(home, "run", "crypto", "--symbol", "XYZ-USDT")["landed"]
    assert landed == dict.fromkeys(COUNTS, 0) | {"rows": 10, "good": 10}  # ABCUSDT's are not its
    shown = tidemill(home, "run", "crypto", "--symbol", "XYZUSDT").stdout
    assert "Landed so far for XYZUSDT: 10 rows = 10 good + 0 exact" in shown
    assert told(home, "status")["pending"] == []


def test_what_looks_like_markup_is_shown_as_it_is(home: Path, tmp_path: Path) -> None:
    odd = tmp_path / "note [b].csv"
    odd.write_text("hello [/b] world :100: \\[x]\n")
    refused = tidemill(home, "ingest", "crypto", str(odd), code=2).stderr
    assert f"Refused: {odd}" in refused and "hello [/b] world :100:" in refused
    cells = "[/b] [red]x[/red] :100: \\[y]"
    shown = tidemill(home, "sql", f"select '{cells}' as \"[/b]\"").stdout
    assert cells in shown and shown.count("[/b]") == 2
    home = tmp_path / "home [b]"
    assert str(home) in tidemill(home, "doctor").stdout


def test_a_file_without_a_header_says_how_to_name_its_columns(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "NOHUSDT.csv"
    path.write_text(f"{START_S},100,101,102,99,1\n")
    refused = tidemill(home, "ingest", "crypto", str(path), code=2).stderr
    assert "--columns time,open,high,low,close,volume" in refused
    columns = "time,open,close,high,low,volume"
    (landed,) = told(home, "ingest", "crypto", str(path), "--columns", columns)["landed"]
    assert landed["good"] == 1


def test_a_table_can_be_seen_as_it_was_and_taken_back(home: Path) -> None:
    table = "crypto.prophet_input"
    newest = told(home, "lake", "history", table)[0]["version"]
    before = told(home, "sql", f"select count(*) as n from {table}")
    assert told(home, "sql", f"select count(*) as n from {table}", "--as-of", "0") == [{"n": 0}]
    assert (
        "no version"
        in tidemill(home, "sql", f"select 1 from {table}", "--as-of", "999", code=2).stderr
    )
    tidemill(home, "lake", "rollback", table, "0")
    assert told(home, "sql", f"select count(*) as n from {table}") == [{"n": 0}]
    tidemill(home, "lake", "rollback", table, str(newest))
    assert told(home, "sql", f"select count(*) as n from {table}") == before
    tidemill(home, "lake", "compact", table, "--z-order", "ds")
    tidemill(home, "lake", "vacuum", table)
    assert told(home, "sql", f"select count(*) as n from {table}") == before


def test_mistakes_are_told_with_what_there_is(home: Path) -> None:
    for arguments, hint in (
        (["run", "weather"], "there are crypto, events"),
        (["run", "events"], "there are no events yet"),
        (["run", "events", "--symbol", "ABCUSDT"], "has no --symbol"),
        (["backfill", "events", "--symbol", "ABCUSDT"], "it is for crypto"),
        (["erase", "events", "--user", "x"], "whole number"),
        (["produce", "events", "--rate", "0"], "rate"),
        (["run", "crypto.nope"], "raw_candles"),
        (["run", "crypto", "--symbol", "NOPE"], "ABCUSDT"),
        (["run", "crypto", "--engine", "abacus"], "duckdb"),
        (["ingest", "crypto", "/nowhere.csv"], "no such file"),
        (["sql", "select * from crypto.nope"], "nope"),
        (["lake", "history", "nope"], "crypto.daily_ohlc"),
        (["bench", "nope"], "candles"),
    ):
        assert hint in tidemill(home, *arguments, code=2).stderr, arguments


def test_one_table_is_made_alone(home: Path) -> None:
    (made,) = told(home, "run", "crypto.volatility", "--symbol", "ABCUSDT")["tables"]
    assert made["table"] == "crypto.volatility"


def test_a_broken_check_and_a_failed_step_are_told_with_the_table_at_the_end(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    tidemill(home, "ingest", "crypto", str(candles(tmp_path / "ABCUSDT.csv", 1500)))
    (landed,) = (home / "landing" / "crypto").rglob("*.parquet")
    with duckdb.connect() as con:
        con.execute(f"create table t as from '{landed}'")
        con.execute("update t set low = high + 1 where timestamp = ?", [START_S + 60])
        con.execute(f"copy t to '{landed}' (format parquet)")
    shown = tidemill(home, "run", "crypto", code=1).stdout
    assert "crypto.raw_candles" in shown and "crypto.daily_ohlc" not in shown.split("Landed")[0]
    assert "Check does not hold: crypto/raw_candles: keeps_contract: " in shown
    assert "'low <= open, close <= high': 1" in shown
    assert "Step failed: crypto__raw_candles: " in shown and "1 blocking asset check" in shown

    landed.write_bytes(b"no Parquet")
    report = told(home, "run", "crypto", code=1)
    assert (report["tables"], report["failed_checks"]) == ([], [])
    (error,) = report["errors"]
    assert error.startswith("crypto__raw_candles: ") and landed.name in error


def test_spark_gives_the_same_rows_table_by_table(tmp_path: Path) -> None:
    files = rich(tmp_path)
    homes = {engine: tmp_path / engine for engine in ("duckdb", "spark")}
    for engine, home in homes.items():
        tidemill(home, "ingest", "crypto", *map(str, files))
        tidemill(home, "run", "crypto", "--engine", engine, "--no-forecasts")
    with duckdb.connect() as con:
        for engine, home in homes.items():
            con.execute(f"attach '{home / 'tidemill.duckdb'}' as {engine} (read_only)")
        live = {table.id for table in LIVE}  # nothing is streamed here
        for table in (table.id for table in TABLES if table not in (LANDED_FILES, REJECTED_ROWS)):
            counts = con.execute(
                f"select (select count(*) from duckdb.{table}), (select count(*) from "
                f"(from duckdb.{table} except all from spark.{table})), (select count(*) from "
                f"(from spark.{table} except all from duckdb.{table}))"
            ).fetchone()
            assert counts is not None
            assert counts[0] > 0 or table in live, f"{table} is empty"
            assert counts[1:] == (0, 0), table


def rich(folder: Path) -> list[Path]:
    """Minutes with all that is wrong with real ones, and longer bars beside them."""
    faults = Faults(
        gaps=6,
        longest_gap_minutes=4000,
        null_rows=40,
        exact_duplicates=9,
        conflicting_duplicates=9,
        crashes=3,
    )
    files = [folder / "ABCUSDT.csv", folder / "DEFUSDT.csv", folder / "GHIUSDT.csv"]
    for path in files[:2]:
        start = date(2023, 1, 15)
        simulate(path, Market(path.stem, start, 100 * 1440, 100.0, "kaggle_btc"), faults)
    rows = "".join(
        f"{START_S + 86_400 * day},{price},{price + 2},{price - 2},{price + 1},{day}.5\n"
        for day in range(120)
        for price in [100 + 20 * math.sin(day / 9)]
    )
    files[2].write_text(f"timestamp,open,high,low,close,volume\n{rows}")
    return files


def test_reset_leaves_nothing_and_asks_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tidemill(home, "ingest", "crypto", str(candles(tmp_path / "ABCUSDT.csv", 10)))
    asked = tidemill(home, "reset", "crypto", code=1).stdout  # nobody answers
    landing = home / "landing" / "crypto"
    for told_of in (home / "lake", home / "reports", landing, "inbox and refused"):
        assert str(told_of) in asked
    assert told(home, "sql", "select count(*) as n from crypto.landed_files") == [{"n": 1}]
    never_landed = [landing / "inbox" / "a.csv", landing / "refused" / "b.csv"]
    for path in never_landed:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    with FileLock(landing / ".lock"), pytest.raises(subprocess.TimeoutExpired):
        tidemill(home, "reset", "crypto", "--yes", timeout=8)
    assert list(landing.rglob("*.parquet"))
    chart = home / "reports" / "crypto" / "chart.png"
    chart.parent.mkdir(parents=True)
    chart.touch()
    tidemill(home, "reset", "crypto", "--yes")
    assert not chart.exists()
    assert [path.read_text() for path in never_landed] == ["mine", "mine"]
    assert not list(landing.rglob("*.parquet"))
    assert told(home, "sql", "select count(*) as n from crypto.landed_files") == [{"n": 0}]
    assert tidemill(home, "run", "crypto", code=2).stderr.startswith("tidemill: nothing has landed")


def test_reset_tells_what_it_could_not_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.current(tmp_path / "home")
    (settings.lake / "crypto").mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(f"not allowed: {path}")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(TidemillError, match="not empty: not allowed"):
        reset(settings, "crypto")


def test_doctor_knows_this_machine(home: Path) -> None:
    names = {finding["name"]: finding for finding in told(home, "doctor")}
    assert {"Python", "duckdb", "Java", "disk"} <= set(names)
    assert not any(finding["is_broken"] for finding in names.values())


def test_a_file_that_cannot_be_written_is_told(home: Path) -> None:
    done = tidemill(home, "sql", "select 1 as a", "--output", "/nowhere/x.csv", code=2)
    assert done.stderr.startswith("tidemill: /nowhere/x.csv: cannot be written")


def test_bytes_are_shown_as_the_text_that_they_are(home: Path) -> None:
    query = r"select '{\x22a\x22: 1}\xFF'::blob as value"
    shown = r'{"a": 1}\xff'
    assert told(home, "sql", query) == [{"value": shown}]
    csv = tidemill(home, "sql", query, "--format", "csv").stdout.splitlines()
    assert csv == ["value", '"{""a"": 1}\\xff"']


@pytest.mark.parametrize("domain", ["crypto", "events"])
def test_a_file_to_produce_that_is_not_there_is_told_before_a_broker_is_asked(
    tmp_path: Path, domain: str
) -> None:
    refused = tidemill(tmp_path, "produce", domain, str(tmp_path / "x.csv"), code=2).stderr
    assert refused == f"tidemill: {tmp_path / 'x.csv'}: there is no such file\n"


def test_a_year_is_shown_as_a_year(home: Path) -> None:
    shown = tidemill(home, "sql", "select max(year) as y from crypto.raw_candles").stdout
    assert "2024" in shown and "2,024" not in shown


def test_status_tells_what_lies_in_the_inbox(tmp_path: Path) -> None:
    inbox = tmp_path / "landing" / "crypto" / "inbox"
    inbox.mkdir(parents=True)
    candles(inbox / "ABCUSDT.csv", 3)
    assert told(tmp_path, "status")["inbox"] == ["ABCUSDT.csv"]
    assert "waits in the inbox for tidemill up: ABCUSDT.csv" in tidemill(tmp_path, "status").stdout


def test_rows_without_a_price_are_told(tmp_path: Path) -> None:
    path = tmp_path / "ABCUSDT.csv"
    path.write_text(f"{HEADER}{START_S},1,1,1,1,1\n{START_S + 60},,,,,\n")
    shown = tidemill(tmp_path, "ingest", "crypto", str(path)).stdout
    assert "1 of the good rows lack a price" in shown
