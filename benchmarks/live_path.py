"""The whole live path of one home as processes of its own, and how each of them is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from benchmarks.accounts import Domain, Sent
from tidemill import compose
from tidemill.lake.contracts import Table
from tidemill.settings import Settings

START_S = 180
APPEARS_S = 60

REFUSED = 2
"""How a command ends that cannot be done as it was asked for."""
SENDING = ".published/*.sending"
"""There while windows are sent."""

Seen = dict[Path, int]
"""Files and when each was changed, ns."""


class LivePath:
    """The processes of a home: ``up`` with its children, the broker, a producer.

    Args:
        settings: Of the home; its ``kafka_port`` and the next one are used.
        ui_port: Of the Dagster UI.
        domain: What is sent and taken.
        sent: The file to replay.
        rate: Messages a second.
        rng: Says when a kill falls.
    """

    def __init__(
        self,
        settings: Settings,
        ui_port: int,
        domain: Domain,
        sent: Sent,
        rate: float,
        rng: random.Random,
    ) -> None:
        """Nothing starts yet."""
        self.settings = settings
        self.ui_port = ui_port
        self.domain = domain
        self.sent = sent
        self.rate = rate
        self.rng = rng
        self.environment = os.environ | {
            "TIDEMILL_HOME": str(settings.home),
            "TIDEMILL_KAFKA_PORT": str(settings.kafka_port),
        }
        for name in ("TIDEMILL_LAKE", "TIDEMILL_KAFKA_SERVERS", "DAGSTER_HOME"):
            self.environment.pop(name, None)
        self._up: subprocess.Popen[bytes] | None = None
        self._producer: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run ``up`` beside the block; nothing of the home is left behind it."""
        with ExitStack() as stack:
            stack.callback(self._end_all)
            self.start_up()
            yield

    def start_up(self) -> None:
        """Start ``tidemill up`` and wait until its UI answers."""
        log = self.settings.home / "up.said"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said:
            said.write(b"-- started\n")
            said.flush()
            self._up = self._tidemill("up", "--no-sample", "--port", str(self.ui_port), into=said)
        deadline = time.monotonic() + START_S
        while b"Ctrl-C stops" not in log.read_bytes().rpartition(b"-- started")[2]:
            if self._up.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"tidemill up did not start; see {log}")
            time.sleep(0.2)

    def produce(self) -> None:
        """Start the replay, behind what the topic has."""
        with (self.settings.home / "produce.said").open("ab") as said:
            name = self.domain.feed.table.domain
            arguments = ("produce", name, str(self.sent.file), "--rate", str(self.rate), "--resume")
            self._producer = self._tidemill(*arguments, *self.domain.options, "--json", into=said)

    def has_produced(self) -> bool:
        """Whether the replay ended by itself; one that failed is started again.

        Raises:
            RuntimeError: It was refused, and would be again.
        """
        assert self._producer is not None
        code = self._producer.poll()
        if code == REFUSED:
            raise RuntimeError(f"produce was refused; see {self.settings.home / 'produce.said'}")
        if code:
            self.produce()
        return code == 0

    def kinds(self) -> dict[str, Callable[[], str | None]]:
        """What kills what; each tells the victim, or None where there was none to kill."""
        return {
            "producer": self.kill_producer,
            "run": self.kill_run,
            "daemon": lambda: self._kill_child("dagster._daemon", is_fatal=True),
            "code server": lambda: self._kill_child("api grpc"),
            "up": self.kill_up,
            "broker": self.kill_broker,
        }

    def kill_producer(self) -> str | None:
        """Kill the replay while it sends, and go on with it."""
        assert self._producer is not None
        if self.has_produced():
            return None
        self._producer.kill()
        self._producer.wait()
        self.produce()
        return "producer"

    def kill_run(self) -> str | None:
        """Kill a run that takes messages: as soon as it writes, or at any moment of it.

        One that ends before its moment has come, with nothing written or on a slow machine, is let
        go, and the next one is killed.
        """
        is_aimed = self.rng.random() < 0.75
        aim, delay_s = self.rng.choice(self._aims())
        deadline = time.monotonic() + APPEARS_S
        while True:
            before, all_before = self._files(aim), self._files(self._all())
            run = self._wait_for_run(deadline)
            if run is None:
                return None
            while is_aimed and _is_alive(run) and time.monotonic() < deadline:
                if self._is_changed(aim, before):
                    break
                time.sleep(0.005)
            time.sleep(self.rng.uniform(0, delay_s if is_aimed else 5))
            family = [run]
            with suppress(psutil.NoSuchProcess):
                family += run.children(recursive=True)
            if _is_alive(run) and sum(map(_kill, family)):
                return f"run, {self._stage(all_before)}"

    def kill_up(self) -> str | None:
        """Kill ``up`` alone or with all of its session, then start it again."""
        assert self._up is not None
        children = [p for p in self.processes() if "kafka.Kafka" not in _line(p)]
        is_whole = self.rng.random() < 0.5
        self._up.kill()
        self._up.wait()
        if is_whole:
            for process in children:
                _kill(process)
        time.sleep(self.rng.uniform(0, 3))
        self.start_up()
        return "up and all its processes" if is_whole else "up alone"

    def kill_broker(self) -> str | None:
        """Kill the broker, and start it again after some seconds."""
        broker = compose.broker(self.settings)
        running = broker.status()
        if running is None or not _kill(psutil.Process(running.pid)):
            return None
        time.sleep(self.rng.uniform(0, 5))
        self._tidemill("broker", "start", into=subprocess.DEVNULL).wait()
        return "broker"

    def processes(self) -> list[psutil.Process]:
        """Every process of the home, but the producer and this one."""
        mine = {os.getpid(), self._producer.pid if self._producer else 0}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                home = process.environ().get("TIDEMILL_HOME")
                if home == str(self.settings.home) and process.pid not in mine:
                    found.append(process)
        return found

    def _kill_child(self, part: str, is_fatal: bool = False) -> str | None:
        """Kill a process of ``dagster dev``; start all again where it cannot go on without."""
        deadline = time.monotonic() + APPEARS_S
        while not (victims := [p for p in self.processes() if part in _line(p)]):
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)
        if not _kill(victims[0]):
            return None
        assert self._up is not None
        if is_fatal:
            with suppress(subprocess.TimeoutExpired):
                self._up.wait(60)
            if self._up.poll() is not None:
                self.start_up()
        return part

    def _wait_for_run(self, deadline: float) -> psutil.Process | None:
        """The process of a run that has just started."""
        known = {run.pid for run in self._runs()}
        while time.monotonic() < deadline:
            new = [run for run in self._runs() if run.pid not in known]
            if new:
                return new[0]
            time.sleep(0.02)
        return None

    def _runs(self) -> list[psutil.Process]:
        """The processes that the home's daemon had forked."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                parent = process.parent()
                is_forked = parent is not None and "multiprocessing.forkserver" in _line(parent)
                if is_forked and process.environ().get("TIDEMILL_HOME") == str(self.settings.home):
                    found.append(process)
        return found

    def _aims(self) -> list[tuple[list[str], float]]:
        """What a run writes, as patterns of files in the lake, and seconds to let it go on then."""
        feed = self.domain.feed
        aims = [([*_parts(feed.table), *_commits(feed.spans)], 0.15)]
        if self.domain.followers:
            aims.append(
                ([name for table in self.domain.followers for name in _commits(table)], 0.5)
            )
            aims.append(([SENDING], 0.02))
        return aims

    def _all(self) -> list[str]:
        feed = self.domain.feed
        tables = (feed.table, feed.spans, *self.domain.followers)
        return [*_parts(feed.table), *(name for t in tables for name in _commits(t)), SENDING]

    def _files(self, patterns: list[str]) -> Seen:
        """The files of the lake that there are."""
        found = {}
        for pattern in patterns:
            for path in self.settings.lake.glob(pattern):
                with suppress(FileNotFoundError):
                    found[path] = path.stat().st_mtime_ns
        return found

    def _is_changed(self, patterns: list[str], before: Seen) -> bool:
        return bool(self._files(patterns).items() - before.items())

    def _stage(self, before: Seen) -> str:
        """How far the tables are in what a run wrote."""
        new = {path for path, _ in self._files(self._all()).items() - before.items()}

        def is_in(table: Table) -> bool:
            folder = self.settings.lake / table.domain / table.name / "_delta_log"
            return any(path.parent == folder for path in new)

        feed, followers = self.domain.feed, self.domain.followers
        if any(path.match(SENDING) for path in new):
            return "sending windows"
        if followers and (done := sum(map(is_in, followers))):
            return f"{done} of {len(followers)} followers committed"
        if is_in(feed.spans):
            return "rows committed" if is_in(feed.table) else "ledger committed, rows not"
        return "rows written" if new else "nothing written"

    def _tidemill(self, *arguments: str, into: IO[bytes] | int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=into,
            stderr=subprocess.STDOUT,
        )

    def _end_all(self) -> None:
        for child in (self._producer, self._up):
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(90)
        compose.broker(self.settings).stop()
        for process in self.processes():
            _kill(process)


def _parts(table: Table) -> list[str]:
    return [f"{table.domain}/{table.name}/**/*.parquet"]


def _commits(table: Table) -> list[str]:
    return [f"{table.domain}/{table.name}/_delta_log/*.json"]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
