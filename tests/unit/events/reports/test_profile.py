"""The profile says how full the columns are, what they hold, and how prices spread."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.events.reports.clicks import START, event, made
from tidemill.events.reports import contracts as r
from tidemill.events.reports import profile


def test_the_overall_completeness_is_of_all_cells_and_not_of_the_worst_column() -> None:
    events = [event(category_id=1, category_code="a", brand="b"), event(5, user_session=None)]
    (row,) = made(r.PROFILE_OVERALL, profile.profile_overall, events)
    assert (row["rows"], row["cells"], row["missing"]) == (2, 18, 4)
    assert row["completeness"] == 14 / 18
    assert (row["worst_column"], row["worst_completeness"]) == ("category_id", 0.5)
    assert (row["first_at"], row["last_at"]) == (START, START + timedelta(seconds=5))
    assert (row["users"], row["sessions"], row["no_session"]) == (1, 1, 1)


def test_each_column_tells_its_values_and_a_personal_one_names_none() -> None:
    events = [event(n, price=n + 0.5, user_id=n, brand="ab"[n % 2]) for n in range(30)]
    rows = made(r.PROFILE_COLUMNS, profile.profile_columns, events)
    found = {row["column"]: row for row in rows}
    assert len(found) == 9
    assert {name: row["cardinality"] for name, row in found.items()} == {
        "event_time": "unique",
        "event_type": "constant",
        "product_id": "constant",
        "category_id": "constant",
        "category_code": "constant",
        "brand": "low",
        "price": "unique",
        "user_id": "unique",
        "user_session": "constant",
    }
    assert (found["price"]["min"], found["price"]["max"]) == ("0.5000", "29.5000")
    assert (found["brand"]["min"], found["brand"]["max"]) == ("a", "b")
    for name in ("user_id", "user_session"):
        assert (found[name]["min"], found[name]["max"]) == (None, None)
    assert (found["category_id"]["missing"], found["category_id"]["completeness"]) == (30, 0.0)


@pytest.mark.parametrize(
    ("values", "kind"), [(20, "low"), (21, "medium"), (1000, "medium"), (1001, "high")]
)
def test_the_cardinality_has_a_class(values: int, kind: str) -> None:
    events = [event(product_id=n) for n in (*range(values), 0)]
    rows = made(r.PROFILE_COLUMNS, profile.profile_columns, events)
    assert {row["column"]: row["cardinality"] for row in rows}["product_id"] == kind


PRICES = st.lists(st.integers(0, 300_000).map(lambda cents: cents / 100), min_size=1, max_size=40)


@given(PRICES)
def test_the_quartiles_are_those_of_numpy(prices: list[float]) -> None:
    rows = made(r.PROFILE_NUMBERS, profile.profile_numbers, [event(price=p) for p in prices])
    row = next(row for row in rows if row["event_type"] == "all")
    want = np.quantile(prices, [0, 0.25, 0.5, 0.75, 1])
    assert [row[n] for n in ("min", "q1", "median", "q3", "max")] == pytest.approx(list(want))
    assert row["mean"] == pytest.approx(np.mean(prices))
    if len(prices) == 1:
        assert row["stddev"] is None
    else:
        assert row["stddev"] == pytest.approx(np.std(prices, ddof=1), abs=1e-6)


def test_types_without_a_name_are_together_even_one_called_all() -> None:
    kinds = ("view", "all", "wish", "other")
    events = [event(event_type=kind, price=10.0 * n) for n, kind in enumerate(kinds)]
    rows = made(r.PROFILE_NUMBERS, profile.profile_numbers, events)
    assert {row["event_type"]: row["count"] for row in rows} == {"all": 4, "other": 3, "view": 1}


def test_a_price_is_in_the_band_that_begins_with_it() -> None:
    prices = (0.0, 49.99, 50.0, 999.99, 1000.0, 5000.0)
    rows = made(r.PROFILE_PRICES, profile.profile_prices, [event(price=p) for p in prices])
    counts = {row["band"]: row["count"] for row in rows if row["event_type"] == "all"}
    assert counts == {
        "0-50": 2,
        "50-100": 1,
        "100-200": 0,
        "200-500": 0,
        "500-1000": 1,
        "1000+": 2,
    }
    shares = [row["share"] for row in rows if row["event_type"] == "view"]
    assert sum(shares) == pytest.approx(1.0)


def test_values_are_counted_by_type_hour_weekday_category_and_brand() -> None:
    events = [
        event(brand="a", category_code="x.y"),
        event(3600, brand="a", category_code="x.z"),
        event(86_400, event_type="cart"),
    ]
    rows = made(r.PROFILE_VALUES, profile.profile_values, events)
    found = {(row["dimension"], row["value"]): (row["count"], row["share"]) for row in rows}
    assert found == {
        ("event_type", "view"): (2, 2 / 3),
        ("event_type", "cart"): (1, 1 / 3),
        ("hour", "12"): (2, 2 / 3),
        ("hour", "13"): (1, 1 / 3),
        ("weekday", "Monday"): (2, 2 / 3),
        ("weekday", "Tuesday"): (1, 1 / 3),
        ("top_category", "x"): (2, 2 / 3),
        ("top_category", None): (1, 1 / 3),
        ("brand", "a"): (2, 2 / 3),
        ("brand", None): (1, 1 / 3),
    }


def test_only_the_twenty_brands_with_most_events_are_told() -> None:
    events = [event(brand=f"{n:03}") for n in range(50)] + [event(brand="zzz")] * 2
    rows = made(r.PROFILE_VALUES, profile.profile_values, events)
    brands = [row for row in rows if row["dimension"] == "brand"]
    assert len(brands) == 20
    assert {row["value"]: row["count"] for row in brands}["zzz"] == 2


def test_the_profile_of_nothing_is_no_row() -> None:
    for table, transform in (
        (r.PROFILE_COLUMNS, profile.profile_columns),
        (r.PROFILE_OVERALL, profile.profile_overall),
        (r.PROFILE_NUMBERS, profile.profile_numbers),
        (r.PROFILE_PRICES, profile.profile_prices),
        (r.PROFILE_VALUES, profile.profile_values),
    ):
        assert made(table, transform, []) == []
