"""Windows of events: Spark gives what DuckDB gives, to the last digit."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st

from tests.parity.drawn import drawn
from tests.parity.test_engines import by_duckdb, by_spark, in_order
from tests.unit.windows.model import NOON_MS, Event, events
from tidemill.engines.base import compiled
from tidemill.engines.spark import session, spark_sql
from tidemill.events import contracts as c
from tidemill.events.live import late_events
from tidemill.events.windows import LIVE, VISITS
from tidemill.lake.contracts import Table, Type, polars_schema
from tidemill.windows.declare import Windows
from tidemill.windows.fold import advanced, whole

pytestmark = pytest.mark.integration

CLOSING = {"closed_ms": Type.BIGINT}


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    running = session("local[2]")
    running.conf.set("spark.sql.shuffle.partitions", "2")
    yield running
    running.stop()


def of(table: Table) -> dict[str, Type]:
    return {column.name: column.type for column in table.columns}


def rows_of(windows: Windows) -> dict[str, Type]:
    """The columns of the events that these windows are made of."""
    return of(c.RAW_EVENTS) | ({"source": Type.STRING} if windows is VISITS else {})


def frame(found: list[Event], columns: Mapping[str, Type]) -> pl.DataFrame:
    schema = polars_schema(c.RAW_EVENTS) | ({"source": pl.String} if "source" in columns else {})
    filled = [
        dict.fromkeys(schema)
        | {"user_id": (None, 1, 2)[n % 3], "source": ("topic", "files")[n % 2]}
        | event.row()
        for n, event in enumerate(found)
    ]
    return pl.DataFrame([{name: r[name] for name in schema} for r in filled], schema=schema)


def both(
    transform: Callable[..., Any],
    inputs: Mapping[str, Mapping[str, Type]],
    frames: Mapping[str, pl.DataFrame],
    spark: Any,
    folder: Path,
) -> list[tuple[Any, ...]]:
    """The rows that both engines give."""
    duck = by_duckdb(compiled(transform, inputs, "duckdb"), frames)
    assert by_spark(spark_sql(transform, inputs), frames, spark, folder) == duck
    return duck


def pieces(base_ms: int) -> list[list[Event]]:
    """Two lists of events, of which some come in both."""
    lists = st.lists(events(base_ms, None), max_size=40)
    cases = drawn(st.tuples(lists, lists), 40)
    fixed = [Event(base_ms - 40_001 * n, None, "purchase", None, ".d", 10**7 + n) for n in range(4)]
    return [[*fixed, *(event for case in cases for event in case[n])] for n in range(2)]


@pytest.mark.parametrize("windows", [*LIVE, VISITS], ids=lambda w: w.table.name)
def test_both_engines_make_the_same_windows(windows: Windows, spark: Any, tmp_path: Path) -> None:
    columns = rows_of(windows)
    in_one = {"rows": columns, "closing": CLOSING}

    for base_ms in (NOON_MS, 0):
        first, second = pieces(base_ms)
        assert min(len(first), len(second)) > 50
        closing = pl.DataFrame({"closed_ms": [base_ms - 20_000]})
        frames = {"rows": frame(first, columns), "closing": closing}
        made = both(partial(whole, windows), in_one, frames, spark, tmp_path)
        had = pl.DataFrame(made, schema=polars_schema(windows.table), orient="row")
        frames |= {
            "rows": frame(second, columns),
            "open_windows": had.filter(~pl.col("is_final")),
        }
        more = {"open_windows": of(windows.table)} | in_one
        assert in_order(both(partial(advanced, windows), more, frames, spark, tmp_path))


def test_both_engines_tell_the_same_late_events(spark: Any, tmp_path: Path) -> None:
    inputs = {"raw_events": of(c.RAW_EVENTS)}
    late = [
        Event(base + at, base + at + 1 + 997 * n, "view", None, None, 1)
        for base in (NOON_MS, 0)
        for n, at in enumerate((-4_001, -2_000, -1, 0, 1_999))
    ]
    frames = {"raw_events": frame(late, of(c.RAW_EVENTS))}
    told = both(late_events, inputs, frames, spark, tmp_path)
    assert len(told) == len(late)
    is_counted = [column.name for column in c.LATE_EVENTS.columns].index("is_counted")
    assert {row[is_counted] for row in told} == {True, False}
