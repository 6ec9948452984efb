"""Forecasters in several processes."""

import subprocess
import sys

import numpy as np
import psutil

from tests.unit.crypto.forecasting.walks import Awkward, Naive, walk
from tidemill.crypto.forecasting.crew import Crew, Refusal
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.crypto.forecasting.recipe import Known, Mode, Recipe
from tidemill.skill.folds import Fold
from tidemill.skill.series import Forecaster

FOLDS = [Fold(cut, cut, cut + 5) for cut in range(120, 240, 30)]


def test_the_number_of_processes_does_not_change_a_bit() -> None:
    models: list[Forecaster] = [
        Naive(),
        ProphetForecaster(Recipe(mode=Mode.MULTIPLICATIVE)),
        ProphetForecaster(Recipe(known=Known.RECURSIVE, log=True)),
    ]
    told: list[tuple[int, int]] = []
    with Crew(1) as alone, Crew(2) as two:
        first = alone.forecasts(walk(), models, FOLDS)
        second = two.forecasts(walk(), models, FOLDS, lambda done, of: told.append((done, of)))
    for one, other in zip(first, second, strict=True):
        assert isinstance(one, np.ndarray) and one.shape == (4, 5)
        assert np.array_equal(one, np.asarray(other))
    assert told[-1] == (12, 12) and told == sorted(told)


def test_a_model_that_fails_gives_its_reason_and_the_others_go_on() -> None:
    with Crew(1) as crew:
        failed, kept = crew.forecasts(walk(), [Awkward(), Naive()], FOLDS)
    assert failed == Refusal("no spread")
    assert not isinstance(kept, Refusal)


def test_a_number_that_is_not_finite_is_no_forecast() -> None:
    whole = walk()
    whole.values[119] = np.nan
    with Crew(1) as crew:
        [found] = crew.forecasts(whole, [Naive()], FOLDS)
    assert isinstance(found, Refusal) and "not finite" in found.reason


BUSY = """
import sys
from concurrent.futures import wait
from tidemill.crypto.forecasting.crew import Crew

with Crew(2) as crew:
    wait([crew._pool.submit(pow, 2, 2) for _ in range(8)])
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_crew_ends_with_the_process_that_it_works_for() -> None:
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None and leader.stdout.readline() == b"ready\n"
        crew = psutil.Process(leader.pid).children(recursive=True)
        assert len(crew) >= 2
        leader.kill()
        _, left = psutil.wait_procs(crew, timeout=30)
        for process in left:
            process.kill()
    assert not left
