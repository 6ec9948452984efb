"""What the means of a table predict."""

import polars as pl
import pytest

from tidemill.errors import InputError
from tidemill.skill.table_baselines import GroupMean, TableMean, TableModel

TRAIN = pl.DataFrame(
    {
        "city": ["A", "A", "B", None],
        "age": [1, 1, 1, 2],
        "spent": [10, 20, 60, 70],
    }
)


def test_the_mean_is_the_same_for_every_row() -> None:
    assert TableMean().fit(TRAIN, "spent").predict(TRAIN[:2]).tolist() == [40, 40]


def test_a_group_has_its_own_mean_null_is_a_group_and_an_unseen_one_has_the_mean_of_all() -> None:
    asked = pl.DataFrame({"city": ["B", "C", None, "A", "B"]})
    fitted = GroupMean(("city",)).fit(TRAIN, "spent")
    assert fitted.predict(asked).tolist() == [60, 40, 70, 15, 60]


def test_a_group_is_of_all_its_columns() -> None:
    asked = pl.DataFrame({"age": [1, 2], "city": ["A", "A"]})
    fitted = GroupMean(("city", "age")).fit(TRAIN, "spent")
    assert fitted.predict(asked).tolist() == [15, 40]
    assert GroupMean(("city", "age")).name == "mean_by_city_age"


@pytest.mark.parametrize("model", [TableMean(), GroupMean(("city",))], ids=lambda m: m.name)
@pytest.mark.parametrize(
    "rows",
    [
        TRAIN.drop("spent"),
        TRAIN.with_columns(spent=pl.lit("a")),
        TRAIN.with_columns(spent=pl.lit(None, pl.Float64)),
        TRAIN.with_columns(spent=pl.lit(float("nan"))),
        TRAIN.clear(),
    ],
    ids=["none", "text", "null", "nan", "empty"],
)
def test_a_target_that_is_no_number_is_refused(model: TableModel, rows: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="'spent'"):
        model.fit(rows, "spent")


def test_a_missing_group_s_column_is_refused() -> None:
    fitted = GroupMean(("city",)).fit(TRAIN, "spent")
    with pytest.raises(InputError, match="no column city among age"):
        fitted.predict(TRAIN.select("age"))
