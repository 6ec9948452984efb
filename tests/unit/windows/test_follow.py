"""Windows follow their feed's table, whatever becomes of that meanwhile."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.windows.model import NOON_MS, Event
from tidemill import progress
from tidemill.engines.duck import DuckEngine
from tidemill.events import contracts as c
from tidemill.events.following import FOLLOWERS
from tidemill.events.live import FEED
from tidemill.kafka import ledger
from tidemill.kafka.feed import roll_forward
from tidemill.kafka.spans import Standing
from tidemill.lake import duck
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.files import Staged
from tidemill.lake.store import Lake
from tidemill.windows.follow import follow

TOPIC = FEED.topic.name
COUNTED = (c.EVENT_COUNTS, c.BRAND_METRICS)


def opened(folder: Path) -> Lake:
    return Lake(folder, None, c.TABLES)


def take(lake: Lake, start: int, stop: int) -> None:
    """Have the feed's table take the events of some offsets, a second apart."""
    schema = polars_schema(FEED.table)
    found = [Event(NOON_MS + 1000 * n, None, "view", "b", "a.b", 10) for n in range(start, stop)]
    events = [
        dict.fromkeys(schema) | event.row() | {"topic": TOPIC, "offset": n}
        for n, event in enumerate(found, start)
    ]
    for table in (FEED.table, FEED.dead, FEED.spans):
        lake.folder(table).mkdir(parents=True, exist_ok=True)
    with duck.cursor() as con:
        con.register("events", pl.DataFrame(events, schema=schema).to_arrow())
        files = ledger.write(lake, FEED.table, con, "from events")
    n = stop - start
    account = ledger.Account(0, start, stop, consumed=n, good=n, newest_ms=NOON_MS + 1000 * stop)
    closing = ledger.Closing(None, NOON_MS, {})
    held = Standing(TOPIC, "i", {0: (0, stop)})
    ledger.record(lake, FEED, held, [account], (), files, closing=closing)
    roll_forward(lake, FEED)


def counted(lake: Lake, table: Table) -> int:
    with duck.cursor() as con:
        [(n,)] = con.execute(
            f"select sum(event_count) from {lake.snapshot(table).scan()}"
        ).fetchall()
    return int(n)


def roll_back(lake: Lake) -> None:
    lake.rollback(FEED.table, lake.snapshot(FEED.table).version - 1)


def begin_again(lake: Lake) -> None:
    shutil.rmtree(lake.root)
    take(lake, 0, 5)


Meddle = Callable[[Lake], None]


class Meddled(DuckEngine):
    """Meddles when the second table's rows are written, and not yet committed."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        """Once."""
        super().__init__()
        self.meddle = meddle
        self.staged = 0

    def stage(self, *args: Any, **named: Any) -> Staged:
        made = super().stage(*args, **named)
        self.staged += 1
        if self.staged == 2:
            self.meddle()
        return made


@pytest.mark.parametrize("meddle", [roll_back, begin_again])
def test_a_feed_that_goes_back_between_two_tables_is_followed_again(
    meddle: Meddle, tmp_path: Path
) -> None:
    lake, made = opened(tmp_path / "lake"), list[str]()
    take(lake, 0, 10)
    follow(lake, FEED, FOLLOWERS, DuckEngine())
    take(lake, 10, 20)

    def heard(table: str, *told: Any) -> None:
        made.append(table)
        if len(made) == 1:
            meddle(opened(lake.root))

    with progress.heard_by(heard):
        follow(lake, FEED, FOLLOWERS, DuckEngine())
    assert made
    assert_all_are_counted_once(lake, meddle)


def test_a_feed_that_is_begun_again_while_a_table_is_written_is_followed_again(
    tmp_path: Path,
) -> None:
    lake = opened(tmp_path / "lake")
    take(lake, 0, 10)
    follow(lake, FEED, FOLLOWERS, DuckEngine())
    take(lake, 10, 20)
    engine = Meddled(lambda: begin_again(opened(lake.root)))
    follow(lake, FEED, FOLLOWERS, engine)
    assert engine.staged > 2
    assert_all_are_counted_once(lake, begin_again)


def assert_all_are_counted_once(lake: Lake, meddle: Meddle) -> None:
    """When the feed has all its rows again."""
    if meddle is begin_again:
        take(lake, 5, 20)
    roll_forward(lake, FEED)
    follow(lake, FEED, FOLLOWERS, DuckEngine())
    assert lake.snapshot(FEED.table).rows == 20
    assert [counted(lake, table) for table in COUNTED] == [20, 20]


def test_the_ledger_is_asked_once_for_all_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.windows import follow as module

    lake, asked = opened(tmp_path / "lake"), list[Sequence[Any]]()
    standing = module.standing

    def counting(*args: Any) -> Any:
        asked.append(args)
        return standing(*args)

    monkeypatch.setattr(module, "standing", counting)
    take(lake, 0, 10)
    assert len(follow(lake, FEED, FOLLOWERS, DuckEngine())) == len(FOLLOWERS)
    assert len(asked) == 1
