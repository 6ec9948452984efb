"""``tidemill up``: the Dagster UI and daemon as children that end with it."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from tidemill import compose, instance
from tidemill.commands import broker, run, run_events, sample, show
from tidemill.errors import TidemillError
from tidemill.processes import is_free, lives
from tidemill.settings import Settings

HOST = "127.0.0.1"
START_S = 120
GRACE_S = 10
LOOK_S = 2
LOOKS = 3
"""How often in a row the code server must be missing; a reload puts another in its place."""
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """Somebody asked for the end."""


def up(settings: Settings, port: int, wants_sample: bool) -> None:
    """Run everything until Ctrl-C.

    Raises:
        TidemillError: The port is taken, or a child ended by itself.
    """
    try:
        _on_stop(_stop)
        settings.home.mkdir(parents=True, exist_ok=True)
        _end_leftover(settings)
        if not is_free(port):
            raise TidemillError(
                f"port {port} is in use: stop what holds it, or choose another with --port"
            )
        instance.prepare(settings)
        with _broker(settings):
            _run(settings, port, wants_sample)
    except (Stopped, KeyboardInterrupt):  # the latter out of a run of Dagster's
        show.err.print("Stopped.")


def _run(settings: Settings, port: int, wants_sample: bool) -> None:
    if wants_sample and not compose.crypto(settings).symbols():
        sample.land(settings)
        run.print_report(run.run(settings, [], None))
    if wants_sample and not compose.event_landing(settings).ledger():
        sample.land_events(settings)
        run_events.print_report(run_events.run_events(settings, None))
    _serve(settings, port)


@contextmanager
def _broker(settings: Settings) -> Iterator[None]:
    """Run the embedded broker beside the block, where no other is set and Java can be had.

    One that runs already stays, unless a killed ``up`` of this home left it.
    """
    if settings.kafka_servers:
        show.err.print(f"Kafka at {settings.kafka_servers} (TIDEMILL_KAFKA_SERVERS)", style="dim")
        yield
        return
    mark = settings.home / "kafka" / "of-up"
    is_ours = mark.exists() or compose.broker(settings).status() is None
    try:
        with _whole():
            mark.parent.mkdir(parents=True, exist_ok=True)
            if is_ours:
                mark.touch()
            try:
                broker.ensure(settings)
            except TidemillError as error:
                show.marked(show.err, "no live prices:", f"{error}", "yellow")
                show.err.print("All else works without Kafka.")
        yield
    finally:
        _on_stop(signal.SIG_IGN)
        if is_ours:
            compose.broker(settings).stop()
            mark.unlink(missing_ok=True)


def _on_stop(act: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """What to do when asked for the end.

    Set for Ctrl-C too: a shell starts a background job with that signal ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, act)


def _stop(number: int, frame: FrameType | None) -> None:
    _on_stop(signal.SIG_IGN)  # a second Ctrl-C would end the clean-up, and leave processes
    raise Stopped


@contextmanager
def _whole() -> Iterator[None]:
    """What is in the block is done to its end, and only then stopped."""
    asked = []
    _on_stop(lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        _on_stop(_stop)
    if asked:
        signal.raise_signal(signal.SIGTERM)


def _serve(settings: Settings, port: int) -> None:
    """Run Dagster until it is stopped, again each time that one of its processes has ended."""
    is_again = False
    while True:
        _until_lost(settings, port, is_again)
        _on_stop(_stop)
        is_again = True
        show.err.print("A process of Dagster's had ended, so Dagster is started again.")


def _until_lost(settings: Settings, port: int, is_again: bool) -> None:
    """Run Dagster until its code server is gone, or it has ended as another of its processes had.

    Raises:
        TidemillError: It did not start, or failed.
    """
    log = settings.home / "up.log"
    child = None
    try:
        with _whole(), log.open("a") as output:
            child = _start(port, settings.home, output)
        _note(settings).write_text(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "started": psutil.Process().create_time(),
                    "session": child.pid,
                }
            )
        )
        _wait_until_up(child, port, log)
        if not is_again:
            _tell(port, log)
        _wait_until_lost(child)
        code = child.poll()
        with _whole():
            end(child.pid)
            child.wait()
            child = None
        if code:
            raise TidemillError(f"the Dagster UI ended by itself with code {code}; see {log}")
    finally:
        _on_stop(signal.SIG_IGN)
        if child is not None:
            end(child.pid)
            child.wait()
        _note(settings).unlink(missing_ok=True)


def _tell(port: int, log: Path) -> None:
    show.out.print(f"Dagster UI:  http://{HOST}:{port}")
    show.out.print('Query:       tidemill sql "select * from crypto.merged_daily_ohlc limit 5"')
    show.out.print("Live:        tidemill produce crypto --speed 60x")
    show.out.print("             tidemill produce events --rate 1000")
    show.out.print(f"Log:         {log}")
    show.out.print("Ctrl-C stops all of it.")


def _wait_until_lost(child: "subprocess.Popen[bytes]") -> None:
    """Wait until the code server below ``dagster dev`` is gone, or that itself has ended.

    Dagster starts no other code server: sensors would fail, without a word in the terminal, until
    somebody reloads the location by hand. Without its daemon it ends, and calls that a success.
    """
    missing = 0
    while missing < LOOKS:
        time.sleep(LOOK_S)
        if child.poll() is not None:
            return
        missing = 0 if _has_code_server(child.pid) else missing + 1


def _has_code_server(pid: int) -> bool:
    """Whether one lives among the descendants of a process."""
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return False
    for process in family:
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if "grpc" in process.cmdline():
                return True
    return False


def _start(port: int, home: Path, output: IO[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("dagster")),
            "dev",
            "--workspace",
            str(instance.SOURCE / "workspace.yaml"),
            "--host",
            HOST,
            "--port",
            str(port),
        ],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=home,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """Even a killed parent takes its child along; what that leaves is ended at the next start."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until_up(child: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise TidemillError(f"the Dagster UI did not start; see {log}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
    raise TidemillError(f"the Dagster UI did not answer within {START_S} s; see {log}")


def _note(settings: Settings) -> Path:
    return settings.home / "up.json"


def process(settings: Settings) -> int | None:
    """The process of the ``tidemill up`` that runs for this home, or None."""
    note = _note(settings)
    if not note.exists():
        return None
    left = json.loads(note.read_text())
    return int(left["pid"]) if lives(left["pid"], left["started"]) else None


def _end_leftover(settings: Settings) -> None:
    """End what a killed ``tidemill up`` of this home left running; refuse beside a living one."""
    note = _note(settings)
    if not note.exists():
        return
    running = process(settings)
    if running is not None:
        raise TidemillError(
            f"tidemill is up for {settings.home} already (process {running}); "
            "stop it with Ctrl-C where it runs"
        )
    end(json.loads(note.read_text())["session"])
    note.unlink(missing_ok=True)


def end(leader: int) -> None:
    """End a session's processes: ask, wait, then kill.

    ``dagster dev`` may ignore SIGTERM and its children outlive it, so all of the session is ended.
    """
    members = [p for p in psutil.process_iter() if _session(p.pid) == leader]
    for ask in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for process in members:
            try:
                process.send_signal(ask)
            except psutil.NoSuchProcess:
                continue
        _, members = psutil.wait_procs(members, timeout=GRACE_S)
        members += [
            p for p in psutil.process_iter() if _session(p.pid) == leader and p not in members
        ]
        if not members:
            return


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
