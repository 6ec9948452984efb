"""Whether the topic, read again as a batch, gives the days that the stream gave."""

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.checks import Differences, days_not_replayed
from tidemill.engines.duck import connection
from tidemill.kafka import reread
from tidemill.kafka.again import Again
from tidemill.kafka.subscription import Subscription
from tidemill.lake import stream
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb

MESSAGES = 2_000_000
"""Messages of a partition that one look takes about, the last ones."""


def replay_differs(crypto: Crypto, prices: Subscription, limit: int = MESSAGES) -> Differences:
    """Live days that are not what the topic gives, read again in one pass and folded in one go.

    Only days whose ticks all come from the offsets read again are compared, and none that got ticks
    meanwhile. Dead letters are passed over: they are accounted for. Where an event comes twice with
    different values in two partitions, which of them stays is a matter of arrival, and is told.

    Args:
        crypto: Has the days.
        prices: Has the topic.
        limit: Messages of a partition to read, about: a span that was consumed is read whole.

    Returns:
        Each row that only one side has, with the side.

    Raises:
        TidemillError: The broker fails.
    """
    lake, held = prices.lake, prices.held()
    names = {held.app_id(partition): partition for partition in held.marks}
    ticks, at = stream.standing(lake, c.LIVE_PRICES, names)
    days = lake.snapshot(c.LIVE_DAILY_OHLC)
    reached = {names[name]: stop for name, stop in at.items()}
    with connection(prices.memory_limit_mb) as con, TemporaryDirectory(prefix="tidemill-") as made:
        again = Again.of(con, prices, held, ticks, reached, limit)
        if not again.spans:
            return []
        path = Path(made) / "replayed.parquet"
        con.execute(f"copy {again.read()} to {text_literal(str(path))} (format parquet)")
        settled = [day for day in _dates(again) if _is_counted(con, ticks, days, day)]
        found = days_not_replayed(crypto, f"read_parquet({text_literal(str(path))})", settled)
    return [row for row in found if not _has_changed(crypto, ticks, days, row["date"])]


def _dates(again: Again) -> list[date]:
    """The days that have ticks, and only from the offsets that are read again, sorted."""
    ticks = again.rows.scan()
    found = again.con.execute(
        f"select date from {ticks} group by 1 having bool_and({again.is_within()}) "
        f"union (select date from {reread.ROWS} except select date from {ticks}) order by 1"
    )
    return [day for (day,) in found.fetchall()]


def _is_counted(
    con: "duckdb.DuckDBPyConnection", ticks: Snapshot, days: Snapshot, day: date
) -> bool:
    """Whether a day's bars were made of all its ticks."""
    within = [{"date": str(day)}]
    (made,) = con.execute(
        f"select coalesce(sum(ticks), 0) from {days.within(within).scan()}"
    ).fetchone() or (0,)
    return int(made) == ticks.within(within).rows


def _has_changed(crypto: Crypto, ticks: Snapshot, days: Snapshot, day: date) -> bool:
    """Whether a day got other ticks or other bars since it was looked at."""
    within = [{"date": str(day)}]
    return any(
        crypto.lake.snapshot(was.table).within(within).files != was.within(within).files
        for was in (ticks, days)
    )
