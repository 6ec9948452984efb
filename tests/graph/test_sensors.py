"""What the sensors ask for is what is there to do, and the runs they ask for do it."""

import os
import shutil
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

import assets.crypto as graph
from resources.home import CryptoResource
from sensors.landing import crypto_inbox, dropped_files, landed_candles
from tests.graph.conftest import House
from tidemill.crypto import contracts as c
from tidemill.crypto.intake.landing import Landing
from tidemill.crypto.pending import Months
from tidemill.definitions import defs
from tidemill.errors import TidemillError
from tidemill.intake import inbox


def tick(house: House, sensor: dg.SensorDefinition, cursor: str | None = None) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=house.instance, cursor=cursor, resources={"crypto": house.crypto}
    )
    result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def resources(house: House) -> dict[str, object]:
    return {"crypto": CryptoResource(home=str(house.settings.home))}


def test_landed_files_become_runs_and_symbols_and_then_nothing_more(house: House) -> None:
    first = tick(house, landed_candles)
    requests = first.run_requests or []
    ledger = house.crypto.landing.ledger()
    landed = [f"{row['landed_at'].isoformat()}+00:00" for row in ledger]
    assert [r.run_key for r in requests] == [
        f"AAAUSDT 2024-01-01 2024-04-01 {landed[0]}",
        f"BBBUSDT 2024-03-01 2024-05-01 {landed[1]}",
    ]
    (added,) = first.dynamic_partitions_requests or []
    assert list(added.partition_keys) == ["AAAUSDT", "BBBUSDT"]
    house.instance.add_dynamic_partitions("symbol", ["AAAUSDT", "BBBUSDT"])
    for request in requests:
        done = dg.materialize(
            graph.monthly, instance=house.instance, tags=request.tags, resources=resources(house)
        )
        assert done.success
    again = tick(house, landed_candles, first.cursor)
    assert not again.run_requests
    assert house.crypto.lake.snapshot(c.RAW_CANDLES).rows == sum(
        truth.good for truth in house.truth.values()
    )


def test_a_new_file_asks_for_its_months_alone(house: House, tmp_path: Path) -> None:
    for symbol in house.crypto.symbols():
        months = house.crypto.months(symbol)
        assert months is not None
        house.crypto.raw_candles(symbol, months)
        house.crypto.daily_ohlc(symbol, months)
    time.sleep(0.01)
    late = tmp_path / "late_AAAUSDT.csv"
    late.write_text("timestamp,open,high,low,close,volume\n1714521600,5,5,5,5,1\n")
    house.crypto.landing.land_file(late)
    (request,) = tick(house, landed_candles).run_requests or []
    assert request.tags["dagster/asset_partition_range_start"] == "2024-05-01|AAAUSDT"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-05-01|AAAUSDT"


def test_a_file_that_lands_while_its_months_are_made_is_not_forgotten(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late_AAAUSDT.csv"
    late.write_text("timestamp,open,high,low,close,volume\n1714521600,5,5,5,5,1\n")
    house.crypto.landing.land_file(late)
    unseen = house.crypto.landing.ledger()
    whole = house.crypto.landing.ledger
    monkeypatch.setattr(
        house.crypto.landing,
        "ledger",
        lambda symbol=None: [r for r in whole(symbol) if r not in unseen[2:]],
    )
    for symbol in house.crypto.symbols():
        months = house.crypto.months(symbol)
        assert months is not None
        longer = Months(months.first, date(2024, 5, 1))
        house.crypto.raw_candles(symbol, longer)
        house.crypto.daily_ohlc(symbol, longer)
    monkeypatch.undo()
    (request,) = tick(house, landed_candles).run_requests or []
    assert request.tags["dagster/asset_partition_range_end"] == "2024-05-01|AAAUSDT"


def test_a_symbol_that_a_run_is_at_is_left_alone_and_the_others_keep_their_keys(
    house: House,
) -> None:
    first, second = tick(house, landed_candles).run_requests or []
    house.instance.add_run(started(first.tags))
    (left,) = tick(house, landed_candles).run_requests or []
    assert left.run_key == second.run_key
    span = house.crypto.months("AAAUSDT")
    assert span is not None
    house.crypto.raw_candles("AAAUSDT", span)
    (left,) = tick(house, landed_candles).run_requests or []
    assert left.run_key == second.run_key


def started(tags: Mapping[str, str]) -> dg.DagsterRun:
    return dg.DagsterRun("crypto_months", status=dg.DagsterRunStatus.STARTED, tags=dict(tags))


def test_what_lands_again_after_a_reset_is_asked_for_anew(house: House) -> None:
    before = {r.run_key for r in tick(house, landed_candles).run_requests or []}
    cursor = tick(house, landed_candles).cursor
    shutil.rmtree(house.crypto.lake.root)
    shutil.rmtree(house.crypto.landing.folder)
    house.crypto.landing.land_file(house.files["AAAUSDT"])
    again = tick(house, landed_candles, cursor)
    (request,) = again.run_requests or []
    assert request.run_key not in before
    assert again.asset_events


def test_a_file_that_fails_for_another_reason_than_itself_stays_and_stops_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = inbox.folder(house.crypto.landing)
    for name in ("DDDUSDT.csv", "EEEUSDT.csv", "FFFUSDT.csv.part"):
        (folder / name).write_text("timestamp,open,high,low,close,volume\n1709251200,5,5,5,5,1\n")
        os.utime(folder / name, (time.time() - 60, time.time() - 60))
    (request,) = tick(house, dropped_files).run_requests or []
    land_file = Landing.land_file

    def failing(self: Landing, path: Path) -> object:
        if path.name == "DDDUSDT.csv":
            raise TidemillError("1 MiB are too few")
        return land_file(self, path)

    monkeypatch.setattr(Landing, "land_file", failing)
    run = crypto_inbox.execute_in_process(
        run_config=request.run_config,
        resources=resources(house),
        instance=house.instance,
        raise_on_error=False,
    )
    assert not run.success
    assert {p.name for p in folder.iterdir()} == {"DDDUSDT.csv", "FFFUSDT.csv.part"}
    assert "EEEUSDT" in house.crypto.symbols()


def test_a_refused_file_does_not_take_the_place_of_another(house: House) -> None:
    folder, refused = inbox.folder(house.crypto.landing), house.crypto.landing.folder / "refused"
    for content in ("a,b\n1,2\n", "c,d\n3,4\n"):
        (folder / "XXXUSDT.csv").write_text(content)
        inbox.take(house.crypto.landing, "XXXUSDT.csv")
    kept = [path for path in refused.iterdir() if path.suffix == ".csv"]
    assert {path.read_text() for path in kept} == {"a,b\n1,2\n", "c,d\n3,4\n"}
    assert all(path.with_name(f"{path.name}.txt").exists() for path in kept)


def test_a_dropped_file_lands_once_it_is_settled(house: House) -> None:
    folder = inbox.folder(house.crypto.landing)
    good, bad = folder / "DDDUSDT.csv", folder / "EEEUSDT.csv"
    good.write_text("timestamp,open,high,low,close,volume\n1709251200,5,5,5,5,1\n")
    bad.write_text("a,b\n1,2\n")
    assert not tick(house, dropped_files).run_requests
    for path in (good, bad):
        os.utime(path, (time.time() - 60, time.time() - 60))
    (request,) = tick(house, dropped_files).run_requests or []
    run = crypto_inbox.execute_in_process(
        run_config=request.run_config, resources=resources(house), instance=house.instance
    )
    assert run.success
    assert "DDDUSDT" in house.crypto.symbols()
    assert not list(folder.iterdir())
    reason = house.crypto.landing.folder / "refused" / "EEEUSDT.csv.txt"
    assert "expected a header" in reason.read_text()
    assert (house.crypto.landing.folder / "refused" / "EEEUSDT.csv").exists()


def test_a_file_that_someone_writes_to_stays_in_the_inbox_until_it_is_whole(house: House) -> None:
    path = inbox.folder(house.crypto.landing) / "DDDUSDT.csv"
    with path.open("w") as writing:
        writing.write("timestamp,open,high,low,close,volume\n1709251200,5,5,5,5,1\n")
        writing.flush()
        os.utime(path, (time.time() - 60, time.time() - 60))
        assert not tick(house, dropped_files).run_requests
        told = inbox.take(house.crypto.landing, path.name)
        assert told.startswith("left for later")
        assert path.exists()
    assert "DDDUSDT" not in house.crypto.symbols()
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert len(tick(house, dropped_files).run_requests or []) == 1
    assert "1 good" in inbox.take(house.crypto.landing, path.name)
    assert not path.exists()


def test_what_follows_is_made_after_what_it_follows(house: House) -> None:
    first = tick(house, landed_candles)
    house.instance.add_dynamic_partitions("symbol", ["AAAUSDT", "BBBUSDT"])
    evaluated = dg.evaluate_automation_conditions(defs, house.instance)
    assert evaluated.total_requested == 0
    request = (first.run_requests or [])[0]
    dg.materialize(
        graph.monthly, instance=house.instance, tags=request.tags, resources=resources(house)
    )
    evaluated = dg.evaluate_automation_conditions(defs, house.instance, cursor=evaluated.cursor)
    for asset in (graph.filled_series, graph.candle_gaps, graph.signals, graph.backtests):
        assert evaluated.get_requested_partitions(asset.key) == {"AAAUSDT"}
