"""``tidemill stream``: a topic flows into its tables until it is interrupted, without Dagster."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from types import FrameType

from tidemill import compose
from tidemill.commands import show
from tidemill.crypto.topics import TOPICS
from tidemill.errors import TidemillError
from tidemill.kafka import topics
from tidemill.kafka.spans import OffsetsLost, Span
from tidemill.kafka.subscription import Subscription
from tidemill.settings import Settings

EVERY_S = 1.0
AWAY_S = 5.0
DAYS_EVERY_S = 5.0
"""How often the days of new ticks are made again; each takes a look at all ticks of its day."""


def stream(settings: Settings, is_once: bool) -> None:
    """Take live prices into the lake, and make the days that they touch.

    Args:
        settings: Home, broker and engine.
        is_once: End when everything that is there was taken.

    Raises:
        TidemillError: The broker, the engine or a table fails; what was taken stays.
    """
    prices = compose.live_prices(settings)
    topics.ensure(prices.config, TOPICS)
    flow = _with_spark if settings.engine == "spark" else _with_duckdb
    show.err.print(
        f"{prices.feed.topic.name} flows into {prices.feed.table.id} with {settings.engine}; "
        "Ctrl-C ends it",
        style="dim",
    )
    with _until_interrupted():
        flow(settings, prices, is_once)


def _with_duckdb(settings: Settings, prices: Subscription, is_once: bool) -> None:
    follow = _days(settings)
    while True:
        spans: list[Span] = []
        try:
            held = prices.held()
            spans = prices.unread(held)
            if spans:
                done = prices.consume(held, spans)
                _told(done.rows, done.total("dead"), done.dates)
        except OffsetsLost:
            raise
        except TidemillError as error:  # a broker that is away comes back
            if is_once:
                raise
            show.marked(show.err, "waits:", str(error), "yellow")
            time.sleep(AWAY_S)
        follow(is_once and not spans)
        if is_once and not spans:
            return
        if not spans:
            time.sleep(EVERY_S)


def _with_spark(settings: Settings, prices: Subscription, is_once: bool) -> None:
    from py4j.protocol import Py4JError

    from tidemill.engines.spark import session
    from tidemill.kafka.spark_stream import Stream

    running = session(settings.spark_master)
    follow = _days(settings)
    try:
        Stream(
            prices,
            running,
            settings.home / "spark",
            told=lambda taken: _told(taken.rows, taken.dead, taken.dates),
            beat=lambda: follow(False),
        ).run(is_once)
        follow(True)
    finally:
        with suppress(Py4JError, OSError):  # Ctrl-C ends the JVM too, before it can be told to
            running.stop()


def _days(settings: Settings) -> Callable[[bool], None]:
    """What makes the days that wait, now or where it is time."""
    crypto = compose.crypto(settings)
    last = 0.0

    def follow(is_due: bool) -> None:
        nonlocal last
        if not is_due and time.monotonic() - last < DAYS_EVERY_S:
            return
        dates: list[date] = crypto.live_dates()
        if dates:
            crypto.live_daily_ohlc(dates)
        last = time.monotonic()

    return follow


def _told(rows: int, dead: int, dates: tuple[str, ...]) -> None:
    days = ", ".join(dates) or "no day"
    show.err.print(f"{rows:,} rows, {dead:,} dead letters; {days}", style="dim")


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C, and a request to end, are the way out, and no failure."""
    asked = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        pass
    except Exception:  # a JVM that the same Ctrl-C ended is heard of first, in words of its own
        if not asked:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        show.err.print("Stopped; the next start goes on from here.", style="dim")
