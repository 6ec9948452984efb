"""The transforms from live ticks to days, over Ibis tables, with the habits of ``transforms``."""

from typing import Any

from tidemill.crypto.topics import PRICES

ORIGIN = ("topic", "topic_id", "partition")
MINUTES_OF_HOUR = 60
GRACE_S = PRICES.grace_ms // 1000
"""How far the watermark of a partition is behind its newest event, in seconds."""


def live_daily_ohlc(live_prices: Any, consumed_spans: Any) -> Any:
    """One bar a symbol and UTC day that has ticks; rows of ``LIVE_DAILY_OHLC``.

    Open and close are the first and the last tick by (event time, offset). A symbol's ticks are in
    one partition, as it is their key; where they are in several, a tie in event time goes by
    (topic, topic id, partition) before the offset, so that there is one answer.

    A day is closed when the watermark of each partition that has a tick of it has passed its end. A
    partition of which ``consumed_spans`` knows no event has no watermark.

    Args:
        live_prices: Rows of ``LIVE_PRICES``, all of each day, in any order.
        consumed_spans: Rows of ``CONSUMED_SPANS``.
    """
    minutes = _minutes(live_prices)
    days = minutes.group_by("symbol", "date").agg(
        daily_high=minutes.high.max(),
        daily_low=minutes.low.min(),
        ticks=minutes.ticks.sum().cast("int64"),
        late_ticks=minutes.late_ticks.sum().cast("int64"),
        cnt=minutes.minute.nunique().cast("int64"),
        first_at=minutes.first_at.min(),
        last_at=minutes.last_at.max(),
    )
    first = _edge(live_prices, days, "first_at")
    last = _edge(live_prices, days, "last_at")
    closed = _closed(minutes, consumed_spans)
    bars = days.join(first, ["symbol", "date"]).join(last, ["symbol", "date"])
    bars = bars.join(closed, ["symbol", "date"])
    return bars.select(
        "symbol",
        daily_open=bars.first_price,
        daily_high=bars.daily_high,
        daily_low=bars.daily_low,
        daily_close=bars.last_price,
        ticks=bars.ticks,
        late_ticks=bars.late_ticks,
        cnt=bars.cnt,
        first_at=bars.first_at,
        first_offset=bars.first_offset,
        last_at=bars.last_at,
        last_offset=bars.last_offset,
        is_closed=bars.is_closed,
        date=bars.date,
    )


def merged_daily_ohlc(daily_ohlc: Any, live_daily_ohlc: Any) -> Any:
    """The days of the batch, and the live days that it lacks; rows of ``MERGED_DAILY_OHLC``.

    Args:
        daily_ohlc: Rows of ``DAILY_OHLC``.
        live_daily_ohlc: Rows of ``LIVE_DAILY_OHLC``, of the same symbols.
    """
    import ibis

    columns = ("date", "daily_open", "daily_high", "daily_low", "daily_close")
    batch = daily_ohlc.select(*columns, "daily_volume", "cnt", "source", "symbol")
    lacking = live_daily_ohlc.anti_join(batch, ["symbol", "date"])
    live = lacking.select(
        *columns,
        daily_volume=ibis.null("float64"),
        cnt=lacking.cnt,
        source=ibis.literal("live"),
        symbol=lacking.symbol,
    )
    return batch.union(live)


def _minutes(ticks: Any) -> Any:
    """Ticks folded by symbol, day, minute and partition.

    A hash of few groups, so that what is asked of a day, its distinct minutes too, is asked of
    thousands of rows instead of millions.
    """
    at = ticks.event_time
    minute = at.hour() * MINUTES_OF_HOUR + at.minute()
    return ticks.group_by("symbol", "date", *ORIGIN, minute=minute.cast("int64")).agg(
        high=ticks.price.max(),
        low=ticks.price.min(),
        ticks=ticks.count(),
        late_ticks=ticks.is_late.cast("int64").sum(),
        first_at=at.min(),
        last_at=at.max(),
    )


def _edge(ticks: Any, days: Any, at: str) -> Any:
    """The first or the last tick of each day: symbol, date, its price and its offset.

    Only the ticks at the day's first or last instant, seldom more than one, go into the window.

    Args:
        ticks: Rows of ``LIVE_PRICES``.
        days: symbol, date and the instant.
        at: ``first_at`` or ``last_at``.
    """
    import ibis

    found = ticks.join(days.select("symbol", "date", at), ["symbol", "date"])
    found = found.filter(found.event_time == found[at])
    order = [found[name] for name in (*ORIGIN, "offset")]
    if at == "last_at":
        order = [ibis.desc(name) for name in order]
    nth = ibis.row_number().over(group_by=["symbol", "date"], order_by=order)
    ranked = found.select("symbol", "date", "price", "offset", nth=nth)
    name = at.removesuffix("_at")
    return ranked.filter(ranked.nth == 0).select(
        "symbol", "date", **{f"{name}_price": ranked.price, f"{name}_offset": ranked.offset}
    )


def _closed(minutes: Any, consumed_spans: Any) -> Any:
    """Whether every partition that a symbol's day has ticks from is past it: symbol, date, that."""
    import ibis

    spans = consumed_spans
    newest = spans.group_by(*ORIGIN).agg(newest=spans.newest_event_at.max())
    origins = minutes.group_by("symbol", "date", *ORIGIN).agg(n=minutes.count())
    known = origins.left_join(newest, list(ORIGIN)).select(
        origins.symbol, origins.date, newest.newest
    )
    watermark = known.newest - ibis.interval(seconds=GRACE_S)
    passed = (watermark.date() > known.date).coalesce(False)
    return known.group_by("symbol", "date").agg(is_closed=passed.all())
