"""Materializes in this process what the command line asks for, with the events in the instance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

import assets.crypto as graph
from resources.crypto import CryptoResource
from tidemill.crypto.build import Crypto, Months

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@dataclass(frozen=True)
class Work:
    """What one run makes.

    Attributes:
        assets: Assets with one partitions definition, and their checks.
        first: First partition key.
        last: Last partition key.
        partitions: How many partitions of how many assets.
    """

    assets: Sequence[dg.AssetsDefinition]
    checks: Sequence[dg.AssetChecksDefinition]
    first: str
    last: str
    partitions: int


def plan(crypto: Crypto, instance: dg.DagsterInstance, wanted: Sequence[str]) -> list[Work]:
    """The runs that make everything of some symbols: each one's months, then all by symbol.

    Args:
        crypto: The tables.
        instance: Learns the symbols.
        wanted: Symbols that have landed.
    """
    instance.add_dynamic_partitions("symbol", list(wanted))
    works = []
    spans: dict[str, Months] = {
        symbol: months for symbol in wanted if (months := crypto.months(symbol)) is not None
    }
    for number, (symbol, months) in enumerate(spans.items(), 1):
        is_last = number == len(spans)
        works.append(
            Work(
                graph.monthly,
                [graph.conserves_rows, graph.counts_every_minute] if is_last else [],
                f"{months.first}|{symbol}",
                f"{months.last}|{symbol}",
                len(months.starts()) * len(graph.monthly),
            )
        )
    known = list(instance.get_dynamic_partitions("symbol"))
    for first, last in _stretches(known, set(spans)):
        count = known.index(last) - known.index(first) + 1
        works.append(
            Work(graph.symbolic, [graph.has_every_day], first, last, count * len(graph.symbolic))
        )
    return works


def _stretches(known: Sequence[str], wanted: set[str]) -> list[tuple[str, str]]:
    """The wanted symbols as ranges of the known ones, in their order."""
    stretches: list[tuple[str, str]] = []
    before = False
    for symbol in known:
        if symbol in wanted:
            stretches = (
                [*stretches[:-1], (stretches[-1][0], symbol)]
                if before
                else [*stretches, (symbol, symbol)]
            )
        before = symbol in wanted
    return stretches


def materialize(
    work: Work, instance: dg.DagsterInstance, home: Path, engine: str
) -> tuple[bool, list[str]]:
    """Make one run's partitions.

    Returns:
        Whether it succeeded, and the checks that did not hold.
    """
    done = dg.materialize(
        [*work.assets, *work.checks],
        instance=instance,
        resources={"crypto": CryptoResource(home=str(home), engine=engine)},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags=dict(zip(RANGE, (work.first, work.last), strict=True)),
        raise_on_error=True,
    )
    failed = [
        f"{check.asset_key.to_user_string()}: {check.check_name}"
        for check in done.get_asset_check_evaluations()
        if not check.passed
    ]
    return done.success, failed
