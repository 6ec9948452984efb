"""What the tests on a real broker share."""

from collections.abc import Iterator

import pytest

from tests.integration.desk import running
from tidemill.kafka.broker import Broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of the module's own."""
    with running(tmp_path_factory.mktemp("broker") / "kafka") as broker:
        yield broker
