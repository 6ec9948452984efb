"""``tidemill serve`` as a user starts and stops it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.test_cli import tidemill
from tidemill.processes import free_port, is_free

pytestmark = pytest.mark.integration


@contextmanager
def serving(home: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    """The endpoint, once it says that it is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill", "serve", "--port", str(port)],
        env=os.environ | {"TIDEMILL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops it" in line:
                break
        assert said and f"http://127.0.0.1:{port}/health\n" in said
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_on_loopback_alone_until_it_is_stopped(
    tmp_path: Path, number: signal.Signals
) -> None:
    home, port = tmp_path / "home", free_port()
    with serving(home, port) as process:
        status, health = asked(port, "/health")
        assert (status, health["status"]) == (200, "ok")
        status, told = asked(port, "/forecasts/btc/usdt")
        assert status == 404 and "run `tidemill run crypto`" in told["error"]
        listening = psutil.Process(process.pid).net_connections("tcp")
        assert {c.laddr for c in listening if c.status == "LISTEN"} == {("127.0.0.1", port)}
        with socket.create_connection(
            ("127.0.0.1", port)
        ):  # one that asks nothing holds nothing up
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "Stopped.\n")
    assert is_free(port)
    assert not home.exists()


def test_a_port_in_use_is_one_message(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = tidemill(tmp_path, "serve", "--port", str(port), code=2).stderr
    assert refused == (
        f"tidemill: port {port} is in use: stop what holds it, or choose another with --port\n"
    )
