"""Windows by their definition, in plain Python, and events to try them with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tidemill.events import contracts as c
from tidemill.events import windows as w
from tidemill.events.money import fixed, money
from tidemill.lake.contracts import Column, Table, Type
from tidemill.windows.declare import Session, Windows

EPOCH = datetime(1970, 1, 1)
NOON_MS = 1_767_268_800_000
SPRING_MS = 1_774_746_000_000
"""2026-03-29 01:00 UTC, when clocks change in Europe."""

GAP_MS = 3_000


def _stay_events(events: Any) -> Any:
    import ibis

    return events.select(
        at=events.event_timestamp,
        watermark=events.watermark,
        brand=events.brand,
        events=ibis.literal(1, "int64"),
        revenue_fixed=w.revenue_fixed(events),
    )


STAYS = Windows(
    table=Table(
        domain="events",
        name="stays",
        meaning="Events of a brand with less than 3 s between one and the next.",
        columns=(
            c.WINDOW_START,
            c.WINDOW_END,
            c.BRAND,
            c.EVENTS,
            c.REVENUE,
            Column("is_final", Type.BOOLEAN, "Whether no event can join it any more."),
            c.WINDOW_DATE,
        ),
        key=("window_start", "brand"),
        partition_by=("date", "is_final"),
    ),
    kind=Session(GAP_MS),
    keys=("brand",),
    sums=("events", "revenue_fixed"),
    units=_stay_events,
    shown=lambda windows: windows.mutate(revenue=money(windows.revenue_fixed)),
    parts=lambda rows: rows.mutate(revenue_fixed=fixed(rows.revenue)),
)
"""Sessions of a key that may be NULL."""


@dataclass(frozen=True)
class Event:
    """An event as far as windows ask for it; times in epoch ms, the price in millionths."""

    at_ms: int
    mark_ms: int | None
    kind: str
    brand: str | None
    category: str | None
    fixed: int

    def row(self) -> dict[str, Any]:
        """A row of ``RAW_EVENTS``."""
        return {
            "event_time": str(self.at_ms),
            "event_timestamp": instant(self.at_ms),
            "event_type": self.kind,
            "product_id": 1,
            "category_code": self.category,
            "brand": self.brand,
            "price": self.fixed / 10_000,
            "is_late": self.mark_ms is not None and self.at_ms < self.mark_ms,
            "watermark": None if self.mark_ms is None else instant(self.mark_ms),
            "topic": "t",
            "topic_id": "i",
            "partition": 0,
            "offset": 0,
            "produced_at": instant(NOON_MS),
            "ingested_at": instant(NOON_MS),
            "date": instant(self.at_ms).date(),
        }


def instant(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def extents(windows: Windows, event: Event) -> list[int]:
    """Starts (epoch ms) of the windows of fixed size that an event counts in."""
    kind = windows.kind
    assert not isinstance(kind, Session)
    last = event.at_ms // kind.slide_ms * kind.slide_ms
    starts = range(last, event.at_ms - kind.size_ms, -kind.slide_ms)
    return [s for s in starts if event.mark_ms is None or s + kind.size_ms > event.mark_ms]


def brands(events: Iterable[Event], closed_ms: int | None) -> list[tuple[Any, ...]]:
    """Rows of ``BRAND_METRICS``."""
    groups: dict[Any, list[Event]] = {}
    for event in events:
        for start in extents(w.BRAND_METRICS, event):
            groups.setdefault((start, event.brand, event.kind), []).append(event)
    rows = []
    for (start, brand, kind), found in groups.items():
        value, revenue = sum(e.fixed for e in found) / 10_000, bought(found)
        shown = (brand, kind, len(found), value, revenue, value / len(found))
        rows.append(row(start, start + 2_000, shown, start + 2_000, closed_ms))
    return in_order(rows)


def rates(events: Iterable[Event], closed_ms: int | None) -> list[tuple[Any, ...]]:
    """Rows of ``EVENT_RATES``."""
    groups: dict[Any, int] = {}
    for event in events:
        for start in extents(w.EVENT_RATES, event):
            groups[start, event.kind] = groups.get((start, event.kind), 0) + 1
    return in_order(
        row(start, start + 60_000, (kind, count), start + 60_000, closed_ms)
        for (start, kind), count in groups.items()
    )


def stays(events: Iterable[Event], closed_ms: int | None) -> list[tuple[Any, ...]]:
    """Rows of ``STAYS``."""
    by_brand: dict[str | None, list[Event]] = {}
    for event in sorted(events, key=lambda e: e.at_ms):
        if event.mark_ms is None or event.at_ms + GAP_MS > event.mark_ms:
            by_brand.setdefault(event.brand, []).append(event)
    rows = []
    for brand, found in by_brand.items():
        stay: list[Event] = []
        for event, after in zip(found, [*found[1:], None], strict=True):
            stay.append(event)
            if after is None or after.at_ms - event.at_ms >= GAP_MS:
                end = event.at_ms + GAP_MS
                shown = (brand, len(stay), bought(stay))
                rows.append(row(stay[0].at_ms, end, shown, end + GAP_MS, closed_ms))
                stay = []
    return in_order(rows)


def bought(events: Sequence[Event]) -> float:
    return sum(e.fixed for e in events if e.kind == "purchase") / 10_000


def row(
    start_ms: int, end_ms: int, shown: tuple[Any, ...], over_ms: int, closed_ms: int | None
) -> tuple[Any, ...]:
    is_final = closed_ms is not None and over_ms <= closed_ms
    return (instant(start_ms), instant(end_ms), *shown, is_final, instant(start_ms).date())


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=str)


MODELS = {
    "tumbling": (w.BRAND_METRICS, brands),
    "sliding": (w.EVENT_RATES, rates),
    "session": (STAYS, stays),
}


def events(base_ms: int, low_mark_ms: int | None) -> st.SearchStrategy[Event]:
    """Events near an instant, often at the edge of a window, in time or late.

    Args:
        base_ms: Epoch ms.
        low_mark_ms: Where windows were closed up to when they came; None: nowhere.
    """
    edges = st.integers(-20, 20).map(lambda n: 1_000 * n)
    at = st.one_of(edges, edges.map(lambda e: e - 1), st.integers(-90_000, 90_000))
    mark = st.integers(0, 80_000).map(lambda n: n // 500 * 500)
    if low_mark_ms is None:
        marks = st.one_of(st.none(), mark.map(lambda n: base_ms - 40_000 + n))
    else:
        marks = mark.map(lambda n: low_mark_ms + n // 8)
    return st.builds(
        Event,
        at_ms=at.map(lambda n: base_ms + n),
        mark_ms=marks,
        kind=st.sampled_from(["view", "purchase", "remove_from_cart"]),
        brand=st.sampled_from([None, "a", "O'B\n<b>"]),
        category=st.sampled_from([None, "", "a.b", "c", ".d"]),
        fixed=st.one_of(st.integers(0, 30_000_000), st.just(0), st.just(1)),
    )


BASES = st.sampled_from([NOON_MS, SPRING_MS, 0, -86_400_000, -1_000])
