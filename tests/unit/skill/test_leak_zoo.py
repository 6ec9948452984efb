"""Leaks of every kind are caught, and their honest twins are let pass."""

import numpy as np
import pytest

from tests.unit.skill.zoo import bars, purchases, series
from tests.unit.skill.zoo.exhibit import Exhibit
from tidemill.skill import leak, table_leak
from tidemill.skill.alarm import Floats
from tidemill.skill.findings import Check
from tidemill.skill.future import Change, Changed, Flags, Source

ZOO = (*series.EXHIBITS, *bars.EXHIBITS, *purchases.EXHIBITS)


@pytest.mark.parametrize("shown", ZOO, ids=lambda shown: shown.name)
def test_a_leak_is_caught_by_the_checks_that_are_named(shown: Exhibit) -> None:
    findings = shown.leaky.findings()
    assert {finding.check for finding in findings} == shown.caught_by, [*map(str, findings)]


@pytest.mark.parametrize("shown", ZOO, ids=lambda shown: shown.name)
def test_the_honest_twin_passes_all_checks(shown: Exhibit) -> None:
    assert [*map(str, shown.honest.findings())] == []


def test_the_zoo_shows_each_check_at_work() -> None:
    assert len({shown.name for shown in ZOO}) == len(ZOO) >= 14
    at_work = {check for shown in ZOO for check in shown.caught_by}
    assert at_work == set(Check) - {Check.REPEAT, Check.HEED}


SOME = [shown for shown in ZOO if shown.caught_by == {Check.FUTURE}][::4]


@pytest.mark.parametrize("shown", SOME, ids=lambda shown: shown.name)
def test_what_catches_a_leak_is_the_comparison(
    shown: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(before: Floats, after: Floats) -> Flags:
        return np.zeros(before.shape, dtype=bool)

    monkeypatch.setattr(leak, "differing", nothing)
    monkeypatch.setattr(table_leak, "differing", nothing)
    assert Check.FUTURE not in {finding.check for finding in shown.leaky.findings()}


@pytest.mark.parametrize("shown", SOME, ids=lambda shown: shown.name)
def test_what_catches_a_leak_is_that_the_future_is_another(
    shown: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_it_is(values: Floats, start: int, change: Change, rng: np.random.Generator) -> Floats:
        return values

    def untouched(
        source: Source, hidden: Flags, change: Change, rng: np.random.Generator
    ) -> Changed:
        return Changed(source.frame)

    monkeypatch.setattr(leak, "change_values", as_it_is)
    monkeypatch.setattr(leak, "change_source", untouched)
    monkeypatch.setattr(table_leak, "change_source", untouched)
    found = {finding.check for finding in shown.leaky.findings() if finding.where != "days"}
    assert found <= {Check.HEED}
