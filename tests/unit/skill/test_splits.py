"""What a split may not do."""

import polars as pl
import pytest

from tidemill.errors import InputError
from tidemill.skill.findings import Check
from tidemill.skill.splits import late_questions, later_rows, reaching_labels, shared_rows

TRAIN = pl.DataFrame({"row": [1, 2, 3], "city": ["A", None, "B"], "known": [2, 3, 4]})


def test_a_row_on_both_sides_is_found_by_its_key() -> None:
    test = pl.DataFrame({"row": [3, 4], "city": ["C", "C"]})
    (finding,) = shared_rows(TRAIN, test, ["row"])
    assert finding.check is Check.SHARED and finding.rows == 1
    assert str(finding) == (
        "shared: 1 of 2 test rows are in training too, by row; first: {'row': 3}"
    )


def test_a_copy_under_another_key_is_found_by_what_it_holds_null_too() -> None:
    test = pl.DataFrame({"row": [8, 9], "city": [None, "C"]})
    (finding,) = shared_rows(TRAIN, test, ["city"])
    assert finding.rows == 1 and finding.row == "{'city': None}"
    assert shared_rows(TRAIN, test, ["row", "city"]) == []


def test_a_test_row_with_two_copies_in_training_counts_once() -> None:
    (finding,) = shared_rows(pl.concat([TRAIN, TRAIN]), TRAIN[:1])
    assert finding.rows == 1


def test_a_training_row_of_the_tests_first_day_is_too_late() -> None:
    (finding,) = later_rows(TRAIN, pl.DataFrame({"row": [3, 4]}), "row")
    assert finding.check is Check.ORDER and finding.rows == 1 and "first: {'row': 3" in finding.text
    assert later_rows(TRAIN, pl.DataFrame({"row": [4, 5]}), "row") == []


def test_a_label_may_be_known_when_the_test_is_asked_and_no_later() -> None:
    assert reaching_labels(TRAIN, pl.DataFrame({"at": [4, 5]}), "known", "at") == []
    (finding,) = reaching_labels(TRAIN, pl.DataFrame({"at": [3, 5]}), "known", "at")
    assert finding.check is Check.EMBARGO and finding.rows == 1 and "of 3 training" in finding.text


def test_a_question_whose_answer_is_known_already_is_none() -> None:
    test = pl.DataFrame({"at": [3, 4, 6], "known": [4, 4, 5]})
    (finding,) = late_questions(test, "known", "at")
    assert finding.check is Check.ASKED and finding.rows == 2
    assert finding.row == "{'at': 4, 'known': 4}"
    assert late_questions(test[:1], "known", "at") == []


def test_an_empty_part_and_a_column_that_is_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="expected rows in both parts, found 3 and 0"):
        later_rows(TRAIN, TRAIN[:0], "row")
    with pytest.raises(InputError, match=r"expected columns \['when'\], found"):
        later_rows(TRAIN, TRAIN, "when")
    with pytest.raises(InputError, match=r"expected columns \['at'\], found"):
        reaching_labels(TRAIN, TRAIN, "known", "at")
