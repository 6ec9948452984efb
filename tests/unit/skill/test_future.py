"""Other futures differ from the one that came, and share its past."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.errors import InputError
from tidemill.skill.future import CHANGES, Change, Source, change_source, change_values

SAME_ROWS = [change for change in CHANGES if change.rows == "same"]
ROWS = 12
FRAME = pl.DataFrame(
    {
        "day": [date(2026, 1, 1) + timedelta(days=day) for day in range(ROWS)],
        "float": np.linspace(1.5, 9.0, ROWS),
        "gap": [None, 1.0, 2.0, 3.0] * 3,
        "zero": [0.0] * ROWS,
        "int": pl.Series(range(100, 100 + ROWS), dtype=pl.UInt8),
        "flag": [True, False] * 6,
        "word": list("abcdefghijkl"),
        "at": [datetime(2026, 2, day + 1, tzinfo=UTC) for day in range(ROWS)],
        "calendar": list("mnopqrstuvwx"),
        "price": np.linspace(5.0, 7.0, ROWS),
        "code": list("ABCD") * 3,
    }
)
SOURCE = Source(FRAME, known="day", key=("day",), given=("calendar",), own=("price", "code"))
HIDDEN = ["float", "gap", "int", "flag", "word", "at"]


def changed(change: Change, after: int = 3, seed: int = 0) -> pl.DataFrame:
    hidden = SOURCE.hidden(FRAME["day"][after])
    return change_source(SOURCE, hidden, change, np.random.default_rng(seed)).frame


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_what_is_known_stays_as_it_is(change: Change) -> None:
    assert changed(change)[:4].equals(FRAME[:4])
    assert changed(change).schema == FRAME.schema


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_each_hidden_column_changes_whatever_its_type(change: Change) -> None:
    after = changed(change, seed=1)[4:]
    for column in HIDDEN:
        assert not after[column].equals(FRAME[4:][column]), column


def test_zeros_become_something_else() -> None:
    assert (changed(CHANGES[0])[4:]["zero"] > 0).all()


@pytest.mark.parametrize("change", SAME_ROWS, ids=lambda change: change.name)
def test_names_and_calendars_stay_and_half_of_the_questions_are_others(change: Change) -> None:
    hidden = SOURCE.hidden(FRAME["day"][3])
    after = change_source(SOURCE, hidden, change, np.random.default_rng(0))
    for column in ("day", "calendar"):
        assert after.frame[column].equals(FRAME[column])
    assert len(after.touched) == 4
    same = after.frame.join(after.touched, on="day", how="anti").select("day", "price", "code")
    assert same.equals(same.select("day").join(FRAME, on="day").select(same.columns))
    assert set(after.frame["code"]) <= set("ABCD")
    if change.numbers:
        assert not set(after.frame["price"]) <= set(FRAME["price"])


@pytest.mark.parametrize(("name", "rows"), [("fewer rows", ROWS - 4), ("more rows", ROWS + 4)])
def test_rows_go_and_come_after_what_is_known(name: str, rows: int) -> None:
    (change,) = [change for change in CHANGES if change.name == name]
    hidden = SOURCE.hidden(FRAME["day"][3])
    after = change_source(SOURCE, hidden, change, np.random.default_rng(0))
    assert len(after.frame) == rows and not after.frame["day"].is_duplicated().any()
    old, new = set(FRAME["day"]), set(after.frame["day"])
    assert (old ^ new) <= set(after.touched["day"]) and len(old ^ new) == 4


def test_a_row_that_comes_is_of_a_symbol_that_there_is() -> None:
    frame = pl.DataFrame({"symbol": ["A", "B"] * 3, "day": [1, 1, 2, 2, 3, 3], "x": [1.0] * 6})
    source = Source(frame, known="day", key=("symbol", "day"))
    after = change_source(source, source.hidden(1), CHANGES[-1], np.random.default_rng(0)).frame
    assert set(after["symbol"]) == {"A", "B"} and after["day"].to_list()[6:] == [4, 5]


@given(
    values=st.lists(st.floats(1e-3, 1e6), min_size=3, max_size=40),
    change=st.sampled_from(SAME_ROWS),
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_a_price_stays_a_price(
    values: list[float], change: Change, seed: int, data: st.DataObject
) -> None:
    before = np.array(values)
    start = data.draw(st.integers(0, len(values) - 1))
    after = change_values(before, start, change, np.random.default_rng(seed))
    assert after[:start].tobytes() == before[:start].tobytes()
    assert (after > 0).all() and np.isfinite(after).all() and len(after) == len(before)


def test_the_same_seed_makes_the_same_future() -> None:
    for change in CHANGES:
        assert changed(change).equals(changed(change))
        assert not changed(change).equals(changed(change, seed=1))


def test_a_number_that_is_not_finite_stays_where_it_is() -> None:
    frame = pl.DataFrame({"day": [1, 2, 3, 4], "x": [1.0, float("nan"), float("inf"), 2.0]})
    source = Source(frame, known="day")
    after = change_source(source, source.hidden(1), CHANGES[0], np.random.default_rng(0)).frame
    assert np.isnan(after["x"][1]) and np.isinf(after["x"][2]) and after["x"][3] > 2.0


def test_a_column_that_is_not_there_and_a_row_known_at_no_time_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected columns \['nowhere'\], found \['day'"):
        Source(FRAME, known="day", own=("nowhere",))
    with pytest.raises(InputError, match="expected gap in each row, found null"):
        Source(FRAME, known="gap")
