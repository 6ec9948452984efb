"""Live prices: what a tick becomes, and the feed that takes them from Kafka."""

from typing import Any

from tidemill.crypto import contracts as c
from tidemill.crypto.topics import PRICES
from tidemill.kafka.feed import Feed


def live_prices(ticks: Any) -> Any:
    """Rows of ``LIVE_PRICES`` from ticks: ``MESSAGE``, the topic's fields, and is_late."""
    event_time = _instant(ticks.event_ms)
    return ticks.select(
        "symbol",
        "price",
        event_time=event_time,
        is_late="is_late",
        topic="topic",
        topic_id="topic_id",
        partition="partition",
        offset="offset",
        produced_at=_instant(ticks.produced_ms),
        date=event_time.date(),
    )


def event_keys(live_prices: Any) -> Any:
    """Symbol and timestamp of each row, as the topic names them."""
    at = live_prices.event_time
    return live_prices.select("symbol", timestamp=_epoch_ms(at))


def _instant(epoch_ms: Any) -> Any:
    import ibis

    return ibis.timestamp("1970-01-01") + epoch_ms.as_interval("ms")


def _epoch_ms(at: Any) -> Any:
    # DuckDB's epoch has a fraction, which a cast would round.
    return at.epoch_seconds().floor().cast("int64") * 1000 + at.millisecond().cast("int64")


def feed(max_symbols: int) -> Feed:
    """What takes ``PRICES`` into the lake.

    Args:
        max_symbols: How many trading pairs may come; a message of another one is dead.
    """
    return Feed(
        PRICES,
        c.LIVE_PRICES,
        live_prices,
        event_keys,
        c.CONSUMED_SPANS,
        c.DEAD_LETTERS,
        max_symbols,
    )
