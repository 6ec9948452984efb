"""``tidemill stream``: a topic flows into its tables until it is interrupted, without Dagster."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from types import FrameType

from tidemill import compose
from tidemill.commands import broker, show
from tidemill.errors import TidemillError
from tidemill.events.following import behind, published, windowed
from tidemill.kafka import topics
from tidemill.kafka.spans import OffsetsLost, Span
from tidemill.kafka.subscription import Subscription
from tidemill.settings import Settings

EVERY_S = 1.0
AWAY_S = 5.0
Follow = Callable[[bool], None]
"""Makes what follows from the rows; told whether it is due whatever the time."""
MOST_DAYS = 3
"""That are told one by one."""
DAYS_EVERY_S = 5.0
"""How often the days of new ticks are made again; each takes a look at all ticks of its day."""


def stream(settings: Settings, domain: str, is_once: bool) -> None:
    """Take a domain's topic into the lake, and make what follows from its messages.

    Args:
        settings: Home, broker and engine.
        domain: ``crypto``, whose days follow, or ``events``, whose windows do.
        is_once: End when everything that is there was taken.

    Raises:
        TidemillError: The broker, the engine or a table fails; what was taken stays.
    """
    broker.require(settings)
    topic = (compose.live_prices if domain == "crypto" else compose.clicks)(settings)
    topics.ensure({"log_level": 0, **topic.config}, compose.TOPICS)
    follow = _days(settings) if domain == "crypto" else _windows(settings, topic)
    flow = _with_spark if settings.engine == "spark" else _with_duckdb
    show.err.print(
        f"{topic.feed.topic.name} flows into {topic.feed.table.id} with {settings.engine}; "
        "Ctrl-C ends it",
        style="dim",
    )
    with _until_interrupted():
        flow(settings, topic, follow, is_once)


def _with_duckdb(settings: Settings, topic: Subscription, follow: Follow, is_once: bool) -> None:
    while True:
        spans: list[Span] = []
        try:
            held = topic.held()
            spans = topic.unread(held)
            if spans:
                done = topic.consume(held, spans)
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


def _with_spark(settings: Settings, topic: Subscription, follow: Follow, is_once: bool) -> None:
    from py4j.protocol import Py4JError

    from tidemill.engines.spark import session
    from tidemill.kafka.spark_stream import Stream

    running = session(settings.spark_master)
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    def is_over() -> bool:
        if asked:
            show.err.print("Ends behind the batch at work; Ctrl-C again ends it now.", style="dim")
        return bool(asked)

    for number in (signal.SIGINT, signal.SIGTERM):  # Spark has put a handler of its own there
        signal.signal(number, ask)
    try:
        Stream(
            topic,
            running,
            settings.home / "spark",
            told=lambda taken: _told(taken.rows, taken.dead, taken.dates),
            beat=lambda: follow(False),
            is_over=is_over,
        ).run(is_once)
        if asked:
            raise KeyboardInterrupt
        follow(True)
    finally:
        with suppress(Py4JError, OSError):  # Ctrl-C ends the JVM too, before it can be told to
            running.stop()


def _days(settings: Settings) -> Follow:
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


def _windows(settings: Settings, clicks: Subscription) -> Follow:
    """What brings windows to where the rows are, and sends the final ones."""
    engine = compose.engine(settings)

    def follow(is_due: bool) -> None:
        if not behind(clicks):
            return
        windowed(clicks, engine)
        try:
            published(clicks)
        except TidemillError as error:  # what is owed is sent the next time
            if is_due:
                raise
            show.marked(show.err, "waits:", str(error), "yellow")

    return follow


def _told(rows: int, dead: int, dates: tuple[str, ...]) -> None:
    days = ", ".join(dates) or "no day"
    if len(dates) > MOST_DAYS:
        days = f"{len(dates)} days from {min(dates)} to {max(dates)}"
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
        asked.append(signal.SIGINT)
    except Exception:  # a JVM that the same Ctrl-C ended is heard of first, in words of its own
        if not asked:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        show.err.print("Stopped; the next start goes on from here.", style="dim")
