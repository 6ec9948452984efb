"""A run whose process is gone is seen to be dead, whoever else was killed with it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from resources.launcher import WatchedRunLauncher
from tidemill import instance
from tidemill.settings import Settings


@pytest.fixture
def of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance as ``tidemill up`` has it."""
    monkeypatch.setenv("DAGSTER_HOME", "set back afterwards")
    monkeypatch.setenv("TIDEMILL_HOME", "set back afterwards")
    folder = instance.prepare(Settings.current(tmp_path / "home"))
    with dg.DagsterInstance.from_config(str(folder)) as opened:
        yield opened


def started(of: dg.DagsterInstance, pid: int | None) -> dg.DagsterRun:
    run = of.create_run_for_job(dg.GraphDefinition("nothing").to_job())
    of.report_engine_event("waits", run)
    if pid is not None:
        of.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run


def health(of: dg.DagsterInstance, pid: int | None) -> WorkerStatus:
    launcher = of.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(started(of, pid)).status


def test_only_a_run_whose_process_is_gone_is_dead(of: dg.DagsterInstance) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert health(of, os.getpid()) is WorkerStatus.RUNNING
    assert health(of, gone.pid) is WorkerStatus.FAILED
    assert health(of, None) is WorkerStatus.RUNNING, "it has not told of itself yet"


def test_a_process_younger_than_the_run_is_another_one(
    of: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(WatchedRunLauncher, "_process", lambda *_: (os.getpid(), an_hour_ago))
    assert health(of, os.getpid()) is WorkerStatus.FAILED


def test_the_daemon_looks_at_sensors_as_often_as_they_ask() -> None:
    code = (
        "import dagster._daemon.sensor as loop, resources.launcher; "
        "assert 'sleep_time = max(0, MIN_INTERVAL_LOOP_TIME' in open(loop.__file__).read(); "
        "print(loop.MIN_INTERVAL_LOOP_TIME)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1
