"""Windows are the same however their events come, and once final they stay."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.windows.model import (
    BASES,
    MODELS,
    NOON_MS,
    SPRING_MS,
    Event,
    brands,
    events,
    in_order,
    rates,
    stays,
)
from tidemill.engines.base import compiled
from tidemill.events import contracts as c
from tidemill.events.windows import BRAND_METRICS, EVENT_RATES
from tidemill.lake import duck
from tidemill.lake.contracts import Type, polars_schema
from tidemill.windows.declare import Windows
from tidemill.windows.fold import advanced, whole

Rows = list[tuple[Any, ...]]
KINDS = pytest.mark.parametrize("kind", MODELS)
LIGHT = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def columns(table: Any) -> dict[str, Type]:
    return {column.name: column.type for column in table.columns}


@lru_cache
def sql(fold: Callable[..., Any], windows: Windows) -> str:
    inputs = {"rows": columns(c.RAW_EVENTS), "closing": {"closed_ms": Type.BIGINT}}
    if fold is advanced:
        inputs = {"open_windows": columns(windows.table)} | inputs
    return compiled(partial(fold, windows), inputs, "duckdb")


def frame(found: Sequence[Event]) -> pl.DataFrame:
    schema = polars_schema(c.RAW_EVENTS)
    rows = [dict.fromkeys(schema) | event.row() for event in found]
    return pl.DataFrame([{name: r[name] for name in schema} for r in rows], schema=schema)


def fold(
    how: Callable[..., Any],
    windows: Windows,
    found: Sequence[Event],
    closed_ms: int | None,
    was: Rows = [],  # noqa: B006 (never changed)
) -> Rows:
    """The windows by ``whole``, or by ``advanced`` from those that were open."""
    with duck.cursor() as con:
        before = pl.DataFrame(was, schema=polars_schema(windows.table), orient="row")
        con.register("open_windows", before.to_arrow())
        con.register("rows", frame(found).to_arrow())
        closing = pl.DataFrame({"closed_ms": [closed_ms]}, schema={"closed_ms": pl.Int64})
        con.register("closing", closing.to_arrow())
        return in_order(con.execute(sql(how, windows)).fetchall())


def final_at(windows: Windows) -> int:
    return [column.name for column in windows.table.columns].index("is_final")


def parted(windows: Windows, rows: Rows) -> tuple[Rows, Rows]:
    """Those that are final, and those that are not."""
    at = final_at(windows)
    return [r for r in rows if r[at]], [r for r in rows if not r[at]]


@KINDS
@LIGHT
@given(data=st.data())
def test_windows_are_what_their_definition_says(kind: str, data: st.DataObject) -> None:
    windows, model = MODELS[kind]
    base = data.draw(BASES)
    found = data.draw(st.lists(events(base, None), max_size=40))
    closed = data.draw(st.one_of(st.none(), st.integers(-60_000, 60_000).map(base.__add__)))
    assert fold(whole, windows, found, closed) == model(found, closed)


@KINDS
@LIGHT
@given(data=st.data())
def test_any_pieces_in_any_order_give_the_windows_of_one_pass(
    kind: str, data: st.DataObject
) -> None:
    windows, _ = MODELS[kind]
    base = data.draw(BASES)
    found = data.draw(st.lists(events(base, None), max_size=30))
    mixed = data.draw(st.permutations(found))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(found)), max_size=4)))
    rows: Rows = []
    for start, stop in zip([0, *cuts], [*cuts, len(found)], strict=True):
        rows = fold(advanced, windows, mixed[start:stop], None, rows)
    assert rows == fold(whole, windows, found, None)


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[list[Event], int | None]]:
    """Events batch by batch, each with up to where it closes windows, and none behind that."""
    base, closed = draw(BASES), None
    made: list[tuple[list[Event], int | None]] = []
    for _ in range(draw(st.integers(1, 4))):
        found = draw(st.lists(events(base, closed), max_size=12))
        step = draw(st.one_of(st.none(), st.integers(0, 40).map(lambda n: 1_000 * n)))
        if step is not None:
            closed = (base - 50_000 if closed is None else closed) + step
        made.append((found, closed))
    return made


@KINDS
@LIGHT
@given(made=batches())
def test_a_final_window_stays_and_all_of_them_are_those_of_one_pass(
    kind: str, made: list[tuple[list[Event], int | None]]
) -> None:
    windows, model = MODELS[kind]
    final: Rows = []
    rows: Rows = []
    came: list[Event] = []
    for found, closed in made:
        came += found
        new, rows = parted(windows, fold(advanced, windows, found, closed, rows))
        final += new
        assert in_order(final + rows) == fold(whole, windows, came, closed)
        assert in_order(final + rows) == model(came, closed)


def event(at_ms: int, mark_ms: int | None = None, base: int = NOON_MS, **other: Any) -> Event:
    known: dict[str, Any] = {"kind": "view", "brand": "a", "category": None, "fixed": 100_000}
    mark = None if mark_ms is None else base + mark_ms
    return Event(base + at_ms, mark, **(known | other))


@pytest.fixture(params=[NOON_MS, SPRING_MS, 0, -86_400_000])
def base(request: pytest.FixtureRequest) -> Iterator[int]:
    yield request.param


def test_an_event_at_an_edge_is_in_the_window_that_begins_there(base: int) -> None:
    rows = fold(whole, BRAND_METRICS, [event(1_999, base=base), event(2_000, base=base)], None)
    assert rows == brands([event(1_999, base=base), event(2_000, base=base)], None)
    assert [row[4] for row in rows] == [1, 1]


@pytest.mark.parametrize(("mark_ms", "counted"), [(1_999, 1), (2_000, 0)])
def test_an_event_counts_until_the_watermark_reaches_the_end_of_its_window(
    mark_ms: int, counted: int, base: int
) -> None:
    assert len(fold(whole, BRAND_METRICS, [event(5, mark_ms, base)], None)) == counted


@pytest.mark.parametrize(("closed_ms", "final"), [(1_999, False), (2_000, True)])
def test_a_window_is_final_when_windows_are_closed_up_to_its_end(
    closed_ms: int, final: bool, base: int
) -> None:
    [row] = fold(whole, BRAND_METRICS, [event(5, None, base)], base + closed_ms)
    assert row[final_at(BRAND_METRICS)] is final


def test_a_late_event_counts_in_those_sliding_windows_that_are_open_still(base: int) -> None:
    late = [event(5, 20_000, base)]
    found = fold(whole, EVENT_RATES, late, None)
    assert found == rates(late, None)
    assert len(found) == 4  # of six: the two that end at 10 s and at 20 s are over


@pytest.mark.parametrize(("gap_ms", "sessions"), [(2_999, 1), (3_000, 2)])
def test_a_session_goes_on_for_less_than_its_gap(gap_ms: int, sessions: int, base: int) -> None:
    windows, _ = MODELS["session"]
    two = [event(0, base=base), event(gap_ms, base=base)]
    assert len(fold(whole, windows, two, None)) == sessions


def test_an_event_between_two_sessions_makes_one_of_them() -> None:
    windows, _ = MODELS["session"]
    apart = fold(whole, windows, [event(0), event(5_000)], None)
    assert len(apart) == 2
    joined = fold(advanced, windows, [event(2_500)], None, apart)
    assert joined == stays([event(0), event(2_500), event(5_000)], None)
    assert [row[3] for row in joined] == [3]


def test_a_session_that_may_still_join_another_one_is_not_final() -> None:
    windows, _ = MODELS["session"]
    for closed, final in ((5_999, False), (6_000, True)):
        [row] = fold(whole, windows, [event(0)], NOON_MS + closed)
        assert row[final_at(windows)] is final
