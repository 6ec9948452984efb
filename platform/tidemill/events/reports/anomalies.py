"""Minutes whose count is far from the hour before them, with the evidence."""

from typing import Any

from tidemill.events.reports import common
from tidemill.events.reports.contracts import HISTORY, LEAST_HISTORY, THRESHOLD

NORMAL = 0.6745
"""Median absolute deviation of a normal distribution of deviation 1."""
BY = ("source", "event_type")


def anomalies(events: Any) -> Any:
    """Windows of a minute that score ``THRESHOLD`` or more; rows of ``ANOMALIES``.

    A window is held against the ``HISTORY`` windows before it, empty ones too, and at least
    ``LEAST_HISTORY`` of them. The score divides by the median absolute deviation, or by
    sqrt(median) or 1 if they are greater: counts that come by chance spread by as much, and an hour
    that was quieter by luck must not make the next one loud. The minute of a source's last event is
    not judged, as it may be half over.
    """
    import ibis

    counts = events.group_by(*BY, minute=common.minute(events.event_timestamp)).agg(
        count=events.count()
    )
    windows = _with_empty(counts)
    before = ibis.range_window(preceding=(HISTORY, 1), group_by=list(BY), order_by="minute")
    held = windows.mutate(
        median=windows["count"].median().over(before).cast("float64"),
        history=windows["count"].count().over(before),
    )
    held = held.filter((held.minute < held.last_minute) & (held.history >= LEAST_HISTORY))
    held = held.mutate(floor=ibis.greatest(held["median"].sqrt(), 1.0))
    # The floor alone bounds the score, so the deviation is asked of the few that can reach it.
    may = held.filter(_score(held, held.floor).abs() >= THRESHOLD)
    found = _with_mad(may, windows)
    found = found.mutate(score=_score(found, ibis.greatest(found.mad, found.floor)))
    found = found.filter(found.score.abs() >= THRESHOLD)
    return _told(found, _top_brands(events, found))


def _with_empty(counts: Any) -> Any:
    """The counts, and the empty minutes that matter to a score.

    Only an empty minute of the hour before or after an event does, so that one event a year off
    does not make half a million windows.

    Returns:
        source, event_type, minute, count, last_minute (of the source).
    """
    import ibis

    spans = counts.group_by("source").agg(
        first_minute=counts.minute.min(), last_minute=counts.minute.max()
    )
    kinds = counts.select(*BY).distinct().join(spans, "source")
    ends = kinds.select(*BY, minute="first_minute").union(
        kinds.select(*BY, minute="last_minute"), distinct=True
    )
    ends = ends.anti_join(counts, [*BY, "minute"]).mutate(count=ibis.literal(0, "int64"))
    points = counts.select(*BY, "minute", "count").union(ends.select(*BY, "minute", "count"))
    next_minute = points.minute.lead().over(group_by=list(BY), order_by="minute")
    steps = points.select(*BY, start=points.minute + 1, stop=next_minute)
    steps = steps.filter(steps.stop > steps.start)
    after_stop = ibis.least(steps.stop, steps.start + HISTORY)
    after = steps.select(*BY, minute=ibis.range(steps.start, after_stop, 1).unnest())
    ahead = steps.filter(steps.stop > steps.start + HISTORY)
    ahead_start = ibis.greatest(ahead.start + HISTORY, ahead.stop - HISTORY)
    ahead = ahead.select(*BY, minute=ibis.range(ahead_start, ahead.stop, 1).unnest())
    empty = after.union(ahead)
    empty = empty.select(*BY, minute=empty.minute.cast("int64"), count=ibis.literal(0, "int64"))
    return points.union(empty).join(spans.select("source", "last_minute"), "source")


def _score(table: Any, spread: Any) -> Any:
    return (table["count"] - table["median"]) * NORMAL / spread


def _with_mad(may: Any, windows: Any) -> Any:
    """These windows, with ``mad``: the median absolute deviation of the history of each."""
    import ibis

    told = ("count", "median", "history", "floor")
    pairs = may.select(*BY, *told, judged="minute", back=ibis.range(1, HISTORY + 1, 1).unnest())
    pairs = pairs.mutate(minute=(pairs.judged - pairs.back).cast("int64"))
    pairs = pairs.join(windows.select(*BY, "minute", past="count"), [*BY, "minute"])
    off = pairs.mutate(off=(pairs.past - pairs["median"]).abs())
    found = off.group_by(*BY, *told, minute=off.judged).agg(mad=off.off.median())
    return found.mutate(mad=found.mad.cast("float64"))


def _top_brands(events: Any, found: Any) -> Any:
    """The brand with most events in each of these windows: their key, top_brand and its count."""
    import ibis

    within = events.select(*BY, "brand", minute=common.minute(events.event_timestamp))
    within = within.semi_join(found.select(*BY, "minute"), [*BY, "minute"])
    brands = within.group_by(*BY, "minute", "brand").agg(n=within.count())
    order = [ibis.desc(brands.n), brands.brand.isnull(), brands.brand]
    nth = ibis.row_number().over(group_by=[*BY, "minute"], order_by=order)
    first = brands.mutate(nth=nth)
    first = first.filter(first.nth == 0)
    return first.select(*BY, "minute", top_brand="brand", top_brand_count="n")


def _told(found: Any, brands: Any) -> Any:
    import ibis

    told = found.left_join(brands, [*BY, "minute"]).select(
        *[found[name] for name in found.columns], brands.top_brand, brands.top_brand_count
    )
    return told.select(
        *BY,
        window_start=common.instant(told.minute * 60),
        window_end=common.instant((told.minute + 1) * 60),
        direction=ibis.ifelse(told.score > 0, "high", "low"),
        count=told["count"],
        median=told["median"],
        mad=told.mad,
        history=told.history,
        score=told.score,
        top_brand=told.top_brand,
        top_brand_count=told.top_brand_count.coalesce(0),
    )
