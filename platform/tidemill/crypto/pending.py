"""What is still to be made: months of what has landed, days of live ticks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from tidemill.crypto import contracts as c
from tidemill.crypto import ohlc, transforms
from tidemill.crypto.intake.landing import Landing
from tidemill.errors import TidemillError
from tidemill.lake import duck
from tidemill.lake.snapshot import Partition, Snapshot
from tidemill.lake.store import Lake

MINUTE_S = 60


@dataclass(frozen=True)
class Months:
    """Calendar months without a gap, both ends included; each date is the first of a month."""

    first: date
    last: date

    @classmethod
    def of(cls, keys: Sequence[date]) -> "Months":
        """The months named by ``keys``.

        Raises:
            TidemillError: They leave a month out; a range is made in one pass.
        """
        found = cls(min(keys), max(keys))
        asked, spanned = len(set(keys)), len(found.starts())
        if asked != spanned:
            raise TidemillError(
                f"months {found.first} to {found.last}: {asked} of {spanned} asked for; "
                "ask for a range without gaps"
            )
        return found

    @classmethod
    def spanning(cls, first: datetime, last: datetime) -> "Months":
        """The months from one instant's to another's."""
        return cls(first.date().replace(day=1), last.date().replace(day=1))

    def starts(self) -> list[date]:
        """Each month's first day."""
        count = (self.last.year - self.first.year) * 12 + self.last.month - self.first.month + 1
        start = self.first.year * 12 + self.first.month - 1
        return [date((start + n) // 12, (start + n) % 12 + 1, 1) for n in range(count)]

    def partitions(self, symbol: str) -> list[Partition]:
        """The partitions of a table by symbol, year and month."""
        return [{"symbol": symbol, "year": m.year, "month": m.month} for m in self.starts()]

    def span_s(self) -> tuple[int, int]:
        """Epoch seconds of the start, and of the end, which is not included."""
        after = date(self.last.year + self.last.month // 12, self.last.month % 12 + 1, 1)
        return _epoch(self.first), _epoch(after)


@dataclass(frozen=True)
class Pending:
    """Months of a symbol that lack something, and when that landed (UTC)."""

    symbol: str
    months: Months
    landed_at: datetime


@dataclass(frozen=True)
class Live:
    """What there is of live ticks.

    Attributes:
        symbols: That have some, sorted.
        dates: UTC days whose bars wait to be made, sorted.
    """

    symbols: tuple[str, ...] = ()
    dates: tuple[date, ...] = ()


def _epoch(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def months(landing: Landing, symbol: str) -> Months | None:
    """The months that a symbol's good rows span, or None."""
    rows = [row for row in landing.ledger(symbol) if row["good"]]
    if not rows:
        return None
    return Months.spanning(
        min(row["first_at"] for row in rows), max(row["last_at"] for row in rows)
    )


def waiting(lake: Lake, landing: Landing) -> list[Pending]:
    """What landed after its months were last made, a file and symbol each."""
    made = _newest(lake.snapshot(c.DAILY_OHLC))
    bars = _newest(lake.snapshot(c.RAW_BARS))
    found = []
    for row in landing.ledger():
        if not row["good"]:
            continue
        symbol = row["symbol"]
        span = Months.spanning(row["first_at"], row["last_at"])
        of_month = [made.get((symbol, str(m.year), str(m.month)), 0) for m in span.starts()]
        if row["interval_s"] == MINUTE_S:
            # A month that the file has no minute in may have no row; ``pending`` counts them.
            at_ms = max(of_month)
        elif row["interval_s"] <= transforms.DAY_S:
            at_ms = min(bars.get((symbol,), 0), *of_month)
        else:
            at_ms = bars.get((symbol,), 0)
        landed_at = row["landed_at"].replace(tzinfo=UTC)
        if at_ms < landed_at.timestamp() * 1000:
            found.append(Pending(symbol, span, landed_at))
    return found


def pending(lake: Lake, landing: Landing) -> list[Pending]:
    """What is still to be made: what waits, and every month of a symbol that lacks minutes.

    A file that lands while its months are being made is older than what was made without it;
    the count of its minutes tells.
    """
    found = waiting(lake, landing)
    minutes: Counter[str] = Counter()
    for file in lake.snapshot(c.RAW_CANDLES).files:
        minutes[file.partition["symbol"]] += file.rows
    landed: Counter[str] = Counter()
    last: dict[str, datetime] = {}
    for row in landing.ledger():
        last[row["symbol"]] = row["landed_at"].replace(tzinfo=UTC)
        if row["interval_s"] == MINUTE_S:
            landed[row["symbol"]] += row["good"]
    for symbol in sorted(set(landed) - {waits.symbol for waits in found}):
        span = months(landing, symbol)
        if landed[symbol] != minutes[symbol] and span is not None:
            found.append(Pending(symbol, span, last[symbol]))
    return found


def live_days(lake: Lake) -> Live:
    """The symbols that have live ticks, and the days that wait.

    A day waits when ``live_daily_ohlc`` does not count as many ticks as ``live_prices`` has, or
    when one of its open bars is to be closed. Counts, not times: a slow writer's bars may be newer
    than ticks that it did not see, and joining small files makes no work.
    """
    prices, days = lake.snapshot(c.LIVE_PRICES), lake.snapshot(c.LIVE_DAILY_OHLC)
    ticks: Counter[date] = Counter()
    for file in prices.files:
        ticks[date.fromisoformat(file.partition["date"])] += file.rows
    with duck.cursor() as con:
        counted = con.execute(
            f"select date, sum(ticks)::BIGINT, bool_and(is_closed) from {days.scan()} group by 1"
        ).fetchall()
    made = {day: n for day, n, _ in counted}
    waits = {day for day in ticks.keys() | made.keys() if ticks[day] != made.get(day, 0)}
    still_open = [day for day, _, is_closed in counted if not is_closed and day not in waits]
    waits |= _to_be_closed(lake, still_open)
    new = prices.within([{"date": str(day)} for day in waits])
    with duck.cursor() as con:
        found = con.execute(
            f"select symbol from {days.scan()} union select symbol from {new.scan()} order by 1"
        ).fetchall()
    return Live(tuple(symbol for (symbol,) in found), tuple(sorted(waits)))


def unmerged(lake: Lake) -> list[str]:
    """The symbols whose live days are not in ``merged_daily_ohlc`` as they are now, sorted."""
    merged, daily, days = (
        lake.snapshot(t).scan() for t in (c.MERGED_DAILY_OHLC, c.DAILY_OHLC, c.LIVE_DAILY_OHLC)
    )
    values = "symbol, date, daily_open, daily_high, daily_low, daily_close, cnt"
    with duck.cursor() as con:
        found = con.execute(
            f"""
            with want as (select {values} from {days} anti join {daily} using (symbol, date)),
            has as (select {values} from {merged} where source = 'live')
            select symbol from (from want except all from has)
            union select symbol from (from has except all from want) order by symbol
            """
        ).fetchall()
    return [symbol for (symbol,) in found]


def _to_be_closed(lake: Lake, days: Sequence[date]) -> set[date]:
    """Those of some days that have an open bar which the watermarks have passed."""
    spans = lake.snapshot(c.CONSUMED_SPANS)
    origin = ", ".join(f'"{name}"' for name in ohlc.ORIGIN)
    marks = (
        f"select {origin}, max(newest_event_at) - interval {ohlc.GRACE_S} second as mark "
        f"from {spans.scan()} group by all"
    )
    with duck.cursor() as con:
        (mark,) = con.execute(f"select max(mark) from ({marks})").fetchone() or (None,)
        passed = [day for day in days if mark is not None and day < mark.date()]
        if not passed:  # the common case, told without a look at the ticks
            return set()
        within = [{"date": str(day)} for day in passed]
        ticks = lake.snapshot(c.LIVE_PRICES).within(within).scan()
        bars = lake.snapshot(c.LIVE_DAILY_OHLC).within(within).scan()
        found = con.execute(
            f"""
            with marks as ({marks}),
            origins as (select distinct symbol, date, {origin} from {ticks}),
            past as (select symbol, date from origins left join marks using ({origin})
                     group by all having bool_and(coalesce(mark::DATE > date, false)))
            select distinct date from {bars} join past using (symbol, date) where not is_closed
            """
        ).fetchall()
    return {day for (day,) in found}


def _newest(snapshot: Snapshot) -> dict[tuple[str, ...], int]:
    """When each partition was written last, epoch milliseconds."""
    return {tuple(file.partition.values()): file.modified_ms for file in snapshot.files}
