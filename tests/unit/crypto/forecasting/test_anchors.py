"""The spec's figures on the real daily series, which is not part of this repository."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.unit.crypto.forecasting.walks import Naive
from tidemill.crypto.forecasting.crew import Crew
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.recipe import Begin, Known, Recipe
from tidemill.crypto.forecasting.study import Plan, Runs, mape
from tidemill.skill.series import Forecaster, Series

ROOT = Path(__file__).parents[4]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data")) / "crypto"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there: set TIDEMILL_REAL_DATA"),
]


def bitcoin() -> Series:
    """BTC-USD from 2014-09-17, where the spec's series begins, to 2024-08-21."""
    rows = (
        pl.read_csv(DATA / "BTCUSD_1d_candles_full.csv.gz")
        .select(pl.col("timestamp").str.slice(0, 10).str.to_date(), "close")
        .filter(pl.col("timestamp").dt.year() >= 2014)
    )
    days = rows["timestamp"].to_numpy().astype("datetime64[D]")
    kept = (days >= np.datetime64("2014-09-17")) & (days <= np.datetime64("2024-08-21"))
    return Series("BTCUSD", days[kept], rows["close"].cast(pl.Float64).to_numpy()[kept])


def test_the_last_fifth_of_bitcoin_gives_the_figures_of_the_spec() -> None:
    whole = bitcoin()
    expected: list[tuple[Forecaster, float, float]] = [
        (Naive(), 7.51, 0.01),
        (ProphetForecaster(Recipe()), 7.73, 0.05),
        (ProphetForecaster(Recipe(averages=(), prior=0.01), Begin.PROPHET), 50.7, 1.0),
        (ProphetForecaster(Recipe(known=Known.LEAKY)), 2.51, 0.05),
    ]
    folds = Plan().testing(len(whole))
    runs = Runs.of(whole, folds)
    with Crew() as crew:
        found = crew.forecasts(whole, [model for model, *_ in expected], folds)
    for (model, figure, tolerance), forecast in zip(expected, found, strict=True):
        assert isinstance(forecast, np.ndarray)
        score = mape(runs.actuals, forecast)
        print(f"{model.name}: {score:.3f}, in the spec {figure}")
        assert score == pytest.approx(figure, abs=tolerance), model.name
