"""The trial of live prices: the ticks of simulated candles, and the days that are made of them."""

import random
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.accounts import Accounts, Sent, differences, lines, rows
from tidemill import compose
from tidemill.crypto import checks, live
from tidemill.crypto import contracts as c
from tidemill.crypto.simulator import Faults, Market, simulate
from tidemill.kafka import audit
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Standing
from tidemill.lake.contracts import Table, text_literal
from tidemill.settings import Settings

CLEAN = Faults(0, 1, 0, 0, 0, 0)
SYMBOLS = 10


class Ticks:
    """Candles replayed, four ticks each."""

    feed: Feed = live.feed(SYMBOLS)
    followers: Sequence[Table] = ()
    options: Sequence[str] = ()

    def write(self, folder: Path, messages: int, rate: float, seed: int) -> Sent:
        """Candles of whole minutes of each symbol, whatever the rate."""
        path = folder / "candles.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        minutes = -(-messages // (4 * SYMBOLS))
        with path.open("w") as file, tempfile.TemporaryDirectory() as parts:
            file.write("symbol,timestamp,open,high,low,close,volume\n")
            for number in range(SYMBOLS):
                symbol, part = f"SIM{chr(65 + number)}USDT", Path(parts) / f"{number}.csv"
                market = Market(
                    symbol, date(2026, 1, 5), minutes, 50.0 * (number + 1), "kaggle_eth"
                )
                simulate(part, market, CLEAN, seed)
                found = part.read_text().splitlines(keepends=True)[1:]
                file.writelines(f"{symbol},{line}" for line in found)
        return Sent(path, 4 * minutes * SYMBOLS)

    def spoil(self, settings: Settings, sent: Sent, rng: random.Random) -> None:
        """Nothing."""

    def is_caught_up(self, settings: Settings) -> bool:
        """Whether every message is in the lake, and every day of it in the series."""
        prices, crypto = compose.live_prices(settings), compose.crypto(settings)
        if any(lag.messages for lag in prices.lags(prices.held())):
            return False
        return not crypto.live().dates and not crypto.unmerged()

    def take(self, settings: Settings, sent: Sent, held: Standing | None = None) -> Accounts:
        """Compare broker, ledger, rows and days."""
        prices, crypto = compose.live_prices(settings), compose.crypto(settings)
        held = held or prices.held()
        found = lines(prices.lake.snapshot, prices.feed, held)
        whole = _whole(prices.lake.snapshot(c.LIVE_PRICES).scan())
        whole |= {"ticks of the file": sent.messages, "broker": sum(line[1] for line in found)}
        told: dict[str, Sequence[Any]] = {
            "ledger": audit.faults(prices.lake, prices.feed),
            "late": [line for line in found if line[4]],
            "days and ticks": checks.ticks_not_counted(crypto),
            "days and one pass over their ticks": checks.days_not_replayed(crypto),
            "series": checks.days_not_merged(crypto),
            "days and the candles' own": _other_days(
                prices.lake.snapshot(c.LIVE_DAILY_OHLC).scan(), sent.file
            ),
        }
        return Accounts(held, found, whole, differences(found, sent, whole, told))


def _whole(relation: str) -> dict[str, int]:
    ((count, offsets, events),) = rows(
        'select count(*), count(distinct (topic, "partition", "offset")), '
        f"count(distinct (symbol, event_time)) from {relation}"
    )
    return {
        "count(*)": count,
        "count(distinct (topic, partition, offset))": offsets,
        "count(distinct (symbol, event_time))": events,
    }


def _other_days(days: str, candles: Path) -> list[tuple[Any, ...]]:
    """The days that are not what the candles of the file say, from either side."""
    values = "symbol, date, daily_open, daily_high, daily_low, daily_close, ticks, cnt"
    return rows(
        f"""
        with want as (
            select symbol, make_timestamp(timestamp * 1000000)::date as date,
                   arg_min(open, timestamp) as daily_open, max(high) as daily_high,
                   min(low) as daily_low, arg_max(close, timestamp) as daily_close,
                   4 * count(*) as ticks, count(*) as cnt
            from read_csv({text_literal(str(candles))}) group by all
        ), has as (select {values} from {days})
        select 'missing', * from (select {values} from want except all from has)
        union all select 'too many', * from (from has except all select {values} from want)
        """
    )
