"""What must hold across the crypto tables; each answers with the differences, if any."""

from typing import Any

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.lake import duck

Differences = list[dict[str, Any]]


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


def days_missing(crypto: Crypto) -> Differences:
    """Symbols whose ``filled_series`` is not every day, once, that ``daily_ohlc`` spans."""
    series, daily = (crypto.lake.snapshot(t).scan() for t in (c.FILLED_SERIES, c.DAILY_OHLC))
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


def _rows(sql: str) -> Differences:
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
