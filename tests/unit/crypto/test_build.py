"""What is still to be made is told whatever was made, and no slow writer brings old rows back."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.intake.landing import Landing
from tidemill.crypto.pending import Months
from tidemill.engines.duck import DuckEngine
from tidemill.errors import TidemillError
from tidemill.lake.store import Lake

JANUARY_S = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
DAY_S = 86_400


@pytest.fixture
def crypto(tmp_path: Path) -> Crypto:
    lake = Lake(tmp_path / "lake", None, c.TABLES)
    return Crypto(lake, DuckEngine(), Landing(lake, tmp_path / "landing"))


def land(crypto: Crypto, folder: Path, times: range, price: int = 5) -> None:
    """Bars that start at these seconds from the beginning of 2024."""
    path = folder / f"AAAUSDT {times.start} {price}.csv"
    rows = "".join(f"{JANUARY_S + at},{price},{price},{price},{price},1\n" for at in times)
    path.write_text(f"timestamp,open,high,low,close,volume\n{rows}")
    crypto.landing.land_file(path)


def test_of_days_some_months_of_which_were_made_the_others_wait(
    crypto: Crypto, tmp_path: Path
) -> None:
    land(crypto, tmp_path, range(0, 90 * DAY_S, DAY_S))
    crypto.raw_bars(["AAAUSDT"])
    crypto.daily_ohlc("AAAUSDT", Months(date(2024, 2, 1), date(2024, 2, 1)))
    (waits,) = crypto.pending()
    assert (waits.symbol, waits.months) == ("AAAUSDT", Months(date(2024, 1, 1), date(2024, 3, 1)))
    crypto.daily_ohlc("AAAUSDT", waits.months)
    assert crypto.pending() == []


def test_weeks_wait_for_the_table_that_keeps_them_alone(crypto: Crypto, tmp_path: Path) -> None:
    land(crypto, tmp_path, range(0, 70 * DAY_S, 7 * DAY_S))
    assert len(crypto.pending()) == 1
    crypto.raw_bars(["AAAUSDT"])
    assert crypto.pending() == []


def meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    crypto: Crypto,
    table: str,
    act: Callable[[], object],
    times: int = 1,
) -> list[int]:
    """Do something each time that rows of a table are computed and not yet committed."""
    write: Any = crypto.engine.write
    left = [times]

    def slow(lake: Lake, target: Any, transform: Any, sources: Any, *rest: Any) -> Any:
        if target.name == table and left[0]:
            left[0] -= 1
            *partitions, still = rest
            return write(lake, target, transform, sources, *partitions, lambda: (act(), still())[1])
        return write(lake, target, transform, sources, *rest)

    monkeypatch.setattr(crypto.engine, "write", slow)
    return left


def test_days_made_from_minutes_that_others_replace_meanwhile_are_made_again(
    crypto: Crypto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Months(date(2024, 1, 1), date(2024, 1, 1))
    land(crypto, tmp_path, range(0, 600, 60))
    crypto.raw_candles("AAAUSDT", month)

    def another_run() -> None:
        land(crypto, tmp_path, range(600, 1200, 60), price=9)
        crypto.raw_candles("AAAUSDT", month)

    left = meanwhile(monkeypatch, crypto, "daily_ohlc", another_run)
    crypto.daily_ohlc("AAAUSDT", month)
    assert left == [0]
    daily = crypto.read(c.DAILY_OHLC, "AAAUSDT")
    assert daily.select("cnt", "daily_close").rows() == [(20, 9.0)]


def test_minutes_made_without_a_file_that_lands_meanwhile_are_made_again(
    crypto: Crypto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Months(date(2024, 1, 1), date(2024, 1, 1))
    land(crypto, tmp_path, range(0, 600, 60))
    meanwhile(
        monkeypatch, crypto, "raw_candles", lambda: land(crypto, tmp_path, range(600, 1200, 60))
    )
    assert crypto.raw_candles("AAAUSDT", month).rows == 20


def test_sources_that_never_hold_still_are_told(
    crypto: Crypto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = Months(date(2024, 1, 1), date(2024, 1, 1))
    land(crypto, tmp_path, range(0, 600, 60))
    starts = iter(range(600, 6000, 60))

    def another() -> None:
        at = next(starts)
        land(crypto, tmp_path, range(at, at + 60, 60))

    meanwhile(monkeypatch, crypto, "raw_candles", another, times=99)
    with pytest.raises(TidemillError, match="what it is made from has changed"):
        crypto.raw_candles("AAAUSDT", month)
    assert crypto.lake.snapshot(c.RAW_CANDLES).version <= 0


def test_a_month_is_made_from_the_files_that_touch_it(
    crypto: Crypto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in range(3):
        land(crypto, tmp_path, range(month * 31 * DAY_S, month * 31 * DAY_S + 600, 60))
    read: list[int] = []
    write: Any = crypto.engine.write

    def noted(lake: Lake, table: Any, transform: Any, sources: Any, *rest: Any) -> Any:
        read.append(len(sources["landed"].paths))
        return write(lake, table, transform, sources, *rest)

    monkeypatch.setattr(crypto.engine, "write", noted)
    made = crypto.raw_candles("AAAUSDT", Months(date(2024, 2, 1), date(2024, 2, 1)))
    assert (read, made.rows) == ([1], 10)
