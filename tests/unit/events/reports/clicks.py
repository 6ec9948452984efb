"""Events for the tests of the reports: few columns told, the others filled in."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from tidemill.engines.base import compiled
from tidemill.engines.duck import connection
from tidemill.events import contracts as c
from tidemill.lake.checks import violations
from tidemill.lake.contracts import Table, Type, polars_schema

START = datetime(2026, 3, 2, 12)
"""A Monday's noon."""
COLUMNS: dict[str, Type] = {x.name: x.type for x in (*c.EVENT, c.SOURCE)}
DEFAULTS: dict[str, Any] = {
    "event_type": "view",
    "product_id": 1,
    "category_id": None,
    "category_code": None,
    "brand": None,
    "price": 1.0,
    "user_id": 1,
    "user_session": "s",
    "source": "files",
}


def event(at_s: float = 0, **told: Any) -> dict[str, Any]:
    """An event so many seconds after ``START``."""
    at = START + timedelta(seconds=at_s)
    return {"event_time": str(at), "event_timestamp": at} | DEFAULTS | told


def frame(events: list[dict[str, Any]]) -> pl.DataFrame:
    """The union of all events, as a transform gets it."""
    types = polars_schema(c.FILE_EVENTS)
    return pl.DataFrame(events, schema={name: types[name] for name in COLUMNS})


def made(
    table: Table, transform: Callable[[Any], Any], events: list[dict[str, Any]] | pl.DataFrame
) -> list[dict[str, Any]]:
    """A transform's rows by key, held to the contract of ``table``."""
    rows = events if isinstance(events, pl.DataFrame) else frame(events)
    return run(table, transform, {"events": (COLUMNS, rows)})


def run(
    table: Table,
    transform: Callable[..., Any],
    inputs: Mapping[str, tuple[Mapping[str, Type], pl.DataFrame]],
) -> list[dict[str, Any]]:
    """``made`` of any inputs: columns and frame by name."""
    with connection() as con:
        for name, (_, rows) in inputs.items():
            con.register(name, rows.to_arrow())
        sql = compiled(
            transform, {name: columns for name, (columns, _) in inputs.items()}, "duckdb"
        )
        chosen = ", ".join(f'"{x.name}"::{x.type.value} as "{x.name}"' for x in table.columns)
        con.execute(f"create table made as select {chosen} from ({sql})")
        assert violations(table, con, "made") == {}
        order = ", ".join(f'"{name}"' for name in table.key)
        found = con.execute(f"from made order by {order}")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
