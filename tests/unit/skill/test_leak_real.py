"""On real prices the guard and the alarm tell the reference's recipe from honest forecasts.

The file is not part of this repository. ``TIDEMILL_REAL_DATA`` names the folder that has it under
``crypto/``; its default is ``shared/data`` beside the repository.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.unit.skill.zoo.exhibit import EachFold, naive
from tests.unit.skill.zoo.series import lagged_means, same_day_means
from tidemill.skill.alarm import Floats, too_good
from tidemill.skill.findings import Check
from tidemill.skill.folds import Fold, WalkForward
from tidemill.skill.leak import leaks
from tidemill.skill.series import Series

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data"))
CANDLES = DATA / "crypto" / "BTCUSD_1d_candles_full.csv.gz"
HORIZON, PERIOD = 30, 15

pytestmark = pytest.mark.skipif(
    not CANDLES.is_file(), reason=f"{CANDLES} is not there: set TIDEMILL_REAL_DATA"
)


@pytest.fixture(scope="module")
def bitcoin() -> Series:
    """Daily closes; a missing day has the last close."""
    rows = pl.read_csv(CANDLES).select(
        day=pl.col("timestamp").str.to_datetime().dt.date(), close="close"
    )
    days = rows.sort("day").upsample("day", every="1d").with_columns(pl.col("close").forward_fill())
    return Series("BTCUSD", days["day"].to_numpy(), days["close"].to_numpy())


def errors(forecaster: EachFold, series: Series) -> Floats:
    """Absolute percentage errors of the last 20 folds."""
    folds = WalkForward(HORIZON, PERIOD, 3800).folds(len(series))[-20:]
    actual = np.stack([series.values[fold.start : fold.stop] for fold in folds])
    return np.asarray(100 * np.abs(forecaster.forecast(series, folds) / actual - 1))


@pytest.mark.parametrize("honest", [naive, lagged_means])
def test_honest_forecasts_of_bitcoin_pass(
    honest: Callable[[Series, Fold], Floats], bitcoin: Series
) -> None:
    forecaster = EachFold("honest", honest)
    folds = WalkForward(HORIZON, PERIOD, 3800).folds(len(bitcoin))[-6:]
    assert leaks(forecaster, bitcoin, folds) == []
    loss, baseline = errors(forecaster, bitcoin), errors(EachFold("naive", naive), bitcoin)
    assert too_good(loss, baseline, stride=HORIZON // PERIOD) == []


def test_the_days_own_averages_are_caught_by_guard_and_alarm(bitcoin: Series) -> None:
    forecaster = EachFold("leaky", same_day_means, is_leaky=True)
    folds = WalkForward(HORIZON, PERIOD, 3800).folds(len(bitcoin))[-6:]
    assert [finding.check for finding in leaks(forecaster, bitcoin, folds)] == [Check.FUTURE]
    loss, baseline = errors(forecaster, bitcoin), errors(EachFold("naive", naive), bitcoin)
    alarms = too_good(loss, baseline, stride=HORIZON // PERIOD)
    assert [finding.check for finding in alarms] == [Check.ALARM]
