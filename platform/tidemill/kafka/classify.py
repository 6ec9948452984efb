"""Which messages are late, and which tell an event again: the same rows on every engine.

The watermark of a message is what its own partition had shown before it, or where windows had been
closed for good when it was read, if that is later; the ledger keeps the latter. So the answer hangs
on the order of offsets and on the ledger, not on who asks or how messages are batched.
"""

from typing import Any

from tidemill.kafka.topics import Topic


def classified(topic: Topic, messages: Any, seen: Any, newest: Any) -> Any:
    """Mark each message as late or not, duplicate or not.

    Args:
        topic: Says the event's key, and how far the watermark stays behind.
        messages: partition, offset, event_ms, closed_ms and the topic's fields; all without error.
        seen: The event keys that are in already, one row each; other rows do no harm.
        newest: partition, newest_ms: the newest event of each before these messages; a partition
            not in it had none.

    Returns:
        The messages with is_late, is_duplicate and watermark_ms, which is NULL where there is
        none. Of two messages of an event the one with the lower (partition, offset) stays.
    """
    import ibis

    before = ibis.window(group_by="partition", order_by="offset", preceding=(None, 1))
    shown = messages.mutate(shown_ms=messages.event_ms.max().over(before))
    known = shown.left_join(newest, "partition").select(
        *[shown[name] for name in shown.columns], newest.newest_ms
    )
    newest_ms = _later(known.shown_ms, known.newest_ms)
    marked = known.mutate(watermark_ms=_later(newest_ms - topic.grace_ms, known.closed_ms))
    judged = marked.mutate(is_late=(marked.event_ms < marked.watermark_ms).coalesce(False)).drop(
        "shown_ms", "newest_ms"
    )
    if not topic.event_key:
        return judged.mutate(is_duplicate=ibis.literal(False))
    return _with_duplicates(topic, judged, seen)


def _later(one: Any, other: Any) -> Any:
    """The greater of two, of which one may be NULL."""
    import ibis

    return ibis.greatest(one.coalesce(other), other.coalesce(one))


def _with_duplicates(topic: Topic, messages: Any, seen: Any) -> Any:
    import ibis

    again = ibis.window(group_by=list(topic.event_key), order_by=["partition", "offset"])
    ranked = messages.mutate(nth=ibis.row_number().over(again))
    keys = seen.select(*topic.event_key).distinct().mutate(is_seen=True)
    known = ranked.left_join(keys, list(topic.event_key)).select(
        *[ranked[name] for name in ranked.columns], keys.is_seen
    )
    return known.mutate(is_duplicate=(known.nth > 0) | known.is_seen.coalesce(False)).drop(
        "nth", "is_seen"
    )
