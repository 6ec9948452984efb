"""Windows in the live tail: the lake's own, and the messages that it does not have."""

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import compiled
from tidemill.kafka.fold import Fold, rows
from tidemill.lake import duck
from tidemill.lake.contracts import Type, polars_schema
from tidemill.windows.declare import Session, Windows
from tidemill.windows.fold import merged, table_parts, table_rows, unit_parts

if TYPE_CHECKING:
    import polars as pl

    from tidemill.kafka.feed import Feed

SLOT_MS = 60_000


@lru_cache
def fold_of(windows: Windows, feed: "Feed") -> Fold:
    """How a feed's rows become these windows in the live tail.

    They are kept by the minute in which they start; sessions, which may begin in any, all together.
    """
    is_session = isinstance(windows.kind, Session)
    key = windows.keys if is_session else (*windows.keys, "start_ms")
    return Fold(
        table=windows.table,
        key=(*key, "slot"),
        parts=partial(_parts, windows, feed),
        merge=partial(_merged, windows),
        windows=partial(_windows, windows),
        slot="slot",
        again=partial(_again, windows),
    )


def _slotted(windows: Windows, sql: str) -> str:
    slot = "0" if isinstance(windows.kind, Session) else f"start_ms // {SLOT_MS}"
    # A sum is a HUGEINT to DuckDB, which Ibis does not know.
    typed = (
        f'"{name}"::{type_.value} as "{name}"' for name, type_ in windows.part_columns().items()
    )
    return f"select {', '.join(typed)}, {slot}::BIGINT as slot from ({sql})"


def _parts(windows: Windows, feed: "Feed", relation: str) -> str:
    columns = {column.name: column.type for column in feed.table.columns}
    sql = compiled(_unit_parts(windows), {"events": columns}, "duckdb")
    return _slotted(windows, f"with events as (from {relation}) from ({sql})")


def _again(windows: Windows, relation: str) -> str:
    columns = {column.name: column.type for column in windows.table.columns}
    sql = compiled(_table_parts(windows), {"told": columns}, "duckdb")
    return _slotted(windows, f"with told as (from {relation}) from ({sql})")


@lru_cache
def _unit_parts(windows: Windows) -> Any:
    return lambda events: merged(windows, unit_parts(windows, events))


@lru_cache
def _table_parts(windows: Windows) -> Any:
    return lambda told: table_parts(windows, told)


@lru_cache
def _merging(windows: Windows) -> Any:
    return lambda parts: merged(windows, parts)


@lru_cache
def _table_rows(windows: Windows) -> Any:
    return lambda parts, closing: table_rows(windows, parts, closing)


def _merged(windows: Windows, parts: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    if not isinstance(windows.kind, Session):
        sums = [pl.col(name).sum() for name in windows.sums]
        by = [*windows.keys, "start_ms", "end_ms", "slot"]
        return parts.group_by(by).agg(sums).select(parts.columns)
    sql = compiled(_merging(windows), {"parts": windows.part_columns()}, "duckdb")
    with duck.cursor() as con:
        con.register("parts", parts.to_arrow())
        found = rows(con, _slotted(windows, sql))
    return found.select(parts.columns)


def _windows(
    windows: Windows, parts: "pl.DataFrame", newest: "pl.DataFrame", closed_ms: int | None
) -> "pl.DataFrame":
    import polars as pl

    inputs = {"parts": windows.part_columns(), "closing": {"closed_ms": Type.BIGINT}}
    sql = compiled(_table_rows(windows), inputs, "duckdb")
    with duck.cursor() as con:
        con.register("parts", parts.to_arrow())
        closed = "null" if closed_ms is None else str(closed_ms)
        closing = f"select {closed}::bigint as closed_ms"
        found = rows(con, f"with closing as ({closing}) from ({sql})")
    return found.cast(pl.Schema(polars_schema(windows.table)))
