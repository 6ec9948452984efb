"""What the transforms of the reports share: the union of the sources, counts, rates, times.

Times are taken apart into whole numbers, since the engines' epochs differ in type and in rounding.
"""

from typing import Any

from tidemill.events.contracts import EVENT
from tidemill.events.money import fixed


def events(file_events: Any, raw_events: Any) -> Any:
    """All events with their ``source``.

    Args:
        file_events: Rows of ``FILE_EVENTS``.
        raw_events: Rows of ``RAW_EVENTS``.

    Returns:
        The columns of ``EVENT`` and source.
    """
    import ibis

    names = [column.name for column in EVENT]
    live = raw_events.select(*names).mutate(source=ibis.literal("topic"))
    return file_events.select(*names, "source").union(live)


def counted(events: Any) -> dict[str, Any]:
    """Aggregates: views, carts, purchases, events, and revenue, fixed."""
    of = events.event_type
    return {
        "views": events.count(where=of == "view").coalesce(0),
        "carts": events.count(where=of == "cart").coalesce(0),
        "purchases": events.count(where=of == "purchase").coalesce(0),
        "events": events.count(),
        "revenue": fixed(events.price).sum(where=of == "purchase").coalesce(0),
    }


def added(folded: Any) -> dict[str, Any]:
    """Aggregates that add up what ``counted`` gave."""
    names = ("views", "carts", "purchases", "events", "revenue")
    return {name: folded[name].sum().cast("int64") for name in names}


def ratio(part: Any, whole: Any) -> Any:
    """``part / whole``; NULL where there is nothing to divide by."""
    return part.cast("float64") / whole.cast("float64").nullif(0.0)


def day(at: Any) -> Any:
    """UTC days since 1970."""
    return at.date().epoch_days().cast("int64")


def minute(at: Any) -> Any:
    """UTC minutes since 1970."""
    return (day(at) * 24 + at.hour().cast("int64")) * 60 + at.minute().cast("int64")


def instant(epoch_s: Any) -> Any:
    """The UTC instant of seconds since 1970."""
    import ibis

    return ibis.timestamp("1970-01-01") + epoch_s.cast("int64").as_interval("s")


def builtin(name: str) -> Any:
    """Both engines' own ``name(value, key)``, for what Ibis has no way to say."""
    import ibis

    def of(value: float, key: int) -> float:
        raise NotImplementedError("it runs in the engine")

    return ibis.udf.agg.builtin(of, name=name)
