"""Brands, categories, funnel, sessions, visits and cohorts, over the union of all events.

Each is a pure function of an Ibis table with the columns of ``EVENT`` and source; DuckDB and Spark
give the same rows. What sorts is given few rows: events are folded by a hash first.
"""

from typing import Any

from tidemill.events.money import money
from tidemill.events.reports import common
from tidemill.events.topics import GRACE_MS
from tidemill.events.windows import VISITS, top_category
from tidemill.windows.fold import epoch_ms, whole

NEVER_ENDING_MS = 1 << 62
"""A watermark that has passed all windows."""
MONDAY = 3
"""From the Monday of the week of 1970-01-01, a Thursday, to that day."""


def brand_report(events: Any) -> Any:
    """Counts, revenue and rates of each brand; rows of ``BRAND_REPORT``."""
    found = events.group_by("source", "brand").agg(**common.counted(events))
    return _ranked(found, "brand")


def category_report(events: Any) -> Any:
    """Counts, revenue and rates of each category; rows of ``CATEGORY_REPORT``."""
    found = events.group_by("source", "category_code").agg(**common.counted(events))
    return _ranked(found.mutate(top_category=top_category(found.category_code)), "category_code")


def funnel(events: Any) -> Any:
    """Views, carts and purchases by events and by sessions; rows of ``FUNNEL``."""
    import ibis

    steps = ("views", "carts", "purchases")
    by_event = events.group_by("source").agg(**common.counted(events))
    named = events.filter(events.user_session.notnull())
    sessions = named.group_by("source", "user_session").agg(**common.counted(named))
    having = {step: sessions.count(where=sessions[step] > 0) for step in steps}
    by_session = sessions.group_by("source").agg(**having)
    # A source whose events have no session has a row of zeros.
    every = by_event.left_join(by_session, "source").select(
        by_event.source, **{step: by_session[step].coalesce(0) for step in steps}
    )
    both = by_event.select("source", *steps, level=ibis.literal("events")).union(
        every.mutate(level=ibis.literal("sessions"))
    )
    return both.select(
        "source",
        "level",
        *steps,
        cart_per_view=common.ratio(both.carts, both.views),
        purchase_per_view=common.ratio(both.purchases, both.views),
        purchase_per_cart=common.ratio(both.purchases, both.carts),
    )


def sessions(events: Any) -> Any:
    """What happened in each session that the shop tells; rows of ``SESSIONS``."""
    import ibis

    named = events.filter(events.user_session.notnull())
    at, of = named.event_timestamp, named.event_type
    by_user = named.group_by("source", "user_session", "user_id").agg(
        **common.counted(named),
        started_at=at.min(),
        ended_at=at.max(),
        first_view_at=at.min(where=of == "view"),
        first_purchase_at=at.min(where=of == "purchase"),
    )
    folded = by_user.group_by("source", "user_session").agg(
        **common.added(by_user),
        user_id=by_user.user_id.min(),
        users=by_user.user_id.count(),
        started_at=by_user.started_at.min(),
        ended_at=by_user.ended_at.max(),
        first_view_at=by_user.first_view_at.min(),
        first_purchase_at=by_user.first_purchase_at.min(),
    )
    bought = _first_purchase_after_view(named, folded)
    found = folded.left_join(bought, ["source", "user_session"]).select(
        *[folded[name] for name in folded.columns], bought.bought_at
    )
    return found.select(
        "source",
        "user_session",
        "user_id",
        "users",
        "events",
        "views",
        "carts",
        "purchases",
        revenue=money(found.revenue),
        started_at=found.started_at,
        ended_at=found.ended_at,
        duration_s=_seconds(found.started_at, found.ended_at),
        first_view_at=found.first_view_at,
        first_purchase_at=found.first_purchase_at,
        view_to_purchase_s=_seconds(found.first_view_at, found.bought_at),
        outcome=ibis.cases(
            (found.purchases > 0, "purchase"),
            (found.carts > 0, "cart"),
            (found.views > 0, "view"),
            else_="other",
        ),
    )


def visits(events: Any) -> Any:
    """Events of a user with less than 30 minutes between one and the next; rows of ``VISITS``.

    Of the topic those are final that the watermark has closed; files are taken as whole.
    """
    import ibis

    newest = events.group_by("source").agg(newest_ms=epoch_ms(events.event_timestamp).max())
    watermark_ms = newest.newest_ms - GRACE_MS
    closing = newest.select(
        "source", closed_ms=(newest.source == "topic").ifelse(watermark_ms, NEVER_ENDING_MS)
    )
    timed = events.mutate(watermark=ibis.null("timestamp(6)"))
    return whole(VISITS, timed, closing)


def cohorts(events: Any) -> Any:
    """Users by the week they were first seen in, and the weeks they came back; ``COHORTS``."""
    import ibis

    week = ((common.day(events.event_timestamp) + MONDAY) // 7).cast("int64")
    dated = events.select("source", "user_id", week=week)
    last = dated.group_by("source").agg(last=dated.week.max())
    there = dated.filter(dated.user_id.notnull()).distinct()
    first = there.group_by("source", "user_id").agg(cohort=there.week.min())
    size = first.group_by("source", "cohort").agg(users=first.count())
    seen = there.join(first, ["source", "user_id"])
    active = seen.group_by("source", "cohort", "week").agg(active=seen.count())
    spans = size.join(last, "source")
    weeks = spans.select(
        "source", "cohort", "users", week=ibis.range(spans.cohort, spans["last"] + 1, 1).unnest()
    )
    weeks = weeks.mutate(week=weeks.week.cast("int64"))
    found = weeks.left_join(active, ["source", "cohort", "week"]).select(
        weeks.source,
        weeks.cohort,
        weeks.users,
        weeks.week,
        active.active.coalesce(0).name("active"),
    )
    return found.select(
        "source",
        cohort_week=common.instant((found.cohort * 7 - MONDAY) * 86_400).date(),
        week_number=found.week - found.cohort,
        users=found.users,
        active=found.active,
        retention=common.ratio(found.active, found.users),
    )


def _ranked(found: Any, name: str) -> Any:
    """Counts with their rates, and the place by revenue; ties by name, the nameless one last."""
    import ibis

    order = [ibis.desc(found.revenue), found[name].isnull(), found[name]]
    rank = ibis.row_number().over(group_by="source", order_by=order) + 1
    return found.mutate(
        revenue=money(found.revenue),
        view_to_cart_rate=common.ratio(found.carts, found.views),
        view_to_purchase_rate=common.ratio(found.purchases, found.views),
        rank=rank.cast("int64"),
    )


def _first_purchase_after_view(named: Any, folded: Any) -> Any:
    """source, user_session, and the first purchase that is not before the first view."""
    viewed = folded.filter(folded.purchases > 0).select("source", "user_session", "first_view_at")
    bought = named.filter(named.event_type == "purchase").join(viewed, ["source", "user_session"])
    after = bought.filter(bought.event_timestamp >= bought.first_view_at)
    return after.group_by("source", "user_session").agg(bought_at=after.event_timestamp.min())


def _seconds(start: Any, end: Any) -> Any:
    return (epoch_ms(end) - epoch_ms(start)).cast("float64") / 1000.0
