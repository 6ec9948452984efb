"""Claims about the checks of reports: what differs is told, whatever came since."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.events.reports.clicks import event
from tests.unit.events.reports.test_report_build import SOME, land, send
from tidemill.engines.duck import DuckEngine
from tidemill.events import contracts as c
from tidemill.events.reports import checks
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import INPUTS, Events
from tidemill.lake import origin
from tidemill.lake.compaction import compact
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.purge import purge
from tidemill.lake.store import Lake

OF_EVENTS = (
    r.BRAND_REPORT,
    r.CATEGORY_REPORT,
    r.FUNNEL,
    r.PROFILE_OVERALL,
    r.PROFILE_COLUMNS,
    r.PROFILE_NUMBERS,
    r.PROFILE_PRICES,
    r.PROFILE_VALUES,
)
OF_SESSIONS = (r.SESSIONS, c.VISITS, r.FUNNEL, r.COHORTS)


@pytest.fixture
def events(tmp_path: Path) -> Events:
    """Reports of a file and of the topic."""
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, *r.TABLES))
    made = Events(lake, DuckEngine(), tmp_path / "reports")
    land(made, SOME)
    send(made, SOME)
    made.all()
    return made


def put(events: Events, table: Table, rows: pl.DataFrame) -> None:
    """Put other rows in the place of a report's, whoever does such a thing."""
    events.lake.replace_frame(table, rows, events.partitions(table))


def tables(found: checks.Differences) -> set[str]:
    return {row["table"] for row in found}


def measures(found: checks.Differences, source: str) -> dict[str, tuple[float, float]]:
    return {r["measure"]: (r["expected"], r["found"]) for r in found if r["source"] == source}


@pytest.mark.parametrize("is_behind", [False, True])
def test_emptied_reports_are_told(events: Events, is_behind: bool) -> None:
    if is_behind:
        send(events, [event(500)], 200)
    for table in {*OF_EVENTS, *OF_SESSIONS}:
        put(events, table, events.read(table).clear())
    assert tables(checks.reports_add_up(events)) == {table.id for table in OF_EVENTS}
    assert tables(checks.sessions_add_up(events)) == {table.id for table in OF_SESSIONS}


def test_prices_of_many_decimals_add_up(events: Events) -> None:
    rows = [event(n, price=10.00003334, event_type="purchase") for n in range(200)]
    send(events, rows, 1000)
    events.all()
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []


@pytest.mark.parametrize("is_behind", [False, True])
def test_what_does_not_add_up_is_told_also_when_events_came_since(
    events: Events, is_behind: bool
) -> None:
    if is_behind:
        land(events, [event(500)], "g")
        send(events, [event(500)], 200)
    brands = events.read(r.BRAND_REPORT).filter(source="files")
    wrong = brands.with_columns(pl.col("views") + 1, pl.col("revenue") + 0.01)
    topic = events.read(r.BRAND_REPORT).filter(source="topic")
    put(events, r.BRAND_REPORT, pl.concat([wrong.head(1), topic]))
    found = checks.reports_add_up(events)
    assert tables(found) == {r.BRAND_REPORT.id}
    assert measures(found, "topic") == {}
    assert measures(found, "files") == {"events": (4, 3), "views": (1, 2), "revenue": (3.0, 3.01)}
    first = (pl.col("source") == "files") & (pl.col("views") > 0)
    lost = events.read(c.VISITS).with_columns(events=pl.col("events") - first.cast(pl.Int64))
    put(events, c.VISITS, lost)
    (told,) = checks.sessions_add_up(events)
    assert (told["table"], told["measure"]) == (c.VISITS.id, "events")
    assert told["expected"] == told["found"] + 1 == 3


def test_a_report_that_lags_is_held_against_what_it_was_made_from(events: Events) -> None:
    land(events, [event(500)], "g")
    land(events, [event(500, price=2.0)])
    send(events, [event(500)], 200)
    events.brand_report()
    send(events, [event(501)], 300)
    events.sessions()
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []
    put(events, r.BRAND_REPORT, events.read(r.BRAND_REPORT).clear())
    put(events, r.PROFILE_OVERALL, events.read(r.PROFILE_OVERALL).clear())
    lacking = {
        (row["table"], row["source"]): row["expected"]
        for row in checks.reports_add_up(events)
        if row["measure"] == "events"
    }
    brands, overall = r.BRAND_REPORT.id, r.PROFILE_OVERALL.id
    assert (lacking[brands, "files"], lacking[overall, "files"]) == (2, 4)
    assert (lacking[brands, "topic"], lacking[overall, "topic"]) == (5, 4)


def test_the_sessions_of_the_funnel_are_those_of_its_own_events(events: Events) -> None:
    send(events, [event(500, user_session="t")], 200)
    events.sessions()
    assert checks.sessions_add_up(events) == []
    sessions = pl.when(level="sessions").then(pl.col("carts") + 1).otherwise("carts")
    put(events, r.FUNNEL, events.read(r.FUNNEL).with_columns(carts=sessions))
    found = checks.sessions_add_up(events)
    assert measures(found, "topic") == {"sessions_with_carts": (1, 2)}
    assert checks.reports_add_up(events) == []


def test_sessions_that_add_up_but_are_other_sessions_are_told(events: Events) -> None:
    (one,) = events.read(r.SESSIONS).filter(source="files").to_dicts()
    halves: list[dict[str, Any]] = [
        one | {"events": 2, "purchases": 0},
        one | {"user_session": "t", "events": 1, "views": 0, "carts": 0, "revenue": 0.0},
    ]
    schema = events.read(r.SESSIONS).schema
    topic = events.read(r.SESSIONS).filter(source="topic")
    halves[0]["revenue"] = one["revenue"]
    put(events, r.SESSIONS, pl.concat([pl.DataFrame(halves, schema=schema), topic]))
    assert measures(checks.sessions_add_up(events), "files") == {"sessions": (1, 2)}


def test_cohorts_that_lost_a_user_or_a_week_are_told(events: Events) -> None:
    land(events, [event(0, user_id=7), event(8 * 86_400, user_id=7)], "g")
    events.cohorts()
    assert checks.sessions_add_up(events) == []
    rows = events.read(r.COHORTS)
    first = (pl.col("source") == "files") & (pl.col("week_number") == 0)
    put(
        events,
        r.COHORTS,
        rows.with_columns(pl.when(first).then(9).otherwise("users").alias("users")),
    )
    assert measures(checks.sessions_add_up(events), "files") == {"users": (2, 9)}
    put(events, r.COHORTS, rows.filter(pl.col("week_number") == 0))
    assert measures(checks.sessions_add_up(events), "files") == {"active": (3, 2)}


def minutes(first: int, *counts: int) -> list[dict[str, Any]]:
    """So many events in each minute, from the first on."""
    return [
        event(60 * (first + n) + k, product_id=1000 * n + k)
        for n, count in enumerate(counts)
        for k in range(count)
    ]


def test_anomalies_are_held_against_the_events_and_those_of_the_last_day_are_all_told(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, *r.TABLES))
    events = Events(lake, DuckEngine(), tmp_path / "reports")
    hour = [1] * 30 + [2, 1] * 15
    land(events, [*minutes(0, *hour, 50, 1), *minutes(3 * 1440, *hour, 0, 0, 60, 1, 1)])
    events.anomalies()
    rows = events.read(r.ANOMALIES).sort("window_start")
    assert rows["count"].to_list() == [50, 60]
    assert checks.anomalies_add_up(events) == []
    land(events, minutes(9 * 1440, 5), "later")
    assert checks.anomalies_add_up(events) == []

    def told(rows: pl.DataFrame) -> dict[str, tuple[float, float]]:
        put(events, r.ANOMALIES, rows)
        return measures(checks.anomalies_add_up(events), "files")

    is_first = pl.int_range(pl.len()) == 0
    for changed in (
        pl.col("count") + pl.when(is_first).then(5).otherwise(-5),
        pl.col("median") + 0.5,
        pl.col("mad") + 1,
        pl.col("history") - 1,
        pl.col("score") + 0.001,
    ):
        assert told(rows.with_columns(changed)) == {
            "right_minutes": (0, 2),
            "minutes": (1, 2),
        }
    twice = pl.concat([rows, rows.head(1)])
    assert told(twice) == {"right_minutes": (2, 3), "minutes": (2, 3)}
    assert told(rows.head(1)) == {"minutes": (2, 1)}
    assert told(rows.clear()) == {"minutes": (1, 0)}
    assert told(rows) == {}


def test_anomalies_among_a_thousand_types_of_events_are_looked_at(events: Events) -> None:
    found = [event(60 * (n % 1440), event_type=f"t{n}") for n in range(1000)]
    land(events, [*found, *minutes(1450, *[1] * 30, 50, 1)], "g")
    events.anomalies()
    assert events.read(r.ANOMALIES)["event_type"].to_list() == ["view"]
    assert checks.anomalies_add_up(events) == []


def test_of_a_report_whose_events_are_gone_it_is_told_until_it_is_made_again(
    events: Events,
) -> None:
    had = events.lake.snapshot(c.FILE_EVENTS).version
    land(events, SOME)
    purge(events.lake, c.FILE_EVENTS)
    found = checks.reports_add_up(events)
    assert tables(found) == {table.id for table in OF_EVENTS}
    for row in found:
        assert f"events.file_events version {had} and " in row["expected"]
        assert f"events.file_events version {had} is gone: vacuum" in row["found"]
        assert "run events" in row["found"]
    assert tables(checks.sessions_add_up(events)) == {table.id for table in OF_SESSIONS}
    events.all()
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []


def test_rows_that_do_not_say_what_they_were_made_from_are_told(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, *r.TABLES))
    events = Events(lake, DuckEngine(), tmp_path / "reports")
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []
    land(events, SOME)
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []  # never made
    events.brand_report()
    rows = events.read(r.BRAND_REPORT)
    lake.rollback(r.BRAND_REPORT, 0)
    assert checks.reports_add_up(events) == []  # as it was before
    put(events, r.BRAND_REPORT, rows)
    (told,) = checks.reports_add_up(events)
    assert told["found"].startswith("2 rows that do not say it")


def test_a_report_of_no_events_at_all_was_made_from_none(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", None, (*c.TABLES, *r.TABLES))
    events = Events(lake, DuckEngine(), tmp_path / "reports")
    events.funnel()
    assert origin.standing(lake, r.FUNNEL, INPUTS)[1] == (-1, -1)
    land(events, SOME)
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []
    level = {"source": "files", "level": "events", "views": 1, "carts": 0, "purchases": 0}
    put(events, r.FUNNEL, pl.DataFrame([level], schema=polars_schema(r.FUNNEL)))
    assert measures(checks.reports_add_up(events), "files") == {"views": (0, 1)}


def test_what_a_report_was_made_from_stays_with_its_rows(events: Events) -> None:
    lake = events.lake

    def versions() -> tuple[int, ...] | None:
        return origin.standing(lake, r.BRAND_REPORT, INPUTS)[1]

    then, at = versions(), lake.snapshot(r.BRAND_REPORT).version
    assert then == tuple(lake.snapshot(table).version for table in INPUTS)
    land(events, [event(500)], "g")
    compact(lake, c.RAW_EVENTS, ["event_time"])
    compact(lake, r.BRAND_REPORT, ["brand"])
    assert lake.snapshot(r.BRAND_REPORT).version == at + 1
    assert versions() == then
    assert checks.reports_add_up(events) == []
    events.brand_report()
    assert versions() == tuple(lake.snapshot(table).version for table in INPUTS) != then
    lake.rollback(r.BRAND_REPORT, at)
    assert versions() == then
    assert checks.reports_add_up(events) == []


def test_events_that_come_while_a_report_is_made_are_in_none_of_its_versions(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    write: Any = events.engine.write
    had = events.lake.snapshot(c.RAW_EVENTS).version

    def slow(*args: Any) -> Any:
        to = events.lake.reached(c.RAW_EVENTS, "t/0") or 0
        send(events, [event(500, brand="late"), event(86_400 * to, brand="late")], to + 1)
        return write(*args)

    monkeypatch.setattr(events.engine, "write", slow)
    events.brand_report()
    events.visits()
    assert events.lake.snapshot(c.RAW_EVENTS).version == had + 2
    assert "late" not in events.read(r.BRAND_REPORT)["brand"].to_list()
    assert origin.standing(events.lake, r.BRAND_REPORT, INPUTS)[1] == (1, had)
    assert checks.reports_add_up(events) == checks.sessions_add_up(events) == []
