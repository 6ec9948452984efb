"""Events as messages: a JSON object each, made in bulk by DuckDB, and what a last one tells."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidemill.errors import InputError
from tidemill.events.times import event_ms_sql
from tidemill.events.topics import FIELDS

if TYPE_CHECKING:
    import duckdb
    import polars as pl

KEYS = ("event_type", "user_id")
"""What messages may be keyed by."""

_CUT = 40


@dataclass(frozen=True)
class Messages:
    """Messages to be sent, in order.

    Attributes:
        times_ms: Times of their events, epoch ms.
        due_ms: When each is to go, ms, in order; only the distances count.
        keys: Their keys.
        bodies: Their JSON but for the closing brace: what is known when they go is added then.
        types: Their event types.
        faults: What is wrong with each, "" for nothing; None where nothing is.
        cycle: Which repetition of a file this is; None where it is not repeated.
        skipped: For each row that is no event, in order, how many of the messages are before it.
    """

    times_ms: list[int]
    due_ms: list[int]
    keys: list[bytes]
    bodies: list[bytes]
    types: list[str]
    faults: list[str] | None = None
    cycle: int | None = None
    skipped: Sequence[int] = ()

    def pairs(self, part: slice, now_ms: int) -> list[tuple[bytes | None, bytes]]:
        """Key and value of some, handed over now."""
        cycle = "" if self.cycle is None else f',"cycle":{self.cycle}'
        tail = f'{cycle},"produced_at":{now_ms}}}'.encode()
        bodies = [body + tail for body in self.bodies[part]]
        return list(zip(self.keys[part], bodies, strict=True))


def body_sql(*more: str) -> str:
    """SQL of an event's JSON, from a relation with the nine columns typed.

    Args:
        more: Names of further columns, which come last.
    """
    names = [*(column.name for column in FIELDS), *more]
    return f"to_json({{{', '.join(f'{name}: {name}' for name in names)}}})::varchar"


def texts(column: "pl.Series") -> list[bytes]:
    """Text as bytes."""
    import polars as pl

    return column.cast(pl.Binary).to_list()


def bodies(column: "pl.Series") -> list[bytes]:
    """JSON objects without their closing brace; DuckDB would count characters to cut it off."""
    return texts(column.str.strip_suffix("}"))


def simulated(
    con: "duckdb.DuckDBPyConnection", batches: "Iterable[pl.DataFrame]", key: str
) -> Iterator[Messages]:
    """A simulated clickstream as messages, with its faults.

    Args:
        con: Used by none but this while it runs.
        batches: As ``simulator.events`` gives them.
        key: One of ``KEYS``.
    """
    sql = f"""
        select *, {key}::varchar as key, case fault
            when 'cut off' then left({body_sql()}, {_CUT})
            when 'wrong type' then replace({body_sql()}, '"price":', '"price":"free","was":')
            else {body_sql()} end as body
        from batch
    """
    con.execute("set preserve_insertion_order = true")
    for batch in batches:
        con.register("batch", batch.to_arrow())
        made = con.sql(sql).pl()
        yield Messages(
            made["event_ms"].to_list(),
            made["sent_ms"].to_list(),
            texts(made["key"]),
            bodies(made["body"]),
            made["event_type"].to_list(),
            made["fault"].to_list() if (made["fault"] != "").any() else None,
        )


@dataclass(frozen=True, order=True)
class Mark:
    """A message of a file: those of its partition up to it were sent."""

    cycle: int
    n: int


def marks(topic: str, last: Mapping[int, bytes]) -> dict[int, Mark]:
    """Where each partition of a topic ends, by the last message's value.

    Raises:
        InputError: A partition ends with something that is no message of a file.
    """
    return {number: _mark(topic, number, value) for number, value in last.items()}


def _mark(topic: str, partition: int, value: bytes) -> Mark:
    try:
        told = json.loads(value)
        n, cycle = told["n"], told.get("cycle", 0)
    except (ValueError, TypeError, KeyError, AttributeError):
        n = cycle = None
    if not isinstance(n, int) or not isinstance(cycle, int):
        raise InputError(
            f"topic {topic}, partition {partition} ends with {value[:100]!r}, which is no event "
            "of a file; start it anew without --resume"
        )
    return Mark(cycle, n)


def newest_ms(con: "duckdb.DuckDBPyConnection", values: Iterable[bytes]) -> int | None:
    """The time of the newest event among messages, epoch ms; None where none tells one."""
    found = []
    for value in values:
        try:
            at = json.loads(value)["event_time"]
        except (ValueError, TypeError, KeyError):
            continue
        found.append(str(at))
    ((newest,),) = con.execute(
        f"select max({event_ms_sql('told')}) from (select unnest(?::varchar[]) as told)", [found]
    ).fetchall()
    return None if newest is None else int(newest)
