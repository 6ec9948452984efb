"""Claims about the REST endpoint: it says what the tables say, skill beside it, and only reads."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from starlette.testclient import TestClient

from tidemill import api
from tidemill.crypto.forecasting.contracts import FORECAST_METRICS, FORECASTS
from tidemill.lake.contracts import polars_schema
from tidemill.lake.store import Lake
from tidemill.skill import compare, ledger
from tidemill.skill.contracts import LEDGER
from tidemill.skill.ledger import Score

CUTOFF = date(2026, 10, 31)
TESTED = date(2026, 10, 1)
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
THETA = Score(
    domain="crypto",
    subject="BTCUSDT",
    model="theta",
    metric="mape",
    value=7.0,
    baseline="naive",
    baseline_value=7.5,
    skill=0.07,
    n=600,
    folds=20,
    horizon=30,
    ci_low=-0.01,
    ci_high=0.12,
    p_value=0.08,
    is_leaky=False,
    data_version=3,
    at=AT,
)
HOSTILE = (
    "x' or '1'='1",
    "BTCUSDT'; drop table crypto.forecasts; --",
    'BTCUSDT"',
    "₿TC",
    "\uff22TCUSDT",
    "../../etc/passwd",
    "BTC\0USDT",
    "B" * 3000,
)


def days(symbol: str, model: str, cutoff: date, is_ahead: bool, is_champion: bool) -> pl.DataFrame:
    """Thirty days from a cutoff; the forecast of day n is n."""
    rows = [
        {
            "ds": cutoff + timedelta(days=n),
            "yhat": float(n),
            "yhat_lower": n - 0.5,
            "yhat_upper": None if model == "prophet" else n + 0.5,
            "model": model,
            "is_champion": is_champion,
            "cutoff": cutoff,
            "ahead": n,
            "is_ahead": is_ahead,
            "data_version": 3,
            "symbol": symbol,
        }
        for n in range(30, 0, -1)
    ]
    nothing = {"trend": None, "weekly": None, "yearly": None, "holidays": None}
    return pl.DataFrame([row | nothing for row in rows], schema_overrides=polars_schema(FORECASTS))


def put_forecasts(lake: Lake, symbol: str) -> None:
    """A champion, theta, and a Prophet, each on a test day and on the days ahead."""
    parts = [
        days(symbol, model, cutoff, cutoff == CUTOFF, model == "theta")
        for model in ("prophet", "theta")
        for cutoff in (CUTOFF, TESTED)
    ]
    lake.replace_frame(FORECASTS, pl.concat(parts), [{"symbol": symbol}])


def put_metrics(lake: Lake, symbol: str) -> None:
    row = {
        **{"model": "theta", "is_champion": True, "is_baseline": True, "mse": 1.0, "mape": 7.0},
        **{"cv_mape": None, "mode": None, "prior": None, "coverage": 0.79, "n": 600, "folds": 20},
        **{
            "metric": "mape",
            "baseline": "naive",
            "baseline_mape": 7.5,
            "skill": 0.07,
            "ci_low": -0.01,
        },
        **{"ci_high": 0.12, "dm_p": 0.08, "is_leaky": False, "symbol": symbol},
    }
    frame = pl.DataFrame([row], schema_overrides=polars_schema(FORECAST_METRICS))
    lake.replace_frame(FORECAST_METRICS, frame, [{"symbol": symbol}])


def empty(home: Path) -> Lake:
    return Lake(home / "lake", None, api.TABLES)


def filled(home: Path) -> Lake:
    lake = empty(home)
    put_forecasts(lake, "BTCUSDT")
    put_forecasts(lake, "ETHUSDT")
    put_metrics(lake, "BTCUSDT")
    ledger.add(lake, [replace(THETA, value=9.0, skill=-0.2, ci_low=-0.3)])
    later = AT + timedelta(days=1)
    prophet = replace(THETA, model="prophet", skill=0.01, value=7.4, at=later)
    mae = replace(THETA, metric="mae", value=900.0, at=later)
    store = replace(THETA, domain="retail", subject="Store 5", model="mean", at=later)
    ledger.add(lake, [replace(THETA, at=later), prophet, mae, store])
    return lake


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that no test changes."""
    return filled(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def client(still: Lake) -> TestClient:
    return client_of(still)


def client_of(lake: Lake) -> TestClient:
    return TestClient(api.app(lake), raise_server_exceptions=False)


def refused(client: TestClient, path: str, status: int, **parameters: str) -> str:
    """The message of a refusal."""
    answer = client.get(path, params=parameters)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    return str(answer.json()["error"])


def test_a_forecast_is_the_champions_days_ahead_and_no_other(client: TestClient) -> None:
    told = client.get("/forecasts/BTCUSDT").json()
    assert told["rows"] == [
        {
            "ds": str(CUTOFF + timedelta(days=n)),
            "yhat": float(n),
            "yhat_lower": n - 0.5,
            "yhat_upper": n + 0.5,
        }
        for n in range(1, 31)
    ]
    said = {name: told[name] for name in told if name not in ("rows", "skill")}
    assert said == {
        "symbol": "BTCUSDT",
        "model": "theta",
        "is_champion": True,
        "cutoff": "2026-10-31",
        "data_version": 3,
        "coverage": 0.79,
    }


def test_a_forecast_comes_with_the_last_score_of_its_model(client: TestClient) -> None:
    assert client.get("/forecasts/BTCUSDT").json()["skill"] == {
        "value": 0.07,
        "ci_low": -0.01,
        "ci_high": 0.12,
        "p_value": 0.08,
        "baseline": "naive",
        "baseline_mape": 7.5,
        "mape": 7.0,
        "n": 600,
        "folds": 20,
        "horizon": 30,
        "is_leaky": False,
        "data_version": 3,
        "at": "2026-11-02T12:00:00Z",
    }


def test_a_naive_forecast_of_too_few_days_says_so(tmp_path: Path) -> None:
    lake = empty(tmp_path)
    naive = days("LTCUSDT", "naive", CUTOFF, True, True)
    lake.replace_frame(FORECASTS, naive, [{"symbol": "LTCUSDT"}])
    client = client_of(lake)
    told = client.get("/forecasts/LTCUSDT").json()
    said = "LTCUSDT has too few days to test forecasts on, which takes 223"
    assert (told["skill"], told["reason"]) == (None, said)
    ledger.add(lake, [replace(THETA, subject="LTCUSDT")])
    told = client.get("/forecasts/LTCUSDT").json()
    assert told["reason"].startswith("skill.ledger has no mape of naive on LTCUSDT")


def test_a_score_of_too_few_folds_has_no_interval(tmp_path: Path) -> None:
    lake = empty(tmp_path)
    put_forecasts(lake, "BTCUSDT")
    low, high = compare.ANYTHING
    ledger.add(lake, [replace(THETA, ci_low=low, ci_high=high, p_value=1.0)])
    client = client_of(lake)
    [score] = client.get("/skill").json()["rows"]
    for told in (score, client.get("/forecasts/BTCUSDT").json()["skill"]):
        assert (told["ci_low"], told["ci_high"], told["p_value"]) == (None, None, 1.0)


def test_a_forecast_without_a_score_says_so(client: TestClient) -> None:
    told = client.get("/forecasts/ETHUSDT").json()
    assert told["skill"] is None and len(told["rows"]) == 30
    assert (
        told["reason"] == "skill.ledger has no mape of theta on ETHUSDT; run `tidemill run crypto`"
    )


def test_another_model_than_the_champion_can_be_asked_for(client: TestClient) -> None:
    told = client.get("/forecasts/BTCUSDT?model=prophet&days=2").json()
    assert (told["model"], told["is_champion"], told["coverage"]) == ("prophet", False, None)
    assert told["skill"]["mape"] == 7.4
    assert [(row["yhat"], row["yhat_upper"]) for row in told["rows"]] == [(1.0, None), (2.0, None)]


@pytest.mark.parametrize("text", ["btc/usdt", "BTC-USDT", "btc_usdt", "btc%2Fusdt", "Btc%20Usdt"])
def test_a_pair_is_found_however_it_is_written(client: TestClient, text: str) -> None:
    assert client.get(f"/forecasts/{text}").json()["symbol"] == "BTCUSDT"
    assert client.get(f"/skill?subject={text}").json()["rows"][0]["subject"] == "BTCUSDT"


@pytest.mark.parametrize("text", [*HOSTILE, "SOLUSDT"])
def test_a_symbol_without_forecasts_is_told_which_have_some(client: TestClient, text: str) -> None:
    told = refused(client, "/forecasts/" + quote(text, safe=""), 404)
    assert "BTCUSDT, ETHUSDT, found " in told and len(told) < 300
    assert client.get("/symbols").json() == {"symbols": ["BTCUSDT", "ETHUSDT"]}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_stands_for_a_model_or_a_subject_is_only_compared(
    client: TestClient, text: str
) -> None:
    model = refused(client, "/forecasts/BTCUSDT", 404, model=text)
    assert "expected a model of prophet, theta, found " in model
    for name, there in (("model", "mean, prophet, theta"), ("subject", "BTCUSDT, Store 5")):
        told = refused(client, "/skill", 404, **{name: text})
        assert f"{name}: expected one of {there}, found " in told and len(told) < 300


@pytest.mark.parametrize("text", ["abc", "0", "31", "-1", "1.5", "1e1", " 7", "٣", "9" * 5000])
def test_days_are_one_to_thirty(client: TestClient, text: str) -> None:
    told = refused(client, "/forecasts/BTCUSDT", 400, days=text)
    assert "days: expected a whole number from 1 to 30, found " in told and len(told) < 300


@pytest.mark.parametrize("count", [1, 30])
def test_as_many_days_come_as_are_asked_for(client: TestClient, count: int) -> None:
    rows = client.get(f"/forecasts/BTCUSDT?days={count}").json()["rows"]
    assert [row["yhat"] for row in rows] == [float(n) for n in range(1, count + 1)]


def test_an_empty_parameter_is_as_none(client: TestClient) -> None:
    whole = client.get("/forecasts/BTCUSDT").json()
    assert client.get("/forecasts/BTCUSDT?days=&model=").json() == whole


def test_a_misspelt_or_repeated_parameter_is_refused(client: TestClient) -> None:
    assert "parameters of days, model, found 'day'" in refused(
        client, "/forecasts/BTCUSDT", 400, day="3"
    )
    repeated = client.get("/forecasts/BTCUSDT?days=3&days=4")
    assert repeated.status_code == 400 and "days once" in repeated.json()["error"]


def test_the_ledger_shows_the_last_score_of_each_with_its_skill_first(client: TestClient) -> None:
    rows = client.get("/skill").json()["rows"]
    assert [(row["subject"], row["metric"], row["model"], row["skill"]) for row in rows] == [
        ("BTCUSDT", "mae", "theta", 0.07),
        ("BTCUSDT", "mape", "theta", 0.07),
        ("BTCUSDT", "mape", "prophet", 0.01),
        ("Store 5", "mape", "mean", 0.07),
    ]
    assert next(iter(rows[0])) == "skill"
    assert set(rows[0]) == {column.name for column in LEDGER.columns}


def test_the_ledger_can_be_asked_in_part(client: TestClient) -> None:
    def asked(**parameters: str) -> list[Any]:
        return [row["model"] for row in client.get("/skill", params=parameters).json()["rows"]]

    assert asked(domain="retail") == asked(subject="Store 5") == ["mean"]
    assert asked(domain="crypto", subject="BTCUSDT", model="prophet") == ["prophet"]


def test_health_tells_version_and_rows_of_each_table(client: TestClient) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "tables": {
            "crypto.forecasts": {"version": 2, "rows": 240},
            "crypto.forecast_metrics": {"version": 1, "rows": 1},
            "skill.ledger": {"version": 2, "rows": 5},
        },
    }


@pytest.mark.parametrize("path", ["/health", "/symbols", "/forecasts/BTCUSDT", "/skill"])
def test_only_get_and_head_are_answered(client: TestClient, path: str) -> None:
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["error"].startswith(f"expected GET or HEAD, found '{method}'")


@pytest.mark.parametrize("path", ["/health", "/forecasts/NONE", "/nothing", "/skill?x=1"])
def test_no_answer_is_kept_or_shared_with_other_origins(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"Origin": "https://example.com"}).headers
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/json"
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/forecasts", "/health/", "/docs", "/%F0%9F%8C%8A"])
def test_another_path_is_told_which_there_are(client: TestClient, path: str) -> None:
    assert "expected one of /health, /symbols, /forecasts/SYMBOL" in refused(client, path, 404)


def test_an_empty_lake_says_what_to_run_and_stays_empty(tmp_path: Path) -> None:
    client = client_of(empty(tmp_path))
    assert client.get("/health").json()["tables"]["crypto.forecasts"] == {"version": -1, "rows": 0}
    assert client.get("/symbols").json() == {"symbols": []}
    assert "nothing is forecast yet; run `tidemill run crypto`" in refused(
        client, "/forecasts/BTCUSDT", 404
    )
    assert "run `tidemill run crypto`" in refused(client, "/skill", 404)
    assert not list(tmp_path.iterdir())


def test_a_symbol_with_tested_days_alone_has_no_forecast(tmp_path: Path) -> None:
    lake = empty(tmp_path)
    lake.replace_frame(
        FORECASTS, days("BTCUSDT", "theta", TESTED, False, True), [{"symbol": "BTCUSDT"}]
    )
    told = refused(client_of(lake), "/forecasts/BTCUSDT", 404)
    assert told.startswith("BTCUSDT: expected forecasts of days to come, found none")


def test_of_several_cutoffs_before_a_day_to_come_the_newest_counts(tmp_path: Path) -> None:
    lake = empty(tmp_path)
    cutoffs = (CUTOFF, CUTOFF - timedelta(days=3))
    rows = pl.concat([days("BTCUSDT", "theta", cutoff, True, True) for cutoff in cutoffs])
    lake.replace_frame(FORECASTS, rows, [{"symbol": "BTCUSDT"}])
    told = client_of(lake).get("/forecasts/BTCUSDT?days=2").json()
    assert (told["cutoff"], [row["ds"] for row in told["rows"]]) == (
        "2026-10-31",
        ["2026-11-01", "2026-11-02"],
    )


def test_without_a_champion_a_model_must_be_named(tmp_path: Path) -> None:
    lake = empty(tmp_path)
    rows = days("BTCUSDT", "theta", CUTOFF, True, False)
    lake.replace_frame(FORECASTS, rows, [{"symbol": "BTCUSDT"}])
    client = client_of(lake)
    assert "no model is the champion; name one: theta" in refused(client, "/forecasts/BTCUSDT", 404)
    assert client.get("/forecasts/BTCUSDT?model=theta").json()["is_champion"] is False


def test_a_new_commit_shows_in_the_next_answer(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    client = client_of(lake)
    assert client.get("/forecasts/BTCUSDT").json()["skill"]["mape"] == 7.0
    assert client.get("/forecasts/BTCUSDT").json()["model"] == "theta"
    writer = empty(tmp_path)  # as another process would have it
    rows = days("BTCUSDT", "naive", CUTOFF + timedelta(days=1), True, True)
    writer.replace_frame(FORECASTS, rows, [{"symbol": "BTCUSDT"}])
    naive = replace(THETA, model="naive", value=7.5, skill=0.0, at=AT + timedelta(days=2))
    ledger.add(writer, [naive])
    told = client.get("/forecasts/BTCUSDT").json()
    assert (told["model"], told["cutoff"], told["skill"]["mape"]) == ("naive", "2026-11-01", 7.5)
    assert client.get("/forecasts/ETHUSDT").json()["model"] == "theta"


def test_files_that_go_while_they_are_read_are_an_answer_to_ask_again(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    client = client_of(lake)
    for file in lake.snapshot(FORECASTS).files:
        file.path.unlink()
    assert "ask again" in refused(client, "/forecasts/BTCUSDT", 503)


def test_a_lake_that_cannot_be_read_is_an_answer_without_its_insides(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    for log in (lake.folder(LEDGER) / "_delta_log").glob("*.json"):
        log.write_text("{broken")
    told = refused(client_of(empty(tmp_path)), "/skill", 500)
    assert "the reason is where `tidemill serve` runs" in told and str(tmp_path) not in told
