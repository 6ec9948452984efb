"""The trial of events: a simulated clickstream's file, its windows, and the topic of final ones."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accounts import Accounts, Sent, differences, lines, rows
from tidemill import compose
from tidemill.events import checks_live, checks_replay, live, simulator
from tidemill.events import contracts as c
from tidemill.events.following import FOLLOWERS, PUBLISHED, behind
from tidemill.events.shop import Shop
from tidemill.events.topics import ANALYTICS, EVENTS
from tidemill.kafka import audit, reader, spans
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Span, Standing
from tidemill.kafka.subscription import Subscription
from tidemill.lake import duck
from tidemill.lake.contracts import Table, text_literal
from tidemill.settings import Settings

FAULTS = simulator.Faults(late=0.02, duplicates=0.01)
BROKEN = 50
_TOLD = "event_time, event_type, product_id, price, user_id, user_session"


class Clicks:
    """A file of events replayed, some of them late, some equal to the one before."""

    feed: Feed = live.FEED
    followers: Sequence[Table] = tuple(follower.table for follower in FOLLOWERS)
    options: Sequence[str] = ("--key", "user_id")
    """So that every partition gets its share; three types need not go to three partitions."""

    def write(self, folder: Path, messages: int, rate: float, seed: int) -> Sent:
        """Events that happen from now on, at the rate of their sending."""
        path = folder / "events.csv"
        told = simulator.Clickstream(
            Shop(seed=seed),
            messages,
            rate,
            faults=FAULTS,
            key="user_id",
            partitions=EVENTS.partitions,
        )
        truth = simulator.simulate(path, told, time.time_ns() // 1_000_000)
        return Sent(path, truth.rows, truth.behind, BROKEN)

    def spoil(self, settings: Settings, sent: Sent, rng: random.Random) -> None:
        """Messages that are no JSON, or have no price; a run takes them behind all kills."""
        from confluent_kafka import Producer

        producer = Producer(compose.kafka(settings))
        for number in range(sent.dead):
            value = (b"<html>", b'{"event_type": "view"}', b"\xff\x00")[number % 3]
            producer.produce(EVENTS.name, value, partition=rng.randrange(EVENTS.partitions))
        if left := producer.flush(60):
            raise TimeoutError(f"{left} broken messages were not taken by the broker")

    def is_caught_up(self, settings: Settings) -> bool:
        """Whether all is in the lake, its windows too, and the final ones in their topic."""
        clicks = compose.clicks(settings)
        if any(lag.messages for lag in clicks.lags(clicks.held())) or behind(clicks):
            return False
        return _finals(clicks) == _published(clicks)

    def take(self, settings: Settings, sent: Sent, held: Standing | None = None) -> Accounts:
        """Compare broker, ledger, rows, file, windows and the topic of final ones."""
        clicks = compose.clicks(settings)
        now = clicks.held()
        held = held or now
        found = lines(clicks.lake.snapshot, clicks.feed, held)
        numbers, others = _events(clicks, now, sent.file)
        late = sum(line[4] for line in found)
        told: dict[str, Sequence[Any]] = {
            "ledger": audit.faults(clicks.lake, clicks.feed),
            "events and the file's own": others,
            "late": [] if late >= sent.late else [f"expected {sent.late} or more, found {late}"],
            "windows behind the rows": behind(clicks),
            "windows and events": checks_live.counts_every_event(clicks),
            "late events": checks_live.late_not_told(clicks),
            "windows and the topic read again": checks_replay.replay_differs(clicks),
            "published windows": checks_live.published_differs(clicks),
            "windows that are there twice": _twice(clicks),
            "final windows and messages": _not_published(clicks),
        }
        wrong = differences(found, sent, numbers, told)
        return Accounts(held, found, numbers | _told(clicks, late, sent), wrong)


def _events(
    clicks: Subscription, held: Standing, file: Path
) -> tuple[dict[str, int], list[tuple[Any, ...]]]:
    """Figures of the good events by offset and by number, and where the file tells others."""
    import polars as pl

    wanted = [Span(part, low, high) for part, (low, high) in held.marks.items() if low < high]
    had = clicks.lake.snapshot(c.RAW_EVENTS).scan()
    with duck.cursor() as con:
        con.register("held", pl.concat(reader.chunks(clicks.config, held.topic, wanted)).to_arrow())
        con.execute(
            """
            create temp table messages as
            select "partition", "offset", (told ->> 'n')::bigint as n
            from (select *, try(decode(value)::json) as told from held)
            where told ->> 'n' is not null
            """
        )
        con.execute(f"create temp table has as select * from {had}")
        numbers = con.execute(
            """
            select (select count(*) from messages), (select count(distinct n) from messages),
                   (select count(*) from has),
                   (select count(distinct (topic, topic_id, "partition", "offset")) from has),
                   (select count(distinct n) from has join messages using ("partition", "offset"))
            """
        ).fetchone()
        con.execute(
            f"create temp table want as select *, row_number() over () - 1 as n "
            f"from read_csv({text_literal(str(file))}, header = true, parallel = false, "
            "types = {'event_time': 'VARCHAR', 'user_session': 'VARCHAR', 'price': 'DOUBLE'})"
        )
        con.execute(
            """create temp table numbered as
               select * from has join messages using ("partition", "offset")"""
        )
        columns = f"n, {_TOLD}"
        others = con.execute(
            f"select 'missing', * from (select {columns} from want except all "
            f"select {columns} from numbered) union all select 'too many', * from "
            f"(select {columns} from numbered except all select {columns} from want)"
        ).fetchall()
    names = (
        "events on the topic",
        "count(distinct n) on the topic",
        "count(*)",
        "count(distinct (topic, partition, offset))",
        "count(distinct n), joined by offset",
    )
    return dict(zip(names, numbers or (0,) * len(names), strict=True)), others


def _twice(clicks: Subscription) -> list[tuple[Any, ...]]:
    """Keys that a table of windows has more than once."""
    found = []
    for table in c.WINDOWS:
        key = ", ".join(f'"{name}"' for name in table.key)
        scan = clicks.lake.snapshot(table).scan()
        found += rows(
            f"select {text_literal(table.name)}, {key}, count(*) from {scan} "
            "group by all having count(*) > 1"
        )
    return found


def _finals(clicks: Subscription) -> int:
    """Final windows of the tables that are published."""
    return sum(_count(clicks, windows.table, "is_final") for windows in PUBLISHED)


def _published(clicks: Subscription) -> int:
    """Messages in the topic of final windows."""
    marks = spans.standing(clicks.config, ANALYTICS.name).marks
    return sum(high - low for low, high in marks.values())


def _not_published(clicks: Subscription) -> list[str]:
    """The number of final windows, where the topic of them has another one."""
    sent, final = _published(clicks), _finals(clicks)
    return [] if sent == final else [f"expected {final}, found {sent}"]


def _count(clicks: Subscription, table: Table, where: str = "true") -> int:
    ((number,),) = rows(f"select count(*) from {clicks.lake.snapshot(table).scan()} where {where}")
    return int(number)


def _told(clicks: Subscription, late: int, sent: Sent) -> dict[str, int]:
    """Figures to be read, not compared."""
    told = {"late": late, "late by the order of the file": sent.late}
    told["late, counted in no window of 2 s"] = _count(clicks, c.LATE_EVENTS, "not is_counted")
    for table in c.WINDOWS:
        for name, where in (("final", "is_final"), ("provisional", "not is_final")):
            told[f"{table.name}, {name}"] = _count(clicks, table, where)
    return told | {"final windows published": _published(clicks)}
