"""The topic of live prices, as sensors and runs ask for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from tidemill.settings import Settings


class PricesResource(dg.ConfigurableResource):
    """Gives the subscription to live prices; an empty home is read from the environment.

    Attributes:
        home: Folder of all state.
    """

    home: str = ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open it; the broker is not asked before somebody wants to know."""
        from tidemill import compose

        yield compose.live_prices(Settings.current(Path(self.home) if self.home else None))
