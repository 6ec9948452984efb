"""Forecasters at work in several processes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from types import TracebackType
from typing import Self

import numpy as np

from tidemill.crypto.forecasting.calm import calm
from tidemill.crypto.forecasting.features import Floats
from tidemill.crypto.forecasting.fit import ProphetForecaster
from tidemill.errors import TidemillError
from tidemill.skill.folds import Fold
from tidemill.skill.series import Forecaster, Series

CHUNK = 3
"""Folds in a task: few, so that processes end together; a task costs a millisecond by itself."""

Told = Callable[[int, int], None]
"""Called with forecasts done and forecasts in all, a forecast being a model's of one fold."""


@dataclass(frozen=True)
class Refusal:
    """Why a model has no forecasts of a series."""

    reason: str


class Crew:
    """Processes that forecast; a context, whose end ends them.

    Recipes are cut into chunks of folds. Any other forecaster gets all its folds at once, as it may
    choose something on the first that holds for all. Forecasts do not depend on the number of
    processes: a recipe's folds know nothing of one another, and each process keeps to one thread.

    Args:
        workers: Processes, by default one a core; with 1 all runs in this process.
    """

    def __init__(self, workers: int | None = None) -> None:
        """Start nothing yet; processes start with the first task."""
        self.workers = workers or os.cpu_count() or 1
        self._pool: Executor | None = None

    def __enter__(self) -> Self:
        """Get ready."""
        if self.workers > 1:  # spawn: a fork would copy the threads' locks, held or not
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_begin
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes; what has not begun is dropped."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def forecasts(
        self,
        series: Series,
        forecasters: Sequence[Forecaster],
        folds: Sequence[Fold],
        told: Told | None = None,
    ) -> list[Floats | Refusal]:
        """Forecast the folds with each forecaster.

        Returns:
            In the forecasters' order: float64 of shape (folds, horizon), finite, or the reason why
            there is none.
        """
        tasks = [(i, part) for i, one in enumerate(forecasters) for part in _parts(one, folds)]
        tasks.sort(key=lambda task: -len(task[1]))  # the longest first, so that all end together
        done, total = 0, len(forecasters) * len(folds)
        found: dict[tuple[int, int], Floats | Refusal] = {}
        if self._pool is None:
            for i, part in tasks:
                found[i, part[0].cutoff] = _work(forecasters[i], series, part)
                done += len(part)
                if told:
                    told(done, total)
        else:
            futures: dict[Future[Floats | Refusal], tuple[int, list[Fold]]] = {
                self._pool.submit(_work, forecasters[i], series, part): (i, part)
                for i, part in tasks
            }
            for future in as_completed(futures):
                i, part = futures[future]
                try:
                    found[i, part[0].cutoff] = future.result()
                except BrokenExecutor as error:
                    self._pool.shutdown(cancel_futures=True)
                    self.__enter__()  # for the series that come after this one
                    raise TidemillError(
                        f"{series.name}: a process that forecast it was killed; is memory short?"
                    ) from error
                done += len(part)
                if told:
                    told(done, total)
        return [
            _joined([found[i, part[0].cutoff] for part in _parts(one, folds)])
            for i, one in enumerate(forecasters)
        ]


def _begin() -> None:
    """Get a process of the crew ready.

    It ends with the one that it works for, even where that was killed: a pool's process would wait
    for its next task for good. Libraries that it loads keep to one thread, as there is a process
    for each core.
    """
    Thread(target=_end_with_parent, daemon=True).start()
    for library in ("OPENBLAS", "OMP", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["POLARS_MAX_THREADS"] = "1"


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _parts(forecaster: Forecaster, folds: Sequence[Fold]) -> list[list[Fold]]:
    size = CHUNK if isinstance(forecaster, ProphetForecaster) else len(folds)
    return [list(folds[at : at + size]) for at in range(0, len(folds), size)]


def _joined(parts: list[Floats | Refusal]) -> Floats | Refusal:
    whole: list[Floats] = []
    for part in parts:
        if isinstance(part, Refusal):
            return part
        whole.append(part)
    return np.concatenate(whole)


def _work(forecaster: Forecaster, series: Series, folds: list[Fold]) -> Floats | Refusal:
    """A task; runs in a process of the crew."""
    try:
        with calm():
            found = forecaster.forecast(series, folds)
    except (TidemillError, ArithmeticError, RuntimeError, ValueError) as error:
        # model libraries complain in their own words about a series that they cannot fit
        return Refusal(str(error) or type(error).__name__)
    if not np.isfinite(found).all():
        return Refusal(f"{series.name}: {forecaster.name} forecast a number that is not finite")
    return found
