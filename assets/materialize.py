"""Materializes in this process what the command line asks for, with the events in the instance."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

import assets.crypto as graph
import assets.events_live
import assets.events_reports
import assets.forecasts
import assets.live
from assets import report
from resources.home import ClicksResource, CryptoResource, EventsResource
from tidemill.crypto.forecasting.contracts import TABLES as forecast_tables
from tidemill.crypto.pending import Live, Months
from tidemill.errors import InputError
from tidemill.lake.store import Lake

INTERRUPTS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
NO_FILES = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
NOTHING_LIVE = Live()
FORETOLD = [table.name for table in forecast_tables]


@dataclass(frozen=True)
class Work:
    """What one run makes.

    Attributes:
        assets: Assets with one partitions definition, or none.
        checks: What is checked after them.
        partitions: How many partitions of the tables, counted for each asset.
        span: First and last partition key; None of assets that have none.
        leads_on: Whether later runs are made from it, so that they wait where it failed.
    """

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    partitions: int
    span: tuple[str, str] | None = None
    leads_on: bool = True


@dataclass(frozen=True)
class Outcome:
    """What did not go well in one run.

    Attributes:
        failed_checks: Asset, check and what it found, of each that does not hold.
        by_design: Likewise, of checks that are red because what they look at is meant to fail.
        errors: Step and message of each that failed, as one does whose blocking check failed.
    """

    failed_checks: Sequence[str]
    by_design: Sequence[str]
    errors: Sequence[str]


@contextmanager
def opened(folder: Path) -> Iterator[dg.DagsterInstance]:
    """The instance whose settings are in ``folder``; what a run prints goes to the terminal alone.

    For the UI it would be written to files, which two processes of each step's own print again, and
    these answer Ctrl-C with tracebacks.

    Dagster opens and closes its SQLite files for every event, and SQLite writes its journal back
    each time the last connection closes; one that stays open spares that, a tenth of the time.
    """
    told = InstanceRef.from_dir(str(folder), overrides={"compute_logs": NO_FILES})
    with dg.DagsterInstance.from_ref(told) as instance, ExitStack() as stack:
        instance.get_dynamic_partitions("symbol")  # makes the files
        for name in ("runs.db", "runs/index.db"):
            path = Path(instance.root_directory) / "history" / name
            if path.exists():
                con = stack.enter_context(closing(sqlite3.connect(path)))
                con.execute("select count(*) from sqlite_master").fetchall()
        yield instance


def forget_symbols(instance: dg.DagsterInstance) -> None:
    """Take every symbol out of the partitions."""
    for symbol in instance.get_dynamic_partitions("symbol"):
        instance.delete_dynamic_partition("symbol", symbol)


def report_landed(instance: dg.DagsterInstance, lake: Lake) -> None:
    """Tell the asset graph of what was landed outside of it."""
    for event in report.landed(lake, (*graph.OUTSIDE, *assets.events_reports.OUTSIDE)):
        instance.report_runless_asset_event(event)


def plan(
    spans: Sequence[tuple[str, Months]],
    instance: dg.DagsterInstance,
    only: str | None = None,
    live: Live = NOTHING_LIVE,
    forecasts: bool = False,
) -> list[Work]:
    """The runs that make some months of some symbols, live days, then all that is by symbol.

    Args:
        spans: Symbols and their months.
        instance: Learns the symbols.
        only: One table's name alone.
        live: Symbols with live ticks that are wanted too, and the days that wait.
        forecasts: Whether symbols are forecast at the end, which takes the longest by far.

    Raises:
        InputError: There is no such table to make.
    """
    every = (graph.monthly, assets.live.whole, graph.symbolic)
    monthly, whole, symbolic = ([a for a in some if only in (None, _name(a))] for some in every)
    foretold = assets.forecasts.by_symbol if forecasts and only in (None, *FORETOLD) else []
    if not monthly and not whole and not symbolic and not foretold:
        names = ", ".join([*(_name(asset) for some in every for asset in some), *FORETOLD])
        raise InputError(f"there is no table crypto.{only} to make; there are {names}")
    symbols = sorted({symbol for symbol, _ in spans} | set(live.symbols))
    instance.add_dynamic_partitions("symbol", symbols)
    works = []
    for number, (symbol, months) in enumerate(spans if monthly else [], 1):
        count = len(months.starts()) * len(monthly)
        checks = graph.monthly_checks if number == len(spans) and only is None else []
        span = f"{months.first}|{symbol}", f"{months.last}|{symbol}"
        works.append(Work(monthly, checks, count, span))
    if whole and live.symbols:
        checks = assets.live.whole_checks if only is None else []
        works.append(Work(whole, checks, len(live.dates) * len(whole)))
    known = list(instance.get_dynamic_partitions("symbol"))
    for made, checks, tables in (
        (symbolic, graph.symbolic_checks, len(symbolic)),
        (foretold, assets.forecasts.by_symbol_checks, len(FORETOLD)),
    ):
        for first, last, n in _stretches(known, set(symbols)) if made else []:
            after = checks if only is None else []
            works.append(Work(made, after, n * tables, (first, last), made is not foretold))
    return works


def plan_events(only: str | None = None, is_live: bool = True) -> list[Work]:
    """The runs that bring windows to where the rows are, then every report.

    Args:
        only: One table's name alone.
        is_live: Whether anything came out of the topic.

    Raises:
        InputError: There is no such table to make.
    """
    windows, reports = assets.events_live.event_windows, assets.events_reports.reports
    following = [key.path[-1] for key in windows.keys]
    chosen = [asset for asset in reports if only in (None, _name(asset))]
    works = []
    if only in following or (only is None and is_live):
        sums = [assets.events_live.counts_every_event] if only is None else []
        works.append(Work([windows], sums, len(following)))
    if chosen:
        checks = assets.events_reports.report_checks if only is None else []
        works.append(Work(chosen, checks, len(chosen)))
    if not works:
        names = ", ".join([*following, *map(_name, reports)])
        raise InputError(f"there is no table events.{only} to make; there are {names}")
    return works


def _name(asset: dg.AssetsDefinition) -> str:
    return asset.key.path[-1]


def _stretches(known: Sequence[str], wanted: set[str]) -> list[tuple[str, str, int]]:
    """The wanted symbols as ranges of the known ones, in their order, with their lengths."""
    stretches: list[tuple[str, str, int]] = []
    goes_on = False
    for symbol in known:
        if symbol in wanted and goes_on:
            first, _, n = stretches.pop()
            stretches.append((first, symbol, n + 1))
        elif symbol in wanted:
            stretches.append((symbol, symbol, 1))
        goes_on = symbol in wanted
    return stretches


def materialize(work: Work, instance: dg.DagsterInstance, home: Path, engine: str) -> Outcome:
    """Make one run's partitions.

    Raises:
        KeyboardInterrupt: Somebody asked for the end, which Dagster takes for a failure.
    """
    done = dg.materialize(
        [*work.assets, *work.checks],
        instance=instance,
        resources={
            "clicks": ClicksResource(home=str(home)),
            "crypto": CryptoResource(home=str(home), engine=engine),
            "events": EventsResource(home=str(home), engine=engine),
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags=dict(zip(RANGE, work.span, strict=True)) if work.span else None,
        raise_on_error=False,
    )
    events = done.filter_events(lambda event: event.is_failure)
    # Where no step failed, the run did before its first.
    events = [event for event in events if event.is_step_failure] or events
    found = [(e.step_key, getattr(e.event_specific_data, "error", None)) for e in events]
    failures = [(step, error) for step, error in found if error is not None]
    if any(
        error.cls_name in INTERRUPTS or _told(error).endswith(report.INTERRUPTED)
        for _, error in failures
    ):
        raise KeyboardInterrupt
    red = [check for check in done.get_asset_check_evaluations() if not check.passed]
    is_meant = [assets.forecasts.BY_DESIGN in check.metadata for check in red]
    return Outcome(
        [_difference(check) for check, meant in zip(red, is_meant, strict=True) if not meant],
        [_difference(check) for check, meant in zip(red, is_meant, strict=True) if meant],
        [f"{step or 'run'}: {_told(error)}" for step, error in failures],
    )


def _difference(check: dg.AssetCheckEvaluation) -> str:
    found = "; ".join(f"{name}: {value.value}" for name, value in check.metadata.items())
    return f"{check.asset_key.to_user_string()}: {check.check_name}: {found}"


def _told(error: Any) -> str:
    """What a step's own error says, in a line; its traceback is in the Dagster UI."""
    while error.cause is not None and error.cls_name.startswith("Dagster"):
        error = error.cause
    text = " ".join(error.message.partition("\n\n")[0].split())
    return re.sub(r"^[\w.]+\.(?=\w+: )", "", text)  # the module of the error's class
