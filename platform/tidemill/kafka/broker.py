"""The embedded broker: Apache Kafka (KRaft, one node) as a process of its own, on loopback."""

import base64
import json
import secrets
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from tidemill import java
from tidemill.errors import TidemillError
from tidemill.kafka import jars
from tidemill.processes import is_free, lives

HOST = "127.0.0.1"
HEAP_MB = 512
START_S = 60
STOP_S = 30

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=20971520
log.retention.check.interval.ms=5000
"""

_LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %m (%c)%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=20MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=3
rootLogger.level=WARN
rootLogger.appenderRef.file.ref=file
logger.kafka.name=kafka.server
logger.kafka.level=INFO
"""


@dataclass(frozen=True)
class Status:
    """A broker that runs.

    Attributes:
        pid: Its process.
        port: Where clients connect.
        started: Epoch seconds, as the system tells it; a number used again has another one.
    """

    pid: int
    port: int
    started: float


class Broker:
    """The broker of one home; what it holds stays in that folder whatever ends it.

    Args:
        folder: Where its data, settings and log are.
        port: Where clients connect, on loopback.
        controller_port: Where its own controller listens; by default the next port.
    """

    def __init__(self, folder: Path, port: int, controller_port: int | None = None) -> None:
        """Nothing starts before ``start``."""
        self.folder = folder
        self.port = port
        self.controller_port = controller_port or port + 1

    @property
    def servers(self) -> str:
        """Its address, as clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "broker.log"

    def status(self) -> Status | None:
        """The process that runs, or None; one that was killed is not taken for it."""
        try:
            status = Status(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return status if lives(status.pid, status.started) else None

    def start(self) -> Status:
        """Start it where it does not run, and wait until it answers.

        Returns:
            The process, which outlives this one; of a broker that ran already, that one.

        Raises:
            TidemillError: Java or the jars are missing, a port is taken, or it did not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            running = self.status()
            if running is None:
                running = self._started()
            self._wait(running)
            return running

    def stop(self) -> bool:
        """Ask it to end and wait; it is killed after half a minute. False where none ran."""
        running = self.status()
        if running is None:
            return False
        process = psutil.Process(running.pid)
        for ask in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.send_signal(ask)
                process.wait(STOP_S)
                break
            except psutil.TimeoutExpired:
                continue
            except psutil.NoSuchProcess:
                break
        self._note.unlink(missing_ok=True)
        return True

    @property
    def _note(self) -> Path:
        return self.folder / "broker.json"

    def _started(self) -> Status:
        for port in (self.port, self.controller_port):
            if not is_free(port):
                raise TidemillError(
                    f"port {port} is in use: stop what holds it, or set TIDEMILL_KAFKA_PORT to "
                    "another (the broker takes that one and the next)"
                )
        self._configure()
        with (self.folder / "broker.out").open("a") as output:
            process = subprocess.Popen(
                self._java(f"-Xms{HEAP_MB}m", f"-Xmx{HEAP_MB}m", "kafka.Kafka", self._properties),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        started = psutil.Process(process.pid).create_time()
        status = Status(process.pid, self.port, started)
        self._note.write_text(json.dumps(asdict(status)))
        return status

    def _configure(self) -> None:
        """Write its settings, and make its storage on the first start."""
        data = self.folder / "data"
        self._properties.write_text(
            _PROPERTIES.format(
                host=HOST, port=self.port, controller_port=self.controller_port, data=data
            )
        )
        self._logging.write_text(_LOGGING.format(log=self.log))
        if (data / "meta.properties").exists():
            return
        # Its first letter must not be a dash, which the tool would take for another option.
        cluster = base64.urlsafe_b64encode(b"T" + secrets.token_bytes(15)).decode().rstrip("=")
        tool = ("kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted")
        done = subprocess.run(
            self._java(*tool, "--cluster-id", cluster, "--config", self._properties),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise TidemillError(f"{data}: the broker's storage could not be made: {told}")

    def _java(self, *arguments: str | Path) -> list[str]:
        classes = str(jars.fetched() / "*")
        logging = f"-Dlog4j2.configurationFile={self._logging}"
        return [str(java.home() / "bin" / "java"), logging, "-cp", classes, *map(str, arguments)]

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _logging(self) -> Path:
        return self.folder / "log4j2.properties"

    def _wait(self, running: Status) -> None:
        """Wait until it answers a client.

        Raises:
            TidemillError: It ended, or did not answer in time.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and lives(running.pid, running.started):
            try:
                client.list_topics(timeout=1)
                return
            except KafkaException:
                continue
        raise TidemillError(f"the broker did not start; see {self.log} and broker.out beside it")
