"""The benchmark in small: both sides make the same rows, and every stage is in the report."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tidemill.bench import candles, dagster_overhead, measure, sides
from tidemill.bench.candles import Report, Stage
from tidemill.bench.measure import Sample, Work
from tidemill.errors import InputError, TidemillError

ROWS = candles.LEAST_ROWS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return candles.run(ROWS, folder, repeat=1)


def test_every_stage_is_in_the_report(report: Report) -> None:
    assert tuple(stage.name for stage in report.stages) == candles.STAGES
    assert [set(stage.bare_runs) for stage in report.stages] == [
        {"windows", "repeats"},
        {"fold_bare"},
        set(),
    ]
    text = "\n".join(report.lines())
    assert all(name in text for name in candles.STAGES)


def test_both_sides_make_the_same_rows(report: Report) -> None:
    assert list(report.compared) == ["raw_candles", "daily_ohlc", "filled_series"]
    assert min(report.compared.values()) > 0


def test_the_report_is_json(report: Report) -> None:
    told = json.loads(json.dumps(report.as_dict()))
    assert told["rows"] == ROWS
    assert [stage["name"] for stage in told["stages"]] == list(candles.STAGES)
    assert told["stages"][0]["ratio"] == pytest.approx(report.stages[0].ratio)


def test_few_rows_have_no_target(report: Report) -> None:
    assert {stage.is_met for stage in report.stages} == {None}


def test_the_fastest_bare_way_is_what_ours_is_held_against() -> None:
    ours, slow, fast = (Sample(seconds, seconds, 100) for seconds in (3.0, 4.0, 2.0))
    bare = candles.fastest([slow, fast])
    stage = Stage("raw", ours, [3.0], bare, {"a": [4.0], "b": [2.0]}, 1.3)
    assert stage.ratio == 1.5
    assert stage.is_met is False


def test_too_much_memory_misses_the_target() -> None:
    assert Stage("all", Sample(1, 1, 3000), [1.0], None, {}, 16.5).is_met is False


@pytest.fixture
def changed(report: Report, folder: Path) -> Iterator[Path]:
    """The folder with one price of the bare side's filled series changed."""
    path = next((folder / "bare" / "filled").rglob("*.parquet"))
    before = path.read_bytes()
    rows = pl.read_parquet(path)
    rows[0, "close"] = rows[0, "close"] + 0.01
    rows.write_parquet(path)
    yield folder
    path.write_bytes(before)


def test_a_price_that_differs_is_a_failure(changed: Path) -> None:
    with pytest.raises(TidemillError, match=r"crypto.filled_series: 2 of \d+ rows differ"):
        candles.compare(changed)


def test_a_disk_that_is_too_full_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match=r"need about .* GiB of disk"):
        candles.run(10**14, tmp_path)
    assert not list(tmp_path.iterdir())


def test_fewer_rows_than_the_market_has_gaps_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least 40,000 rows, found 39,999"):
        candles.run(ROWS - 1, tmp_path)


def sleeps(seconds: str) -> Work:
    import time

    time.sleep(1)  # what comes before the work is not in the time
    return lambda: time.sleep(float(seconds))


def test_only_the_work_is_timed() -> None:
    assert 0.01 <= measure.timed(sleeps("0.01")).seconds < 1


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "bare").write_text("where a folder should be")
    with pytest.raises(TidemillError, match=r"fold_bare failed with 1: .*Error"):
        measure.alone(sides.fold_bare, workdir=str(tmp_path))


@pytest.mark.integration
def test_what_dagster_adds_is_told_beside_the_library_alone(tmp_path: Path) -> None:
    found = dagster_overhead.measured(tmp_path, months=2)
    assert found["added_seconds"] == found["dagster_seconds"] - found["library_seconds"]
    assert found["library_seconds"] > 0
    tables = [tmp_path / home / "lake" / "crypto" for home in ("library", "dagster")]
    plain, other = (sorted(table.name for table in folder.iterdir()) for folder in tables)
    assert plain == other
    assert "monthly_returns" in plain
