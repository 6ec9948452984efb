"""Ticks from a real broker become assets: the sensor asks, the run it asks for takes them."""

import json
import os
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

import assets.live as live
from resources.home import CryptoResource, PricesResource
from sensors import upkeep
from sensors.topics import new_prices
from tidemill import compose
from tidemill.commands import broker as command
from tidemill.crypto import contracts as c
from tidemill.crypto.topics import PRICES
from tidemill.definitions import defs
from tidemill.errors import TidemillError
from tidemill.kafka import audit
from tidemill.kafka.subscription import Subscription
from tidemill.lake import duck
from tidemill.processes import free_port
from tidemill.settings import Settings

pytestmark = pytest.mark.integration
NOON_MS = 1_717_243_200_000  # 2024-06-01 12:00


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("live")
    names = {"TIDEMILL_HOME": str(home), "TIDEMILL_KAFKA_PORT": str(port)}
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


def produce(settings: Settings, *values: object) -> None:
    producer = Producer(compose.kafka(settings) | {"acks": "all"})
    for value in values:
        text = value if isinstance(value, str) else json.dumps(value)
        producer.produce(PRICES.name, key=b"SIMAUSDT", value=text)
    assert producer.flush(30) == 0


def tick(n: int, price: float = 5.0, symbol: str = "SIMAUSDT") -> dict[str, object]:
    return {"symbol": symbol, "price": price, "timestamp": NOON_MS + 1000 * n}


def asked(
    instance: dg.DagsterInstance, prices: Subscription, cursor: str | None
) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={"prices": prices, "crypto": compose.crypto(Settings.current())},
    )
    result = new_prices(context)
    assert isinstance(result, dg.SensorResult)
    return result


def made(
    instance: dg.DagsterInstance, settings: Settings, config: object
) -> dg.ExecuteInProcessResult:
    resources = {
        "prices": PricesResource(home=str(settings.home)),
        "crypto": CryptoResource(home=str(settings.home)),
    }
    checks = [
        live.counts_every_tick,
        live.equals_batch,
        live.equals_topic,
        live.ledger_adds_up,
    ]
    return dg.materialize(
        [live.live_prices, live.live_daily_ohlc, *checks],
        instance=instance,
        resources=resources,
        run_config=config,
        raise_on_error=False,
    )


def test_ticks_are_asked_for_once_taken_once_and_accounted_for(settings: Settings) -> None:
    prices = compose.live_prices(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        first = asked(instance, prices, None)
        assert not first.run_requests
        produce(settings, tick(1), tick(2, 7.0), "not a tick", tick(2, 8.0), tick(3, 6.0))
        second = asked(instance, prices, first.cursor)
        (request,) = second.run_requests or []
        assert request.run_key is not None
        assert request.run_key.startswith(f"crypto_prices:{prices.held().topic_id} ")
        assert request.run_key.endswith(":0-5")
        done = made(instance, settings, request.run_config)
        assert done.success
        checks = done.get_asset_check_evaluations()
        assert {check.check_name: check.passed for check in checks} == {
            "keeps_contract": True,
            "conserves_messages": True,
            "counts_every_tick": True,
            "equals_batch": True,
            "equals_topic": True,
            "ledger_adds_up": True,
        }
        assert {key.path[-1] for key in instance.all_asset_keys()} == {
            t.name for t in (c.LIVE_PRICES, c.CONSUMED_SPANS, c.DEAD_LETTERS, c.LIVE_DAILY_OHLC)
        }
        assert instance.get_dynamic_partitions("symbol") == ["SIMAUSDT"]
        third = asked(instance, prices, second.cursor)
        assert not third.run_requests
        assert made(instance, settings, request.run_config).success, "a rerun takes nothing twice"
        assert prices.lake.snapshot(c.LIVE_PRICES).rows == 3
        assert prices.lake.snapshot(c.DEAD_LETTERS).rows == 1
        with duck.cursor() as con:
            bars = prices.lake.snapshot(c.LIVE_DAILY_OHLC).scan()
            found = con.execute(
                f"select daily_open, daily_high, daily_low, daily_close, ticks from {bars}"
            ).fetchall()
        assert found == [(5.0, 7.0, 5.0, 6.0, 3)]


def test_small_files_are_joined_and_nothing_else_changes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = compose.live_prices(settings)
    for n in range(100, 104):
        produce(settings, tick(n), "junk")
        held = prices.held()
        prices.consume(held, prices.unread(held))
    monkeypatch.setattr(upkeep, "MANY_FILES", 4)
    before = [prices.lake.snapshot(table) for table in c.LIVE]
    resources = {
        "crypto": CryptoResource(home=str(settings.home)),
        "prices": PricesResource(home=str(settings.home)),
    }
    assert upkeep.crypto_upkeep.execute_in_process(resources=resources).success
    after = [prices.lake.snapshot(table) for table in c.LIVE]
    assert [snapshot.rows for snapshot in after] == [snapshot.rows for snapshot in before]
    assert sum(len(snapshot.files) for snapshot in after[:3]) == 3
    assert audit.faults(prices.lake, prices.feed) == []
    held = prices.held()
    assert prices.unread(held) == []


def test_few_ticks_wait_until_they_are_old(settings: Settings) -> None:
    prices = compose.live_prices(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        made(instance, settings, None)
        cursor = asked(instance, prices, None).cursor
        produce(settings, tick(10))
        waiting = asked(instance, prices, cursor)
        assert not waiting.run_requests
        time.sleep(1.1)
        assert len(asked(instance, prices, waiting.cursor).run_requests or []) == 1


def test_a_run_that_was_asked_for_a_topic_that_is_gone_takes_nothing(settings: Settings) -> None:
    prices = compose.live_prices(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        made(instance, settings, None)
        cursor = asked(instance, prices, None).cursor
        produce(settings, tick(20), tick(21), tick(22))
        old = asked(instance, prices, cursor)
        client = AdminClient(compose.kafka(settings))
        client.delete_topics([PRICES.name])[PRICES.name].result()
        deadline = time.monotonic() + 20
        while "crypto_prices" not in command.ensure(settings) and time.monotonic() < deadline:
            time.sleep(0.2)
        produce(settings, tick(30), tick(31), tick(32))
        (request,) = old.run_requests or []
        before = prices.lake.snapshot(c.LIVE_PRICES).rows
        failed = made(instance, settings, request.run_config)
        assert not failed.success
        assert prices.lake.snapshot(c.LIVE_PRICES).rows == before
        new = asked(instance, prices, old.cursor)
        (request,) = new.run_requests or []
        done = made(instance, settings, request.run_config)
        assert done.success
        assert all(check.passed for check in done.get_asset_check_evaluations())
        assert prices.lake.snapshot(c.LIVE_PRICES).rows == before + 3


def test_a_broker_that_does_not_answer_fails_the_tick_and_one_that_is_not_started_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose.broker(settings).stop()
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            quiet = asked(instance, compose.live_prices(settings), None)
            assert quiet.skip_reason is not None
            assert "broker start" in str(quiet.skip_reason.skip_message)
            servers = compose.broker(settings).servers
            monkeypatch.setenv("TIDEMILL_KAFKA_SERVERS", servers)
            with pytest.raises(TidemillError, match="crypto_prices"):
                asked(instance, compose.live_prices(settings), None)
    finally:
        command.ensure(settings)


def test_days_that_wait_are_asked_for_though_no_message_is_new(settings: Settings) -> None:
    prices = compose.live_prices(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        produce(settings, tick(200, 9.0))
        held = prices.held()
        prices.consume(held, prices.unread(held))
        (request,) = asked(instance, prices, None).run_requests or []
        assert " days 2024-06-01 of " in str(request.run_key)
        assert made(instance, settings, request.run_config or None).success
        assert not asked(instance, prices, None).run_requests


def test_the_jobs_are_what_the_sensor_targets() -> None:
    job = defs.resolve_job_def("crypto_live")
    assert {node.name for node in job.graph.nodes} == {"live_prices", "crypto__live_daily_ohlc"}
