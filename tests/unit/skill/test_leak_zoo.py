"""Leaks of every kind are caught, and their honest twins are let pass."""

import pytest

from tests.unit.skill.zoo import bars, purchases, series
from tests.unit.skill.zoo.exhibit import Exhibit

ZOO = (*series.EXHIBITS, *bars.EXHIBITS, *purchases.EXHIBITS)


@pytest.mark.parametrize("shown", ZOO, ids=lambda shown: shown.name)
def test_a_leak_is_caught_by_the_checks_that_are_named(shown: Exhibit) -> None:
    findings = shown.leaky.findings()
    assert {finding.check for finding in findings} == shown.caught_by, [*map(str, findings)]


@pytest.mark.parametrize("shown", ZOO, ids=lambda shown: shown.name)
def test_the_honest_twin_passes_all_checks(shown: Exhibit) -> None:
    assert [*map(str, shown.honest.findings())] == []
