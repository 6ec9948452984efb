"""``tidemill produce``: live prices or a replay into Kafka, with an account of every message."""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill import compose
from tidemill.commands import producing, sample, show
from tidemill.crypto import replay, ticker, ticks
from tidemill.crypto.exchange import Exchange
from tidemill.crypto.intake.files import symbol_from
from tidemill.crypto.ticks import Candles, Ticks
from tidemill.crypto.topics import PRICES
from tidemill.errors import InputError, TidemillError
from tidemill.kafka import resume, topics
from tidemill.kafka.pace import Pace, speed_of
from tidemill.kafka.producer import Sender, UnsentError
from tidemill.settings import Settings


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
    config = producing.connected(settings, PRICES, [order.file] if order.file else ())
    ended: TidemillError | None = None
    source = _Live(settings, order) if order.is_live else _Replay(settings, order, config)
    with Sender(config, PRICES.name) as sender, source.batches(sender) as batches:
        began = time.monotonic()
        with producing.told_by_signals(sender), producing.Line(sender) as line:
            try:
                pace = Pace(speed, order.rate, sleep=sender.wait)
                replay.replay(sender, batches, pace, order.limit, line.reached)
            except TidemillError as error:
                if not sender.is_halted or isinstance(error, UnsentError):
                    ended = error  # asked to end, it does not wait for the exchange
            report = sender.close()
    took_s = time.monotonic() - began
    return producing.account(PRICES, report, took_s) | source.told(), ended


def print_report(report: dict[str, Any]) -> None:
    """The account as a line a number, and the reasons of what failed."""
    producing.print_sent(report)
    if report.get("skipped"):
        show.out.print(f"{report['skipped']:,} prices of the exchange could not be used")
    producing.print_end(report)


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
