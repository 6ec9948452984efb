"""A clickstream's files sent again: their rows in order, from where an earlier replay was."""

import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tidemill.errors import InputError
from tidemill.events.messages import Mark, Messages, bodies, body_sql, texts
from tidemill.events.times import event_ms_sql
from tidemill.events.topics import FIELDS, HIGHEST_PRICE
from tidemill.kafka.resume import partition_of
from tidemill.lake.contracts import Type, text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_BATCH = 20_000
_LONGEST = 1 << 20
_COMMAS = (",", ";", "\t", "|")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_NAMES = tuple(column.name for column in FIELDS)
_WHOLE = "'[+-]?[0-9]+'"
_NOTHING = Mark(0, -1)
_TIME_FORM = "%Y-%m-%d %H:%M:%S.%g UTC"


@dataclass(frozen=True)
class Source:
    """Files as DuckDB sees them.

    Attributes:
        relations: SQL of each file's rows in their order: the nine columns typed, NULL where they
            cannot be; ``event_ms``; ``is_usable``.
        shown: What messages call them.
    """

    relations: tuple[str, ...]
    shown: str


@contextmanager
def file_events(con: "duckdb.DuckDBPyConnection", paths: Sequence[Path]) -> Iterator[Source]:
    """Files of events: CSV, plain, in gzip or in zip, with the nine names as header or none.

    Args:
        con: In UTC; what could not be split into columns goes to its ``reject_errors``.
        paths: The files.

    Raises:
        InputError: A file is not there, or is not such a file.
    """
    con.execute("set preserve_insertion_order = true")
    with TemporaryDirectory(prefix="tidemill-replay-") as folder:
        relations = tuple(_relation(path, Path(folder)) for path in paths)
        yield Source(relations, ", ".join(str(path) for path in paths))


def _relation(path: Path, folder: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(len(_ZIP))
    plain = _unpacked(path, folder) if start == _ZIP else path
    is_gzip = start.startswith(_GZIP)
    line = _first_line(plain, is_gzip)
    comma = max(_COMMAS, key=line.count)
    names = [name.strip().lower() for name in next(csv.reader([line], delimiter=comma), [])]
    has_header = bool(set(_NAMES) & set(names))
    if not has_header and len(names) == len(_NAMES):
        names = list(_NAMES)
    if missing := [name for name in _NAMES if names.count(name) != 1]:
        raise InputError(
            f"{path}: expected the columns {', '.join(_NAMES)}, as a header or in that order "
            f"without one; {', '.join(missing)} is not there once"
        )
    columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in names)
    return _typed(
        f"read_csv({text_literal(str(plain))}, auto_detect = false, delim = '{comma}', "
        f"quote = '\"', escape = '\"', header = {has_header}, columns = {{{columns}}}, "
        f"compression = '{'gzip' if is_gzip else 'none'}', store_rejects = true)"
    )


def _first_line(path: Path, is_gzip: bool) -> str:
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            return file.readline(_LONGEST).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected CSV in UTF-8, as it is, in gzip or zip ({error})"
        ) from None


def _unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise InputError(f"{path}: expected one file in it, found {len(names)}")
        return Path(packed.extract(names[0], folder / path.name))


def _typed(rows: str) -> str:
    columns = []
    for column in FIELDS:
        value = column.name
        if column.type is Type.BIGINT:
            is_whole = f"regexp_full_match({value}, {_WHOLE})"
            value = f"case when {is_whole} then try_cast({value} as bigint) end"
        elif column.type is Type.DOUBLE:
            value = f"try_cast({value} as double)"
        columns.append(f"{value} as {column.name}")
    return f"""
        select * exclude (has_category), coalesce(
            event_ms is not null and event_type is not null and product_id is not null
            and price between 0 and {HIGHEST_PRICE} and user_id is not null
            and (category_id is not null or not has_category), false) as is_usable
        from (select {", ".join(columns)}, category_id is not null as has_category,
                     {event_ms_sql("event_time")} as event_ms from {rows})
    """


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
    """Rows of files as messages, with ``n``, their place in the files, from 0.

    Args:
        con: Used by none but this while batches are taken.
        source: The files.
        plan: How.

    Raises:
        InputError: No row can be used.
    """

    def __init__(self, con: "duckdb.DuckDBPyConnection", source: Source, plan: Plan) -> None:
        """All rows are looked through once."""
        self._con = con
        self._plan = plan
        rows = " union all ".join(f"({relation})" for relation in source.relations)
        self._rows = f"(select *, row_number() over () - 1 as n from ({rows}))"
        first, last, number = self._told("min(event_ms), max(event_ms), count(*)")
        if not number:
            raise InputError(f"{source.shown}: no row of it is an event that can be used")
        self._round_ms: int = last - first + max(1, (last - first) // max(1, number - 1))
        self._begin = self._earliest()
        self._sent = 0
        self._latest_ms = 0

    def _told(self, what: str, where: str = "true") -> tuple[Any, ...]:
        sql = f"select {what} from {self._rows} where is_usable and {where}"
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
        before = self._rejected()
        for batch in self._con.sql(self._sql(shift_ms, later_ms, after)).to_arrow_reader(_BATCH):
            yield self._messages(pl.DataFrame(batch), cycle, later_ms)
        yield Messages([], [], [], [], [], skipped=self._rejected() - before)

    def _sql(self, shift_ms: int, later_ms: int, after: int) -> str:
        rows = f"(from {self._rows} where n > {after})"
        if self._plan.restamp_ms is not None:
            at_ms = f"event_ms + {shift_ms + later_ms}"
            text = f"strftime(make_timestamp(({at_ms}) * 1000), '{_TIME_FORM}')"
            rows = f"(select * replace ({at_ms} as event_ms, {text} as event_time) from {rows})"
        key = f"{self._plan.key}::varchar as key"
        return f"select *, {key}, {body_sql('n')} as body from {rows}"

    def _messages(self, rows: "pl.DataFrame", cycle: int, later_ms: int) -> Messages:
        usable = self._unsent(rows.filter("is_usable"), cycle)
        plan, size = self._plan, usable.height
        times = usable["event_ms"]
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
            texts(usable["key"]),
            bodies(usable["body"]),
            usable["event_type"].to_list(),
            cycle=cycle if plan.is_endless else None,
            skipped=rows.height - int(rows["is_usable"].sum()),
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

    def _rejected(self) -> int:
        """Lines, so far, that could not be split into columns."""
        import duckdb

        try:
            ((number,),) = self._con.execute(
                "select count(distinct (scan_id, file_id, line)) from reject_errors"
            ).fetchall()
        except duckdb.CatalogException:  # no file was read yet
            return 0
        return int(number)
