"""What the reports of events ask for: the tables over the lake, and the engine that makes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg

from tidemill.settings import Settings


class EventsResource(dg.ConfigurableResource):
    """Gives assets the reports of events; an empty value is read from the environment at run time.

    Attributes:
        home: Folder of all state.
        engine: ``duckdb`` or ``spark``.
    """

    home: str = ""
    engine: str = ""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open the tables; the engine's session ends with the run."""
        from tidemill import compose

        opened = compose.events(self.settings())
        try:
            yield opened
        finally:
            opened.engine.close()

    def settings(self) -> Settings:
        """The settings that hold for a run."""
        settings = Settings.current(Path(self.home) if self.home else None)
        return replace(settings, engine=self.engine) if self.engine else settings
