"""Charts of reports: small PNGs whatever the names in them are."""

import io
import warnings
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from PIL import Image

from tidemill import plot
from tidemill.events.reports import charts
from tidemill.events.reports import contracts as r
from tidemill.lake.contracts import Table, polars_schema

NASTY = (
    "$x_1^2$",
    "_hidden",
    "<b>bold</b> & 'quotes'; drop table events",
    "line\nfeed",
    "\U0001f6d2\u4e2d",
    "x" * 500,
    "",
    None,
    "$\\frac{1}{0}",
)


@pytest.fixture(autouse=True)
def no_warning_is_let_pass() -> None:
    warnings.simplefilter("error")


def is_png(drawn: bytes) -> bool:
    image = Image.open(io.BytesIO(drawn))
    return image.format == "PNG" and image.size == (plot.WIDTH_PX, plot.HEIGHT_PX)


def rows(table: Table, *found: dict[str, object]) -> pl.DataFrame:
    schema = polars_schema(table)
    return pl.DataFrame([dict.fromkeys(schema) | row for row in found], schema=schema)


def brands(*names: str | None) -> pl.DataFrame:
    found: list[dict[str, object]] = [
        {"brand": n, "revenue": 9.0, "rank": i, "purchases": 1} for i, n in enumerate(names)
    ]
    return rows(r.BRAND_REPORT, *found)


@pytest.mark.parametrize("name", NASTY)
def test_any_brand_can_be_drawn(name: str | None) -> None:
    assert is_png(charts.top_brands(brands(name, "plain"), "files"))


@pytest.mark.parametrize("name", NASTY[:-1])
def test_any_type_of_event_can_be_drawn(name: str | None) -> None:
    at = [datetime(2026, 3, 1) + timedelta(minutes=n) for n in range(3)]
    counts = pl.DataFrame({"at": at, "event_type": name or "", "count": [5, 6, 7]})
    assert is_png(charts.rates(counts, 60, "topic"))


def test_a_name_is_shortened_and_no_formula() -> None:
    assert charts.label("x" * 500) == "x" * 24 + "..."
    assert charts.label("$a$") == r"\$a\$"
    assert charts.label("_a") == " _a"
    assert (charts.label(None), charts.label("")) == ("(no brand)", "(empty)")
    assert charts.label("a\nb") == r"a\nb"


def test_a_minute_alone_and_a_step_without_events_are_drawn() -> None:
    at = datetime(2026, 3, 1)
    one = pl.DataFrame({"at": [at], "event_type": ["view"], "count": [5]})
    later = one.with_columns(at=pl.col("at") + timedelta(hours=1))
    assert is_png(charts.rates(one, 60, "topic"))
    assert charts.rates(pl.concat([one, later]), 60, "topic") != charts.rates(one, 60, "topic")


def test_a_funnel_without_views_is_drawn() -> None:
    counts = {"source": "files", "views": 0, "carts": 0, "purchases": 4}
    drawn = charts.funnel(
        rows(r.FUNNEL, {"level": "events"} | counts, {"level": "sessions"} | counts), "files"
    )
    assert is_png(drawn)


def test_a_year_of_cohorts_is_drawn_with_its_last_weeks() -> None:
    weeks = [date(2025, 1, 6) + timedelta(7 * n) for n in range(52)]
    found = [
        {"cohort_week": week, "week_number": n, "users": 10, "active": 1, "retention": 0.1}
        for i, week in enumerate(weeks)
        for n in range(52 - i)
    ]
    assert is_png(charts.retention(rows(r.COHORTS, *found), "files"))


def test_what_has_no_rows_says_so() -> None:
    nothing = pl.DataFrame(schema={"at": pl.Datetime, "event_type": pl.String, "count": pl.Int64})
    for drawn in (
        charts.funnel(rows(r.FUNNEL), "files"),
        charts.price_bands(rows(r.PROFILE_PRICES), "files"),
        charts.top_brands(rows(r.BRAND_REPORT), "files"),
        charts.completeness(rows(r.PROFILE_COLUMNS), None, "files"),
        charts.rates(nothing, 60, "files"),
        charts.retention(rows(r.COHORTS), "files"),
    ):
        assert is_png(drawn)
