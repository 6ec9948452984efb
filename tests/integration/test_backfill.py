"""``tidemill backfill`` as a user types it, against an exchange on the loopback."""

from pathlib import Path

import pytest

from tests.integration.test_cli import candles, tidemill, told
from tests.unit.crypto.exchange_server import START, Market, market, minutes, refusal

NINE = range(START, START + 540, 60)
SINCE = ("--since", "2023-11-14T22:14:00", "--until", "2023-11-14T22:23:00")
RESUMED = ("--until", "2023-11-14T22:23:00")


def tell(
    patch: pytest.MonkeyPatch, server: Market, home: Path, *arguments: str, code: int = 0
) -> list[dict[str, object]]:
    """The report of a backfill from ``server``."""
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("TIDEMILL_EXCHANGE_URL", server.url)
    backfilled: list[dict[str, object]] = told(home, "backfill", "crypto", *arguments, code=code)[
        "backfilled"
    ]
    return backfilled


def test_without_since_a_backfill_goes_on_after_the_last_landed_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with market(minutes(*NINE[:4])) as server:
        first = tell(monkeypatch, server, tmp_path, "--symbol", "BTC-USDT", *SINCE)
        server.rows, before = minutes(*NINE), len(server.asked)
        rest = tell(monkeypatch, server, tmp_path, "--symbol", "BTCUSDT", *RESUMED)
    assert first == [{"symbol": "BTCUSDT", "fetched": 4, "good": 4, "error": None}]
    assert rest == [{"symbol": "BTCUSDT", "fetched": 5, "good": 5, "error": None}]
    assert [int(query["startTime"]) // 1000 for query in server.asked[before:]] == [NINE[4]]
    (made,) = told(tmp_path, "sql", "select cnt from crypto.daily_ohlc")
    assert made == {"cnt": 9}


def test_without_since_and_with_nothing_landed_it_asks_for_one(tmp_path: Path) -> None:
    tidemill(tmp_path, "ingest", "crypto", str(candles(tmp_path / "BTCUSDT.csv", 3)))
    symbols = ("--symbol", "BTCUSDT", "--symbol", "ETHUSDT")
    refused = tidemill(tmp_path, "backfill", "crypto", *symbols, code=2).stderr
    assert refused.startswith("tidemill: no minute of ETHUSDT has landed")
    assert "--since 2026-01-01" in refused


def test_a_start_that_is_not_before_the_end_is_refused(tmp_path: Path) -> None:
    late = ("--symbol", "BTCUSDT", "--since", "2999-01-01")
    refused = tidemill(tmp_path, "backfill", "crypto", *late, code=2).stderr
    assert refused.startswith("tidemill: expected --since to be before --until, found 2999-01-01")


def test_a_symbol_that_fails_stops_no_other_and_its_rows_are_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = minutes(*NINE)
    rows["ETHUSDT 1m"] = rows["BTCUSDT 1m"]
    tidemill(tmp_path, "ingest", "crypto", str(candles(tmp_path / "OTHERUSDT.csv", 3)))
    banned = refusal(418, -1003, "IP banned", retry_after="7200")
    symbols = ("--symbol", "BTCUSDT", "--symbol", "NOPEUSDT", "--symbol", "ETHUSDT")
    with market(rows, [None, banned], most=3) as server:
        report = tell(monkeypatch, server, tmp_path, *symbols, *SINCE, code=2)
        errors = tidemill(tmp_path, "backfill", "crypto", *symbols, *SINCE, code=2).stderr
    assert [(told["symbol"], told["fetched"], told["good"]) for told in report] == [
        ("BTCUSDT", 3, 3),
        ("NOPEUSDT", 0, 0),
        ("ETHUSDT", 9, 9),
    ]
    assert "wait 7200 s" in str(report[0]["error"])
    assert "Invalid symbol" in str(report[1]["error"])
    assert report[2]["error"] is None
    assert "tidemill: NOPEUSDT: the exchange refuses NOPEUSDT 1m" in errors
    found = told(tmp_path, "sql", "select symbol, cnt from crypto.daily_ohlc order by 1")
    assert found == [{"symbol": "BTCUSDT", "cnt": 9}, {"symbol": "ETHUSDT", "cnt": 9}]
