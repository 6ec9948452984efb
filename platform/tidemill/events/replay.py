"""A clickstream's files sent again: their rows in order, from where an earlier replay was."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import InputError
from tidemill.events.intake.accounts import nothing_good, some_bad
from tidemill.events.intake.layout import NAMES, TAKEN, layout
from tidemill.events.intake.rows import parse
from tidemill.events.messages import Mark, Messages, bodies, body_sql, texts
from tidemill.intake import source as sources
from tidemill.kafka.resume import partition_of

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_BATCH = 20_000
_NOTHING = Mark(0, -1)
_TIME_FORM = "%Y-%m-%d %H:%M:%S.%g UTC"


@dataclass(frozen=True)
class Source:
    """Files as they were read, in temporary tables.

    Attributes:
        sql: Their rows, one file after the other: ``n``, their place among all rows, from 0; the
            nine columns typed; ``event_ms``, NULL where the row is no event; ``is_good``.
        left_out: By file with rows that are no events, a line of how many and why.
    """

    sql: str
    left_out: tuple[str, ...]


def read(con: "duckdb.DuckDBPyConnection", paths: Sequence[Path]) -> Source:
    """Read files of events as ``ingest`` does, and judge their rows as it does.

    Args:
        con: In UTC; keeps the rows.
        paths: The files; of equal rows each is an event.

    Raises:
        InputError: A file cannot be used, or none of its rows can.
    """
    con.execute("set preserve_insertion_order = true")  # the number of a row is its place
    parts, left_out, before = [], [], 0
    for number, path in enumerate(paths):
        with sources.plain(path, TAKEN) as text:
            line = parse(con, text, layout(text.path, str(path)))
        ((size, good),) = con.execute(
            "select count(*), count(*) filter (reason is null) from parsed"
        ).fetchall()
        if not good:
            raise InputError(nothing_good(con, str(path), line))
        left_out.append(some_bad(con, str(path), line))
        con.execute(f"alter table parsed rename to parsed_{number}")
        parts.append(
            f"select rowid + {before} as n, {', '.join(NAMES)}, reason is null as is_good, "
            f"case when reason is null then event_ms end as event_ms from parsed_{number}"
        )
        before += size
    return Source(" union all ".join(parts), tuple(filter(None, left_out)))


@dataclass(frozen=True)
class Plan:
    """How to send files again.

    Attributes:
        key: One of ``messages.KEYS``.
        partitions: Of the topic.
        rate: Messages a second, evenly; None is by the times of the events.
        is_endless: Whether to start again at the end.
        restamp_ms: What the first event's time becomes, epoch ms, with the distances kept, and each
            round following the one before; None leaves times as they are.
        after: By partition, the mark that its messages must be behind.
    """

    key: str
    partitions: int
    rate: float | None = None
    is_endless: bool = False
    restamp_ms: int | None = None
    after: Mapping[int, Mark] = field(default_factory=dict)


class Replay:
    """Good rows of files as messages, with ``n``, their place in the files, from 0.

    Args:
        con: Used by none but this while batches are taken.
        source: The files.
        plan: How.
    """

    def __init__(self, con: "duckdb.DuckDBPyConnection", source: Source, plan: Plan) -> None:
        """The times of all rows are looked through once."""
        self._con = con
        self._plan = plan
        self._rows = f"({source.sql})"
        first, last, number = self._told("min(event_ms), max(event_ms), count(*)")
        self._round_ms: int = last - first + max(1, (last - first) // max(1, number - 1))
        self._begin = self._earliest()
        self._sent = 0
        self._latest_ms = 0

    def _told(self, what: str, where: str = "true") -> tuple[Any, ...]:
        sql = f"select {what} from {self._rows} where is_good and {where}"
        found = self._con.execute(sql).fetchall()  # a result half read would block the next
        return found[0] if found else ()

    def _earliest(self) -> Mark:
        """What lies before the first message that may have to be sent.

        A partition that none of the keys goes to holds nothing, and says nothing.
        """
        plan = self._plan
        if not plan.after:
            return _NOTHING
        (keys,) = self._told(f"list(distinct {plan.key}::varchar)")
        places = {partition_of(key.encode(), plan.partitions) for key in keys}
        return min(plan.after.get(place, _NOTHING) for place in places)

    def batches(self) -> Iterator[Messages]:
        """The messages, in the order of the rows."""
        begin, plan = self._begin, self._plan
        shift_ms = 0
        if plan.restamp_ms is not None:
            behind = f"n > {begin.n} order by n limit 1"
            first = self._told("event_ms", behind) or (plan.restamp_ms,)
            shift_ms = plan.restamp_ms - first[0]
        if plan.is_endless:
            for cycle in count(begin.cycle):
                later_ms = (cycle - begin.cycle) * self._round_ms
                yield from self._round(cycle, shift_ms, later_ms)
        elif begin.cycle == 0:
            yield from self._round(0, shift_ms, 0)

    def _round(self, cycle: int, shift_ms: int, later_ms: int) -> Iterator[Messages]:
        """All rows once, or those behind the mark.

        Args:
            cycle: Which round it is.
            shift_ms: Added to the times of events, if they are stamped anew.
            later_ms: By how much this round is later than the first that is sent.
        """
        import polars as pl

        after = self._begin.n if cycle == self._begin.cycle else _NOTHING.n
        for batch in self._con.sql(self._sql(shift_ms, later_ms, after)).to_arrow_reader(_BATCH):
            yield self._messages(pl.DataFrame(batch), cycle, later_ms)

    def _sql(self, shift_ms: int, later_ms: int, after: int) -> str:
        rows = f"(from {self._rows} where n > {after})"
        if self._plan.restamp_ms is not None:
            at_ms = f"event_ms + {shift_ms + later_ms}"
            text = f"strftime(make_timestamp(({at_ms}) * 1000), '{_TIME_FORM}')"
            rows = f"(select * replace ({at_ms} as event_ms, {text} as event_time) from {rows})"
        key = f"{self._plan.key}::varchar as key"
        return (
            f"select n, is_good, event_ms, event_type, {key}, {body_sql('n')} as body from {rows}"
        )

    def _messages(self, rows: "pl.DataFrame", cycle: int, later_ms: int) -> Messages:
        events = self._unsent(rows.filter("is_good"), cycle)
        plan, size = self._plan, events.height
        times = events["event_ms"]
        others = rows.filter(~rows["is_good"])
        if plan.rate is not None:
            due = [int(n * 1000 / plan.rate) for n in range(self._sent, self._sent + size)]
        elif size:
            ahead_ms = 0 if plan.restamp_ms is not None else later_ms
            due = (times + ahead_ms).cum_max().clip(lower_bound=self._latest_ms).to_list()
            self._latest_ms = due[-1]
        else:
            due = []
        self._sent += size
        return Messages(
            times.to_list(),
            due,
            texts(events["key"]),
            bodies(events["body"]),
            events["event_type"].to_list(),
            cycle=cycle if plan.is_endless else None,
            skipped=events["n"].search_sorted(others["n"]).to_list(),
        )

    def _unsent(self, rows: "pl.DataFrame", cycle: int) -> "pl.DataFrame":
        """Rows without those that their partition's mark says were sent."""
        import polars as pl

        after = self._plan.after
        if not after or not rows.height or Mark(cycle, rows["n"][0]) > max(after.values()):
            return rows
        places = {
            key: partition_of(key.encode(), self._plan.partitions) for key in rows["key"].unique()
        }
        is_unsent = [
            Mark(cycle, n) > after.get(places[key], _NOTHING)
            for n, key in zip(rows["n"], rows["key"], strict=True)
        ]
        return rows.filter(pl.Series(is_unsent))
