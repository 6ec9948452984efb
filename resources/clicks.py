"""What brings events in: the topic, and the files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from tidemill.settings import Settings


class ClicksResource(dg.ConfigurableResource):
    """Gives the subscription to the topic of events; an empty home is read from the environment.

    Attributes:
        home: Folder of all state.
    """

    home: str = ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open it; the broker is not asked before somebody wants to know."""
        from tidemill import compose

        yield compose.clicks(Settings.current(Path(self.home) if self.home else None))


class ShopFilesResource(dg.ConfigurableResource):
    """Gives what takes files of events; an empty home is read from the environment.

    Attributes:
        home: Folder of all state.
    """

    home: str = ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open it."""
        from tidemill import compose

        yield compose.event_landing(Settings.current(Path(self.home) if self.home else None))
