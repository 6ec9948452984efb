"""The hourly backfill lands what the exchange has after each symbol's last minute."""

import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from resources.exchange import ExchangeResource
from resources.home import CryptoResource
from sensors.backfill import DAY_S, Wanted, crypto_backfill, fetch_missing
from tests.unit.crypto.exchange_server import Fault, Market, Rows, market, refusal, row
from tidemill import compose
from tidemill.crypto.build import Crypto
from tidemill.definitions import defs
from tidemill.settings import Settings

NOW = int(time.time()) // 60 * 60
HOUR_AGO = NOW - 3600
BANNED = refusal(418, -1003, "IP banned", retry_after="7200")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


def opened(home: Path) -> Crypto:
    return compose.crypto(Settings.current(home))


def land(home: Path, symbol: str, *opens: int) -> None:
    """Land a file with bars that open at ``opens`` (epoch s)."""
    path = home.parent / f"{symbol}.csv"
    lines = [f"{at},100,100,100,100,1" for at in opens]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *lines, ""]))
    opened(home).landing.land_file(path)


def bars(first: int, count: int) -> Rows:
    return [row(first + 60 * n) for n in range(count)]


def fetch(home: Path, server: Market, **wanted: object) -> Sequence[str]:
    """Run the job, which must succeed; returns its log."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = crypto_backfill.execute_in_process(
            run_config={"ops": {"fetch_missing": {"config": wanted}}},
            resources={
                "crypto": CryptoResource(home=str(home)),
                "exchange": ExchangeResource(base_url=server.url),
            },
            instance=instance,
        )
        return [entry.user_message for entry in instance.all_logs(run.run_id)]


def failure(home: Path, server: Market, *symbols: str) -> tuple[str, bool]:
    """What the op fails with, and whether it asks for another try; outside a job none is made."""
    context = dg.build_op_context()
    exchange = ExchangeResource(base_url=server.url)
    with pytest.raises((dg.Failure, dg.RetryRequested)) as raised:
        fetch_missing(context, Wanted(symbols=list(symbols)), opened(home), exchange)
    is_retried = isinstance(raised.value, dg.RetryRequested)
    failed = raised.value.__cause__ if is_retried else raised.value
    assert isinstance(failed, dg.Failure)
    return str(failed.description), is_retried


def good(home: Path) -> dict[str, int]:
    """Good rows by symbol."""
    ledger = opened(home).landing.ledger()
    return {
        symbol: sum(entry["good"] for entry in ledger if entry["symbol"] == symbol)
        for symbol in sorted({entry["symbol"] for entry in ledger})
    }


def asked(server: Market) -> list[tuple[str, int]]:
    """Symbol and start (epoch s) of each request."""
    return [(query["symbol"], int(query["startTime"]) // 1000) for query in server.asked]


def test_the_schedule_is_hourly_and_off_until_somebody_turns_it_on() -> None:
    schedule = defs.resolve_schedule_def("hourly_backfill")
    assert (schedule.cron_schedule, schedule.job_name) == ("7 * * * *", "crypto_backfill")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    with dg.DagsterInstance.ephemeral() as instance:
        tick = schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
    assert len(tick.run_requests or []) == 1


def test_each_landed_symbol_goes_on_after_its_last_minute_and_no_other_is_asked_for(
    home: Path,
) -> None:
    land(home, "AAAUSDT", HOUR_AGO)
    land(home, "BBBUSDT", HOUR_AGO - 120)
    rows = {f"{name} 1m": bars(HOUR_AGO - 600, 20) for name in ("AAAUSDT", "BBBUSDT", "BTCUSDT")}
    with market(rows) as server:
        log = fetch(home, server)
        fetch(home, server)
    assert asked(server)[0] == ("AAAUSDT", HOUR_AGO + 60)
    assert ("BBBUSDT", HOUR_AGO - 60) in asked(server)
    assert {symbol for symbol, _ in asked(server)} == {"AAAUSDT", "BBBUSDT"}
    assert good(home) == {"AAAUSDT": 10, "BBBUSDT": 12}
    assert "AAAUSDT: 9 minutes fetched, 9 new" in log


def test_a_landed_symbol_that_the_exchange_does_not_have_is_left_out(home: Path) -> None:
    land(home, "AAAUSD", HOUR_AGO)
    land(home, "BBBUSDT", HOUR_AGO)
    with market({"BBBUSDT 1m": bars(HOUR_AGO, 5)}) as server:
        log = fetch(home, server)
    assert f"AAAUSD: not on {server.url}, left out" in log
    assert good(home) == {"AAAUSD": 1, "BBBUSDT": 5}


def test_where_nothing_has_landed_two_symbols_begin_some_days_back(home: Path) -> None:
    with market({"BTCUSDT 1m": bars(HOUR_AGO, 3), "ETHUSDT 1m": bars(HOUR_AGO, 4)}) as server:
        fetch(home, server, days=2)
    starts = dict(reversed(asked(server)))
    assert starts["BTCUSDT"] == pytest.approx(NOW - 2 * DAY_S, abs=7200)
    assert good(home) == {"BTCUSDT": 3, "ETHUSDT": 4}


def test_symbols_that_are_set_are_those_that_are_fetched(home: Path) -> None:
    land(home, "AAAUSDT", HOUR_AGO)
    with market({f"{name} 1m": bars(HOUR_AGO, 3) for name in ("AAAUSDT", "BBBUSDT")}) as server:
        fetch(home, server, symbols=["BBBUSDT"])
    assert {symbol for symbol, _ in asked(server)} == {"BBBUSDT"}


@pytest.mark.parametrize(("age_days", "is_cut"), [(29, False), (31, True)])
def test_a_symbol_that_stood_still_is_cut_at_some_days_and_the_log_says_so(
    home: Path, age_days: int, is_cut: bool
) -> None:
    last = NOW - age_days * DAY_S
    land(home, "AAAUSDT", last)
    with market({"AAAUSDT 1m": bars(HOUR_AGO, 3)}) as server:
        log = fetch(home, server)
    start = asked(server)[0][1]
    assert start == pytest.approx(NOW - 30 * DAY_S, abs=7200) if is_cut else start == last + 60
    until = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(last + 60))
    command = f"tidemill backfill crypto --symbol AAAUSDT --since {until}"
    assert any(message.endswith(command) for message in log) == is_cut


@pytest.mark.parametrize(("fault", "is_retried"), [(None, False), (BANNED, True)])
def test_a_failed_symbol_stops_no_other_and_only_what_may_pass_is_tried_again(
    home: Path, fault: Fault | None, is_retried: bool
) -> None:
    rows = {"BBBUSDT 1m": bars(HOUR_AGO, 5)}
    if fault is not None:
        rows["AAAUSDT 1m"] = bars(HOUR_AGO, 5)
    with market(rows, [None, fault], most=2) as server:
        told, asks_again = failure(home, server, "AAAUSDT", "BBBUSDT")
    assert asks_again == is_retried
    assert told.startswith("AAAUSDT: ")
    assert good(home) == ({"BBBUSDT": 5} if fault is None else {"AAAUSDT": 2, "BBBUSDT": 5})
