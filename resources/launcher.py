"""Starts Dagster's runs as it does by default, and can tell whether a run still lives.

The code server sees that a process it started ended. Where both were killed nobody would, and the
run would count as at work for ever, so that no sensor would ask for another.
"""

import sys

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

_CLOCKS_DIFFER_S = 2.0
_LOOK_S = 1

# The daemon looks at sensors every five seconds, whatever interval they ask for, and has no setting
# for it. This module is loaded by the daemon with the instance; other processes have no such loop.
if (_loop := sys.modules.get("dagster._daemon.sensor")) is not None:
    _loop.MIN_INTERVAL_LOOP_TIME = _LOOK_S  # type: ignore[attr-defined]


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts a run as a process of its own, and looks for it when run monitoring asks."""

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
        """Number of the run's first process, and when it told of itself, epoch seconds."""
        kind = DagsterEventType.ENGINE_EVENT
        for entry in self._instance.all_logs(run_id, of_type=kind):
            metadata = entry.get_dagster_event().event_specific_data.metadata  # type: ignore[union-attr]
            if "pid" in metadata:
                return int(str(metadata["pid"].value)), entry.timestamp
        return None


def _lives(pid: int, at_s: float) -> bool:
    """Whether a process that was there then is there; a number used again is of a later one."""
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() < at_s + _CLOCKS_DIFFER_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
