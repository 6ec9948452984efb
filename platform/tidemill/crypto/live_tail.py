"""The live tail of prices: ticks folded by the minute, and the days of ``LIVE_DAILY_OHLC``."""

from typing import TYPE_CHECKING

from tidemill.crypto import contracts as c
from tidemill.crypto.topics import PRICES
from tidemill.kafka.fold import Fold

if TYPE_CHECKING:
    import polars as pl

DAY = ("symbol", "date")
ORIGIN = ("topic", "topic_id", "partition")
MINUTE = (*DAY, *ORIGIN, "minute")
_ORDER = '(epoch_us(event_time)::HUGEINT * 9223372036854775808 + "offset")'
"""Event time, then offset, in one number, which DuckDB compares faster than a pair."""


def minutes_sql(ticks: str) -> str:
    """SQL of a row a symbol, day, minute and partition from rows of ``LIVE_PRICES``."""
    return f"""
    select symbol, date, topic, topic_id, "partition",
           hour(event_time) * 60 + minute(event_time) as minute,
           max(price) as high, min(price) as low,
           count(*) as ticks, count_if(is_late)::BIGINT as late_ticks,
           arg_min(price, {_ORDER}) as open, min(event_time) as first_at,
           arg_min("offset", {_ORDER}) as first_offset,
           arg_max(price, {_ORDER}) as close, max(event_time) as last_at,
           arg_max("offset", {_ORDER}) as last_offset
    from {ticks} group by all
    """


def merged(minutes: "pl.DataFrame") -> "pl.DataFrame":
    """Rows of ``minutes_sql``, several of a minute, into one each."""
    import polars as pl

    first, last = ["first_at", "first_offset"], ["last_at", "last_offset"]
    return (
        minutes.group_by(MINUTE)
        .agg(
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("ticks", "late_ticks").sum(),
            pl.col("open", *first).sort_by(first).first(),
            pl.col("close", *last).sort_by(last).last(),
        )
        .select(minutes.columns)
    )


def days(
    minutes: "pl.DataFrame", newest: "pl.DataFrame", closed_ms: int | None = None
) -> "pl.DataFrame":
    """Rows of ``LIVE_DAILY_OHLC`` from minutes and the newest event of each partition.

    A tie in event time between partitions goes by (topic, topic id, partition). A day is closed
    when the watermark of each partition that has a tick of it has passed its end.

    Args:
        minutes: Rows of ``minutes_sql``, one a key.
        newest: topic, topic_id, partition, newest_ms.
        closed_ms: Not asked, as days close by partition.
    """
    import polars as pl

    first = ["first_at", *ORIGIN, "first_offset"]
    last = ["last_at", *ORIGIN, "last_offset"]
    mark = pl.from_epoch(pl.col("newest_ms") - PRICES.grace_ms, time_unit="ms").dt.date()
    known = minutes.join(newest, on=ORIGIN, how="left")
    return known.group_by(DAY).agg(
        pl.col("open").sort_by(first).first().alias("daily_open"),
        pl.col("high").max().alias("daily_high"),
        pl.col("low").min().alias("daily_low"),
        pl.col("close").sort_by(last).last().alias("daily_close"),
        pl.col("ticks", "late_ticks").sum(),
        pl.col("minute").n_unique().cast(pl.Int64).alias("cnt"),
        pl.col("first_at", "first_offset").sort_by(first).first(),
        pl.col("last_at", "last_offset").sort_by(last).last(),
        (mark > pl.col("date")).fill_null(False).all().alias("is_closed"),
    )


DAYS = Fold(c.LIVE_DAILY_OHLC, MINUTE, minutes_sql, merged, days)
"""How rows of ``LIVE_PRICES`` become days."""
