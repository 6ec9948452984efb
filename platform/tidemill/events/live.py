"""Live events: what a message becomes, and the feed that takes them from Kafka."""

from typing import Any

from tidemill.events import contracts as c
from tidemill.events.topics import EVENTS
from tidemill.events.windows import SIZE
from tidemill.kafka.feed import Feed
from tidemill.windows.fold import epoch_ms, floor_ms, instant


def raw_events(messages: Any) -> Any:
    """Rows of ``RAW_EVENTS`` from messages: ``MESSAGE``, the topic's fields and what was judged."""
    at = instant(messages.event_ms)
    return messages.select(
        "event_time",
        event_timestamp=at,
        event_type="event_type",
        product_id="product_id",
        category_id="category_id",
        category_code=messages.category_code.nullif(""),
        brand=messages.brand.nullif(""),
        price="price",
        user_id="user_id",
        user_session=messages.user_session.nullif(""),
        is_late="is_late",
        watermark=instant(messages.watermark_ms),
        cycle="cycle",
        topic="topic",
        topic_id="topic_id",
        partition="partition",
        offset="offset",
        produced_at=instant(messages.produced_ms),
        ingested_at=instant(messages.ingested_ms),
        date=at.date(),
    )


def late_events(raw_events: Any) -> Any:
    """Rows of ``LATE_EVENTS``: those that came behind the watermark."""
    late = raw_events.filter(raw_events.is_late)
    at_ms, mark_ms = epoch_ms(late.event_timestamp), epoch_ms(late.watermark)
    end_ms = floor_ms(at_ms, SIZE.size_ms) + SIZE.size_ms
    told = late.mutate(late_ms=mark_ms - at_ms, is_counted=end_ms > mark_ms)
    return told.select(*[column.name for column in c.LATE_EVENTS.columns])


FEED = Feed(EVENTS, c.RAW_EVENTS, raw_events, None, c.CONSUMED_SPANS, c.DEAD_LETTERS)
"""What takes ``EVENTS`` into the lake."""
