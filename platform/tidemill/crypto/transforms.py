"""The crypto transforms over Ibis tables: written once, run by DuckDB or Spark to the same rows.

Three habits keep two engines equal to the last digit. Doubles are added in time order, since an
engine's own order depends on its threads. A window that fills forward counts what came before and
joins on the count, since the engines differ in how ``last`` treats NULL. And an instant becomes a
date by integer arithmetic on its epoch, since time zones are a session's setting.

One habit keeps them fast. A window sorts all that it is given, so minutes are grouped by hour
first, which is cheap, and a window gets only the hours in which it can find something.
"""

from typing import Any

DAY_S = 86_400
HOUR_S = 3600


def raw_candles(landed: Any) -> Any:
    """Minute bars with empty prices filled from the last close before them.

    Args:
        landed: symbol, timestamp (s), open, high, low, close, volume, is_seed; distinct by
            (symbol, timestamp). A seed row lends its close to what follows and is not given out.

    Returns:
        Rows of ``RAW_CANDLES``. A row with some prices keeps them: an empty open is the last
        close, an empty close the open, and high and low span them. Rows with nothing before
        them to fill from are not given out; landing rejects such rows.

    Source: spec of ``raw_candles``: never from the future, flagged ``is_filled``.
    """
    import ibis

    lacking = _lacks_a_price(landed)
    empty = landed.filter(lacking)
    found = _last_closes(landed)
    matched = empty.left_join(found, ["symbol", "timestamp"]).select(
        *[empty[name] for name in empty.columns], found.last_close
    )
    opened = matched.mutate(open=ibis.coalesce(matched.open, matched.last_close, matched.close))
    closed = opened.mutate(close=ibis.coalesce(opened.close, opened.open))
    filled = closed.mutate(
        high=ibis.greatest(ibis.coalesce(closed.high, closed.open), closed.open, closed.close),
        low=ibis.least(ibis.coalesce(closed.low, closed.open), closed.open, closed.close),
        is_filled=ibis.literal(True),
    ).drop("last_close")
    whole = landed.filter(~lacking).mutate(is_filled=ibis.literal(False))
    bars = whole.union(filled.select(*whole.columns))
    return _candles(bars.filter(~bars.is_seed & bars.open.notnull()))


def whole_candles(landed: Any) -> Any:
    """``raw_candles`` of rows that all have their prices, at half the work."""
    import ibis

    return _candles(landed.mutate(is_filled=ibis.literal(False)))


def _candles(bars: Any) -> Any:
    at = _instant(bars.timestamp)
    return bars.select(
        "timestamp",
        datetime=at,
        open="open",
        high="high",
        low="low",
        close="close",
        volume=bars.volume.coalesce(0.0),
        is_filled="is_filled",
        symbol="symbol",
        year=at.year().cast("int32"),
        month=at.month().cast("int32"),
    )


def raw_bars(landed: Any) -> Any:
    """Longer bars as they landed, with their instant; rows of ``RAW_BARS``.

    Args:
        landed: The landed columns, interval_s and source; distinct by (symbol, interval_s,
            timestamp), with no empty price.
    """
    return landed.select(
        "timestamp",
        datetime=_instant(landed.timestamp),
        interval_s="interval_s",
        open="open",
        high="high",
        low="low",
        close="close",
        volume=landed.volume.coalesce(0.0),
        source="source",
        symbol="symbol",
    )


def candle_gaps(raw_candles: Any) -> Any:
    """Each run of missing minutes between two bars of a symbol, as rows of ``CANDLE_GAPS``."""
    import ibis

    t = raw_candles
    hours = t.group_by("symbol", hour=_hour(t)).agg(
        first=t.timestamp.min(), last=t.timestamp.max(), bars=t.count()
    )
    is_dense = hours["last"] - hours["first"] + 60 == hours.bars * 60
    within = t.mutate(hour=_hour(t)).semi_join(hours.filter(~is_dense), ["symbol", "hour"])
    spans = within.select("symbol", first="timestamp", last="timestamp").union(
        hours.filter(is_dense).select("symbol", "first", "last")
    )
    before = spans["last"].lag().over(group_by="symbol", order_by="first")
    steps = spans.select("symbol", timestamp="first", before=before)
    missing = (steps.timestamp - steps.before) // 60 - 1
    gaps = steps.mutate(minutes=missing.cast("int64")).filter(lambda g: g.minutes >= 1)
    return gaps.select(
        start=_instant(gaps.before + 60),
        end=_instant(gaps.timestamp - 60),
        minutes=gaps.minutes,
        **{
            "class": ibis.cases(
                (gaps.minutes == 1, "1 min"), (gaps.minutes <= 60, "2-60 min"), else_="over 1 h"
            )
        },
        symbol=gaps.symbol,
    )


def price_jumps(raw_candles: Any, over_pct: float = 20.0) -> Any:
    """Bars that reach over ``over_pct`` % away from the close before; rows of ``PRICE_JUMPS``."""
    import ibis

    t = _wild_hours(raw_candles, over_pct)
    window = ibis.window(group_by="symbol", order_by="timestamp")
    steps = t.select(
        "symbol",
        "timestamp",
        "high",
        "low",
        "is_wild",
        previous_close=t.close.lag().over(window),
        before=t.timestamp.lag().over(window),
    )
    steps = steps.mutate(
        price=ibis.ifelse(
            steps.high - steps.previous_close > steps.previous_close - steps.low,
            steps.high,
            steps.low,
        )
    )
    steps = steps.mutate(move_pct=100.0 * (steps.price / steps.previous_close - 1.0))
    jumps = steps.filter(steps.is_wild & (steps.move_pct.abs() > over_pct))
    return jumps.select(
        "timestamp",
        datetime=_instant(jumps.timestamp),
        previous_close="previous_close",
        price="price",
        move_pct="move_pct",
        minutes_since=((jumps.timestamp - jumps.before) // 60).cast("int64"),
        is_over_50=jumps.move_pct.abs() > 50.0,
        symbol="symbol",
    )


def daily_ohlc(raw_candles: Any, longer_bars: Any) -> Any:
    """One bar a symbol and UTC day; rows of ``DAILY_OHLC``.

    A day that has minutes is made from them alone. Another day is made from the finest longer bars
    that it has, with ``cnt`` NULL. Bars longer than a day make none.

    Args:
        raw_candles: Rows of ``RAW_CANDLES``, in any order.
        longer_bars: The landed columns, interval_s and source, in any order.
    """
    import ibis

    minutes = raw_candles.mutate(day=_day(raw_candles.timestamp))
    from_minutes = _fold(minutes, ["symbol", "day"]).mutate(source=ibis.literal("1m"))
    bars = longer_bars.filter(longer_bars.interval_s <= DAY_S)
    bars = bars.mutate(day=_day(bars.timestamp))
    finest = bars.group_by("symbol", "day").agg(finest=bars.interval_s.min())
    best = bars.join(
        finest,
        [
            bars.symbol == finest.symbol,
            bars.day == finest.day,
            bars.interval_s == finest.finest,
        ],
    ).select(*[bars[name] for name in bars.columns])
    best = best.anti_join(from_minutes, ["symbol", "day"])
    label = best.source.min() + ibis.literal(" ") + best.interval_s.min().cast("string")
    from_bars = (
        _fold(best, ["symbol", "day"], source=label)
        .mutate(cnt=ibis.null("int64"))
        .mutate(source=lambda t: t.source + ibis.literal(" s"))
    )
    days = from_minutes.union(from_bars.select(*from_minutes.columns))
    at = _instant(days.day * DAY_S)
    return days.select(
        date=at.date(),
        daily_open="daily_open",
        daily_high="daily_high",
        daily_low="daily_low",
        daily_close="daily_close",
        daily_volume="daily_volume",
        cnt="cnt",
        source="source",
        symbol="symbol",
        year=at.year().cast("int32"),
        month=at.month().cast("int32"),
    )


def filled_series(merged_daily_ohlc: Any) -> Any:
    """The complete calendar of each symbol, with moving averages; rows of ``FILLED_SERIES``."""
    import ibis

    daily = merged_daily_ohlc.mutate(day=merged_daily_ohlc.date.epoch_days().cast("int64"))
    spans = daily.group_by("symbol").agg(first=daily.day.min(), last=daily.day.max())
    calendar = spans.select("symbol", day=ibis.range(spans.first, spans.last + 1, 1).unnest())
    calendar = calendar.mutate(day=calendar.day.cast("int64"))
    days = calendar.left_join(daily, ["symbol", "day"]).select(
        calendar.symbol,
        calendar.day,
        daily.daily_open,
        daily.daily_high,
        daily.daily_low,
        daily.daily_close,
        daily.daily_volume,
        daily.cnt,
    )
    before = ibis.cumulative_window(group_by="symbol", order_by="day")
    days = days.mutate(nth=days.daily_close.count().over(before))
    known = days.filter(days.daily_close.notnull()).select(
        "symbol", nth="nth", last_close="daily_close"
    )
    days = days.join(known, [days.symbol == known.symbol, days.nth == known.nth]).select(
        *[days[name] for name in days.columns], known.last_close
    )
    is_filled = days.daily_close.isnull()
    series = days.select(
        "symbol",
        "day",
        open=days.daily_open.coalesce(days.last_close),
        high=days.daily_high.coalesce(days.last_close),
        low=days.daily_low.coalesce(days.last_close),
        close=days.last_close,
        volume=ibis.ifelse(is_filled, 0.0, days.daily_volume),
        cnt=ibis.ifelse(is_filled, 0, days.cnt),
        is_filled=is_filled,
    )
    return series.select(
        date=_instant(series.day * DAY_S).date(),
        open="open",
        high="high",
        low="low",
        close="close",
        volume="volume",
        cnt="cnt",
        is_filled="is_filled",
        ma7=_trailing_mean(series.close, 7),
        ma30=_trailing_mean(series.close, 30),
        symbol="symbol",
    )


def prophet_input(merged_daily_ohlc: Any) -> Any:
    """The days that have data, named as Prophet wants them; rows of ``PROPHET_INPUT``."""
    return merged_daily_ohlc.select(ds="date", y="daily_close", symbol="symbol")


def _lacks_a_price(bars: Any) -> Any:
    return bars.open.isnull() | bars.high.isnull() | bars.low.isnull() | bars.close.isnull()


def _hour(bars: Any) -> Any:
    """Hours since 1970; said anew where it is needed, as DuckDB keeps rows that are named twice."""
    return (bars.timestamp // HOUR_S).cast("int64")


def _last_closes(landed: Any) -> Any:
    """The last close before each bar of every hour in which a price is empty.

    Of the other hours only the last close matters, so only that goes into the window.

    Returns:
        symbol, timestamp, last_close; other bars may be in it too.
    """
    import ibis

    t = landed
    hours = t.group_by("symbol", hour=_hour(t)).agg(
        newest=t.timestamp.max(where=t.close.notnull()), is_lacking=_lacks_a_price(t).any()
    )
    in_hours = t.mutate(hour=_hour(t)).join(hours, ["symbol", "hour"])
    kept = in_hours.filter(in_hours.is_lacking | (in_hours.timestamp == in_hours.newest))
    window = ibis.cumulative_window(group_by="symbol", order_by="timestamp")
    counted = kept.select("symbol", "timestamp", "close", nth=kept.close.count().over(window))
    before = counted.filter(counted.close.notnull()).select("symbol", nth="nth", last_close="close")
    # An empty close does not count itself, so the row before it with a close has its very number;
    # a row that has a close, but lacks another price, looks one number back.
    bars = counted.select(
        "symbol", "timestamp", wanted=counted.nth - counted.close.notnull().cast("int64")
    )
    return bars.left_join(before, [bars.symbol == before.symbol, bars.wanted == before.nth]).select(
        bars.symbol, bars.timestamp, before.last_close
    )


def _wild_hours(raw_candles: Any, over_pct: float) -> Any:
    """The bars of hours that may hold a move over ``over_pct`` %, and of the hour before each.

    A bar's previous close lies between the lowest and the highest price of its hour and the one
    before. Where these are close together, no bar of the hour has moved far.

    Returns:
        The columns of ``raw_candles``, hour, and is_wild: False for an hour that is only before.
    """
    import ibis

    t = raw_candles
    hours = t.group_by("symbol", hour=_hour(t)).agg(top=t.high.max(), bottom=t.low.min())
    window = ibis.window(group_by="symbol", order_by="hour")
    hours = hours.mutate(
        top_before=hours.top.lag().over(window), bottom_before=hours.bottom.lag().over(window)
    )
    top = ibis.greatest(hours.top, hours.top_before.coalesce(hours.top))
    bottom = ibis.least(hours.bottom, hours.bottom_before.coalesce(hours.bottom))
    # The margin covers the rounding of the exact test; a fall of x % needs a range of over x %.
    hours = hours.mutate(is_wild=top > bottom * (1.0 + over_pct / 100.0) * (1.0 - 1e-9))
    is_before = hours.is_wild.lead().over(window).coalesce(False)
    hours = hours.select("symbol", "hour", "is_wild", is_before=is_before)
    within = hours.filter(hours.is_wild | hours.is_before)
    return t.mutate(hour=_hour(t)).join(within, ["symbol", "hour"])


def _fold(bars: Any, by: list[str], **more: Any) -> Any:
    return bars.group_by(by).agg(
        daily_open=_builtin("min_by")(bars.open, bars.timestamp),
        daily_high=bars.high.max(),
        daily_low=bars.low.min(),
        daily_close=_builtin("max_by")(bars.close, bars.timestamp),
        daily_volume=_builtin("sum_in_order")(bars.volume, bars.timestamp),
        cnt=bars.count(),
        **more,
    )


def _builtin(name: str) -> Any:
    """Both engines' own ``name(value, key)``, for what Ibis has no way to say, or a slow one.

    ``sum_in_order`` is what ``engines`` gives both of them; Ibis's ``argmin`` makes DuckDB build
    sort keys.
    """
    import ibis

    def of(value: float, key: int) -> float:
        raise NotImplementedError("it runs in the engine")

    return ibis.udf.agg.builtin(of, name=name)


def _trailing_mean(value: Any, days: int) -> Any:
    """Mean of the last ``days`` rows, added oldest first; NULL until there are as many."""
    import ibis

    window = ibis.window(group_by="symbol", order_by="day")
    total = value.lag(days - 1).over(window)
    for back in range(days - 2, 0, -1):
        total = total + value.lag(back).over(window)
    return (total + value) / days


def _day(timestamp: Any) -> Any:
    return (timestamp // DAY_S).cast("int64")


def _instant(epoch_s: Any) -> Any:
    import ibis

    return ibis.timestamp("1970-01-01") + epoch_s.cast("int64").as_interval("s")
