"""How rows become windows a piece at a time, and what the lake's rows fold to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from tidemill.kafka import ledger
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Standing
from tidemill.lake import duck, lease, stream
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Fold:
    """How rows of a feed's table become windows, a piece at a time.

    A part is what windows need to know of some rows; parts of the same ``key`` merge into one, so
    rows can be folded in any pieces with the same windows in the end.

    Attributes:
        table: The windows; ``date`` is one of its columns.
        key: The columns of a part that name it, ``date`` among them.
        parts: SQL (DuckDB) of the parts of a relation of the feed's rows, one row a key.
        merge: Parts, several a key, into one a key.
        windows: The table's rows from parts and the newest event of each partition: topic,
            topic_id, partition, newest_ms.
    """

    table: Table
    key: tuple[str, ...]
    parts: Callable[[str], str]
    merge: "Callable[[pl.DataFrame], pl.DataFrame]"
    windows: "Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]"

    def joined(self, old: "pl.DataFrame | None", new: "pl.DataFrame") -> "pl.DataFrame":
        """Parts, one a key, with others added; those that get nothing new are left as they are."""
        import polars as pl

        if old is None:
            return new
        keys = new.select(self.key)
        touched = old.join(keys, on=self.key, how="semi", nulls_equal=True)
        rest = old.join(keys, on=self.key, how="anti", nulls_equal=True)
        return pl.concat([rest, self.merge(pl.concat([touched, new]))])

    def added(
        self, old: "Mapping[date, pl.DataFrame]", new: "Mapping[date, pl.DataFrame]"
    ) -> "dict[date, pl.DataFrame]":
        """Parts by day with others added."""
        return {**old, **{day: self.joined(old.get(day), parts) for day, parts in new.items()}}


@dataclass(frozen=True)
class Base:
    """What the lake had at one version of a feed's table.

    Attributes:
        held: The topic, by whose id the offsets go.
        snapshot: The table's rows.
        reached: The next offset that the table wants, by partition.
        parts: Of the newest days, by day.
        files: Those that the parts were made from, by day.
        dates: Every day that has rows.
        newest: topic, topic_id, partition and newest_ms of each partition ever consumed: its
            newest event below the offset reached.
        closed_ms: Where windows are closed up to, epoch ms.
        keys: The message keys that are known.
        scanned: The files that the keys were taken from.
    """

    held: Standing
    snapshot: Snapshot
    reached: Mapping[int, int]
    parts: "Mapping[date, pl.DataFrame]"
    files: Mapping[date, frozenset[str]]
    dates: frozenset[date]
    newest: "pl.DataFrame"
    closed_ms: int | None = None
    keys: frozenset[str] = frozenset()
    scanned: frozenset[str] = field(default=frozenset(), repr=False)


def load(
    lake: Lake,
    feed: Feed,
    fold: Fold,
    days: int,
    held: Standing,
    known_keys: Iterable[str] = (),
    before: Base | None = None,
) -> Base:
    """Fold the lake's rows of the newest days; files that ``before`` had are not read again.

    Args:
        lake: Where the tables are.
        feed: What fills them.
        fold: What to make of their rows.
        days: How many of the newest UTC days that have rows.
        held: The topic.
        known_keys: Message keys that are known, besides those in the table.
        before: What was loaded last.
    """
    names = {held.app_id(partition): partition for partition in held.marks}
    snapshot, at = stream.standing(lake, feed.table, names)
    reached = {names[name]: offset for name, offset in at.items()}
    dates = frozenset(date.fromisoformat(day) for day in snapshot.values("date"))
    files: dict[date, frozenset[str]] = {}
    parts: dict[date, pl.DataFrame] = {}
    with lease.reading(lake.root, [(feed.table, snapshot.version)]):
        for day in shown(dates, days):
            within = snapshot.within([{"date": str(day)}])
            files[day] = frozenset(file.relative for file in within.files)
            had = before.files.get(day, frozenset()) if before is not None else frozenset()
            if before is not None and had and had <= files[day]:
                new = _folded(fold, _but(within, had))
                parts[day] = fold.added({day: before.parts[day]}, new)[day]
            else:
                parts |= _folded(fold, within)
        keys, scanned = _keys(feed, snapshot, before)
    return Base(
        held,
        snapshot,
        reached,
        parts,
        files,
        dates,
        _newest(lake, feed, held, reached),
        ledger.closed_ms(lake, feed, held),
        keys | frozenset(known_keys),
        scanned,
    )


def shown(dates: Iterable[date], days: int) -> list[date]:
    """The newest ``days`` of some dates, oldest first."""
    return sorted(dates)[-days:]


def by_day(parts: "pl.DataFrame") -> "dict[date, pl.DataFrame]":
    """Parts by their day."""
    return {key[0]: found for key, found in parts.partition_by("date", as_dict=True).items()}


def rows(con: Any, sql: str) -> "pl.DataFrame":
    """What a query of DuckDB gives."""
    import polars as pl

    return pl.DataFrame(con.sql(sql).to_arrow_table())


def _but(snapshot: Snapshot, had: frozenset[str]) -> Snapshot:
    return snapshot.only(lambda file: file.relative not in had)


def _folded(fold: Fold, snapshot: Snapshot) -> "dict[date, pl.DataFrame]":
    if not snapshot.files:
        return {}
    with duck.cursor() as con:
        return by_day(rows(con, fold.parts(snapshot.scan())))


def _keys(
    feed: Feed, snapshot: Snapshot, before: Base | None
) -> tuple[frozenset[str], frozenset[str]]:
    """The message keys in a table, where they are limited, and the files they were taken from."""
    if feed.max_keys is None:
        return frozenset(), frozenset()
    files = frozenset(file.relative for file in snapshot.files)
    has_grown = before is not None and before.scanned <= files
    keys, scanned = (before.keys, before.scanned) if before and has_grown else (frozenset(),) * 2
    with duck.cursor() as con:
        sql = f'select distinct "{feed.topic.key}" from {_but(snapshot, scanned).scan()}'
        found = con.execute(sql).fetchall()
    return keys | {name for (name,) in found}, files


def _newest(lake: Lake, feed: Feed, held: Standing, reached: Mapping[int, int]) -> "pl.DataFrame":
    """The newest event of each partition; of the topic's own, below the offsets reached.

    The ledger may be ahead of the rows: what it tells of later offsets is still in the tail.
    """
    own = f"topic = {text_literal(held.topic)} and topic_id = {text_literal(held.topic_id)}"
    ends = " ".join(f"when {partition} then {at}" for partition, at in reached.items())
    end = f'case "partition" {ends} else -1 end' if ends else "-1"
    with duck.cursor() as con:
        return rows(
            con,
            f"""
            select topic, topic_id, "partition", max(epoch_ms(newest_event_at)) as newest_ms
            from {lake.snapshot(feed.spans).scan()}
            where newest_event_at is not null and (not ({own}) or "stop" <= {end})
            group by all
            """,
        )
