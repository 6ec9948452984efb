"""The same candles, replayed at any speed and read in any batches, give the same tables."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tidemill import compose
from tidemill.crypto import contracts as c
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.crypto.topics import PRICES
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.kafka.spans import Span
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.processes import free_port
from tidemill.settings import Settings

pytestmark = pytest.mark.integration
DAY = date(2026, 1, 5)
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
MINUTES = 25 * 60 + 1
OWN = ("topic_id", "produced_at")
"""What differs between two topics and two moments."""

Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candles of four pairs over 25 hours and a minute."""
    folder = tmp_path_factory.mktemp("candles")
    whole = folder / "whole.csv"
    with whole.open("w") as file:
        file.write("symbol,timestamp,open,high,low,close,volume\n")
        for symbol in SYMBOLS:
            path = folder / f"{symbol}.csv"
            market = Market(symbol, DAY, MINUTES, 50.0, "kaggle_eth")
            simulate(path, market, Faults(0, 1, 0, 0, 0, 0))
            lines = path.read_text().splitlines(keepends=True)[1:]
            file.writelines(f"{symbol},{line}" for line in lines)
    return whole


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Homes]":
    folder = tmp_path_factory.mktemp("homes")
    broker = Broker(folder / "kafka", free_port())
    broker.start()
    yield Homes(folder, broker.servers)
    broker.stop()


class Homes:
    """New homes, one after another, each with a topic that holds nothing."""

    def __init__(self, folder: Path, servers: str) -> None:
        """None is made yet."""
        self.folder = folder
        self.servers = servers
        self.number = 0

    def fresh(self) -> Settings:
        """The next home; the topic of the one before is gone."""
        self.number += 1
        home = self.folder / str(self.number)
        settings = replace(Settings.current(home), lake=home / "lake", kafka_servers=self.servers)
        config = compose.kafka(settings)
        if PRICES.name in topics.described(config):
            client = AdminClient(config)
            client.delete_topics([PRICES.name])[PRICES.name].result()
            while PRICES.name in topics.described(config):
                time.sleep(0.1)
        topics.ensure(config, [PRICES])
        assert set(compose.live_prices(settings).held().marks.values()) == {(0, 0)}
        return settings


def produce(settings: Settings, *arguments: str) -> int:
    """Replay as a user does; says how many ticks were acknowledged."""
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", "produce", "crypto", *arguments, "--json"],
        env=os.environ
        | {
            "TIDEMILL_HOME": str(settings.home),
            "TIDEMILL_KAFKA_SERVERS": settings.kafka_servers,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sent"] == told["acknowledged"]
    return int(told["sent"])


def consume(settings: Settings, batches: int) -> None:
    """Take all that the topic holds in so many runs, and make days and series after each."""
    prices, crypto = compose.live_prices(settings), compose.crypto(settings)
    held = prices.held()
    for number in range(1, batches + 1):
        spans = [
            Span(part, low + (high - low) * (number - 1) // batches, upto)
            for part, (low, high) in held.marks.items()
            if (upto := low + (high - low) * number // batches) > low
        ]
        prices.consume(held, spans)
        live = crypto.live()
        if live.dates:
            crypto.live_daily_ohlc(live.dates)
    crypto.merged_daily_ohlc(crypto.live().symbols)
    assert not [lag for lag in prices.lags(held) if lag.messages]


def rows(settings: Settings, table: Table, without: tuple[str, ...] = ()) -> Rows:
    relation = compose.lake(settings).snapshot(table).scan()
    names = ", ".join(f'"{col.name}"' for col in table.columns if col.name not in without)
    with duck.cursor() as con:
        return con.execute(f"select {names} from {relation} order by all").fetchall()


def tables(settings: Settings) -> dict[str, Rows]:
    return {
        c.LIVE_PRICES.name: rows(settings, c.LIVE_PRICES, OWN),
        c.LIVE_DAILY_OHLC.name: rows(settings, c.LIVE_DAILY_OHLC),
        c.MERGED_DAILY_OHLC.name: rows(settings, c.MERGED_DAILY_OHLC),
    }


def test_the_same_ticks_at_three_speeds_and_in_other_batches_give_the_same_tables(
    homes: Homes, candles: Path
) -> None:
    # The last minute of a day and the first of the next.
    span = ("--since", "2026-01-05T23:59", "--until", "2026-01-06T00:01")
    found = []
    for speed, batches in (("max", 1), ("60x", 3), ("8x", 7)):
        settings = homes.fresh()
        sent = produce(settings, str(candles), "--speed", speed, *span)
        assert sent == 2 * 4 * len(SYMBOLS)
        consume(settings, batches)
        found.append(tables(settings))
    assert found[0] == found[1] == found[2]
    assert len(found[0]["live_prices"]) == sent
    assert len(found[0]["live_daily_ohlc"]) == 2 * len(SYMBOLS)
    assert len(found[0]["merged_daily_ohlc"]) == 2 * len(SYMBOLS)


def test_real_time_gives_what_max_gives(homes: Homes, candles: Path) -> None:
    # The ticks of a pair are 20 s apart, so two of each take 20 s.
    span = ("--since", "2026-01-05T12:00", "--until", "2026-01-05T12:01")
    limit = ("--limit", str(2 * len(SYMBOLS)))
    found = []
    for speed, batches in (("max", 1), ("1x", 2)):
        settings = homes.fresh()
        assert produce(settings, str(candles), "--speed", speed, *span, *limit) == 8
        consume(settings, batches)
        found.append(tables(settings))
    assert found[0] == found[1]


def test_a_day_closes_by_the_time_of_its_ticks_once_its_grace_is_over(
    homes: Homes, candles: Path
) -> None:
    settings = homes.fresh()
    one = "2026-01-06T01:00"
    sent = produce(settings, str(candles), "--speed", "max", "--until", one)
    assert sent == len(SYMBOLS) * (MINUTES - 1) * 4
    consume(settings, 5)
    assert closed(settings) == {DAY: {False}, date(2026, 1, 6): {False}}
    assert produce(settings, str(candles), "--speed", "max", "--since", one) == 4 * len(SYMBOLS)
    consume(settings, 1)
    assert closed(settings) == {DAY: {True}, date(2026, 1, 6): {False}}


def closed(settings: Settings) -> dict[date, set[bool]]:
    """Whether the bars of each day are closed."""
    at = [column.name for column in c.LIVE_DAILY_OHLC.columns]
    found: dict[date, set[bool]] = {}
    for row in rows(settings, c.LIVE_DAILY_OHLC):
        found.setdefault(row[at.index("date")], set()).add(row[at.index("is_closed")])
    return found
