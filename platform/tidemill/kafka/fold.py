"""How rows become windows a piece at a time, and what the lake's rows fold to."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidemill.kafka import ledger
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Standing
from tidemill.lake import duck, lease, stream
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import File, Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import polars as pl

# Of the copy that ``rows`` makes: for the few rows of a window it costs less than a second plan.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

Slot = Any
"""A stretch of event time by which parts are kept: a date, or the number of a minute."""


@dataclass(frozen=True, eq=False)
class Fold:
    """How rows of a feed's table become windows, a piece at a time.

    A part is what windows need to know of some rows; parts of the same ``key`` merge into one, so
    rows can be folded in any pieces with the same windows in the end.

    Attributes:
        table: The windows.
        key: The columns of a part that name it, ``slot`` among them.
        parts: SQL (DuckDB) of the parts of a relation of the feed's rows.
        merge: Parts, several a key, into one a key.
        windows: The table's rows from parts, the newest event of each partition (topic, topic_id,
            partition, newest_ms), and up to where windows are closed (epoch ms).
        slot: The column of parts by which they are kept; the newest ones are shown.
        again: SQL of the parts of the table's own rows, where the lake has the windows; empty where
            they are to be folded from the feed's rows, by their ``date``.
    """

    table: Table
    key: tuple[str, ...]
    parts: Callable[[str], str]
    merge: "Callable[[pl.DataFrame], pl.DataFrame]"
    windows: "Callable[[pl.DataFrame, pl.DataFrame, int | None], pl.DataFrame]"
    slot: str = "date"
    again: Callable[[str], str] | None = None

    def joined(self, old: "pl.DataFrame | None", new: "pl.DataFrame") -> "pl.DataFrame":
        """Parts, one a key, with others added; those that get nothing new are left as they are."""
        import polars as pl

        if old is None:
            return new
        keys = new.select(self.key)
        touched = old.join(keys, on=self.key, how="semi", nulls_equal=True)
        rest = old.join(keys, on=self.key, how="anti", nulls_equal=True)
        return pl.concat([rest, self.merge(pl.concat([touched, new]))])

    def added(self, old: "Mapping[Slot, pl.DataFrame]", new: "Mapping[Slot, pl.DataFrame]") -> Any:
        """Parts by slot with others added."""
        return {**old, **{at: self.joined(old.get(at), parts) for at, parts in new.items()}}

    def by_slot(self, parts: "pl.DataFrame") -> "dict[Slot, pl.DataFrame]":
        """Parts by their slot."""
        found = parts.partition_by(self.slot, as_dict=True)
        return {key[0]: frame for key, frame in found.items()}


@dataclass(frozen=True)
class Layer:
    """What the lake had for one fold.

    Attributes:
        reached: The next offset that it wants, by partition.
        parts: Of the newest slots, by slot.
        slots: Every slot that has rows, as far as is known.
        files: Those that ``settled`` was made from, by slot; under None where slots share them.
        settled: Parts that need not be read again as long as ``files`` are there.
        state: Of the table that it was read from.
    """

    reached: Mapping[int, int]
    parts: "Mapping[Slot, pl.DataFrame]"
    slots: frozenset[Slot]
    files: Mapping[Slot, frozenset[str]]
    settled: "Mapping[Slot, pl.DataFrame]"
    state: Snapshot


@dataclass(frozen=True)
class Base:
    """What the lake had at one moment.

    Attributes:
        held: The topic, by whose id the offsets go.
        snapshot: The feed's rows.
        layers: By fold.
        newest: topic, topic_id, partition and newest_ms of each partition ever consumed: its
            newest event below the offset reached.
        closed_ms: Up to where windows are closed, epoch ms.
        keys: The message keys that are known.
        scanned: The files that the keys were taken from.
    """

    held: Standing
    snapshot: Snapshot
    layers: tuple[Layer, ...]
    newest: "pl.DataFrame"
    closed_ms: int | None = None
    keys: frozenset[str] = frozenset()
    scanned: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def reached(self) -> dict[int, int]:
        """The next offset that some layer wants, by partition."""
        return common([layer.reached for layer in self.layers])


def common(reached: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """The least offset of each partition; none of one that some have not reached at all."""
    return {p: min(at[p] for at in reached) for p in reached[0] if all(p in at for at in reached)}


def states(lake: Lake, folds: Sequence[Fold], feed: Feed) -> list[Snapshot]:
    """The tables that these folds are read from, as they are now."""
    return [lake.snapshot(fold.table if fold.again else feed.table) for fold in folds]


def load(
    lake: Lake,
    feed: Feed,
    folds: Sequence[Fold],
    slots: int,
    held: Standing,
    known_keys: Iterable[str] = (),
    before: Base | None = None,
) -> Base:
    """Fold what the lake has of the newest slots; files that ``before`` had are not read again.

    Args:
        lake: Where the tables are.
        feed: What fills them.
        folds: What to make of their rows.
        slots: How many of the newest slots that have rows.
        held: The topic.
        known_keys: Message keys that are known, besides those in the table.
        before: What was loaded last.
    """
    layers = []
    for n, fold in enumerate(folds):
        make = _folded_again if fold.again else _folded_rows
        layers.append(make(lake, feed, fold, slots, held, before.layers[n] if before else None))
    snapshot = lake.snapshot(feed.table)
    at = common([layer.reached for layer in layers])
    seen = {(held.topic_id, partition): at.get(partition, -1) for partition in held.marks}
    with lease.reading(lake.root, [(feed.table, snapshot.version)]):
        keys, scanned = _keys(feed, snapshot, before)
    return Base(
        held,
        snapshot,
        tuple(layers),
        _newest(lake, feed, held, at),
        ledger.closed_ms(lake, feed, held.topic, seen),
        keys | frozenset(known_keys),
        scanned,
    )


def shown(slots: Iterable[Slot], many: int) -> list[Slot]:
    """The newest ``many`` of some slots, oldest first."""
    return sorted(slots)[-many:]


def rows(con: Any, sql: str) -> "pl.DataFrame":
    """What a query of DuckDB gives; it is planned once, where a relation is planned twice."""
    import polars as pl

    return pl.DataFrame(con.execute(sql).to_arrow_table())


def _standing(lake: Lake, table: Table, held: Standing) -> tuple[Snapshot, dict[int, int]]:
    """A table's rows, and the next offset of the topic that it wants, by partition."""
    names = {held.app_id(partition): partition for partition in held.marks}
    snapshot, at = stream.standing(lake, table, names)
    return snapshot, {names[name]: offset for name, offset in at.items()}


def _folded_rows(
    lake: Lake, feed: Feed, fold: Fold, slots: int, held: Standing, before: Layer | None
) -> Layer:
    """The newest days, folded from the feed's rows."""
    from datetime import date

    snapshot, reached = _standing(lake, feed.table, held)
    dates = frozenset(date.fromisoformat(day) for day in snapshot.values("date"))
    files: dict[Slot, frozenset[str]] = {}
    parts: dict[Slot, pl.DataFrame] = {}
    with lease.reading(lake.root, [(feed.table, snapshot.version)]):
        for day in shown(dates, slots):
            within = snapshot.within([{"date": str(day)}])
            files[day] = _names(within)
            had = before.files.get(day, frozenset()) if before is not None else frozenset()
            if before is not None and had and had <= files[day]:
                new = _folded(fold, fold.parts, _but(within, had))
                parts[day] = fold.added({day: before.parts[day]}, new)[day]
            else:
                parts |= _folded(fold, fold.parts, within)
    return Layer(reached, parts, dates, files, parts, snapshot)


def _folded_again(
    lake: Lake, feed: Feed, fold: Fold, slots: int, held: Standing, before: Layer | None
) -> Layer:
    """The newest windows, from their own table; final ones are read once."""
    assert fold.again is not None
    snapshot, reached = _standing(lake, fold.table, held)
    dates = shown(snapshot.values("date"), 2)  # the newest slots may be on both sides of midnight

    def is_settled(file: File) -> bool:
        return file.partition["is_final"] == "true" and file.partition["date"] in dates

    settled = snapshot.only(is_settled)
    had = before.files[None] if before is not None else frozenset()
    kept: dict[Slot, pl.DataFrame] = {}
    with lease.reading(lake.root, [(fold.table, snapshot.version)]):
        if before is not None and had <= _names(settled):
            new = _folded(fold, fold.again, _but(settled, had))
            kept = fold.added(before.settled, new)
        else:
            kept = _folded(fold, fold.again, settled)
        kept = {at: kept[at] for at in shown(kept, slots)}
        provisional = snapshot.only(lambda file: file.partition["is_final"] == "false")
        parts = fold.added(kept, _folded(fold, fold.again, provisional))
    newest = {at: parts[at] for at in shown(parts, slots)}
    files = {None: _names(settled)}
    return Layer(reached, newest, frozenset(newest), files, kept, snapshot)


def _names(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(file.relative for file in snapshot.files)


def _but(snapshot: Snapshot, had: frozenset[str]) -> Snapshot:
    return snapshot.only(lambda file: file.relative not in had)


def _folded(fold: Fold, sql: Callable[[str], str], snapshot: Snapshot) -> Any:
    if not snapshot.files:
        return {}
    with duck.cursor() as con:
        return fold.by_slot(rows(con, sql(snapshot.scan())))


def _keys(
    feed: Feed, snapshot: Snapshot, before: Base | None
) -> tuple[frozenset[str], frozenset[str]]:
    """The message keys in a table, where they are limited, and the files they were taken from."""
    if feed.max_keys is None:
        return frozenset(), frozenset()
    files = _names(snapshot)
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
