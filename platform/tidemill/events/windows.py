"""The windows of events: what each table of windows counts and adds up."""

from typing import Any

from tidemill.events import contracts as c
from tidemill.events.money import fixed, money
from tidemill.windows.declare import Session, Sliding, Tumbling, Windows

SIZE = Tumbling(2_000)
RATE = Sliding(60_000, 10_000)
GAP = Session(30 * 60_000)


def top_category(category_code: Any) -> Any:
    """The first part of a category's path; NULL where there is none."""
    return category_code.re_extract("^([^.]*)", 1).nullif("")


def is_type(events: Any, name: str) -> Any:
    """1 where an event is of a type, else 0."""
    return (events.event_type == name).ifelse(1, 0).cast("int64")


def revenue_fixed(events: Any) -> Any:
    """The price of a purchase, 0 of anything else."""
    return (events.event_type == "purchase").ifelse(fixed(events.price), 0).cast("int64")


def _timed(events: Any, /, **columns: Any) -> Any:
    return events.select(at=events.event_timestamp, watermark=events.watermark, **columns)


def _one() -> Any:
    import ibis

    return ibis.literal(1, "int64")


def _steps(events: Any) -> dict[str, Any]:
    """What each event adds to views, carts, purchases, events and revenue."""
    return {
        "views": is_type(events, "view"),
        "carts": is_type(events, "cart"),
        "purchases": is_type(events, "purchase"),
        "events": _one(),
        "revenue_fixed": revenue_fixed(events),
    }


def _valued(windows: Any) -> Any:
    """With total_value and avg_price."""
    told = windows.mutate(total_value=money(windows.value_fixed))
    return told.mutate(avg_price=told.total_value / told.event_count)


EVENT_COUNTS = Windows(
    table=c.EVENT_COUNTS,
    kind=SIZE,
    keys=("event_type",),
    sums=("event_count", "value_fixed"),
    units=lambda events: _timed(
        events, event_type=events.event_type, event_count=_one(), value_fixed=fixed(events.price)
    ),
    shown=_valued,
    parts=lambda rows: rows.mutate(value_fixed=fixed(rows.total_value)),
)
BRAND_METRICS = Windows(
    table=c.BRAND_METRICS,
    kind=SIZE,
    keys=("brand", "event_type"),
    sums=("event_count", "value_fixed", "revenue_fixed"),
    units=lambda events: _timed(
        events,
        brand=events.brand,
        event_type=events.event_type,
        event_count=_one(),
        value_fixed=fixed(events.price),
        revenue_fixed=revenue_fixed(events),
    ),
    shown=lambda windows: _valued(windows.mutate(revenue=money(windows.revenue_fixed))),
    parts=lambda rows: rows.mutate(
        value_fixed=fixed(rows.total_value), revenue_fixed=fixed(rows.revenue)
    ),
)
CATEGORY_METRICS = Windows(
    table=c.CATEGORY_METRICS,
    kind=SIZE,
    keys=("top_category",),
    sums=("views", "carts", "purchases", "events", "revenue_fixed"),
    units=lambda events: _timed(
        events, top_category=top_category(events.category_code), **_steps(events)
    ),
    shown=lambda windows: windows.mutate(revenue=money(windows.revenue_fixed)),
    parts=lambda rows: rows.mutate(revenue_fixed=fixed(rows.revenue)),
)
EVENT_RATES = Windows(
    table=c.EVENT_RATES,
    kind=RATE,
    keys=("event_type",),
    sums=("event_count",),
    units=lambda events: _timed(events, event_type=events.event_type, event_count=_one()),
    shown=lambda windows: windows,
    parts=lambda rows: rows,
)
VISITS = Windows(
    table=c.VISITS,
    kind=GAP,
    keys=("source", "user_id"),
    sums=("events", "views", "carts", "purchases", "revenue_fixed"),
    units=lambda events: _timed(
        events.filter(events.user_id.notnull()),
        source=events.source,
        user_id=events.user_id,
        **_steps(events),
    ),
    shown=lambda windows: windows.mutate(
        revenue=money(windows.revenue_fixed),
        duration_s=(windows.end_ms - windows.start_ms - GAP.gap_ms).cast("float64") / 1000,
    ),
    parts=lambda rows: rows.mutate(revenue_fixed=fixed(rows.revenue)),
)
LIVE = (EVENT_COUNTS, BRAND_METRICS, CATEGORY_METRICS, EVENT_RATES)
"""Those that follow the topic."""
