"""The desk that landing is tested at."""

from pathlib import Path

import pytest

from tests.unit.events.intake.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)
