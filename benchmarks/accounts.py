"""What the broker holds against what the lake has: the conservation table and its differences."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Standing
from tidemill.lake import duck
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.settings import Settings

COUNTS = ("consumed", "good", "late", "duplicate", "dead", "absent", "lost")
COLUMNS = ("partition", "broker", *COUNTS, "rows")


@dataclass(frozen=True)
class Sent:
    """What a trial sends.

    Attributes:
        file: What is replayed.
        messages: How many messages it gives, all of them good.
        late: How many of them come behind the watermark at least, in the order of the file.
        dead: Messages besides, that cannot be used.
    """

    file: Path
    messages: int
    late: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Accounts:
    """What was found.

    Attributes:
        held: What the broker held.
        lines: A row a partition: ``COLUMNS``, all but the first in messages.
        whole: Figures of all partitions, by name.
        differences: What does not agree, in words; empty where nothing is lost or doubled.
    """

    held: Standing
    lines: Sequence[tuple[int, ...]]
    whole: dict[str, int]
    differences: Sequence[str]


class Domain(Protocol):
    """A topic that a trial is made on."""

    @property
    def feed(self) -> Feed:
        """What takes it."""

    @property
    def followers(self) -> Sequence[Table]:
        """The tables that follow the feed's, in the order in which a run writes them."""

    @property
    def options(self) -> Sequence[str]:
        """How it is produced, besides the file, the rate and --resume."""

    def write(self, folder: Path, messages: int, rate: float, seed: int) -> Sent:
        """Write a file of at least so many messages, which happen so many a second."""

    def spoil(self, settings: Settings, sent: Sent, rng: random.Random) -> None:
        """Send what cannot be used, behind the file."""

    def is_caught_up(self, settings: Settings) -> bool:
        """Whether every message is in the lake, and in all that is made of it.

        Raises:
            TidemillError: The broker does not answer.
        """

    def take(self, settings: Settings, sent: Sent, held: Standing | None = None) -> Accounts:
        """Compare broker, ledger, rows and what is made of them.

        Args:
            settings: Of the home.
            sent: What was sent.
            held: What the broker holds; it is asked where none is given.
        """


def lines(
    snapshot: Callable[[Table], Snapshot], feed: Feed, held: Standing
) -> list[tuple[int, ...]]:
    """``COLUMNS`` of each partition."""
    ledger, had = snapshot(feed.spans).scan(), snapshot(feed.table).scan()
    sums = ", ".join(f"sum({name})::bigint as {name}" for name in COUNTS)
    mine = f"topic = {text_literal(held.topic)} and topic_id = {text_literal(held.topic_id)}"
    found = rows(
        f"""
        with ledger as (select "partition", {sums} from {ledger} where {mine} group by 1),
        had as (select "partition", count(*) as n from {had} where {mine} group by 1)
        select "partition", {", ".join(f"coalesce({name}, 0)" for name in COUNTS)}, coalesce(n, 0)
        from ledger full join had using ("partition")
        """
    )
    told = {row[0]: row[1:] for row in found}
    nothing = (0,) * (len(COUNTS) + 1)
    return [
        (part, high - low, *told.get(part, nothing))
        for part, (low, high) in sorted(held.marks.items())
    ]


def differences(
    found: Iterable[tuple[int, ...]],
    sent: Sent,
    whole: dict[str, int],
    told: dict[str, Sequence[Any]],
) -> list[str]:
    """What does not agree, in words.

    Args:
        found: ``COLUMNS`` of each partition.
        sent: What was sent.
        whole: Figures that should be the number of good messages, by name.
        told: What other checks found, by name.
    """
    wrong, dead = [], 0
    for line in found:
        at = dict(zip(COLUMNS, line, strict=True))
        dead += at["dead"]
        sums = {
            "consumed": at["consumed"],
            "good + late + dead": at["good"] + at["late"] + at["dead"],
            "rows + dead": at["rows"] + at["dead"],
        }
        wrong += [
            f"partition {at['partition']}: the broker holds {at['broker']}, {name} are {number}"
            for name, number in sums.items()
            if number != at["broker"]
        ]
    expected = dict.fromkeys(whole, sent.messages) | {"dead": sent.dead}
    wrong += [
        f"{name}: expected {expected[name]}, found {number}"
        for name, number in (whole | {"dead": dead}).items()
        if number != expected[name]
    ]
    return wrong + [f"{name}: {row}" for name, found_ in told.items() for row in found_]


def rows(sql: str) -> list[tuple[Any, ...]]:
    """Those of a query."""
    with duck.cursor() as con:
        return con.execute(sql).fetchall()
