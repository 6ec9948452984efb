"""The ledger: no score without its baseline, each added once, and none forgotten."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tidemill import compose, query
from tidemill.errors import ContractError, InputError, TidemillError
from tidemill.lake.store import Lake
from tidemill.settings import Settings
from tidemill.skill import ledger
from tidemill.skill.contracts import LEDGER
from tidemill.skill.ledger import Score

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = Score(
    domain="crypto",
    subject="BTCUSDT",
    model="prophet",
    metric="mape",
    value=7.0,
    baseline="naive",
    baseline_value=7.5,
    skill=0.07,
    n=600,
    folds=20,
    horizon=30,
    ci_low=-0.01,
    ci_high=0.12,
    p_value=0.08,
    is_leaky=False,
    data_version=3,
    at=AT,
)


def changed(values: dict[str, Any]) -> Score:
    """The good score with some of its columns changed."""
    return replace(GOOD, **values)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", None, [LEDGER])


def test_a_score_has_the_columns_of_the_ledger() -> None:
    assert [f.name for f in fields(Score)] == [c.name for c in LEDGER.columns]


@pytest.mark.parametrize("column", [c.name for c in LEDGER.columns])
def test_a_score_that_leaves_anything_out_is_none(column: str) -> None:
    with pytest.raises(ContractError, match=f"{column} is None, not a"):
        changed({column: None})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"baseline": " "}, "baseline is empty"),
    ({"baseline_value": float("nan")}, "baseline_value is nan"),
    ({"ci_low": float("-inf")}, "ci_low is -inf"),
    ({"n": 0}, "n is 0, not from 1"),
    ({"folds": 0}, "folds is 0"),
    ({"folds": 2.5}, "folds is 2.5, not a BIGINT"),
    ({"n": True}, "n is True, not a BIGINT"),
    ({"p_value": 1.2}, "p_value is 1.2, not from 0 to 1"),
    ({"is_leaky": 1}, "is_leaky is 1, not a BOOLEAN"),
    ({"data_version": -1}, "data_version is -1"),
    ({"skill": 0.5}, "skill 0.5 is not between -0.01 and 0.12"),
    ({"at": datetime(2026, 11, 1)}, "has no time zone"),
]


@pytest.mark.parametrize(("bad", "told"), BAD, ids=[told for _, told in BAD])
def test_a_score_that_is_not_what_it_says_is_refused(bad: dict[str, Any], told: str) -> None:
    with pytest.raises(ContractError, match=f"no score of prophet on BTCUSDT: .*{told}"):
        changed(bad)


def test_scores_are_added_beside_earlier_ones(lake: Lake) -> None:
    tokyo = replace(GOOD, at=(AT + DAY).astimezone(timezone(timedelta(hours=9))), value=6.0)
    other = replace(GOOD, model="naive")
    written = ledger.add(lake, [GOOD, other])
    assert written is not None and written.rows == 2
    ledger.add(lake, [tokyo])
    assert ledger.read(lake).select("model", "value", "at").rows() == [
        ("naive", 7.0, datetime(2026, 11, 1, 12)),
        ("prophet", 7.0, datetime(2026, 11, 1, 12)),
        ("prophet", 6.0, datetime(2026, 11, 2, 12)),
    ]
    assert lake.inspect(LEDGER, [{}], 1)[0] == {}


def test_the_same_scores_count_once_though_they_are_added_again(lake: Lake) -> None:
    ledger.add(lake, [GOOD])
    assert ledger.add(lake, [GOOD]) is None
    assert ledger.read(lake).height == 1


def test_scores_that_came_too_late_are_not_lost_in_silence(lake: Lake) -> None:
    ledger.add(lake, [replace(GOOD, at=AT + DAY)])
    with pytest.raises(TidemillError, match="later scores than those of 2026-11-01"):
        ledger.add(lake, [GOOD])
    assert ledger.add(lake, [replace(GOOD, subject="ETHUSDT")]) is not None


@pytest.mark.parametrize(
    "scores", [[], [GOOD, GOOD], [GOOD, replace(GOOD, model="naive", at=AT + DAY)]]
)
def test_scores_that_do_not_belong_together_are_refused(lake: Lake, scores: list[Score]) -> None:
    with pytest.raises(InputError, match="expected scores of one time"):
        ledger.add(lake, scores)
    assert ledger.read(lake).is_empty()


def test_a_model_without_a_score_is_missing(lake: Lake) -> None:
    asked = (["BTCUSDT", "ETHUSDT"], ["prophet", "naive"])
    assert len(ledger.missing(lake, "crypto", *asked)) == 4
    ledger.add(lake, [GOOD, replace(GOOD, model="naive")])
    ledger.add(lake, [replace(GOOD, subject="ETHUSDT", model="naive", data_version=5)])
    assert ledger.missing(lake, "crypto", *asked) == [("ETHUSDT", "prophet")]
    assert len(ledger.missing(lake, "retail", *asked)) == 4
    assert ledger.missing(lake, "crypto", *asked, data_version=5) == [
        ("BTCUSDT", "naive"),
        ("BTCUSDT", "prophet"),
        ("ETHUSDT", "prophet"),
    ]


def test_the_latest_score_of_each_model_is_told_the_most_skilled_first(lake: Lake) -> None:
    ledger.add(lake, [GOOD, replace(GOOD, model="naive", skill=0.0)])
    ledger.add(lake, [replace(GOOD, at=AT + DAY, skill=-0.01)])
    ledger.add(lake, [replace(GOOD, domain="retail")])
    assert ledger.latest(lake, "crypto").select("model", "skill").rows() == [
        ("naive", 0.0),
        ("prophet", -0.01),
    ]


def test_the_ledger_is_a_table_of_every_lake_empty_or_not(tmp_path: Path) -> None:
    lake = compose.lake(Settings(home=tmp_path, lake=tmp_path / "lake"))
    assert query.ask(lake, "select * from skill.ledger").rows == []
    ledger.add(lake, [GOOD])
    assert query.ask(lake, "select model, baseline from skill.ledger").rows == [
        ("prophet", "naive")
    ]
