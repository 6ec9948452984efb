"""Brands, categories and the funnel: what is counted, and what a name may be."""

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.events.reports.clicks import COLUMNS, START, event, frame, made, run
from tidemill.events import contracts as c
from tidemill.events.reports import common
from tidemill.events.reports import contracts as r
from tidemill.events.reports.transforms import brand_report, category_report, funnel
from tidemill.lake.contracts import polars_schema

NAMES = (
    "<script>alert(1)</script>",
    "O'Brien\"; drop table events; --",
    "line\nfeed",
    "\U0001f6d2 \u00e9",
    "{{x}} %s | $a_b$",
    "",
)


def only(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_a_brand_has_its_counts_its_revenue_and_its_rates() -> None:
    found = made(
        r.BRAND_REPORT,
        brand_report,
        [
            *[event(brand="a", price=9.0)] * 4,
            event(brand="a", event_type="cart", price=9.0),
            event(brand="a", event_type="purchase", price=2.5),
            event(brand="a", event_type="remove_from_cart", price=9.0),
            event(brand="b", event_type="purchase", price=0.1),
        ],
    )
    assert [list(row.values()) for row in found] == [
        ["files", "a", 4, 1, 1, 7, 2.5, 0.25, 0.25, 1],
        ["files", "b", 0, 0, 1, 1, 0.1, None, None, 2],
    ]


def test_ten_dimes_are_a_dollar_whatever_their_order() -> None:
    dimes = [event(brand="a", event_type="purchase", price=0.1)] * 10
    (row,) = made(r.BRAND_REPORT, brand_report, dimes)
    assert row["revenue"] == 1.0  # ten times 0.1 added as doubles are a little less


def test_brands_are_ranked_by_revenue_in_their_source_then_by_name_and_the_nameless_last() -> None:
    sold = [(None, 5.0), ("b", 5.0), ("a", 5.0), ("z", 7.0)]
    events = [event(brand=b, event_type="purchase", price=p) for b, p in sold]
    found = made(r.BRAND_REPORT, brand_report, [*events, event(brand="a", source="topic")])
    ranks = {(row["source"], row["brand"]): row["rank"] for row in found}
    assert ranks == {
        ("files", "z"): 1,
        ("files", "a"): 2,
        ("files", "b"): 3,
        ("files", None): 4,
        ("topic", "a"): 1,
    }


def test_sources_are_never_added_together() -> None:
    files = [event(brand="a", source=source) | FILE for source in ("files", "sample")]
    rows = {
        "file_events": (table(c.FILE_EVENTS), frame_of(c.FILE_EVENTS, files)),
        "raw_events": (table(c.RAW_EVENTS), frame_of(c.RAW_EVENTS, [event(brand="a"), event()])),
    }
    found = run(r.FUNNEL, lambda **inputs: funnel(common.events(**inputs)), rows)
    assert only(found, "source", "level", "views") == [
        ("files", "events", 1),
        ("files", "sessions", 1),
        ("sample", "events", 1),
        ("sample", "sessions", 1),
        ("topic", "events", 2),
        ("topic", "sessions", 1),
    ]


FILE = {"file_id": "f", "line": 1, "ingested_at": START, "date": START.date()}


def table(of: Any) -> Any:
    return {column.name: column.type for column in of.columns}


def frame_of(of: Any, events: list[dict[str, Any]]) -> Any:
    import polars as pl

    schema = polars_schema(of)
    return pl.DataFrame([{name: e.get(name) for name in schema} for e in events], schema=schema)


@pytest.mark.parametrize("name", NAMES)
def test_a_brand_or_a_category_is_kept_as_it_came(name: str) -> None:
    brands = made(r.BRAND_REPORT, brand_report, [event(brand=name), event(brand=None)])
    assert sorted(only(brands, "brand", "views"), key=str) == sorted(
        [(name, 1), (None, 1)], key=str
    )
    (category,) = made(r.CATEGORY_REPORT, category_report, [event(category_code=name)])
    assert (category["category_code"], category["top_category"]) == (name, name or None)


def test_the_top_category_is_what_stands_before_the_first_point() -> None:
    codes = ("a.b.c", "a", ".b", None)
    found = made(r.CATEGORY_REPORT, category_report, [event(category_code=x) for x in codes])
    tops = {row["category_code"]: row["top_category"] for row in found}
    assert tops == {"a.b.c": "a", "a": "a", ".b": None, None: None}


def test_the_funnel_counts_a_session_once_however_often_it_views() -> None:
    views = [event(n, user_session="s") for n in range(8)]
    steps = [
        event(user_session="s", event_type="cart"),
        event(user_session="t"),
        event(user_session=None, event_type="purchase"),
    ]
    by_event, by_session = made(r.FUNNEL, funnel, [*views, *steps])
    assert list(by_event.values())[1:] == ["events", 9, 1, 1, 1 / 9, 1 / 9, 1.0]
    assert list(by_session.values())[1:] == ["sessions", 2, 1, 0, 0.5, 0.0, 0.0]


def test_a_source_without_a_session_has_none_in_its_funnel() -> None:
    by_event, by_session = made(r.FUNNEL, funnel, [event(user_session=None)])
    assert (by_event["views"], by_session["views"], by_session["cart_per_view"]) == (1, 0, None)


def test_nothing_to_report_is_no_row() -> None:
    for of, transform in (
        (r.BRAND_REPORT, brand_report),
        (r.CATEGORY_REPORT, category_report),
        (r.FUNNEL, funnel),
    ):
        assert made(of, transform, []) == []


def test_the_union_has_what_the_reports_read() -> None:
    assert set(COLUMNS) == set(frame([event()]).columns)
    assert frame([event(1)])["event_timestamp"][0] == START + timedelta(seconds=1)
