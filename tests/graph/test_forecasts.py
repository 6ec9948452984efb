"""The forecast assets materialized in this process, over a temporary lake."""

from pathlib import Path

import dagster as dg
import polars as pl

import assets.crypto as graph
from assets import materialize
from assets.forecasts import forecasts, has_scores, skill_ledger
from assets.materialize import FORETOLD
from sensors.forecasts import daily_forecasts
from tests.graph.conftest import House
from tidemill.crypto import contracts as crypto_tables
from tidemill.crypto.forecasting import build
from tidemill.crypto.forecasting import contracts as c
from tidemill.definitions import defs
from tidemill.skill.contracts import LEDGER

SYMBOLS = ("AAAUSDT", "BBBUSDT")


def test_forecasts_are_made_beside_their_checks_charts_and_files(house: House) -> None:
    house.crypto.all()
    works = materialize.plan(
        [(symbol, months) for symbol in SYMBOLS if (months := house.crypto.months(symbol))],
        house.instance,
        "forecasts",
        forecasts=True,
    )
    assert [(work.assets, work.partitions) for work in works] == [([forecasts], 2 * len(FORETOLD))]
    done = materialize.materialize(works[0], house.instance, house.settings.home, "duckdb")
    assert (done.failed_checks, done.by_design, done.errors) == ([], [], [])
    for symbol in SYMBOLS:
        ahead = build.read(house.crypto.lake, c.FORECASTS, symbol)
        assert ahead.height == 30 and ahead["model"].unique().to_list() == ["naive"]
    folder = house.settings.home / "reports" / "crypto"
    names = {path.name for path in folder.iterdir()}
    wanted = ("forecast.png", "forecast.html", "test_zoom.png", "components.png")
    assert names == {"metrics.csv"} | {
        f"{symbol}_{name}" for symbol in SYMBOLS for name in (*wanted, "actual_vs_pred.csv")
    }
    event = house.instance.get_latest_materialization_event(
        forecasts.keys_by_output_name["crypto__forecasts"]
    )
    assert event is not None and event.asset_materialization is not None
    assert "forecast AAAUSDT" in event.asset_materialization.metadata
    assert house.instance.get_latest_materialization_event(skill_ledger.key) is not None


def test_the_schedule_asks_for_what_has_days_that_its_forecasts_do_not_know(
    house: House, tmp_path: Path
) -> None:
    house.crypto.all()
    lake = house.crypto.lake
    build.make(lake, SYMBOLS)
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    instance.add_dynamic_partitions("symbol", list(SYMBOLS))

    def asked() -> object:
        tools = {"crypto": house.crypto}
        with dg.build_schedule_context(instance=instance, resources=tools) as context:
            return daily_forecasts(context)

    assert isinstance(asked(), dg.SkipReason)
    models = build.read(lake, c.FORECAST_MODELS, "BBBUSDT")
    older = models.with_columns(pl.col("cutoff").dt.offset_by("-1d"))
    lake.replace_frame(c.FORECAST_MODELS, older, [{"symbol": "BBBUSDT"}])
    request = asked()
    assert isinstance(request, dg.RunRequest)
    assert set(request.tags.values()) == {"BBBUSDT"}


def test_a_symbol_that_fails_is_not_shown_as_made(house: House) -> None:
    house.crypto.all()
    empty = house.crypto.read(crypto_tables.PROPHET_INPUT, "BBBUSDT").clear()
    house.crypto.lake.replace_frame(crypto_tables.PROPHET_INPUT, empty, [{"symbol": "BBBUSDT"}])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("symbol", list(SYMBOLS))
        work = materialize.Work([forecasts], [], 2, SYMBOLS)
        done = materialize.materialize(work, instance, house.settings.home, "duckdb")
        shown = {key: instance.get_materialized_partitions(key) for key in forecasts.keys}
    assert ["BBBUSDT: expected daily closes" in error for error in done.errors] == [True]
    assert all(partitions == {"AAAUSDT"} for partitions in shown.values()), shown


def test_a_model_without_a_score_fails_its_check(house: House) -> None:
    row = {
        "model": "prophet",
        "is_champion": True,
        "cutoff": None,
        "data_version": 3,
        "recipe": "{}",
        "fitted": None,
        "reason": "none",
        "symbol": "AAAUSDT",
    }
    schema = build.read(house.crypto.lake, c.FORECAST_MODELS, "AAAUSDT").schema
    rows = pl.DataFrame([row], schema=schema).with_columns(cutoff=pl.date(2024, 4, 1))
    house.crypto.lake.replace_frame(c.FORECAST_MODELS, rows, [{"symbol": "AAAUSDT"}])
    answer = has_scores(crypto=house.crypto)
    assert isinstance(answer, dg.AssetCheckResult)
    assert not answer.passed and "prophet" in str(answer.metadata["first"].value)


def test_ticks_do_not_make_forecasts_again_and_only_the_schedule_asks() -> None:
    keys = defs.resolve_job_def("crypto_series").asset_layer.executable_asset_keys
    assert not set(keys) & set(forecasts.keys)
    assert all(spec.automation_condition is None for spec in forecasts.specs)
    schedule = defs.resolve_schedule_def("daily_forecasts")
    assert (schedule.job_name, schedule.default_status) == (
        "crypto_forecasts",
        dg.DefaultScheduleStatus.RUNNING,
    )
    assert LEDGER.name in {key.path[-1] for key in defs.resolve_all_asset_keys()}
    assert graph.series_job.name == "crypto_series"
