"""A temporary home with a small market landed in it, and a Dagster instance."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets import materialize
from tidemill import compose
from tidemill.crypto import simulator
from tidemill.crypto.build import Crypto
from tidemill.crypto.pending import Months
from tidemill.settings import Settings

FAULTS = simulator.Faults(
    gaps=6,
    longest_gap_minutes=2000,
    null_rows=20,
    exact_duplicates=10,
    conflicting_duplicates=5,
    crashes=2,
)


@dataclass(frozen=True)
class House:
    """A temporary home.

    Attributes:
        settings: With that home.
        crypto: The tables in it.
        files: What landed, by symbol.
        truth: What was put into the files, by symbol.
        instance: Its Dagster instance.
    """

    settings: Settings
    crypto: Crypto
    files: dict[str, Path]
    truth: dict[str, simulator.Truth]
    instance: dg.DagsterInstance


def land(folder: Path, instance: dg.DagsterInstance) -> House:
    """Two simulated symbols, landed in a new home."""
    settings = Settings.current(folder / "home")
    crypto = compose.crypto(settings)
    files, truth = {}, {}
    for symbol, start in (("AAAUSDT", date(2024, 1, 20)), ("BBBUSDT", date(2024, 3, 1))):
        market = simulator.Market(symbol, start, 90 * 1440, 100.0, "kaggle_eth")
        path = files[symbol] = folder / f"{symbol}.csv"
        truth[symbol] = simulator.simulate(path, market, FAULTS)
        crypto.landing.land_file(path)
    return House(settings, crypto, files, truth, instance)


def make_all(house: House) -> list[str]:
    """Make everything that has landed; returns the checks that do not hold."""
    failed = []
    for work in materialize.plan(spans(house), house.instance):
        outcome = materialize.materialize(work, house.instance, house.settings.home, "duckdb")
        failed += [*outcome.failed_checks, *outcome.errors]
    return failed


def spans(house: House) -> list[tuple[str, Months]]:
    """Each symbol and its months."""
    found = [(symbol, house.crypto.months(symbol)) for symbol in house.crypto.symbols()]
    return [(symbol, span) for symbol, span in found if span is not None]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A home of one's own, landed and not yet made."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield land(tmp_path, instance)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A home where everything was made once; tests only read it."""
    with dg.DagsterInstance.ephemeral() as instance:
        house = land(tmp_path_factory.mktemp("made"), instance)
        assert make_all(house) == []
        yield house
