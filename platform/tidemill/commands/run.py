"""``tidemill run``: materialize in this process, with a progress bar and a table at the end."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tidemill import compose, instance, progress
from tidemill.commands import show
from tidemill.crypto.build import Crypto
from tidemill.crypto.intake.accounts import COUNTS
from tidemill.crypto.pending import Live, Months
from tidemill.errors import InputError
from tidemill.lake.store import Lake
from tidemill.settings import Settings

if TYPE_CHECKING:
    from assets.materialize import Work


LONGEST = 300
"""Characters of a check that is meant to be red."""


class Tally:
    """What was written, table by table, as it happens."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rows: Counter[str] = Counter()
        self.partitions: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def add(self, table: str, partitions: int, rows: int) -> None:
        """Count one commit, and the time since the one before it."""
        now = time.perf_counter()
        self.rows[table] += rows
        self.partitions[table] += partitions
        self.seconds[table] = self.seconds.get(table, 0.0) + now - self._since
        self._since = now


def run(
    settings: Settings, symbols: Sequence[str], only: str | None, forecasts: bool = True
) -> dict[str, Any]:
    """Materialize the crypto tables.

    Args:
        settings: Home and engine.
        symbols: These alone; empty means all that have landed.
        only: One table's name alone; None means all.
        forecasts: Whether symbols are forecast, too, which takes the longest by far.

    Returns:
        The report: tables, failed checks, errors of steps, rows that have landed so far for the
        symbols (with those of no symbol, where all are made), symbols, seconds.

    Raises:
        InputError: Nothing has landed, or there is no such symbol or table.
    """
    started = time.perf_counter()
    folder = instance.prepare(settings)
    crypto = compose.crypto(settings)
    landed = crypto.symbols()
    if not landed:
        raise InputError(
            "nothing has landed yet: 'tidemill ingest crypto FILE' takes a file, "
            "'tidemill up' makes sample data"
        )
    unknown = sorted(set(symbols) - set(landed))
    if unknown:
        raise InputError(
            f"nothing has landed for {', '.join(unknown)}; there is {', '.join(landed)}"
        )
    wanted = list(symbols) or landed
    counted = set(symbols) or {row["symbol"] for row in crypto.landing.ledger()}
    spans = {symbol: months for symbol in wanted if (months := crypto.months(symbol))}
    show.err.print(
        f"{len(wanted)} symbols, engine {settings.engine}, home {folder.parent}", style="dim"
    )
    found = crypto.live()
    live = Live(tuple(symbol for symbol in found.symbols if symbol in wanted), found.dates)
    report = _make(settings, crypto, list(spans.items()), only, live, forecasts)
    return report | _closing(crypto, wanted, counted, started)


def run_pending(settings: Settings, symbols: Sequence[str] | None = None) -> dict[str, Any]:
    """Materialize what landed after its months were last made; what did not change stays.

    Args:
        settings: Home and engine.
        symbols: These alone; None means all.
    """
    instance.prepare(settings)
    crypto = compose.crypto(settings)
    started = time.perf_counter()
    pending = [
        (needed.symbol, needed.months)
        for needed in crypto.pending()
        if symbols is None or needed.symbol in symbols
    ]
    report = _make(settings, crypto, pending, None, Live())
    made = sorted({symbol for symbol, _ in pending})
    return report | _closing(crypto, made, set(made), started)


def _closing(
    crypto: Crypto, symbols: Sequence[str], counted: Set[str], started: float
) -> dict[str, Any]:
    ledger = [row for row in crypto.landing.ledger() if row["symbol"] in counted]
    return {
        "landed": {name: sum(row[name] for row in ledger) for name in COUNTS},
        "symbols": list(symbols),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _make(
    settings: Settings,
    crypto: Crypto,
    spans: Sequence[tuple[str, Months]],
    only: str | None,
    live: Live,
    forecasts: bool = False,
) -> dict[str, Any]:
    from assets import materialize

    def plan(dagster: Any) -> "list[Work]":
        return materialize.plan(spans, dagster, only, live, forecasts)

    return made(settings, crypto.lake, plan)


def made(
    settings: Settings, lake: Lake, plan: "Callable[[Any], list[Work]]", unit: str = "partitions"
) -> dict[str, Any]:
    """Materialize what a plan says, with a progress bar.

    Args:
        settings: Home and engine.
        lake: Where the tables are.
        plan: The runs, given the Dagster instance.
        unit: What the bar counts: partitions or tables, as the plan does.

    Returns:
        Of the report: tables, failed checks, checks that are red by design, errors of steps.
    """
    from assets import materialize

    tally = Tally()
    failed: list[str] = []
    by_design: list[str] = []
    errors: list[str] = []
    with materialize.opened(settings.dagster) as dagster:
        works = plan(dagster)
        materialize.report_landed(dagster, lake)
        with (
            Bar(works, unit) as bar,
            progress.heard_by(lambda *told: bar.told(tally, *told)),
            progress.noted_by(bar.noted),
        ):
            for work in works:
                done = materialize.materialize(work, dagster, settings.home, settings.engine)
                failed += done.failed_checks
                by_design += done.by_design
                errors += done.errors
                if done.errors and work.leads_on:
                    break
    return {
        "tables": [
            {
                "table": table,
                "partitions": tally.partitions[table],
                "rows": tally.rows[table],
                "seconds": round(tally.seconds[table], 2),
            }
            for table in tally.rows
        ],
        "failed_checks": failed,
        "red_by_design": by_design,
        "errors": errors,
    }


class Bar:
    """A progress bar over partitions or tables, with rows a second."""

    def __init__(self, works: "Iterable[Work]", unit: str = "partitions") -> None:
        """Not shown before it is entered."""
        self.unit = unit
        self.total = sum(work.partitions for work in works)
        self.rows = 0
        self.progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[speed]:>14}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=show.err,
            disable=not self.total,
        )
        self.task = self.progress.add_task("starting", total=self.total, speed="")

    def __enter__(self) -> "Bar":
        """Show it."""
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it as it stands."""
        self.progress.stop()

    def told(self, tally: Tally, table: str, partitions: int, rows: int) -> None:
        """Count one commit and move on."""
        tally.add(table, partitions, rows)
        self.rows += rows
        elapsed = self.progress.tasks[0].elapsed or 0.001
        self.progress.update(
            self.task,
            advance=partitions if self.unit == "partitions" else 1,
            description=table,
            speed=f"{self.rows / elapsed:,.0f} rows/s",
        )

    def noted(self, text: str) -> None:
        """Show how far work has come that commits nothing yet."""
        self.progress.update(self.task, description=text)


def print_report(report: dict[str, Any]) -> None:
    """The short table at the end, and where to look next."""
    show.table(
        ["table", "partitions", "rows", "seconds"],
        [[t["table"], t["partitions"], t["rows"], t["seconds"]] for t in report["tables"]],
    )
    symbols, landed = ", ".join(report["symbols"]) or "nothing", report["landed"]
    show.out.print(
        f"Landed so far for {symbols}: {landed['rows']:,} rows = {landed['good']:,} good "
        f"+ {landed['exact_duplicates']:,} exact duplicates "
        f"+ {landed['conflicting_duplicates']:,} conflicting + {landed['rejected']:,} rejected"
    )
    print_outcome(report, "crypto.daily_ohlc")


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def print_outcome(report: dict[str, Any], table: str) -> None:
    """How long it took, what went wrong, and where to look next."""
    show.out.print(f"Done in {report['seconds']} s")
    for check in report["failed_checks"]:
        show.marked(show.out, "Check does not hold:", check, "red")
    for check in report["red_by_design"]:
        show.marked(show.out, "Red by design:", _shortened(check), "dim")
    for error in report["errors"]:
        show.marked(show.out, "Step failed:", error, "red")
    if report["errors"]:
        show.out.print(
            "What comes after a failed step was not made: mend its cause and run again; "
            "'tidemill up' shows the run with the whole error."
        )
    show.out.print(
        f'Next: tidemill sql "select * from {table} limit 5"   tidemill status   tidemill up',
        style="dim",
    )
