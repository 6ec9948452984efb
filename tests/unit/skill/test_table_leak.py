"""What the guard says of pipelines over tables; the kinds of leak are in the zoo."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.unit.skill.zoo.exhibit import Tables
from tidemill.errors import InputError
from tidemill.skill.findings import Check
from tidemill.skill.future import CHANGES, Source
from tidemill.skill.leak import Search
from tidemill.skill.table_leak import own_labels, table_leaks

DAYS = 40
FRAME = pl.DataFrame({"day": range(DAYS), "price": np.linspace(1.0, 2.0, DAYS)})
BARS = {"bars": Source(FRAME, known="day", key=("day",))}
CUTOFF = 20


def answering(**columns: pl.Expr) -> Callable[[Tables, Any], pl.DataFrame]:
    """A pipeline that answers each day, at its end, with columns of the bars."""
    return lambda tables, cutoff: tables["bars"].select("day", at="day", **columns)


HONEST = answering(before=pl.col("price").shift(1), now=pl.col("price"))


def test_a_table_in_pieces_is_asked_about_in_one() -> None:
    pieces = pl.concat([FRAME[:7], FRAME[7:]], rechunk=False)
    sources = {"bars": Source(pieces, known="day", key=("day",))}

    def pipeline(tables: Tables, cutoff: int) -> pl.DataFrame:
        return HONEST(tables, cutoff).with_columns(x=tables["bars"].n_chunks())

    assert pieces.n_chunks() == 2 and table_leaks(pipeline, sources, CUTOFF) == []


def test_each_column_that_saw_the_future_is_named_and_no_other() -> None:
    pipeline = answering(
        now=pl.col("price"), next=pl.col("price").shift(-1), mean=pl.col("price").mean()
    )
    found = {finding.where: finding for finding in table_leaks(pipeline, BARS, CUTOFF)}
    assert set(found) == {"next", "mean"}
    assert found["next"].row == f"day {CUTOFF}" and found["next"].rows == 1
    assert found["mean"].row == "day 0" and found["mean"].rows == CUTOFF + 1
    assert found["next"].before == repr(FRAME["price"][CUTOFF + 1])
    assert found["next"].change == f"another future after {CUTOFF} (larger)"
    assert str(found["next"]).startswith(
        f"future: next of day {CUTOFF} is {found['next'].before}, and"
    )


def test_the_search_ends_at_the_first_instant_that_shows_a_leak() -> None:
    asked = []

    def pipeline(tables: Tables, cutoff: int) -> pl.DataFrame:
        asked.append(cutoff)
        return answering(next=pl.col("price").shift(-1))(tables, cutoff)

    assert table_leaks(pipeline, BARS, CUTOFF)
    assert len(asked) == 2 + len(CHANGES)


def test_an_honest_pipeline_passes() -> None:
    assert table_leaks(HONEST, BARS, CUTOFF) == []


@pytest.mark.parametrize(
    "peek",
    [
        (pl.col("price").shift(-1) > 1.5).alias("flag"),
        pl.format("up {}", pl.col("price").shift(-1)).alias("word"),
        pl.when(pl.col("price").shift(-1) > 1.6).then(0.0).alias("null"),
        pl.concat_list("price", pl.col("price").shift(-1)).alias("list"),
    ],
)
def test_answers_of_any_type_are_compared(peek: pl.Expr) -> None:
    name = peek.meta.output_name()
    (finding,) = table_leaks(answering(**{name: peek}), BARS, CUTOFF)
    assert finding.where == name


def test_a_column_that_comes_or_goes_with_the_future_is_found() -> None:
    def pipeline(tables: Tables, cutoff: int) -> pl.DataFrame:
        name = "x_high" if tables["bars"]["price"].max() == 2.0 else "x_low"
        return tables["bars"].select("day", pl.col("price").alias(name), at="day")

    (finding,) = table_leaks(pipeline, BARS, CUTOFF)
    assert finding.where == "columns" and "x_low" in finding.after


def test_an_answer_that_comes_or_goes_with_the_future_is_found() -> None:
    rising = pl.col("price").shift(-1) > pl.col("price").shift(-1).mean()
    found = table_leaks(
        lambda tables, cutoff: tables["bars"].filter(~rising).select("day", at="day"), BARS, CUTOFF
    )
    assert {finding.where for finding in found} == {"rows"}


def test_a_gap_that_is_filled_from_behind_is_found_wherever_it_is() -> None:
    for gap in (CUTOFF + 1, 27, DAYS - 2):
        for nothing in (None, float("nan")):
            price = pl.when(pl.col("day") != gap).then("price").otherwise(nothing)
            source = Source(FRAME.with_columns(price=price), known="day", key=("day",))
            pipeline = answering(x=pl.col("price").fill_nan(None).backward_fill())
            (finding,) = table_leaks(pipeline, {"bars": source}, CUTOFF)
            assert finding.row == f"day {gap}"


def test_questions_and_labels_may_be_in_two_tables() -> None:
    asked = FRAME.select("day", code=pl.col("day") % 3)
    sources = {
        "asked": Source(asked, known="day", key=("day",), own=("code",)),
        "labels": Source(FRAME, known="day"),
    }

    def coded(tables: Tables, cutoff: int, until: int) -> pl.DataFrame:
        learnt = tables["labels"].filter(pl.col("day") <= until)
        means = tables["asked"].join(learnt, on="day").group_by("code").agg(pl.col("price").max())
        return tables["asked"].join(means, on="code", how="left").with_columns(at=CUTOFF)

    assert table_leaks(lambda t, c: coded(t, c, c), sources, CUTOFF) == []
    assert {f.where for f in table_leaks(lambda t, c: coded(t, c, DAYS), sources, CUTOFF)} == {
        "price"
    }


def test_lags_may_be_counted_in_rows_where_the_rows_are_scheduled() -> None:
    def week_ahead(tables: Tables, cutoff: int) -> pl.DataFrame:
        rows = tables["bars"].filter(pl.col("day") <= cutoff + 7)
        asked = pl.min_horizontal("day", cutoff)
        return rows.select("day", at=asked, before=pl.col("price").shift(7))

    scheduled = {"bars": Source(FRAME, known="day", key=("day",), scheduled=True)}
    assert table_leaks(week_ahead, scheduled, CUTOFF) == []
    assert {f.where for f in table_leaks(week_ahead, BARS, CUTOFF)} == {"before"}


def test_a_feature_that_is_seldom_at_work_is_found_by_the_sweep() -> None:
    seldom = pl.when(pl.col("day") % 6 == 1).then(pl.col("price").shift(-1)).otherwise("price")
    assert table_leaks(answering(x=seldom), BARS, CUTOFF, Search(probes=1, sweep=0)) == []
    assert table_leaks(answering(x=seldom), BARS, CUTOFF, Search(probes=1, sweep=19))


def test_a_pipeline_that_rolls_dice_is_not_repeatable_and_not_called_leaky() -> None:
    rng = np.random.default_rng(0)
    found = table_leaks(
        lambda tables, cutoff: HONEST(tables, cutoff).with_columns(x=rng.random()), BARS, CUTOFF
    )
    assert [finding.check for finding in found] == [Check.REPEAT]


def test_a_pipeline_that_does_not_heed_the_past_proves_nothing() -> None:
    constant = answering(x=pl.lit(0.0))
    assert [f.check for f in table_leaks(constant, BARS, CUTOFF)] == [Check.HEED]
    assert table_leaks(constant, BARS, CUTOFF, Search(heeds=False)) == []


def test_only_the_label_of_the_row_itself_is_changed_for_its_features() -> None:
    total = pl.col("price").sum()
    features = ["others", "all"]
    pipeline = answering(others=(total - pl.col("price")).round(6), all=total)
    found = own_labels(pipeline, BARS, DAYS, "price", features)
    assert [(finding.check, finding.where) for finding in found] == [(Check.OWN_LABEL, "all")]
    assert "with another price of its own" in found[0].text


def test_a_pipeline_that_fails_on_another_future_is_told_with_the_change() -> None:
    def checking(tables: Tables, cutoff: int) -> pl.DataFrame:
        if float(str(tables["bars"]["price"].max())) > 2.0:
            raise ValueError("out of range")
        return HONEST(tables, cutoff)

    with pytest.raises(ValueError, match="out of range") as raised:
        table_leaks(checking, BARS, CUTOFF)
    assert raised.value.__notes__ == [
        "the pipeline ran on the tables as they are, not changed: larger"
    ]


def test_what_would_prove_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="expected rows after 39, found none"):
        table_leaks(HONEST, BARS, DAYS - 1)
    with pytest.raises(InputError, match="expected answers at or before -1, found none"):
        table_leaks(HONEST, BARS, -1)
    with pytest.raises(InputError, match=r"expected answers with \['at'\]"):
        table_leaks(lambda tables, cutoff: tables["bars"], BARS, CUTOFF)
    with pytest.raises(InputError, match="expected one answer for each day, found several"):
        table_leaks(lambda t, c: pl.concat([HONEST(t, c)] * 2), BARS, CUTOFF)
    with pytest.raises(InputError, match="expected one table with a key, found"):
        table_leaks(HONEST, {"bars": Source(FRAME, known="day")}, CUTOFF)
