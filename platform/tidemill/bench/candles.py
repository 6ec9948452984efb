"""From two CSV files to the crypto tables, each stage beside bare DuckDB doing the same work.

Here are the run and its report; what each side does is in ``sides``, the clock in ``measure``.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill import compose
from tidemill.bench import sides
from tidemill.bench.measure import Sample, Work, alone
from tidemill.crypto import contracts as c
from tidemill.crypto.simulator import kaggle_markets, simulate
from tidemill.errors import InputError, TidemillError
from tidemill.lake.contracts import Table, text_literal
from tidemill.settings import Settings

if TYPE_CHECKING:
    import duckdb

CHAIN_S = 165.0
"""What the chain took before there was this platform: 8,000,000 rows, 2 cores."""
CHAIN_ROWS = 8_000_000
LEAST_ROWS = 40_000
"""The gaps of the popular file, whose shape the data has, need some minutes to be in."""
PEAK_MIB = 2048
BYTES_A_ROW = 60
"""Of a CSV file; each side's tables come to less than half of it."""
TARGETS_FROM_ROWS = 4_000_000
"""Below, what every stage costs whatever its rows outweighs them."""
RAW, DAILY, ALL = STAGES = (
    "CSV -> landing -> raw_candles",
    "daily_ohlc + filled_series",
    "CSV -> every table",
)

FOLDERS = ((c.RAW_CANDLES, "raw"), (c.DAILY_OHLC, "daily"), (c.FILLED_SERIES, "filled"))
"""The tables that both sides make, and where the bare one puts them."""
INEXACT = {"filled_series": ("ma7", "ma30")}
"""Means of doubles, which bare DuckDB adds in an order of its own."""


@dataclass(frozen=True)
class Stage:
    """One stage, and what it took each side.

    Attributes:
        name: What is made.
        ours: The best of our runs.
        runs: Seconds of each.
        bare: The best of bare DuckDB's runs in its fastest way; None where there is no such side.
        bare_runs: Seconds of each, by the way it is written.
        target: Most that ours may take: times bare, or seconds where there is no bare side. None
            where there are too few rows for it to say something.
    """

    name: str
    ours: Sample
    runs: Sequence[float]
    bare: Sample | None
    bare_runs: Mapping[str, Sequence[float]]
    target: float | None

    @property
    def ratio(self) -> float | None:
        """Our seconds over bare DuckDB's."""
        return self.ours.seconds / self.bare.seconds if self.bare else None

    @property
    def cpu_ratio(self) -> float | None:
        """Likewise of the seconds that processors worked; others' work weighs less on it."""
        return self.ours.cpu_seconds / self.bare.cpu_seconds if self.bare else None

    @property
    def is_met(self) -> bool | None:
        """Whether time and memory are within their targets; None without a target."""
        if self.target is None:
            return None
        found = self.ours.seconds if self.ratio is None else self.ratio
        return found <= self.target and self.ours.peak_mib < PEAK_MIB


@dataclass(frozen=True)
class Report:
    """What a run found; both sides' rows were held against each other.

    Attributes:
        rows: Rows asked for; the files differ from it by less than 1 %.
        cores: Of the machine.
        memory_limit_mb: DuckDB's, on both sides.
        stages: In order.
        compared: Rows that are the same on both sides, by table.
        dagster: What ``dagster_overhead.measured`` found, if it was asked for.
    """

    rows: int
    cores: int
    memory_limit_mb: int
    stages: Sequence[Stage]
    compared: Mapping[str, int]
    dagster: Mapping[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        stages = [
            asdict(stage)
            | {"ratio": stage.ratio, "cpu_ratio": stage.cpu_ratio, "is_met": stage.is_met}
            for stage in self.stages
        ]
        return asdict(self) | {"stages": stages}

    def lines(self) -> list[str]:
        """The report as text."""
        limit = f"DuckDB limited to {self.memory_limit_mb} MiB on both sides"
        told = [
            f"{self.rows:,} rows, {self.cores} cores, {limit}; best of "
            f"{len(self.stages[0].runs)}, each in a process of its own.",
            f"{'':32}{'':>8}{'seconds':>8}{'':>16}{'cpu seconds':>22}{'peak MiB':>14}",
            f"{'stage':32}{'ours':>8}{'bare':>8}{'ratio':>7}{'target':>9}"
            f"{'ours':>8}{'bare':>8}{'ratio':>6}{'ours':>8}{'bare':>6}",
        ]
        for stage in self.stages:
            told += _told(stage)
        same = ", ".join(f"{name} {count:,}" for name, count in self.compared.items())
        told.append(f"The same rows on both sides (EXCEPT ALL both ways is empty): {same}.")
        told.append("Sums and means of doubles are held equal to 9 digits, all else to the bit.")
        if self.dagster:
            told.append(
                f"Dagster adds {self.dagster['added_seconds']:.1f} s (target 25 s) to "
                f"{self.dagster['library_seconds']:.1f} s, for 2 symbols x 160 months."
            )
        return told


def _told(stage: Stage) -> Iterator[str]:
    bare, target = stage.bare, ""
    if stage.target is not None:
        target = f"{stage.target:.1f} {'x' if stage.bare else 's'}"
    yield (
        f"{stage.name:32}{stage.ours.seconds:8.2f}"
        + (f"{bare.seconds:8.2f}{stage.ratio:7.2f}" if bare else f"{'':15}")
        + f"{target:>9}{stage.ours.cpu_seconds:8.2f}"
        + (f"{bare.cpu_seconds:8.2f}{stage.cpu_ratio:6.2f}" if bare else f"{'':14}")
        + f"{stage.ours.peak_mib:8.0f}"
        + (f"{bare.peak_mib:6.0f}" if bare else f"{'':6}")
        + {True: "  met", False: "  MISSED", None: ""}[stage.is_met]
    )
    runs = {"ours": stage.runs} | {f"bare, {way}": r for way, r in stage.bare_runs.items()}
    if len(runs) > 2 or len(stage.runs) > 1:
        each = "; ".join(f"{k} {', '.join(f'{s:.2f}' for s in v)}" for k, v in runs.items())
        yield f"  {each}"


def run(rows: int, workdir: Path, repeat: int | None = None, dagster: bool = False) -> Report:
    """Measure every stage, then hold both sides' rows against each other.

    Args:
        rows: Rows of the files together, at least ``LEAST_ROWS``.
        workdir: Where files and tables go, about 200 bytes a row.
        repeat: Runs of each side, in turn; by default 3, and 1 beyond 8,000,000 rows.
        dagster: Whether to measure what Dagster adds, too.

    Raises:
        InputError: ``rows`` is below that.
        TidemillError: The disk is too full, or the sides made different rows.
    """
    if rows < LEAST_ROWS:
        raise InputError(f"expected at least {LEAST_ROWS:,} rows, found {rows:,}")
    _require_space(workdir, rows)
    repeat = repeat or (3 if rows <= CHAIN_ROWS else 1)
    for market in kaggle_markets(rows):
        simulate(workdir / "csv" / f"{market.symbol}.csv", market)
    is_told = rows >= TARGETS_FROM_ROWS
    chain_s = CHAIN_S / 10 * rows / CHAIN_ROWS
    of_land, of_fold, of_chain = (1.3, 1.5, chain_s) if is_told else (None, None, None)
    stages = (
        _stage(RAW, workdir, repeat, sides.land, (sides.windows, sides.repeats), of_land),
        _stage(DAILY, workdir, repeat, sides.fold, (sides.fold_bare,), of_fold),
        _stage(ALL, workdir, repeat, sides.chain, (), of_chain),
    )
    compared = compare(workdir)
    added = None
    if dagster:
        from tidemill.bench import dagster_overhead

        added = dagster_overhead.measured(workdir / "dagster")
    memory = Settings.current().memory_limit_mb
    return Report(rows, os.cpu_count() or 1, memory, stages, compared, added)


def _require_space(workdir: Path, rows: int) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    needed, free = rows * BYTES_A_ROW * 7 // 2, shutil.disk_usage(workdir).free
    if free < needed:
        raise TidemillError(
            f"{workdir}: {rows:,} rows need about {needed / 2**30:.1f} GiB of disk and "
            f"{free / 2**30:.1f} GiB are free; ask for fewer rows, or set TMPDIR to another disk"
        )


def _stage(
    name: str,
    workdir: Path,
    repeat: int,
    ours: Callable[..., Work],
    bare: Sequence[Callable[..., Work]],
    target: float | None,
) -> Stage:
    """Run the sides in turn, the first of them changing from round to round."""
    both = [ours, *bare]
    found: dict[str, list[Sample]] = {side.__name__: [] for side in both}
    for number in range(repeat):
        for side in both if number % 2 == 0 else reversed(both):
            found[side.__name__].append(alone(side, workdir=str(workdir)))
    return Stage(
        name,
        Sample.best(found[ours.__name__]),
        [sample.seconds for sample in found[ours.__name__]],
        fastest([Sample.best(found[side.__name__]) for side in bare]),
        {side.__name__: [s.seconds for s in found[side.__name__]] for side in bare},
        target,
    )


def fastest(ways: Sequence[Sample]) -> Sample | None:
    """Of several ways to write the bare side, the one that ours is held against."""
    return min(ways, key=lambda sample: sample.seconds, default=None)


def compare(workdir: Path) -> dict[str, int]:
    """Hold both sides' tables against each other, a year of a symbol at a time.

    Returns:
        Rows by table.

    Raises:
        TidemillError: Some rows are on one side alone.
    """
    lake = compose.lake(sides.settings(str(workdir), "ours"))
    counts = {}
    with sides.bare(workdir / "bare") as con:
        for table, folder in FOLDERS:
            con.execute(f"create or replace view ours as from {lake.snapshot(table).scan()}")
            theirs = sides.hive(workdir / "bare" / folder, table)
            con.execute(f"create or replace view bare as from {theirs}")
            counts[table.name], different = _differences(con, table)
            if different:
                raise TidemillError(
                    f"{table.id}: {different} of {counts[table.name]} rows differ between the "
                    "sides, so their times cannot be compared"
                )
    return counts


def _differences(con: "duckdb.DuckDBPyConnection", table: Table) -> tuple[int, int]:
    """Rows of ours, and rows that are on one side alone or differ there by over 9 digits."""
    near = INEXACT.get(table.name, ())
    exact = ", ".join(f'"{col.name}"' for col in table.columns if col.name not in near)
    far = " or ".join(
        f'abs(o."{n}" - b."{n}") > 1e-9 * abs(b."{n}") or (o."{n}" is null) <> (b."{n}" is null)'
        for n in near
    )
    time = '"datetime"' if table is c.RAW_CANDLES else '"date"'
    slices = con.execute(
        f"select distinct symbol, year({time}) from (from ours union all by name from bare)"
    ).fetchall()
    rows = different = 0
    for symbol, year in slices:
        where = f"where symbol = {text_literal(symbol)} and year({time}) = {year}"
        for one, other in (("ours", "bare"), ("bare", "ours")):
            different += _count(
                con,
                f"(select {exact} from {one} {where}) except all (select {exact} from {other} "
                f"{where})",
            )
        rows += _count(con, f"from ours {where}")
    if far:
        key = ", ".join(table.key)
        different += _count(con, f"select 1 from ours o join bare b using ({key}) where {far}")
    return rows, different


def _count(con: "duckdb.DuckDBPyConnection", rows: str) -> int:
    found = con.execute(f"select count(*) from ({rows})").fetchone()
    return int(found[0]) if found else 0
