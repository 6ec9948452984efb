"""``tidemill run events``: windows and reports of what is in the lake."""

import time
from typing import TYPE_CHECKING, Any

from tidemill import compose, instance
from tidemill.commands import run, show
from tidemill.errors import InputError
from tidemill.events import contracts as c
from tidemill.events.intake.accounts import COUNTS
from tidemill.settings import Settings

if TYPE_CHECKING:
    from assets.materialize import Work


def run_events(settings: Settings, only: str | None) -> dict[str, Any]:
    """Materialize the tables of events.

    Args:
        settings: Home and engine.
        only: One table's name alone; None means all.

    Returns:
        The report: tables, failed checks, errors of steps, rows that have landed, rows out of
        Kafka, seconds.

    Raises:
        InputError: There are no events, or there is no such table.
    """
    from assets import materialize

    started = time.perf_counter()
    lake, landing = compose.lake(settings), compose.event_landing(settings)
    ledger, taken = landing.ledger(), lake.snapshot(c.RAW_EVENTS).rows
    if not ledger and not taken:
        raise InputError(
            "there are no events yet: 'tidemill ingest events FILE' takes a file, 'tidemill "
            "produce events' and 'tidemill stream events' take them through Kafka"
        )
    folder = instance.prepare(settings)
    show.err.print(f"engine {settings.engine}, home {folder.parent}", style="dim")

    def plan(_: Any) -> "list[Work]":
        return materialize.plan_events(only, taken > 0)

    report = run.made(settings, lake, plan, unit="tables")
    return report | {
        "landed": {name: sum(row[name] for row in ledger) for name in COUNTS},
        "taken": taken,
        "seconds": round(time.perf_counter() - started, 2),
    }


def print_report(report: dict[str, Any]) -> None:
    """The short table at the end, and where to look next."""
    show.table(
        ["table", "rows", "seconds"],
        [[t["table"], t["rows"], t["seconds"]] for t in report["tables"]],
    )
    landed = report["landed"]
    show.out.print(
        f"Out of files: {landed['rows']:,} rows = {landed['good']:,} good "
        f"+ {landed['duplicates']:,} duplicates + {landed['rejected']:,} rejected; "
        f"out of Kafka: {report['taken']:,} good or late"
    )
    run.print_outcome(report, "events.brand_report")
