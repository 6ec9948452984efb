"""The messages that the lake does not have yet, judged as ``consume`` will judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import compiled
from tidemill.kafka.decode import decode
from tidemill.kafka.feed import Feed
from tidemill.kafka.fold import Base, Fold, Slot, rows
from tidemill.kafka.judge import nothing
from tidemill.lake.contracts import text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Counts:
    """What became of the messages that the lake does not have.

    Attributes:
        read: All of them: taken + duplicate + dead.
        taken: Those that are in the windows' rows.
        duplicate: Those that tell an event again.
        dead: Those that cannot be used.
    """

    read: int = 0
    taken: int = 0
    duplicate: int = 0
    dead: int = 0


class Uncommitted:
    """Messages from the offsets that the lake has reached on, and the rows that they make.

    All are kept, without their raw bytes, until the lake has them: each new base judges what is
    left once more, so that nothing said too early lasts. DuckDB spills what is over its limit.

    Args:
        con: Its own; temporary tables are made in it.
        feed: What they fill.
        folds: What to make of the rows.
        base: What the lake has.
    """

    def __init__(
        self, con: "duckdb.DuckDBPyConnection", feed: Feed, folds: Sequence[Fold], base: Base
    ) -> None:
        """Begin with no message."""
        self.con = con
        self.feed = feed
        self.folds = folds
        self.base = base
        fields = ", ".join(f'"{column.name}"' for column in feed.topic.value)
        self._columns = f'"partition", "offset", produced_ms, error, event_ms, {fields}'
        decode(con, feed.topic, _none())
        con.execute(f"create or replace temp table kept as select {self._columns} from decoded")
        self._begin()

    def _begin(self) -> None:
        """Stand where the lake stands."""
        topic_id = self.base.held.topic_id
        self.newest: dict[int, int] = {
            row["partition"]: row["newest_ms"]
            for row in self.base.newest.iter_rows(named=True)
            if (row["topic"], row["topic_id"]) == (self.base.held.topic, topic_id)
        }
        # No event that the lake has is newer, so one that is cannot be there already.
        self._lake_ms: Any = self.base.newest.get_column("newest_ms").max()
        self._keys = set(self.base.keys)
        self.counts = Counts()
        none = self.base.snapshot.only(lambda _: False).scan()
        self.con.execute(f"create or replace temp table rows as select * from {none}")

    def prepare(self) -> None:
        """Compile what judges, which takes a second, before the first message waits for it."""
        self.take(_none())

    def rebase(self, base: Base) -> "list[dict[Slot, pl.DataFrame]]":
        """Stand on a newer base of the same topic.

        Returns:
            By fold, the parts by slot of all rows that it does not have.
        """
        self.base = base
        self._begin()
        reached = " ".join(f"when {partition} then {at}" for partition, at in base.reached.items())
        left = f""" where "offset" >= case "partition" {reached} else 0 end""" if reached else ""
        # Made anew, as DuckDB keeps the room of rows that are deleted.
        self.con.execute(f"create or replace temp table kept as select * from kept{left}")
        self.con.execute("create or replace temp table decoded as select * from kept")
        return self._judged()

    def take(self, messages: "pl.DataFrame") -> "list[dict[Slot, pl.DataFrame]]":
        """Add messages, each past those of its partition before it.

        Args:
            messages: As ``reader.chunks`` gives them.

        Returns:
            By fold, the parts by slot of their rows.
        """
        decode(self.con, self.feed.topic, messages)
        self.con.execute(f"insert into kept select {self._columns} from decoded")
        return self._judged()

    def _judged(self) -> "list[dict[Slot, pl.DataFrame]]":
        """Judge ``decoded`` and add its rows; the parts of them.

        Few statements, as DuckDB plans each for some milliseconds, and messages are few at a time.
        """
        self._refuse_new_keys()
        found = self.con.execute(
            'select "partition", count(*), count(event_ms), min(event_ms), max(event_ms) '
            "from (select * replace (case when error is null then event_ms end as event_ms) "
            "from decoded) group by 1"
        ).fetchall()
        read, good = sum(row[1] for row in found), sum(row[2] for row in found)
        spans = {row[0]: (row[3], row[4]) for row in found if row[2]}
        low = min((first for first, _ in spans.values()), default=0)
        high = max((last for _, last in spans.values()), default=0)
        self.con.execute(f"create or replace temp table new as {self._new(low, high)}")
        [(taken,)] = self.con.execute("insert into rows select * from new").fetchall()
        parts = [
            fold.by_slot(rows(self.con, fold.parts(self._lacking(layer.reached))))
            for fold, layer in zip(self.folds, self.base.layers, strict=True)
        ]
        for partition, (_, last) in spans.items():
            self.newest[partition] = max(last, self.newest.get(partition, last))
        c = self.counts
        self.counts = Counts(
            c.read + read, c.taken + taken, c.duplicate + good - taken, c.dead + read - good
        )
        return parts

    def _lacking(self, reached: Mapping[int, int]) -> str:
        """The new rows from where a layer stands, which may be further than the base."""
        if reached == self.base.reached:
            return "new"
        ends = " ".join(f"when {partition} then {at}" for partition, at in reached.items())
        return f"""(from new where "offset" >= case "partition" {ends} else 0 end)"""

    def _new(self, low: int, high: int) -> str:
        """SQL of the rows of ``decoded``, whose events are from ``low`` to ``high``, epoch ms."""
        held = self.base.held
        closed = "null" if self.base.closed_ms is None else self.base.closed_ms
        messages = (
            f"select {text_literal(held.topic)} as topic, {text_literal(held.topic_id)} as "
            f"topic_id, {self._columns}, 0::BIGINT as ingested_ms, {closed}::BIGINT as closed_ms "
            "from decoded where error is null"
        )
        inputs = self.feed.inputs()
        asked = {name: inputs[name] for name in ("messages", "present", "newest")}
        judged = compiled(self.feed.judged, asked, "duckdb")
        taken = compiled(self.feed.taken, {"judged": inputs["judged"]}, "duckdb")
        return (
            f"with messages as ({messages}), present as ({self._present(low, high)}), "
            f"newest as ({_values(self.newest)}), judged as ({judged}) "
            f"select * from rows where false union all by name select * from ({taken})"
        )

    def _present(self, low: int, high: int) -> str:
        """SQL of the rows from one event time to another that are in already; epoch ms."""
        if not self.feed.topic.event_key:
            return nothing(self.feed)
        found = f"select * from rows where event_time between epoch_ms({low}) and epoch_ms({high})"
        if self._lake_ms is None or low > self._lake_ms:
            return found
        first, last = (str(date(1970, 1, 1) + timedelta(ms // DAY_MS)) for ms in (low, high))
        within = self.base.snapshot.only(lambda file: first <= file.partition["date"] <= last)
        return (
            f"{found} union all by name select * from {within.scan()} "
            f"where event_time between epoch_ms({low}) and epoch_ms({high})"
        )

    def _refuse_new_keys(self) -> None:
        """Admit new message keys, in their order, as long as there is room."""
        if self.feed.max_keys is None:
            return
        key = f'"{self.feed.topic.key}"'
        come = self.con.execute(
            f"select {key} from decoded where error is null group by 1 "
            'order by min("partition"), min("offset")'
        ).fetchall()
        new = [name for (name,) in come if name not in self._keys]
        room = max(0, self.feed.max_keys - len(self._keys))
        self._keys |= set(new[:room])
        if new[room:]:
            self.con.execute(
                "update decoded set error = 'new key' where error is null "
                f"and {key} in (select unnest(?))",
                [new[room:]],
            )


def _values(newest: Mapping[int, int]) -> str:
    """SQL of partition and newest_ms."""
    if not newest:
        return 'select null::INTEGER as "partition", null::BIGINT as newest_ms where false'
    listed = ", ".join(f"({partition}, {ms})" for partition, ms in newest.items())
    return f'select * from (values {listed}) t("partition", newest_ms)'


def _none() -> "pl.DataFrame":
    import polars as pl

    types = {"partition": pl.Int32, "offset": pl.Int64, "produced_ms": pl.Int64}
    return pl.DataFrame(schema=types | {"key": pl.Binary, "value": pl.Binary})
