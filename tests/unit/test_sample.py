"""The sample: most of it lands, its last days are kept for a replay, and no row is lost between."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tidemill import compose
from tidemill.commands import produce, sample
from tidemill.crypto import simulator
from tidemill.crypto.build import Crypto
from tidemill.crypto.simulator import Market
from tidemill.settings import Settings

MARKETS = (
    Market("SIMAUSDT", date(2025, 12, 1), 31 * 1440, 50.0, "kaggle_btc"),
    Market("SIMBUSDT", date(2025, 12, 1), 31 * 1440, 50.0, "kaggle_eth"),
)
LIVE_S = int(datetime(2025, 12, 29, tzinfo=UTC).timestamp())


@pytest.fixture
def landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(simulator, "sample_markets", lambda: MARKETS)
    monkeypatch.delenv("TIDEMILL_LAKE", raising=False)
    settings = Settings.current(tmp_path / "home")
    sample.land(settings)
    return settings


def test_the_last_days_do_not_land_and_every_row_is_on_one_side(
    landed: Settings, tmp_path: Path
) -> None:
    ledger = {row["symbol"]: row for row in compose.crypto(landed).landing.ledger()}
    kept = {path.name.split("_")[0]: path for path in sample.held_back(landed)}
    assert set(ledger) == set(kept) == {"SIMAUSDT", "SIMBUSDT"}
    for market in MARKETS:
        whole = tmp_path / "whole.csv"
        truth = simulator.simulate(whole, market)
        lines = kept[market.symbol].read_text().splitlines()
        assert ledger[market.symbol]["rows"] + len(lines) - 1 == truth.rows
        assert ledger[market.symbol]["last_at"] < datetime(2025, 12, 29)
        assert min(float(line.split(",")[0]) for line in lines[1:]) >= LIVE_S
        assert lines == [
            line
            for number, line in enumerate(whole.read_text().splitlines())
            if number == 0 or float(line.split(",")[0]) >= LIVE_S
        ]


def test_a_pair_that_is_asked_for_has_its_days_alone(landed: Settings) -> None:
    (path,) = sample.held_back(landed, ["SIMBUSDT"])
    assert path.name == "SIMBUSDT_live.csv"
    assert sample.held_back(landed, ["BTCUSDT"]) == []


def test_live_prices_that_nobody_chose_are_of_pairs_that_landed_and_are_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.current(tmp_path)
    assert produce._real(settings) == ["BTCUSDT", "ETHUSDT"]
    monkeypatch.setattr(Crypto, "symbols", lambda self: ["ADAUSDT", "SIMBTCUSDT"])
    assert produce._real(settings) == ["ADAUSDT"]
