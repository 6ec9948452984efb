"""``kill -9`` of everything on the live path while ticks go in: each of them is there once.

``TIDEMILL_FAULTS=N`` makes N times as many kills; ``benchmarks/conservation.py`` has the full form.
"""

import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from benchmarks import accounts, conservation
from tests.integration.test_up import of_home
from tidemill import compose
from tidemill.crypto import contracts as c
from tidemill.kafka.spans import Standing
from tidemill.lake import duck
from tidemill.settings import Settings

MORE = int(os.environ.get("TIDEMILL_FAULTS", "1"))
KINDS = 6
SEED = 11
"""Kills the producer while it still sends."""


@pytest.mark.integration
@pytest.mark.timeout(300 + 300 * MORE)
def test_every_process_is_killed_in_turn_and_each_tick_is_there_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    trial = conservation.Trial(20_000 * MORE, KINDS * MORE, seed=SEED, minutes=4, seconds=60 * MORE)
    said: list[str] = []
    outcome = conservation.run(trial, home, said.append)
    assert not outcome.found.differences, outcome.found.differences[:10]
    assert outcome.found.whole["count(*)"] == trial.messages
    assert sum(outcome.kills.values()) == trial.kills
    assert not [hit for hit in outcome.kills if hit.startswith("none")], said
    assert not of_home(home)

    _losses_and_doubles_are_told(home, outcome.found)


def _losses_and_doubles_are_told(home: Path, whole: accounts.Accounts) -> None:
    """The account that found no difference does find some where there are any."""
    settings = replace(Settings.current(home), lake=home / "lake")
    ticks = whole.whole["count(*)"]

    def told(held: Standing = whole.held, candles: Path = home / "candles.csv") -> str:
        return "\n".join(accounts.take(settings, candles, ticks, held).differences)

    assert not told()
    (low, high), *_ = whole.held.marks.values()
    more = replace(whole.held, marks={**whole.held.marks, 0: (low, high + 1)})
    assert "partition 0: the broker holds" in told(more)
    lines = (home / "candles.csv").read_text().splitlines(keepends=True)
    (home / "other.csv").write_text("".join(lines[:-1]))
    assert "days and the candles' own: ('missing'" in told(candles=home / "other.csv")
    lake = compose.lake(settings)
    rows = lake.snapshot(c.LIVE_PRICES)
    with duck.cursor() as con:
        one = pl.DataFrame(con.sql(f"from {rows.scan()} limit 1").to_arrow_table())
    lake.append(c.LIVE_PRICES, one, "another writer", 1)
    assert f"count(*): expected {ticks}, found {ticks + 1}" in told()
    lake.rollback(c.LIVE_PRICES, rows.version)
    assert not told()
    lake.rollback(c.LIVE_PRICES, rows.version - 1)
    assert "ledger: " in told()
