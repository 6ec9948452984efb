"""The benchmark of events in small: all sides make the same windows, and each figure is told."""

import json
from pathlib import Path

import polars as pl
import pytest

from tidemill.bench import events, events_tail
from tidemill.bench.events import Report
from tidemill.bench.events_tail import Delays
from tidemill.errors import InputError, TidemillError
from tidemill.events import contracts as c

EVENTS = 1_500


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("bench")
    return events.run(
        EVENTS, folder, live=[(200, 60_000.0)], seconds=2.0, batch=600, spark_events=0
    )


@pytest.mark.integration
def test_each_figure_is_told(report: Report) -> None:
    names = [figure.name for figure in report.figures]
    assert names[0] == "topic to windowed tables, DuckDB"
    assert list(report.figures[0].bare or {}) == ["bare script"]
    assert [name.rpartition(": ")[2] for name in names[3:6]] == ["p50", "p99", "max"]
    assert [figure.target for figure in report.figures[3:6]] == [None, 60_000.0, None]
    text = "\n".join(report.lines())
    assert all(name in text for name in names)
    told = json.loads(json.dumps(report.as_dict()))
    assert [figure["name"] for figure in told["figures"]] == names


@pytest.mark.integration
def test_the_sides_make_the_same_windows_in_more_than_one_batch(report: Report) -> None:
    assert list(report.compared) == [table.id for table in events.WINDOWS]
    assert min(report.compared.values()) > 0
    assert not report.notes[0].startswith("The DuckDB path took 1 ")


@pytest.mark.integration
def test_spark_left_out_is_said(report: Report) -> None:
    assert not any("Spark" in figure.name for figure in report.figures)
    assert "The Spark path was left out." in report.notes


def test_few_events_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least 1,000 events, found 10"):
        events.run(10, tmp_path)


@pytest.mark.parametrize("other", ["select 1, 30", "select 1, 20 union all select 2, 5"])
def test_windows_that_differ_are_a_failure(other: str) -> None:
    assert events.alike(c.EVENT_COUNTS, "select 1, 20", "select 1, 20") == 1
    with pytest.raises(TidemillError, match=r"events.event_counts: \d of 1 windows differ"):
        events.alike(c.EVENT_COUNTS, "select 1, 20", other)


def test_an_event_is_seen_by_the_first_look_that_is_past_its_offset() -> None:
    looked = events_tail._Look(seen=[(9.0, {0: 0}), (20.0, {0: 2}), (25.0, {0: 2}), (30.0, {0: 3})])
    sent = pl.DataFrame(
        {"partition": [0, 0, 0], "offset": [0, 1, 2]},
        schema={"partition": pl.Int32, "offset": pl.Int64},
    )
    assert events_tail._seen(sent, looked)["seen_ms"].to_list() == [20.0, 20.0, 30.0]


def test_an_event_is_final_when_its_window_is() -> None:
    sent = pl.DataFrame({"event_ms": [1_999, 2_000, 9_000]})
    found = events_tail._final(sent, [(20_000.0, 2_000), (25_000.0, 2_000), (30_000.0, 4_000)])
    assert found.select("event_ms", "end_ms", "final_ms").rows() == [
        (1_999, 2_000, 20_000.0),
        (2_000, 4_000, 30_000.0),
    ]


def test_delays_of_nothing_are_none() -> None:
    assert Delays.of([]) is None
    assert Delays.of([3.0, 1.0, 2.0]) == Delays(3, 2.0, 3.0, 3.0)
