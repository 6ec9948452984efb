"""Events from a real broker become assets: the sensor asks, runs make windows and reports."""

import os
from collections.abc import Iterator

import dagster as dg
import pytest
from confluent_kafka import Producer

from assets import events_live, events_reports
from resources.home import ClicksResource, EventsResource
from sensors import reports, upkeep
from sensors.topics import new_events
from tests.integration.shop import NOON_MS, click
from tidemill import compose
from tidemill.commands import broker as command
from tidemill.commands import status as status_command
from tidemill.commands import stream as stream_command
from tidemill.events import contracts as c
from tidemill.events.following import behind
from tidemill.events.topics import EVENTS
from tidemill.lake import duck
from tidemill.processes import free_port
from tidemill.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("live")
    names = {"TIDEMILL_HOME": str(home), "TIDEMILL_KAFKA_PORT": str(free_port())}
    names |= {"TIDEMILL_BATCH_ROWS": "3", "TIDEMILL_BATCH_AGE_S": "1"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        settings = Settings.current()
        command.ensure(settings)
        yield settings
    finally:
        compose.broker(Settings.current()).stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def send(settings: Settings, *values: bytes) -> None:
    producer = Producer(compose.kafka(settings) | {"acks": "all"})
    for n, value in enumerate(values):  # windows wait for every partition
        producer.produce(EVENTS.name, value, partition=n % EVENTS.partitions)
    assert producer.flush(30) == 0


def resources(settings: Settings) -> dict[str, object]:
    home = str(settings.home)
    return {"clicks": ClicksResource(home=home), "events": EventsResource(home=home)}


def asked(instance: dg.DagsterInstance, settings: Settings, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"clicks": compose.clicks(settings)}
    )
    result = new_events(context)
    assert isinstance(result, dg.SensorResult)
    return result


def counted(settings: Settings) -> list[tuple[str, int]]:
    with duck.cursor() as con:
        windows = compose.lake(settings).snapshot(c.EVENT_COUNTS).scan()
        found = con.execute(
            f"select event_type, sum(event_count)::bigint from {windows} group by 1 order by 1"
        )
        return found.fetchall()


def test_events_are_asked_for_once_and_their_windows_and_reports_follow(
    settings: Settings,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = asked(instance, settings, None)
        assert not first.run_requests
        send(settings, *(click(NOON_MS + 3000 * n, ("view", "cart")[n % 2]) for n in range(10)))
        send(settings, b"no event", click(NOON_MS, user_id="x"))
        second = asked(instance, settings, first.cursor)
        (request,) = second.run_requests or []
        done = dg.materialize(
            [
                events_live.raw_events,
                events_live.event_windows,
                events_live.ecommerce_analytics,
                *events_live.checks,
            ],
            instance=instance,
            resources=resources(settings),
            run_config=request.run_config,
        )
        red = [check for check in done.get_asset_check_evaluations() if not check.passed]
        assert done.success and not red
        assert counted(settings) == [("cart", 5), ("view", 5)]
        clicks = compose.clicks(settings)
        assert clicks.lake.snapshot(c.DEAD_LETTERS).rows == 2
        sent = done.asset_materializations_for_node("events__ecommerce_analytics")[0]
        assert int(str(sent.metadata["windows sent"].value)) > 0
        assert not asked(instance, settings, second.cursor).run_requests
        assert status_command.status(settings)["failed_checks"] == {}

        made = dg.materialize(
            [*events_reports.reports, *events_reports.report_checks],
            instance=instance,
            resources=resources(settings),
        )
        assert made.success
        assert all(check.passed for check in made.get_asset_check_evaluations())
        told = reports.new_reports(
            dg.build_sensor_context(
                instance=instance, resources={"events": compose.events(settings)}
            )
        )
        assert isinstance(told, dg.SensorResult) and len(told.run_requests or []) == 1


def test_windows_that_a_run_left_undone_are_asked_for_without_a_message(
    settings: Settings,
) -> None:
    send(settings, click(NOON_MS + 60_000, "purchase"))
    clicks = compose.clicks(settings)
    held = clicks.held()
    clicks.consume(held, clicks.unread(held))
    assert "events.event_counts" in behind(clicks)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = asked(instance, settings, None).run_requests or []
        assert request.run_config == {}
        dg.materialize(
            [
                events_live.raw_events,
                events_live.event_windows,
                events_live.ecommerce_analytics,
            ],
            instance=instance,
            resources=resources(settings),
        )
    assert behind(clicks) == []
    assert ("purchase", 1) in counted(settings)


def test_the_topic_flows_without_dagster_and_small_files_are_joined(settings: Settings) -> None:
    before = dict(counted(settings)).get("x", 0)
    for n in range(3):
        send(settings, click(NOON_MS + 90_000 + n, "x"))
        stream_command.stream(settings, "events", True)
    assert dict(counted(settings))["x"] == before + 3
    clicks, windows = compose.clicks(settings), counted(settings)
    was = clicks.lake.snapshot(c.RAW_EVENTS).rows
    upkeep.MANY_FILES, many = 2, upkeep.MANY_FILES
    try:
        assert upkeep.events_upkeep.execute_in_process(
            resources={"clicks": ClicksResource(home=str(settings.home))}
        ).success
    finally:
        upkeep.MANY_FILES = many
    now = clicks.lake.snapshot(c.RAW_EVENTS)
    assert (now.rows, len(now.files)) == (was, len({f.partition["date"] for f in now.files}))
    assert counted(settings) == windows
    send(settings, click(NOON_MS + 95_000, "x"))
    stream_command.stream(settings, "events", True)
    assert dict(counted(settings))["x"] == before + 4
