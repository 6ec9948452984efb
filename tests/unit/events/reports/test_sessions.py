"""Sessions, visits and cohorts: who came when, and how far they got."""

import random
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from tests.unit.events.reports.clicks import START, event, frame, made
from tidemill.events.contracts import VISITS
from tidemill.events.reports.contracts import COHORTS, SESSIONS
from tidemill.events.reports.transforms import cohorts, sessions, visits

MINUTE, WEEK = 60, 7 * 86_400


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_session_has_its_counts_its_times_and_how_far_it_got() -> None:
    (row,) = made(
        SESSIONS,
        sessions,
        [
            event(90.5, event_type="purchase", price=2.5),
            event(10, user_id=7),
            event(0, event_type="cart", user_id=3),
            event(20, event_type="wish"),
        ],
    )
    assert row == {
        "source": "files",
        "user_session": "s",
        "user_id": 1,
        "users": 3,
        "events": 4,
        "views": 1,
        "carts": 1,
        "purchases": 1,
        "revenue": 2.5,
        "started_at": after(0),
        "ended_at": after(90.5),
        "duration_s": 90.5,
        "first_view_at": after(10),
        "first_purchase_at": after(90.5),
        "view_to_purchase_s": 80.5,
        "outcome": "purchase",
    }


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([(0, "purchase"), (5, "view"), (9, "purchase")], 4.0),
        ([(5, "purchase"), (5, "view")], 0.0),
        ([(0, "purchase"), (5, "view")], None),
        ([(0, "purchase")], None),
        ([(0, "view"), (1, "cart")], None),
    ],
)
def test_a_purchase_before_the_first_view_does_not_come_of_it(
    steps: list[tuple[int, str]], seconds: float | None
) -> None:
    (row,) = made(SESSIONS, sessions, [event(at, event_type=kind) for at, kind in steps])
    assert row["view_to_purchase_s"] == seconds


@pytest.mark.parametrize(
    ("kinds", "outcome"),
    [
        (["view", "cart", "purchase"], "purchase"),
        (["cart", "view"], "cart"),
        (["view", "wish"], "view"),
        (["wish"], "other"),
    ],
)
def test_the_outcome_is_the_furthest_step(kinds: list[str], outcome: str) -> None:
    (row,) = made(SESSIONS, sessions, [event(event_type=kind) for kind in kinds])
    assert row["outcome"] == outcome


def test_who_has_no_session_is_in_none_and_an_erased_user_leaves_a_session_without_users() -> None:
    found = made(SESSIONS, sessions, [event(user_session=None), event(user_id=None)])
    assert [(row["user_session"], row["users"], row["user_id"]) for row in found] == [
        ("s", 0, None)
    ]
    assert made(VISITS, visits, [event(user_id=None)]) == []
    assert made(COHORTS, cohorts, [event(user_id=None)]) == []


def test_a_session_of_a_hundred_thousand_events_is_one_row() -> None:
    one = frame([event(brand="a", price=0.1, event_type="purchase")])
    at = pl.Series([after(n / 10) for n in range(100_000)], dtype=pl.Datetime("us"))
    rows = one.drop("event_timestamp").join(at.to_frame("event_timestamp"), how="cross")
    (row,) = made(SESSIONS, sessions, rows.select(one.columns))
    assert (row["events"], row["revenue"], row["duration_s"]) == (100_000, 10_000.0, 9999.9)
    assert len(made(VISITS, visits, rows.select(one.columns))) == 1


@pytest.mark.parametrize(("gap_s", "n"), [(30 * MINUTE - 0.001, 1), (30 * MINUTE, 2)])
@pytest.mark.parametrize("start_s", [0, 29 * MINUTE, 1799.999, -1])
def test_thirty_minutes_without_an_event_end_a_visit(gap_s: float, n: int, start_s: float) -> None:
    found = made(VISITS, visits, [event(start_s), event(start_s + gap_s)])
    assert len(found) == n


def test_a_visit_goes_on_for_as_long_as_no_gap_ends_it() -> None:
    at = [0, 20, 49, 78, 100, 131, 160]
    found = made(VISITS, visits, [event(n * MINUTE, user_session=str(n)) for n in at])
    shown = [(row["window_start"], row["window_end"], row["events"]) for row in found]
    assert shown == [
        (after(0), after(130 * MINUTE), 5),
        (after(131 * MINUTE), after(190 * MINUTE), 2),
    ]
    assert [row["duration_s"] for row in found] == [100 * MINUTE, 29 * MINUTE]


def test_a_visit_over_midnight_is_of_the_day_it_began() -> None:
    (row,) = made(VISITS, visits, [event(43_190), event(43_210)])
    assert (row["date"], row["window_start"].date()) == (START.date(), START.date())


@pytest.mark.parametrize(("newest_s", "is_final"), [(3609.999, False), (3610, True)])
def test_a_visit_of_the_topic_is_final_an_hour_behind_the_watermark(
    newest_s: float, is_final: bool
) -> None:
    late = event(newest_s, user_id=2)
    found = made(VISITS, visits, [e | {"source": "topic"} for e in (event(), late)])
    assert [row["is_final"] for row in found] == [is_final, False]
    assert all(row["is_final"] for row in made(VISITS, visits, [event(), late]))


def test_visits_are_what_going_through_each_users_events_one_by_one_finds() -> None:
    rng = random.Random(5)
    rows = [
        event(
            rng.randrange(86_400_000) / 1000,
            user_id=rng.choice([None, 1, 2, 3]),
            event_type=rng.choice(["view", "cart", "purchase", "x"]),
            price=rng.randrange(10_000) / 100,
        )
        for _ in range(400)
    ]
    found: list[tuple[int, datetime, datetime, int, int, float]] = []
    for user in (1, 2, 3):
        of_user = sorted(
            (row for row in rows if row["user_id"] == user), key=lambda row: row["event_timestamp"]
        )
        for row in of_user:
            at, bought = row["event_timestamp"], row["event_type"] == "purchase"
            price = row["price"] if bought else 0.0
            if found and found[-1][0] == user and at - found[-1][2] < timedelta(minutes=30):
                _, first, _, events, purchases, revenue = found.pop()
                found.append(
                    (user, first, at, events + 1, purchases + bought, round(revenue + price, 2))
                )
            else:
                found.append((user, at, at, 1, int(bought), price))
    told = [
        (
            row["user_id"],
            row["window_start"],
            row["window_end"] - timedelta(minutes=30),
            row["events"],
            row["purchases"],
            row["revenue"],
        )
        for row in made(VISITS, visits, rows)
    ]
    assert len(told) > 30
    assert found == sorted(told, key=lambda visit: visit[:2])


def test_users_that_come_back_are_counted_in_each_week_and_empty_weeks_are_there() -> None:
    found = made(
        COHORTS,
        cohorts,
        [
            event(0, user_id=1),
            event(1, user_id=1),
            event(2, user_id=2),
            event(2 * WEEK, user_id=1),
            event(3 * WEEK, user_id=3),
        ],
    )
    monday = date(2026, 3, 2)
    shown = [(r["cohort_week"], r["week_number"], r["users"], r["active"]) for r in found]
    assert shown == [
        (monday, 0, 2, 2),
        (monday, 1, 2, 0),
        (monday, 2, 2, 1),
        (monday, 3, 2, 0),
        (monday + timedelta(21), 0, 1, 1),
    ]
    assert [r["retention"] for r in found] == [1.0, 0.0, 0.5, 0.0, 1.0]


def test_a_week_begins_on_monday_in_utc() -> None:
    def week(at: datetime) -> Any:
        return made(COHORTS, cohorts, [event((at - START).total_seconds())])[0]["cohort_week"]

    assert week(datetime(2026, 3, 1, 23, 59, 59)) == date(2026, 2, 23)
    assert week(datetime(2026, 3, 2)) == date(2026, 3, 2)
    assert week(datetime(1969, 12, 28)) == date(1969, 12, 22)


def test_the_change_to_summer_time_neither_splits_nor_joins_visits() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    local = [
        datetime(2026, 3, 29, 1, 55, tzinfo=berlin),
        datetime(2026, 3, 29, 3, 5, tzinfo=berlin),
    ]
    utc = [at.astimezone(ZoneInfo("UTC")).replace(tzinfo=None) for at in local]
    (row,) = made(VISITS, visits, [event((at - START).total_seconds()) for at in utc])
    assert row["duration_s"] == 10 * MINUTE  # an hour and ten on the wall's clock
