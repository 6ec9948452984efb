"""``kill -9`` of everything on the live path while messages go in: each of them is there once.

``TIDEMILL_FAULTS=N`` makes N times as many kills; ``benchmarks/conservation.py`` has the full form.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer

from benchmarks import accounts, conservation
from benchmarks.conservation import Outcome
from tests.integration.test_up import of_home
from tidemill import compose
from tidemill.crypto import contracts as c
from tidemill.events import contracts as e
from tidemill.events.topics import ANALYTICS
from tidemill.kafka.spans import Standing
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

MORE = int(os.environ.get("TIDEMILL_FAULTS", "1"))
KINDS = 6
SEED = 11
"""Kills the producer while it still sends."""
EVENT_KILLS = 3
EVENT_SEED = 40
"""Kills the producer, a run and the broker first."""

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300 + 300 * MORE)]


def test_every_process_is_killed_in_turn_and_each_tick_is_there_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    trial = conservation.Trial(20_000 * MORE, KINDS * MORE, seed=SEED, minutes=4, seconds=60 * MORE)
    _losses_and_doubles_are_told(_survived(trial, home, "crypto"))


def test_what_takes_events_is_killed_and_each_event_and_window_is_there_once(
    tmp_path: Path,
) -> None:
    home, kills = tmp_path / "home", EVENT_KILLS * MORE
    trial = conservation.Trial(4_000 * MORE, kills, seed=EVENT_SEED, minutes=4, seconds=30 * MORE)
    outcome = _survived(trial, home, "events")
    final = outcome.found.whole["event_counts, final"]
    assert final > 0, "no window was final, so that nothing was proved of them"
    with _broker_up(outcome):
        _losses_and_doubles_of_events_are_told(outcome)


def _survived(trial: conservation.Trial, home: Path, domain: str) -> Outcome:
    """A trial in which every kill hit something, and nothing was lost or doubled."""
    said: list[str] = []
    outcome = conservation.run(trial, home, said.append, conservation.DOMAINS[domain])
    assert not outcome.found.differences, outcome.found.differences[:10]
    assert outcome.found.whole["count(*)"] == outcome.sent.messages >= trial.messages
    assert sum(outcome.kills.values()) == trial.kills
    assert not [hit for hit in outcome.kills if hit.startswith("none")], said
    assert not of_home(home)
    return outcome


def _losses_and_doubles_are_told(outcome: Outcome) -> None:
    """The account that found no difference does find some where there are any."""
    held, ticks = outcome.found.held, outcome.sent.messages

    def told(held: Standing = held, sent: accounts.Sent = outcome.sent) -> str:
        found = conservation.DOMAINS["crypto"].take(outcome.settings, sent, held)
        return "\n".join(found.differences)

    assert not told()
    assert "partition 0: the broker holds" in told(_one_more(held))
    other = replace(outcome.sent, file=_without_its_last_line(outcome.sent.file))
    assert "days and the candles' own: ('missing'" in told(sent=other)
    lake = compose.lake(outcome.settings)
    rows = lake.snapshot(c.LIVE_PRICES)
    _add_one_again(lake, c.LIVE_PRICES)
    assert f"count(*): expected {ticks}, found {ticks + 1}" in told()
    lake.rollback(c.LIVE_PRICES, rows.version)
    assert not told()
    lake.rollback(c.LIVE_PRICES, rows.version - 1)
    assert "ledger: " in told()


def _losses_and_doubles_of_events_are_told(outcome: Outcome) -> None:
    """The same for events, their windows and the topic of these."""
    held, events = outcome.found.held, outcome.sent.messages

    def told(held: Standing = held, sent: accounts.Sent = outcome.sent) -> str:
        found = conservation.DOMAINS["events"].take(outcome.settings, sent, held)
        return "\n".join(found.differences)

    assert not told()
    other = replace(outcome.sent, file=_without_its_last_line(outcome.sent.file))
    found = told(_one_more(held), other)
    assert "partition 0: the broker holds" in found
    assert "events and the file's own: ('too many'" in found

    lake = compose.lake(outcome.settings)
    doubled = {
        e.EVENT_COUNTS: "windows that are there twice: ('event_counts'",
        e.BRAND_METRICS: "windows and events: {'table': 'events.brand_metrics'",
        e.EVENT_RATES: "read again: {'side': 'too many', 'table': 'events.event_rates'",
        e.LATE_EVENTS: "late events: {'side': 'too many'",
    }
    versions = {table: lake.snapshot(table).version for table in (e.RAW_EVENTS, *doubled)}
    for table in doubled:
        _add_one_again(lake, table)
    found = told()
    assert not [words for words in doubled.values() if words not in found], found
    for table in doubled:
        lake.rollback(table, versions[table])
    _add_one_again(lake, e.RAW_EVENTS)
    assert f"count(*): expected {events}, found {events + 1}" in told()
    lake.rollback(e.RAW_EVENTS, versions[e.RAW_EVENTS])
    assert not told()

    lake.rollback(e.EVENT_RATES, versions[e.EVENT_RATES] - 1)
    producer = Producer(compose.kafka(outcome.settings))
    again = {"table": "event_counts", "window_end": 0, "key": "[]"}
    producer.produce(ANALYTICS.name, json.dumps(again).encode(), partition=0)
    assert producer.flush(30) == 0
    found = told()
    assert "windows behind the rows: events.event_rates" in found
    assert "published windows: {'side': 'too many'" in found
    assert "final windows and messages: " in found
    lake.rollback(e.RAW_EVENTS, versions[e.RAW_EVENTS] - 1)
    assert "ledger: " in told()


@contextmanager
def _broker_up(outcome: Outcome) -> Iterator[None]:
    """The broker of a trial's home, running again."""
    broker = compose.broker(outcome.settings)
    broker.start()
    try:
        yield
    finally:
        broker.stop()


def _one_more(held: Standing) -> Standing:
    """With a message more in partition 0."""
    low, high = held.marks[0]
    return replace(held, marks={**held.marks, 0: (low, high + 1)})


def _without_its_last_line(file: Path) -> Path:
    lines = file.read_text().splitlines(keepends=True)
    other = file.with_name(f"other-{file.name}")
    other.write_text("".join(lines[:-1]))
    return other


def _add_one_again(lake: Lake, table: Table) -> None:
    """Add a row that is there."""
    with duck.cursor() as con:
        found = con.sql(f"from {lake.snapshot(table).scan()} limit 1").to_arrow_table()
    lake.append(table, pl.DataFrame(found), "another writer", 1)
