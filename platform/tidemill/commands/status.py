"""``tidemill status``: what there is, what waits, and what does not hold."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tidemill import compose
from tidemill.commands import show
from tidemill.crypto import checks
from tidemill.errors import TidemillError
from tidemill.events.checks_live import counts_every_event, late_not_told
from tidemill.events.following import behind
from tidemill.events.intake.accounts import COUNTS
from tidemill.events.reports.checks import anomalies_add_up, reports_add_up, sessions_add_up
from tidemill.intake import inbox
from tidemill.kafka import audit
from tidemill.kafka.subscription import Subscription
from tidemill.settings import Settings

TITLES = {"symbols": "symbols, of files that landed", "sources": "files of events that landed"}


def status(settings: Settings) -> dict[str, Any]:
    """The report: home, tables, symbols, sources of events, topics, pending work, checks."""
    crypto, prices = compose.crypto(settings), compose.live_prices(settings)
    events, clicks = compose.events(settings), compose.clicks(settings)
    landing_of_events = compose.event_landing(settings)
    ledger = crypto.landing.ledger()
    looked = {
        "conserves_rows": checks.rows_not_conserved(crypto),
        "counts_every_minute": checks.minutes_not_counted(crypto),
        "counts_every_tick": checks.ticks_not_counted(crypto),
        "equals_batch": checks.days_not_replayed(crypto),
        "merges_every_day": checks.days_not_merged(crypto),
        "has_every_day": checks.days_missing(crypto),
        "ledger_adds_up": audit.faults(prices.lake, prices.feed),
        "events_ledger_adds_up": audit.faults(clicks.lake, clicks.feed),
        "counts_every_event": counts_every_event(clicks),
        "tells_every_late_event": late_not_told(clicks),
        "reports_add_up": reports_add_up(events),
        "sessions_add_up": sessions_add_up(events),
        "anomalies_add_up": anomalies_add_up(events),
    }
    return {
        "home": str(settings.home),
        "tables": [_table(crypto, table) for table in crypto.lake.tables],
        "symbols": [_symbol(symbol, ledger) for symbol in crypto.symbols()],
        "sources": _sources(landing_of_events.ledger()),
        "topics": [row for topic in (prices, clicks) for row in _topics(settings, topic)],
        "pending": [
            {"symbol": needed.symbol, "from": needed.months.first, "to": needed.months.last}
            for needed in crypto.pending()
        ],
        "live_days_pending": crypto.live_dates(),
        "windows_pending": behind(clicks),
        "inbox": sorted(
            path.name
            for landing in (crypto.landing, landing_of_events)
            for path in inbox.waiting(landing)
        ),
        "checks": list(looked),
        "failed_checks": {name: found for name, found in looked.items() if found},
    }


def _topics(settings: Settings, prices: Subscription) -> list[dict[str, Any]]:
    """How far the lake is behind each partition; why that is not known, where no broker answers."""
    name = prices.feed.topic.name
    if not settings.kafka_servers and compose.broker(settings).status() is None:
        return [{"topic": name, "state": "the embedded broker does not run"}]
    try:
        lags = prices.lags(prices.held())
    except TidemillError as error:
        return [{"topic": name, "state": str(error)}]
    return [asdict(lag) | {"lag": lag.messages} for lag in lags]


def _table(crypto: Any, table: Any) -> dict[str, Any]:
    snapshot = crypto.lake.snapshot(table)
    newest = max((file.modified_ms for file in snapshot.files), default=None)
    return {
        "table": table.id,
        "version": snapshot.version,
        "rows": snapshot.rows,
        "files": len(snapshot.files),
        "mib": round(snapshot.size / 2**20, 1),
        "written": newest and f"{datetime.fromtimestamp(newest / 1000, UTC):%Y-%m-%d %H:%M:%S}",
    }


def _symbol(symbol: str, ledger: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for row in ledger if row["symbol"] == symbol]
    return {
        "symbol": symbol,
        "files": len(rows),
        "rows": sum(row["rows"] for row in rows),
        "good": sum(row["good"] for row in rows),
        "duplicates": sum(row["exact_duplicates"] + row["conflicting_duplicates"] for row in rows),
        "rejected": sum(row["rejected"] for row in rows),
        "first": min((row["first_at"] for row in rows if row["first_at"]), default=None),
        "last": max((row["last_at"] for row in rows if row["last_at"]), default=None),
    }


def _sources(ledger: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What files of events have landed, by source."""
    found = []
    for source in sorted({row["source"] for row in ledger}):
        rows = [row for row in ledger if row["source"] == source]
        counts = {name: sum(row[name] for row in rows) for name in COUNTS}
        found.append({"source of events": source, "files": len(rows), **counts})
    return found


def print_report(report: dict[str, Any]) -> None:
    """The report as tables."""
    show.pairs({"home": report["home"]})
    for title in ("tables", "symbols", "sources", "topics"):
        for row in (row for row in report[title] if "state" in row):
            show.out.print(f"topic {row['topic']}: {row['state']}")
        rows = [row for row in report[title] if "state" not in row]
        if rows:
            head = TITLES.get(title, title)
            show.table(list(rows[0]), [list(row.values()) for row in rows], title=head)
    for work in report["pending"]:
        show.out.print(
            f"waits to be made: {work['symbol']} {work['from']:%Y-%m} to {work['to']:%Y-%m}"
        )
    for day in report["live_days_pending"]:
        show.out.print(f"waits to be made: live ticks of {day}")
    for table in report["windows_pending"]:
        show.out.print(f"waits to be made: {table}")
    for name in report["inbox"]:
        show.out.print(f"waits in the inbox for tidemill up: {name}")
    for name, differences in report["failed_checks"].items():
        show.marked(show.out, "does not hold:", f"{name}: {differences[:5]}", "red")
    if not report["failed_checks"]:
        show.out.print(
            f"{len(report['checks'])} checks hold: {', '.join(report['checks'])}; those that read "
            "the topics again run hourly in the Dagster UI"
        )
