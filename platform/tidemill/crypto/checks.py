"""What must hold across the crypto tables; each answers with the differences, if any."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake import duck
from tidemill.lake.snapshot import Snapshot

Differences = list[dict[str, Any]]

LAST_MADE = 2
"""Live days that are folded again for each check: today's, and yesterday's while it is open."""


def rows_not_conserved(crypto: Crypto) -> Differences:
    """Symbols whose minutes in ``raw_candles`` are not as many as the good rows that landed.

    A symbol of which something landed after it was made last waits, and is not told of here.
    """
    waiting = {waits.symbol for waits in crypto.waiting()}
    raw, landed = (crypto.lake.snapshot(t).scan() for t in (c.RAW_CANDLES, c.LANDED_FILES))
    found = _rows(
        f"""
        with had as (select symbol, sum(good)::BIGINT as landed from {landed}
                     where interval_s = 60 and good > 0 group by 1),
        has as (select symbol, count(*) as minutes from {raw} group by 1)
        select symbol, coalesce(landed, 0) as landed, coalesce(minutes, 0) as minutes
        from had full join has using (symbol)
        where coalesce(landed, 0) <> coalesce(minutes, 0) order by symbol
        """
    )
    return [difference for difference in found if difference["symbol"] not in waiting]


def minutes_not_counted(crypto: Crypto) -> Differences:
    """Symbols whose daily ``cnt`` do not add up to their rows in ``raw_candles``."""
    raw, daily = (crypto.lake.snapshot(t).scan() for t in (c.RAW_CANDLES, c.DAILY_OHLC))
    return _rows(
        f"""
        with has as (select symbol, count(*) as minutes from {raw} group by 1),
        counted as (select symbol, coalesce(sum(cnt), 0)::BIGINT as counted from {daily} group by 1)
        select symbol, coalesce(minutes, 0) as minutes, coalesce(counted, 0) as counted
        from has full join counted using (symbol)
        where coalesce(minutes, 0) <> coalesce(counted, 0) order by symbol
        """
    )


def ticks_not_counted(crypto: Crypto) -> Differences:
    """Where ticks got lost or came twice between the ledger, ``live_prices`` and the days.

    What is on its way is not told of: a day that got ticks after its bars were made, and spans of
    the ledger that begin after the last offset of their partition in ``live_prices``.

    Returns:
        Days whose ``ticks`` are not the rows of ``live_prices``; and partitions of which
        ``live_prices`` has not as many rows as ``consumed_spans`` counts good and late ones.
    """
    ticks, days, spans = (
        crypto.lake.snapshot(t) for t in (c.LIVE_PRICES, c.LIVE_DAILY_OHLC, c.CONSUMED_SPANS)
    )
    rows: Counter[str] = Counter()
    for file in ticks.files:
        rows[file.partition["date"]] += file.rows
    counted = _rows(f"select date, sum(ticks)::BIGINT as ticks from {days.scan()} group by 1")
    ticks_of = {str(day["date"]): day["ticks"] for day in counted}
    by_day = [
        {"date": day, "rows": rows[day], "ticks": ticks_of.get(day, 0)}
        for day in sorted((rows.keys() | ticks_of.keys()) - _on_their_way(ticks, days))
        if rows[day] != ticks_of.get(day, 0)
    ]
    by_partition = _rows(
        f"""
        with has as (select topic, topic_id, partition, count(*) as rows, max("offset") as newest
                     from {ticks.scan()} group by all),
        want as (select topic, topic_id, partition, sum(good + late)::BIGINT as taken
                 from {spans.scan()} left join has using (topic, topic_id, partition)
                 where "start" <= coalesce(newest, -1) group by all)
        select topic, topic_id, partition, coalesce(taken, 0) as taken, coalesce(rows, 0) as rows
        from want full join has using (topic, topic_id, partition)
        where coalesce(taken, 0) <> coalesce(rows, 0) order by all
        """
    )
    return by_day + by_partition


def days_not_replayed(
    crypto: Crypto, replayed: str | None = None, dates: Sequence[date] | None = None
) -> Differences:
    """Live days that are not what their ticks give, read in one go and folded without a transform.

    Args:
        crypto: Has the days.
        replayed: An SQL relation with the columns of ``LIVE_PRICES``, as of a topic read again from
            its first offset; None for what ``live_prices`` holds.
        dates: Which days, all of each in ``replayed``; None for the ``LAST_MADE`` made last, except
            those that got ticks since.

    Returns:
        Each row that only one side has, with the side; ``is_closed`` is not compared, as it is the
        ledger's to say.
    """
    ticks, days = (crypto.lake.snapshot(t) for t in (c.LIVE_PRICES, c.LIVE_DAILY_OHLC))
    if dates is None:
        made = _newest(days, "date")
        settled = sorted(made.keys() - _on_their_way(ticks, days), key=lambda day: (made[day], day))
        dates = [date.fromisoformat(day) for day in settled[-LAST_MADE:]]
    if not dates:
        return []
    within = [{"date": str(day)} for day in dates]
    listed = ", ".join(f"date '{day}'" for day in dates)
    columns = ", ".join(f'"{x.name}"' for x in c.LIVE_DAILY_OHLC.columns if x.name != "is_closed")
    key = '(event_time, topic, topic_id, partition, "offset")'
    return _rows(
        f"""
        with want as (
            select symbol, date, min_by(price, {key}) as daily_open, max(price) as daily_high,
                min(price) as daily_low, max_by(price, {key}) as daily_close, count(*) as ticks,
                count_if(is_late)::BIGINT as late_ticks,
                count(distinct date_trunc('minute', event_time)) as cnt,
                min(event_time) as first_at, min_by("offset", {key}) as first_offset,
                max(event_time) as last_at, max_by("offset", {key}) as last_offset
            from {replayed or ticks.within(within).scan()} where date in ({listed}) group by all),
        has as (select {columns} from {days.within(within).scan()})
        select 'missing' as side, {columns}
        from (select {columns} from want except all select {columns} from has)
        union all
        select 'too many' as side, {columns}
        from (select {columns} from has except all select {columns} from want)
        order by symbol, date, side
        """
    )


def days_not_merged(crypto: Crypto) -> Differences:
    """Days of ``merged_daily_ohlc`` that are not ``daily_ohlc``'s, or else ``live_daily_ohlc``'s.

    A day made after its symbol was merged waits, and is not told of.

    Returns:
        Each row that only one side has, with the side.
    """
    merged, daily, days = (
        crypto.lake.snapshot(t) for t in (c.MERGED_DAILY_OHLC, c.DAILY_OHLC, c.LIVE_DAILY_OHLC)
    )
    values = "symbol, date, daily_open, daily_high, daily_low, daily_close"
    found = _rows(
        f"""
        with batch as (select {values}, daily_volume, cnt, source from {daily.scan()}),
        live as (select {values}, null, cnt, 'live' from {days.scan()}
                 anti join batch using (symbol, date)),
        want as (from batch union all from live),
        has as (select {values}, daily_volume, cnt, source from {merged.scan()})
        select 'missing' as side, * from (from want except all from has)
        union all
        select 'too many' as side, * from (from has except all from want)
        order by symbol, date, side
        """
    )
    by_symbol, by_date = _newest(merged, "symbol"), _newest(days, "date")
    by_month = _newest(daily, "symbol", "year", "month")
    last = max(by_symbol.values(), default=0)

    def waits(symbol: str, day: date) -> bool:
        made = by_month.get(f"{symbol}/{day.year}/{day.month}", 0), by_date.get(str(day), 0)
        return max(made) > by_symbol.get(symbol, last)

    return [row for row in found if not waits(row["symbol"], row["date"])]


def days_missing(crypto: Crypto) -> Differences:
    """Symbols whose ``filled_series`` is not every day, once, that ``merged_daily_ohlc`` spans."""
    series, daily = (crypto.lake.snapshot(t).scan() for t in (c.FILLED_SERIES, c.MERGED_DAILY_OHLC))
    return _rows(
        f"""
        with want as (select symbol, max(date) - min(date) + 1 as days from {daily} group by 1),
        has as (select symbol, count(*) as n, count(distinct date) as n_distinct
                from {series} group by 1)
        select symbol, days, coalesce(n, 0) as n, coalesce(n_distinct, 0) as n_distinct
        from want full join has using (symbol)
        where days is distinct from n or n is distinct from n_distinct order by symbol
        """
    )


def _on_their_way(ticks: Snapshot, days: Snapshot) -> set[str]:
    """The dates whose ticks, or some of them, came after the bars were made."""
    told, made = _newest(ticks, "date"), _newest(days, "date")
    return {day for day, at_ms in told.items() if at_ms > made.get(day, 0)}


def _newest(snapshot: Snapshot, *by: str) -> dict[str, int]:
    """When what has these values of partition columns was written last, epoch milliseconds."""
    newest: dict[str, int] = {}
    for file in snapshot.files:
        of = "/".join(file.partition[name] for name in by)
        newest[of] = max(newest.get(of, 0), file.modified_ms)
    return newest


def _rows(sql: str) -> Differences:
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
