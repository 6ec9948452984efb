"""Reports in a lake: made from both ways in, whole, and held against the events."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.events.reports.clicks import START, event
from tidemill.engines.duck import DuckEngine
from tidemill.events import contracts as c
from tidemill.events.reports import charts, checks, exhibits
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.store import Lake

DAY = str(START.date())


@pytest.fixture
def events(tmp_path: Path) -> Events:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, *r.TABLES))
    return Events(lake, DuckEngine(), tmp_path / "reports")


def rows(table: Table, found: list[dict[str, Any]], **told: Any) -> pl.DataFrame:
    """Events as rows of a table, numbered, with what else it needs."""
    filled = [e | told | {"line": n, "offset": n} for n, e in enumerate(found, start=1)]
    for row in filled:
        row["date"] = row["event_timestamp"].date()
    schema = polars_schema(table)
    return pl.DataFrame([{name: row[name] for name in schema} for row in filled], schema=schema)


def land(events: Events, found: list[dict[str, Any]], file: str = "f") -> None:
    """Events of a file."""
    frame = rows(c.FILE_EVENTS, found, file_id=file, ingested_at=START)
    days = [{"file_id": file, "date": str(day)} for day in frame["date"].unique()]
    events.lake.replace_frame(c.FILE_EVENTS, frame, days)


def send(events: Events, found: list[dict[str, Any]], to: int = 100) -> None:
    """Events of the topic."""
    origin = {"topic": "t", "topic_id": "x", "partition": 0, "produced_at": START}
    other = {"is_late": False, "watermark": None, "cycle": None, "ingested_at": START}
    events.lake.append(c.RAW_EVENTS, rows(c.RAW_EVENTS, found, **origin, **other), "t/0", to)


SOME = [
    event(brand="a", price=3.0),
    event(60, brand="a", event_type="cart", price=3.0),
    event(90, brand="a", event_type="purchase", price=3.0),
    event(95, user_id=None, user_session=None, event_type="wish"),
]


def test_every_report_is_made_from_the_files_and_the_topic_and_adds_up(events: Events) -> None:
    land(events, SOME)
    send(events, [*SOME, event(100, brand="b")])
    made = {done.table for done in events.all()}
    assert made == {f"events.{name}" for name in events.makers()}
    for table in (*r.TABLES, c.VISITS):
        sources = set() if table is r.ANOMALIES else {"files", "topic"}
        assert set(events.read(table)["source"]) == sources, table.id
        assert events.lake.inspect(table, events.partitions(table), 3)[0] == {}
    assert checks.reports_add_up(events) == []
    assert checks.sessions_add_up(events) == []
    assert checks.anomalies_add_up(events) == []


def test_of_no_events_every_report_is_empty(events: Events) -> None:
    events.all()
    assert {events.read(table).height for table in (*r.TABLES, c.VISITS)} == {0}
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []
    assert not any(exhibits.charts(events, table) for table in r.TABLES)


def test_a_report_that_is_made_again_has_its_rows_once(events: Events) -> None:
    land(events, SOME)
    first, second = events.all(), events.all()
    assert [done.rows for done in first] == [done.rows for done in second]
    assert events.read(r.BRAND_REPORT)["events"].sum() == len(SOME)


def test_the_best_seller_comes_first_in_the_file(events: Events) -> None:
    land(events, [event(brand=str(n), event_type="purchase", price=n) for n in range(9)])
    events.brand_report()
    (file,) = events.lake.snapshot(r.BRAND_REPORT).files
    assert pl.read_parquet(file.path)["brand"].to_list() == [str(n) for n in range(8, -1, -1)]


def test_an_erased_user_is_in_no_session_and_no_visit_when_they_are_made_again(
    events: Events,
) -> None:
    land(events, SOME)
    land(events, [event(7, user_id=2, user_session="t")], "g")
    events.all()
    land(events, [event(7, user_id=None, user_session=None)], "g")
    events.all()
    assert events.read(r.SESSIONS)["user_session"].to_list() == ["s"]
    assert events.read(c.VISITS)["user_id"].to_list() == [1]
    assert events.read(r.BRAND_REPORT)["events"].sum() == len(SOME) + 1
    assert checks.sessions_add_up(events) == []


def test_visits_of_a_day_whose_events_are_gone_go_with_them(events: Events) -> None:
    land(events, [event(0)])
    land(events, [event(86_400)], "g")
    events.visits()
    assert events.read(c.VISITS).height == 2
    gone: list[dict[str, Any]] = []
    empty = rows(c.FILE_EVENTS, gone, file_id="g", ingested_at=START)
    parts = [{"file_id": "g", "date": str(date(2026, 3, 3))}]
    events.lake.replace_frame(c.FILE_EVENTS, empty, parts)
    events.visits()
    assert events.read(c.VISITS)["date"].to_list() == [START.date()]


def test_a_visit_that_becomes_final_is_there_once(events: Events) -> None:
    send(events, [event(0)])
    events.visits()
    assert events.read(c.VISITS)["is_final"].to_list() == [False]
    send(events, [event(7200, user_id=2)], 200)
    events.visits()
    assert sorted(events.read(c.VISITS).select("user_id", "is_final").rows()) == [
        (1, True),
        (2, False),
    ]


def test_a_file_that_lands_while_a_report_is_made_is_in_it(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(events, SOME)
    write: Any = events.engine.write
    late = [[event(500, brand="late")]]

    def slow(*args: Any) -> Any:
        *rest, still = args

        def asked() -> Any:
            if late:
                land(events, late.pop(), "g")
            return still()

        return write(*rest, asked)

    monkeypatch.setattr(events.engine, "write", slow)
    events.brand_report()
    assert "late" in events.read(r.BRAND_REPORT)["brand"].to_list()


def test_a_chart_is_drawn_for_each_source(events: Events) -> None:
    land(events, SOME)
    send(events, SOME)
    events.all()
    drawn = [title for table in r.TABLES for title in exhibits.charts(events, table)]
    kinds = ("top brands", "funnel", "retention", "events a second", "completeness", "price bands")
    assert drawn == [f"{kind} {source}" for kind in kinds for source in ("files", "topic")]


@pytest.mark.parametrize(
    ("span_s", "step"), [(0, 1), (600, 1), (601, 2), (7 * 86_400, 3600), (10**9, 20 * 86_400)]
)
def test_a_chart_of_rates_has_at_most_so_many_steps(span_s: int, step: int) -> None:
    assert exhibits.step_s(span_s) == step
    assert span_s <= step * exhibits.MOST_STEPS


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({5: 1}, (5, 5)),
        ({0: 1, 3: 1}, (0, 3)),
        ({0: 1, 100: 60, 101: 60}, (100, 101)),
        ({100: 60, 101: 60, 900_000: 1}, (100, 101)),
        ({-900: 1, 100: 60, 101: 60, 900: 1}, (100, 101)),
        ({0: 5, 100: 60, 101: 60}, (0, 101)),
        ({98: 1, 100: 60, 104: 60}, (98, 104)),
        (dict.fromkeys(range(400), 1), (0, 399)),
    ],
)
def test_a_chart_of_rates_shows_all_but_a_few_events_of_far_off(
    counts: dict[int, int], shown: tuple[int, int]
) -> None:
    minutes = pl.DataFrame({"minute": counts.keys(), "count": counts.values()})
    assert exhibits.span(minutes) == shown


def test_events_that_a_chart_of_rates_leaves_out_are_told(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[Any, ...]] = []

    def rates(*told: Any) -> bytes:
        said.append(told)
        return b""

    monkeypatch.setattr(charts, "rates", rates)
    land(events, [event(n, product_id=n) for n in range(200)])
    land(events, [event(-90 * 86_400), event(-80 * 86_400)], "g")
    exhibits.charts(events, r.ANOMALIES)
    [(counts, step_s, source, left_out)] = said
    assert (counts["count"].sum(), step_s, source, left_out) == (200, 1, "files", 2)
