"""What is new in a topic becomes runs: a sensor decides, and the run that it asks for reads."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from assets import events_live, live
from assets.topic import Reading
from sensors.landing import AT_WORK
from tidemill import compose
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.events.following import behind
from tidemill.kafka.spans import Span, Standing
from tidemill.kafka.subscription import Subscription
from tidemill.settings import Settings

LONGEST_WAIT_S = 300.0
RETRY_S = 60
"""What a run left undone is asked for again after this long."""


@dataclass(frozen=True)
class Cursor:
    """What a sensor remembers between two ticks.

    Attributes:
        asked: The run key of what was asked for last.
        begins: Topic and first offsets of it.
        tries: How often the same was asked for, as its runs had failed.
        at_s: When it was, epoch seconds.
        since_s: When unread messages were seen first, epoch seconds; None where there are none.
        next: The next offset to ask for, by partition.
    """

    asked: str = ""
    begins: str = ""
    tries: int = 0
    at_s: float = 0.0
    since_s: float | None = None
    next: dict[str, int] | None = None

    @classmethod
    def of(cls, text: str | None) -> "Cursor":
        """What ``str`` of one told."""
        return cls(**json.loads(text)) if text else cls()

    def is_owed(self, held: Standing, unread: Sequence[Span]) -> bool:
        """Whether something is still unread that was asked for."""
        return self.begins.startswith(f"{held.topic}:{held.topic_id} ") and any(
            span.start < (self.next or {}).get(str(span.partition), 0) for span in unread
        )

    def waited(self, unread: Sequence[Span], now_s: float) -> "Cursor":
        """With the time since when messages wait that were not asked for: now, if they are new."""
        asked = self.next or {}
        if all(span.stop <= asked.get(str(span.partition), 0) for span in unread):
            return replace(self, since_s=None)
        return self if self.since_s is not None else replace(self, since_s=now_s)

    def __str__(self) -> str:
        """As Dagster keeps it."""
        return json.dumps(vars(self))


@dataclass(frozen=True)
class Patience:
    """When unread messages are worth a run: so many of them, or so old."""

    rows: int
    age_s: float


def decide(
    cursor: Cursor, held: Standing, spans: list[Span], now_s: float, patience: Patience
) -> tuple[str | None, Cursor, str]:
    """Whether to ask for a run over spans.

    The lake says what is unread, so that the spans of a run that failed are asked for again; each
    time the wait before that doubles.

    Returns:
        The run key, or None; the cursor from now on; and why there is none.
    """
    if not spans:
        return None, replace(cursor, since_s=None), f"nothing new in {held.topic}"
    since_s = now_s if cursor.since_s is None else cursor.since_s
    rows = sum(span.stop - span.start for span in spans)
    topic = f"{held.topic}:{held.topic_id} "
    work = topic + " ".join(f"{partition}:{start}-{stop}" for partition, start, stop in spans)
    begins = topic + " ".join(f"{partition}:{start}" for partition, start, _ in spans)
    is_again = cursor.begins == begins
    seen = replace(cursor, since_s=since_s)
    if is_again:
        wait_s = min(LONGEST_WAIT_S, 2.0 ** (cursor.tries + 1))
        if now_s - cursor.at_s < wait_s:
            return None, seen, f"the run over {cursor.asked} left them unread; waits {wait_s:.0f} s"
    elif rows < patience.rows and now_s - since_s < patience.age_s:
        return None, seen, f"{rows} messages wait for more, {patience.age_s:.0f} s at most"
    tries = cursor.tries + 1 if is_again else 0
    upto = {str(span.partition): span.stop for span in spans}
    before = (cursor.next or {}) if cursor.begins.startswith(topic) else {}
    asked = Cursor(work, begins, tries, now_s, None, before | upto)
    return (f"{work} again {tries}" if tries else work), asked, ""


def look(
    context: dg.SensorEvaluationContext,
    topic: Subscription,
    job: str,
    step: str,
    left: Callable[[], str],
) -> dg.SensorResult:
    """Ask for a run over what is new in a topic, or over what a run before it left undone.

    The next run is asked for once the lake has what the last one was asked for, be it still at its
    reports. The cursor holds the next offset by partition. A broker that does not answer, and
    offsets that retention took unread, fail the tick with their reason.

    Args:
        context: The tick's.
        topic: What is watched.
        job: Name of what takes it.
        step: Name of the job's step that reads Kafka.
        left: What tables lack that the lake could make without another message, in words that
            change with it; empty where nothing.
    """
    settings = Settings.current()
    if not settings.kafka_servers and compose.broker(settings).status() is None:
        return dg.SensorResult(
            skip_reason="the embedded broker does not run: 'tidemill broker start' starts it"
        )
    held = topic.held()
    spans = topic.unread(held)
    cursor = Cursor.of(context.cursor)
    at_work = context.instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=AT_WORK))
    if at_work and cursor.is_owed(held, spans):
        return dg.SensorResult(
            skip_reason=f"the run over {cursor.asked} has not committed yet",
            cursor=str(cursor.waited(spans, time.time())),
        )
    if not spans and not at_work and (lacking := left()):
        # A run ended between the rows and what follows from them, or somebody else took them.
        work = f"{held.topic} {lacking} {time.time() // RETRY_S:.0f}"
        context.log.info(f"left undone: {lacking}")
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=work)], cursor=str(cursor))
    patience = Patience(settings.batch_rows, settings.batch_age_s)
    key, cursor, why = decide(cursor, held, spans, time.time(), patience)
    if key is None:
        return dg.SensorResult(skip_reason=why, cursor=str(cursor))
    config: dict[str, Any] = {
        step: Reading(topic_id=held.topic_id, spans=[list(span) for span in spans])
    }
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=key, run_config=dg.RunConfig(ops=config))],
        cursor=str(cursor),
    )


@dg.sensor(
    job=live.live_job,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_prices(
    context: dg.SensorEvaluationContext,
    prices: dg.ResourceParam[Subscription],
    crypto: dg.ResourceParam[Crypto],
) -> dg.SensorResult:
    """Asks for a run over what is new in the topic of live prices, or over days that wait."""

    def days() -> str:
        waiting = crypto.live_dates()
        version = crypto.lake.snapshot(c.LIVE_PRICES).version
        return f"days {', '.join(map(str, waiting))} of {version}" if waiting else ""

    return look(context, prices, live.live_job.name, live.TAKEN, days)


@dg.sensor(
    job=events_live.live_job,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_events(
    context: dg.SensorEvaluationContext, clicks: dg.ResourceParam[Subscription]
) -> dg.SensorResult:
    """Asks for a run over what is new in the topic of events, or over windows that are behind."""

    def windows() -> str:
        late = behind(clicks)
        version = clicks.lake.snapshot(clicks.feed.table).version
        return f"{', '.join(late)} behind {version}" if late else ""

    return look(context, clicks, events_live.live_job.name, events_live.TAKEN, windows)
