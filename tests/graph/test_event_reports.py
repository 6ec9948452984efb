"""The reports of events as assets: made in one run, with checks and charts."""

from pathlib import Path

import dagster as dg
import pytest

from assets import events_reports, report
from resources.home import EventsResource
from tests.unit.events.reports.clicks import event
from tests.unit.events.reports.test_report_build import SOME, land, send
from tidemill import compose
from tidemill.events import contracts as c
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.settings import Settings


@pytest.fixture
def events(tmp_path: Path) -> Events:
    opened = compose.events(Settings.current(tmp_path / "home"))
    land(opened, [*SOME, event(96, brand="<b>'\n|x|")])
    send(opened, SOME)
    return opened


def test_all_reports_are_made_in_one_run_and_their_checks_hold(
    events: Events, tmp_path: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [*events_reports.reports, *events_reports.report_checks],
            resources={"events": EventsResource(home=str(tmp_path / "home"))},
            instance=instance,
        )
    assert result.success
    found = result.get_asset_check_evaluations()
    assert all(check.passed for check in found)
    names = [check.check_name for check in found]
    assert names.count("keeps_contract") == len(r.TABLES) + 1
    assert {"reports_add_up", "sessions_add_up", "anomalies_add_up"} < set(names)
    made = {m.asset_key for m in result.asset_materializations_for_node("events__brand_report")}
    assert made == {report.key(r.BRAND_REPORT)}
    assert events.read(r.BRAND_REPORT)["events"].sum() == len(SOME) * 2 + 1


def test_a_report_shows_its_chart_and_no_personal_value(events: Events, tmp_path: Path) -> None:
    land(events, [event(user_id=987654321, user_session="someone-in-person")], "g")
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [events_reports.brand_report, events_reports.sessions, events_reports.visits],
            resources={"events": EventsResource(home=str(tmp_path / "home"))},
            instance=instance,
        )
    told = {
        m.asset_key: m.metadata
        for name in ("brand_report", "sessions", "visits")
        for m in result.asset_materializations_for_node(f"events__{name}")
    }
    assert {"top brands files", "top brands topic"} < set(told[report.key(r.BRAND_REPORT)])
    for table in (r.SESSIONS, c.VISITS):
        text = str(told[report.key(table)])
        assert "987654321" not in text
        assert "someone-in-person" not in text
