"""``tidemill produce``: live prices or a replay into Kafka, with an account of every message."""

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tidemill import compose
from tidemill.commands import sample, show
from tidemill.crypto import replay, ticker, ticks
from tidemill.crypto.exchange import Exchange
from tidemill.crypto.intake.files import symbol_from
from tidemill.crypto.ticks import Candles, Ticks
from tidemill.crypto.topics import PRICES
from tidemill.errors import InputError, TidemillError
from tidemill.kafka import resume, topics
from tidemill.kafka.pace import Pace, speed_of
from tidemill.kafka.producer import Report, Sender, UnsentError
from tidemill.processes import is_free
from tidemill.settings import Settings

_SHOWN_S = 0.2


@dataclass(frozen=True)
class Order:
    """What to produce, as the command line has it.

    Attributes:
        file: Candles to replay.
        speed: ``1x``, ``60x``, ``max``; None without a file means live prices.
        symbols: These trading pairs alone.
        since: First minute to replay.
        until: End, not included.
        limit: Messages at most.
        rate: Messages a second at most.
        is_endless: Whether to start again at the end.
        is_resumed: Whether to go on where an earlier replay was.
    """

    file: Path | None = None
    speed: str | None = None
    symbols: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    rate: float | None = None
    is_endless: bool = False
    is_resumed: bool = False

    @property
    def is_live(self) -> bool:
        """Whether prices come from the exchange."""
        return self.file is None and self.speed is None


def produce(settings: Settings, order: Order) -> tuple[dict[str, Any], TidemillError | None]:
    """Send until the end, the limit or Ctrl-C.

    Returns:
        The account, and what ended it early.

    Raises:
        InputError: The order cannot be; nothing was sent.
        TidemillError: No broker answers.
    """
    if order.is_live and (order.since or order.until or order.is_endless or order.is_resumed):
        raise InputError(
            "--since, --until, --loop and --resume are for a replay: add a file or --speed"
        )
    speed = speed_of(order.speed or "max")
    Pace(speed, order.rate)  # refuses what cannot be before anything starts
    config = _connected(settings)
    ended: TidemillError | None = None
    source = _Live(settings, order) if order.is_live else _Replay(settings, order, config)
    with Sender(config, PRICES.name) as sender, source.batches(sender) as batches:
        began = time.monotonic()
        with _told_by_signals(sender), _Line(sender) as line:
            try:
                pace = Pace(speed, order.rate, sleep=sender.wait)
                replay.replay(sender, batches, pace, order.limit, line.reached)
            except TidemillError as error:
                if not sender.is_halted or isinstance(error, UnsentError):
                    ended = error  # asked to end, it does not wait for the exchange
            report = sender.close()
    return _account(report, time.monotonic() - began) | source.told(), ended


def print_report(report: dict[str, Any]) -> None:
    """The account as a line a number, and the reasons of what failed."""
    show.out.print(
        f"{report['topic']}: {report['sent']:,} sent = {report['acknowledged']:,} acknowledged "
        f"+ {report['failed']:,} failed; {report['retried']:,} sent again on the way"
    )
    if report.get("skipped"):
        show.out.print(f"{report['skipped']:,} prices of the exchange could not be used")
    show.out.print(f"{report['seconds']} s, {report['per_second']:,} messages/s")
    for reason, number in report["errors"].items():
        show.marked(show.out, f"Failed, {number:,}:", reason, "red")


def _account(report: Report, seconds: float) -> dict[str, Any]:
    return {
        "topic": PRICES.name,
        **asdict(report),
        "seconds": round(seconds, 2),
        "per_second": round(report.sent / max(seconds, 0.001)),
    }


def _connected(settings: Settings) -> dict[str, Any]:
    """How to reach the broker, once it has the topic.

    Raises:
        TidemillError: None answers.
    """
    if not settings.kafka_servers and is_free(settings.kafka_port):
        raise TidemillError(
            f"no Kafka broker runs at port {settings.kafka_port}: 'tidemill broker start' starts "
            "it, and 'tidemill produce' can go on then"
        )
    config = compose.kafka(settings)
    topics.ensure({"log_level": 0, **config}, (PRICES,))
    return config


class _Live:
    """The exchange's prices, as they come."""

    def __init__(self, settings: Settings, order: Order) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._symbols = [symbol_from(symbol) for symbol in order.symbols] or _real(settings)
        self._skipped = 0

    @contextmanager
    def batches(self, sender: Sender) -> Iterator[Iterable[Ticks]]:
        """Each answer's prices, until the sender is halted."""
        yield self._polled(sender)

    def _polled(self, sender: Sender) -> Iterator[Ticks]:
        exchange = Exchange(base_url=self._settings.exchange_url, wait=sender.wait)
        for told in ticker.poll(exchange, self._symbols, stopped=lambda: sender.is_halted):
            self._skipped += told.skipped
            yield Ticks([told.at_ms] * len(told.pairs), told.pairs)

    def told(self) -> dict[str, Any]:
        """What the account says besides: entries of answers that could not be used."""
        return {"skipped": self._skipped}


def _real(settings: Settings) -> list[str]:
    """The pairs that have landed and are not simulated, else two that everybody knows.

    An exchange has thousands: all of them would be more than may be registered.
    """
    landed = [s for s in compose.crypto(settings).symbols() if not s.startswith("SIM")]
    return landed or ["BTCUSDT", "ETHUSDT"]


class _Replay:
    """Candles sent again."""

    def __init__(self, settings: Settings, order: Order, config: dict[str, Any]) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._order = order
        self._config = config

    @contextmanager
    def batches(self, sender: Sender) -> Iterator[Iterable[Ticks]]:
        """Their ticks, behind what the topic has where the replay is resumed."""
        with _candles(self._settings, self._order) as candles:
            after = {}
            if self._order.is_resumed:
                partitions = topics.described(self._config)[PRICES.name]
                last = resume.last_values(self._config, PRICES.name, partitions)
                after = replay.marks(last, candles.symbols(), partitions)
            yield replay.cycles(candles, self._order.is_endless, after)

    def told(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def _candles(settings: Settings, order: Order) -> AbstractContextManager[Candles]:
    """A file's candles, or the sample's days that were held back, or the lake's."""
    named = tuple(symbol_from(symbol) for symbol in order.symbols)
    choice = ticks.Choice(named, _epoch_s(order.since), _epoch_s(order.until))
    memory_mb = settings.memory_limit_mb
    if order.file is not None:
        of_file = named[0] if len(named) == 1 else None
        return ticks.from_files([order.file], choice, of_file, memory_mb)
    if held_back := sample.held_back(settings, named):
        return ticks.from_files(held_back, choice, None, memory_mb)
    return ticks.from_lake(compose.lake(settings), choice, memory_mb)


def _epoch_s(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


@contextmanager
def _told_by_signals(sender: Sender) -> Iterator[None]:
    """Ctrl-C, and a request to end, stop the sender; what is on its way is still accounted for."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: sender.halt()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Line:
    """How far it is, on standard error."""

    def __init__(self, sender: Sender) -> None:
        """Not shown before it is entered."""
        self.sender = sender
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=show.err
        )
        self.task = self.progress.add_task("connecting", total=None)
        self._next = 0.0

    def __enter__(self) -> "_Line":
        """Show it."""
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it as it stands."""
        self.progress.stop()

    def reached(self, at_ms: int) -> None:
        """Show the time of the last tick sent, epoch ms, a few times a second."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SHOWN_S
        report = self.sender.report
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        told = (
            f"{report.sent:,} sent, {report.acknowledged:,} acknowledged, at {at:%Y-%m-%d %H:%M:%S}"
        )
        self.progress.update(self.task, description=told)
