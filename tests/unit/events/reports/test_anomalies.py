"""A minute unlike the hour before it is told with the evidence; chance is not told of."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.unit.events.reports.clicks import START, event, frame, made
from tidemill.engines.base import compiled
from tidemill.engines.duck import connection
from tidemill.events.reports.anomalies import _with_empty, anomalies
from tidemill.events.reports.contracts import ANOMALIES, HISTORY
from tidemill.lake.contracts import Type

MINUTE = 60
WEEK = 7 * 1440


def minutes(counts: list[int], **told: Any) -> list[dict[str, Any]]:
    """So many events in each minute."""
    return [event(MINUTE * m, **told) for m, n in enumerate(counts) for _ in range(n)]


def found(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return made(ANOMALIES, anomalies, events)


def test_a_burst_is_told_with_its_evidence() -> None:
    quiet = minutes([2, 4] * 30, brand="a")
    burst = [event(60 * MINUTE, brand="b")] * 30 + [event(60 * MINUTE, brand="a")] * 3
    (row,) = found([*quiet, *burst, event(61 * MINUTE)])
    assert (row["window_start"] - START).total_seconds() == 60 * MINUTE
    assert (row["window_end"] - row["window_start"]).total_seconds() == MINUTE
    assert (row["direction"], row["count"], row["history"]) == ("high", 33, 60)
    assert (row["median"], row["mad"]) == (3.0, 1.0)
    assert row["score"] == pytest.approx(0.6745 * 30 / 3**0.5)
    assert (row["top_brand"], row["top_brand_count"]) == ("b", 30)


def test_a_silence_is_told_with_no_brand() -> None:
    rows = found(minutes([100] * 30 + [0] + [100] * 5))
    assert [(row["direction"], row["count"], row["top_brand_count"]) for row in rows] == [
        ("low", 0, 0)
    ]


def test_the_minute_of_the_last_event_is_not_judged() -> None:
    assert found(minutes([100] * 30 + [1])) == []
    assert len(found(minutes([100] * 30 + [1, 100]))) == 1


@pytest.mark.parametrize(("before", "n"), [(19, 0), (20, 1)])
def test_a_window_needs_twenty_before_it(before: int, n: int) -> None:
    assert len(found(minutes([1] * before + [50, 1]))) == n


def test_empty_minutes_are_history() -> None:
    (row,) = found(minutes([1] + [0] * 40 + [20, 1]))
    assert (row["median"], row["history"]) == (0.0, 41)


def test_after_an_event_a_year_early_the_hour_before_is_an_empty_one() -> None:
    early = event(-365 * 86_400)
    rows = found([early, *minutes([0] * 10 + [20, 1])])
    assert [(row["count"], row["median"], row["history"]) for row in rows] == [(20, 0.0, 60)]


def test_each_type_of_each_source_has_its_own_history() -> None:
    many = minutes([30] * 40)
    few = minutes([0] * 30 + [20] + [0] * 9, event_type="purchase")
    rows = found([*many, *few, *minutes([20] * 40, source="topic")])
    assert [(row["source"], row["event_type"], row["count"]) for row in rows] == [
        ("files", "purchase", 20)
    ]


def test_an_event_years_early_makes_no_window_for_each_minute_since() -> None:
    counts = {"source": Type.STRING, "event_type": Type.STRING, "minute": Type.BIGINT}
    counts["count"] = Type.BIGINT
    rows = pl.DataFrame(
        {"source": "files", "event_type": "view", "minute": [0, 10**7, 10**7 + 3], "count": 1}
    )
    sql = compiled(_with_empty, {"counts": counts}, "duckdb")
    with connection() as con:
        con.register("counts", rows.to_arrow())
        found = [row[0] for row in con.execute(f"select minute from ({sql}) order by 1").fetchall()]
    assert found == [*range(HISTORY + 1), *range(10**7 - HISTORY, 10**7 + 4)]


@pytest.mark.parametrize("rate", [0.3, 1.0, 1.5, 4.0, 20.0])
def test_a_week_of_chance_is_no_anomaly(rate: float) -> None:
    counts = np.random.default_rng(11).poisson(rate, WEEK)
    at = np.repeat(np.arange(WEEK), counts)
    one = frame([event()])
    rows = one.drop("event_timestamp").join(
        pl.DataFrame({"m": at}).select(
            (pl.lit(START) + pl.duration(minutes="m")).alias("event_timestamp")
        ),
        how="cross",
    )
    assert made(ANOMALIES, anomalies, rows.select(one.columns)) == []


def test_nothing_has_no_anomaly() -> None:
    assert found([]) == []
