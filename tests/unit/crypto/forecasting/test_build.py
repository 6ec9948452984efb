"""Forecasts of symbols in a lake: what is written, what it was worth, and what cannot be."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidemill import compose
from tidemill.commands import forecast as command
from tidemill.crypto.contracts import PROPHET_INPUT
from tidemill.crypto.forecasting import build, history, verdict
from tidemill.crypto.forecasting import contracts as c
from tidemill.crypto.forecasting.build import Made
from tidemill.crypto.forecasting.study import NAIVE, Plan
from tidemill.errors import InputError
from tidemill.lake.store import Lake
from tidemill.settings import Settings
from tidemill.skill import ledger
from tidemill.skill.compare import ANYTHING
from tidemill.skill.contracts import LEDGER
from tidemill.skill.findings import Check, Finding
from tidemill.skill.leak import leaks
from tidemill.skill.series import Forecaster

FIRST = date(2022, 1, 1)
DAYS = 260
WALK = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.03, DAYS)))
SERIES = {
    "WALKUSDT": WALK,
    "FLATUSDT": np.full(DAYS, 5.0),
    "ZEROUSDT": np.where(np.arange(DAYS) % 50 == 7, 0.0, WALK),
    "JUMPUSDT": np.where(np.arange(DAYS) < 200, WALK, 1000 * WALK),
    "ONEUSDT": np.array([7.0]),
}


def put(lake: Lake, symbol: str, values: np.ndarray, days: list[date] | None = None) -> None:
    days = days or [FIRST + timedelta(n) for n in range(len(values))]
    rows = pl.DataFrame({"ds": days, "y": values, "symbol": symbol})
    lake.replace_frame(PROPHET_INPUT, rows, [{"symbol": symbol}])


def opened(folder: Path) -> Lake:
    return compose.lake(Settings.current(folder / "home"))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Made]:
    """Odd symbols beside a plain one, all forecast in one go, with one that has no days."""
    lake = opened(tmp_path_factory.mktemp("market"))
    for symbol, values in SERIES.items():
        put(lake, symbol, values)
    thin = np.random.default_rng(5).random(DAYS) < 0.6
    thin[[0, -1]] = True
    put(lake, "THINUSDT", WALK[thin], [FIRST + timedelta(int(n)) for n in np.flatnonzero(thin)])
    return lake, build.make(lake, [*SERIES, "THINUSDT", "NONEUSDT"])


def test_a_symbol_without_days_is_told_and_stops_no_other(market: tuple[Lake, Made]) -> None:
    _, made = market
    assert list(made.failed) == ["NONEUSDT"]
    assert "expected daily closes" in made.failed["NONEUSDT"]
    assert sorted(made.verdicts) == sorted([*SERIES, "THINUSDT"])


def test_a_symbol_without_a_model_is_refused_with_those_that_have_one(
    market: tuple[Lake, Made],
) -> None:
    there = ", ".join(sorted([*SERIES, "THINUSDT"]))
    with pytest.raises(InputError, match=f"^NOPEUSDT: .* found none; there is one for {there}; "):
        build.forecast(market[0], "NOPEUSDT", 3)


def test_what_a_score_is_worth_is_said_and_what_is_not_known_too() -> None:
    names = {"metric": "mape", "baseline": "naive", "folds": 4, "horizon": 30}
    score = names | {"value": 8.0, "baseline_value": 7.5, "skill": -0.07, "p_value": 0.4}
    told = command.worth(score | {"ci_low": -0.2, "ci_high": 0.06})
    assert told.endswith("naive 7.5: skill -0.070 [-0.200, +0.060], p = 0.4")
    low, high = ANYTHING
    told = command.worth(score | {"ci_low": low, "ci_high": high})
    assert told.endswith("skill -0.070 (too few folds to say between what), p = 0.4")
    least = Plan().least
    assert f"takes {least}." in command.worth(None)
    assert (bool(Plan().refusal(least - 1)), Plan().refusal(least)) == (True, "")


@pytest.mark.parametrize("symbol", [*SERIES, "THINUSDT"])
def test_each_odd_series_is_forecast_30_days_ahead_by_one_champion(
    market: tuple[Lake, Made], symbol: str
) -> None:
    rows = build.read(market[0], c.FORECASTS, symbol).filter(
        pl.col("is_ahead") & pl.col("is_champion")
    )
    assert rows["ahead"].to_list() == list(range(1, 31))
    assert rows["yhat"].is_finite().all()
    models = build.read(market[0], c.FORECAST_MODELS, symbol)
    assert models["is_champion"].sum() == 1


@pytest.mark.parametrize("symbol", ["WALKUSDT", "JUMPUSDT", "THINUSDT", "FLATUSDT"])
def test_the_champion_has_no_more_error_than_the_best_baseline(
    market: tuple[Lake, Made], symbol: str
) -> None:
    rows = build.read(market[0], c.FORECAST_METRICS, symbol)
    champion = rows.filter(pl.col("is_champion"))["cv_mape"].item()
    baselines = rows.filter(pl.col("is_baseline"))["cv_mape"].drop_nulls()
    assert champion <= baselines.min()
    assert not rows.filter(pl.col("is_champion"))["is_leaky"].item()


def test_too_few_days_give_the_naive_forecast_and_the_reason(market: tuple[Lake, Made]) -> None:
    row = build.read(market[0], c.FORECAST_MODELS, "ONEUSDT").row(0, named=True)
    assert row["model"] == NAIVE and "expected at least" in row["reason"]
    ahead = build.read(market[0], c.FORECASTS, "ONEUSDT")
    assert ahead["yhat"].unique().to_list() == [7.0]
    assert build.read(market[0], c.FORECAST_METRICS, "ONEUSDT").is_empty()


def test_prices_that_touch_zero_are_scored_without_percentages(market: tuple[Lake, Made]) -> None:
    rows = ledger.latest(market[0], "crypto").filter(pl.col("subject") == "ZEROUSDT")
    assert set(rows["metric"]) == {"mase"}
    assert not any("log" in model for model in rows["model"])


def test_every_model_that_is_kept_has_its_score_or_it_is_found(market: tuple[Lake, Made]) -> None:
    lake, made = market
    assert build.unscored(lake) == []
    scores = ledger.latest(lake, "crypto").filter(pl.col("subject") == "WALKUSDT")
    assert set(scores["model"]) == set(made.verdicts["WALKUSDT"].study.testing.forecasts)
    version = lake.snapshot(LEDGER).version
    lake.rollback(LEDGER, 0)
    found = {(row["symbol"], row["model"]) for row in build.unscored(lake)}
    assert ("WALKUSDT", build.champion(lake, "WALKUSDT")) in found
    assert not any(symbol == "ONEUSDT" for symbol, _ in found)
    lake.rollback(LEDGER, version)


def test_guard_and_alarm_find_the_leaky_recipes_and_nothing_else(
    market: tuple[Lake, Made],
) -> None:
    _, made = market
    leaky = {(row["symbol"], row["model"]) for row in made.findings(is_leaky=True)}
    assert {model for symbol, model in leaky if symbol == "WALKUSDT"} == {
        "prophet_leaky_ma7",
        "prophet_leaky_ma7_ma30",
    }
    assert made.findings(is_leaky=False) == []


def test_a_forecast_as_of_an_earlier_version_is_the_same_to_the_bit(tmp_path: Path) -> None:
    lake = opened(tmp_path)
    put(lake, "WALKUSDT", WALK)
    build.make(lake, ["WALKUSDT"])
    then = build.forecast(lake, "WALKUSDT", 30)
    version = lake.snapshot(PROPHET_INPUT).version
    assert then.data_version == version
    put(lake, "OTHERUSDT", WALK)
    put(lake, "WALKUSDT", np.append(WALK, 3 * WALK[-1]))
    assert build.stale(lake, ["WALKUSDT"]) == ["WALKUSDT"]
    build.make(lake, ["WALKUSDT"])
    assert build.stale(lake, ["WALKUSDT"]) == []
    now = build.forecast(lake, "WALKUSDT", 30)
    assert now.days["yhat"].to_list() != then.days["yhat"].to_list() and now.cutoff > then.cutoff
    for at in (version, version + 1):  # the second is another symbol's
        again = build.forecast(lake, "WALKUSDT", 30, as_of=at)
        assert (again.model, again.cutoff, again.score) == (then.model, then.cutoff, then.score)
        assert again.days["yhat"].to_list() == then.days["yhat"].to_list()
    longer = build.forecast(lake, "WALKUSDT", 40)
    assert longer.days["yhat"].to_list()[:30] == pytest.approx(now.days["yhat"].to_list())
    assert longer.days.height == 40
    with pytest.raises(InputError, match=rf"found none \(there are versions {version}, \d+\)"):
        build.forecast(lake, "WALKUSDT", 30, as_of=0)


def test_closes_that_were_corrected_make_a_forecast_stale(tmp_path: Path) -> None:
    lake = opened(tmp_path)
    put(lake, "SHORTUSDT", WALK[:40])
    build.make(lake, ["SHORTUSDT"])
    assert build.stale(lake, ["SHORTUSDT"]) == []
    put(lake, "SHORTUSDT", np.append(WALK[:1] * 2, WALK[1:40]))
    assert build.stale(lake, ["SHORTUSDT"]) == ["SHORTUSDT"]


def test_newer_forecasts_are_not_overwritten_by_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = opened(tmp_path)
    put(lake, "SHORTUSDT", WALK[:40])
    old = history.read(lake, "SHORTUSDT")
    put(lake, "SHORTUSDT", WALK[:41])
    build.make(lake, ["SHORTUSDT"])
    monkeypatch.setattr(history, "read", lambda *_: old)
    assert "are there" in build.make(lake, ["SHORTUSDT"]).failed["SHORTUSDT"]
    assert build.read(lake, c.FORECAST_MODELS, "SHORTUSDT")["data_version"].item() > old.version


def test_a_model_that_leaks_is_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = opened(tmp_path)
    put(lake, "WALKUSDT", WALK)
    first: list[str] = []

    def seeing(model: Forecaster, *rest: Any) -> list[Finding]:
        first.append(model.name)
        if model.name == first[0]:
            return [Finding(Check.FUTURE, "values", "", "it saw the future")]
        return leaks(model, *rest)

    monkeypatch.setattr(verdict, "leaks", seeing)
    made = build.make(lake, ["WALKUSDT"])
    assert made.verdicts["WALKUSDT"].champion != first[0]
    assert [row["model"] for row in made.findings(is_leaky=False)] == [first[0]]
    scores = ledger.latest(lake, "crypto").filter(pl.col("model") == first[0])
    assert scores["is_leaky"].all() and made.missed() == []
    monkeypatch.setattr(verdict, "leaks", lambda *_: [])
    blind = build.make(lake, ["WALKUSDT"])
    assert {row["model"] for row in blind.missed()} == {
        "prophet_leaky_ma7",
        "prophet_leaky_ma7_ma30",
    }


def test_a_day_that_was_not_over_when_it_was_written_is_no_close(tmp_path: Path) -> None:
    lake = opened(tmp_path)
    today = datetime.now(UTC).date()
    put(lake, "LIVEUSDT", np.array([1.0, 2.0, 9.0]), [today - timedelta(n) for n in (3, 1, 0)])
    learnt = history.read(lake, "LIVEUSDT")
    assert learnt.series.values.tolist() == [1.0, 1.0, 2.0]
    assert (learnt.filled, str(learnt.series.dates[-1])) == (1, str(today - timedelta(1)))
