"""Which messages are late, and which tell an event again: the same rows on every engine.

The answer depends on the order of offsets alone, not on how messages were batched: the watermark
of a message is what its own partition had shown before it.
"""

from typing import Any

from tidemill.kafka.topics import Topic


def classified(topic: Topic, messages: Any, seen: Any, newest: Any) -> Any:
    """Mark each message as late or not, duplicate or not.

    Args:
        topic: Says the event's key, and how far the watermark stays behind.
        messages: partition, offset, event_ms and the topic's fields; all without error.
        seen: The event keys that are in already, one row each; other rows do no harm.
        newest: partition, newest_ms: the newest event of each before these messages; a partition
            not in it had none.

    Returns:
        The messages with is_late and is_duplicate. Of two messages of an event the one with the
        lower (partition, offset) stays.
    """
    import ibis

    before = ibis.window(group_by="partition", order_by="offset", preceding=(None, 1))
    again = ibis.window(group_by=list(topic.event_key), order_by=["partition", "offset"])
    m = messages
    ranked = m.mutate(shown_ms=m.event_ms.max().over(before), nth=ibis.row_number().over(again))
    marked = ranked.left_join(newest, "partition").select(
        *[ranked[name] for name in ranked.columns], newest.newest_ms
    )
    keys = seen.select(*topic.event_key).distinct().mutate(is_seen=True)
    known = marked.left_join(keys, list(topic.event_key)).select(
        *[marked[name] for name in marked.columns], keys.is_seen
    )
    newest_ms = ibis.greatest(
        known.shown_ms.coalesce(known.newest_ms), known.newest_ms.coalesce(known.shown_ms)
    )
    return known.mutate(
        is_late=(known.event_ms < newest_ms - topic.grace_ms).coalesce(False),
        is_duplicate=(known.nth > 0) | known.is_seen.coalesce(False),
    ).drop("shown_ms", "nth", "newest_ms", "is_seen")
