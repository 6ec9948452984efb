"""Starts Dagster's runs in processes that have the libraries already, and watches over them.

By default the code server starts a new Python for a run, which imports the libraries for longer
than most runs take, and sees that a process it started ended; where both were killed nobody would,
and the run would count as at work for ever, so that no sensor would ask for another.
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.events import EngineEventData
from dagster._core.launcher import (
    CheckRunHealthResult,
    DefaultRunLauncher,
    LaunchRunContext,
    WorkerStatus,
)
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value

_CLOCKS_DIFFER_S = 2.0
_LOOK_S = 0.5
_LIBRARIES = [
    "dagster._cli.api",
    "dagster._core.storage.sqlite_storage",
    "duckdb",
    "ibis.backends.duckdb",
]
"""Imported once for all runs: no code of a location, which may change meanwhile, and nothing that
starts a thread when it is imported, as a fork would lose that."""

multiprocessing.set_forkserver_preload(_LIBRARIES)

# The daemon looks at sensors every five seconds, whatever interval they ask for, and has no setting
# for it. This module is loaded by the daemon with the instance; other processes have no such loop.
if (_loop := sys.modules.get("dagster._daemon.sensor")) is not None:
    _loop.MIN_INTERVAL_LOOP_TIME = _LOOK_S  # type: ignore[attr-defined]
_main = getattr(sys.modules["__main__"], "__spec__", None)
if _main is not None and _main.name == "dagster._daemon.__main__":
    forkserver.ensure_running()  # it imports while the daemon does


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts a run as a process of its own, and looks for it when run monitoring asks."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork the run from a process that has the libraries.

        A location with a Python of its own starts its runs itself.
        """
        run = context.dagster_run
        origin = run.job_code_origin
        if origin is None or origin.repository_origin.executable_path != sys.executable:
            super().launch_run(context)
            return
        args = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref())
        started = multiprocessing.get_context("forkserver").Process(
            target=_execute, args=[serialize_value(args)], name=f"run {run.run_id}"
        )
        started.start()
        assert started.pid is not None
        self._instance.report_engine_event(
            f"Forked process {started.pid} for the run.",
            run,
            EngineEventData.in_process(started.pid),
            cls=self.__class__,
        )

    def terminate(self, run_id: str) -> bool:
        """Ask the run's process to end; False where it is not this machine's, or gone."""
        run = self._instance.get_run_by_id(run_id)
        found = self._process(run_id)
        if run is None or run.is_finished:
            return False
        if found is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        if not _lives(*found):
            return False
        os.kill(found[0], signal.SIGTERM)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Failed where the process that the run wrote down is gone; else it is taken to live."""
        found = self._process(run.run_id)
        if found is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its process is not known yet")
        pid, at_s = found
        if _lives(pid, at_s):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {pid} is gone")

    def _process(self, run_id: str) -> tuple[int, float] | None:
        """Number of the run's first process, and when it was told of, epoch seconds."""
        kind = DagsterEventType.ENGINE_EVENT
        for entry in self._instance.all_logs(run_id, of_type=kind):
            metadata = entry.get_dagster_event().event_specific_data.metadata  # type: ignore[union-attr]
            if "pid" in metadata:
                return int(str(metadata["pid"].value)), entry.timestamp
        return None


def _execute(args: str) -> None:
    """Be the run's process, as Dagster's own command for it."""
    from dagster._cli.api import execute_run_command

    execute_run_command.main([args], standalone_mode=False)


def _lives(pid: int, at_s: float) -> bool:
    """Whether a process that was there then is there; a number used again is of a later one."""
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() < at_s + _CLOCKS_DIFFER_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
