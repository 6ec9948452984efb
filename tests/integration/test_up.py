"""``tidemill up`` as a user starts and stops it: the UI answers, sensors work, nothing is left."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.test_cli import candles, tidemill, told
from tidemill.commands import up
from tidemill.processes import free_port
from tidemill.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


def start(home: Path, port: int, **environment: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill", "up", "--port", str(port), "--no-sample"],
        env=os.environ | {"TIDEMILL_HOME": str(home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops" in line:
            return process
    raise AssertionError("".join(said))


def ask(port: int, query: str, **variables: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["data"]


def until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(1)
    return False


def of_home(home: Path) -> list[psutil.Process]:
    """Every process that was started for a home, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TIDEMILL_HOME") == str(home):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_a_landed_file_is_made_by_the_sensors_and_nothing_is_left_running(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    process = start(home, port)
    try:
        nodes = ask(port, "{assetNodes{assetKey{path}}}")["assetNodes"]
        assert ["crypto", "filled_series"] in [node["assetKey"]["path"] for node in nodes]
        busy = tidemill(home, "up", "--port", str(port), code=2).stderr
        assert "is up for" in busy
        assert "stop it before a reset" in tidemill(home, "reset", "crypto", "--yes", code=2).stderr
        path = candles(tmp_path / "ABCUSDT.csv", 35 * 1440)
        assert "sensors of tidemill up make" in tidemill(home, "ingest", "crypto", str(path)).stdout
        count = "select count(*) as n from crypto.filled_series"
        assert until(lambda: told(home, "sql", count) == [{"n": 35}], 200)
    finally:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)  # an impatient one, while it ends its children
        process.wait(timeout=60)
    assert process.returncode == 0
    assert not of_home(home) and not (home / "up.json").exists()


def test_after_a_kill_it_starts_again_and_ends_what_was_left(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    first = start(home, port)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start(home, port)
    second.send_signal(signal.SIGTERM)
    second.wait(timeout=60)
    assert second.returncode == 0
    assert until(lambda: not of_home(home), 40), of_home(home)


def daemons(home: Path) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [p for p in of_home(home) if "dagster._daemon" in p.cmdline()]
    return []


def test_a_killed_code_server_and_a_killed_daemon_come_back_and_sensors_go_on(
    tmp_path: Path,
) -> None:
    home, port = tmp_path / "home", free_port()
    process = start(home, port)
    try:
        (server,) = [p for p in of_home(home) if "grpc" in p.cmdline()]
        server.kill()
        assert until(lambda: _ticks(port, home), 120)
        (daemon,) = daemons(home)
        daemon.kill()
        assert until(lambda: daemons(home) not in ([], [daemon]), 120)
        assert until(lambda: _ticks(port, home), 120)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 0
    assert not of_home(home)


LAUNCH = """mutation($job: ExecutionParams!) {launchRun(executionParams: $job) {
    ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
STATUS = """query($run: ID!) {runOrError(runId: $run) {... on Run {status eventConnection {
    events {... on EngineEvent {message}}}}}}"""
TERMINATE = """mutation($run: String!) {terminateRun(runId: $run) {__typename}}"""


def test_a_run_is_forked_with_the_libraries_and_can_be_ended(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(home, port, TIDEMILL_EXCHANGE_URL=url)
        try:
            place = {"repositoryLocationName": "tidemill", "repositoryName": "__repository__"}
            job = {"selector": place | {"jobName": "crypto_backfill"}, "runConfigData": {}}
            run = ask(port, LAUNCH, job=job)["launchRun"]["run"]["runId"]

            def stands() -> str:
                return str(ask(port, STATUS, run=run)["runOrError"]["status"])

            silent.settimeout(60)
            silent.accept()  # the run has asked, and waits
            assert stands() == "STARTED"
            events = ask(port, STATUS, run=run)["runOrError"]["eventConnection"]["events"]
            (pid,) = re.findall(r"Forked process (\d+)", json.dumps(events))
            parent = psutil.Process(int(pid)).parent()
            assert parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())
            assert ask(port, TERMINATE, run=run)["terminateRun"]["__typename"] == (
                "TerminateRunSuccess"
            )
            assert until(lambda: stands() == "CANCELED", 60), stands()
            assert until(lambda: not psutil.pid_exists(int(pid)), 20)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    assert not of_home(home)


def _ticks(port: int, home: Path) -> bool:
    """Whether a new code server answers."""
    try:
        nodes = ask(port, "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}")
    except OSError:
        return False
    lives = [p for p in of_home(home) if "grpc" in p.cmdline()]
    return bool(lives and nodes["repositoriesOrError"].get("nodes"))


def test_a_signal_while_the_child_starts_leaves_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start_and_interrupt(port: int, home: Path, output: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(up, "_start", start_and_interrupt)
    try:
        up.up(Settings.current(tmp_path / "home"), free_port(), wants_sample=False)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert started[0].poll() is not None


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = tidemill(tmp_path / "home", "up", "--port", str(port), code=2).stderr
    assert f"port {port} is in use" in refused and "--port" in refused
