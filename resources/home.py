"""What runs and sensors ask for: the parts of a home, opened from its settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from tidemill.settings import Settings


class OfHome(dg.ConfigurableResource):
    """A part of a home; an empty value is read from the environment at run time.

    Attributes:
        home: Folder of all state.
    """

    home: str = ""

    def settings(self) -> Settings:
        """The settings that hold for a run."""
        return Settings.current(Path(self.home) if self.home else None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open it; no broker is asked before somebody wants to know."""
        yield self.opened()

    def opened(self) -> Any:
        """The part itself."""
        raise NotImplementedError


class WithEngine(OfHome):
    """Tables, and the engine that makes them.

    Attributes:
        engine: ``duckdb`` or ``spark``.
    """

    engine: str = ""

    def settings(self) -> Settings:
        """The settings that hold for a run, with the engine."""
        settings = super().settings()
        return replace(settings, engine=self.engine) if self.engine else settings

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[object]:
        """Open them; the engine's session ends with the run."""
        opened = self.opened()
        try:
            yield opened
        finally:
            opened.engine.close()


class CryptoResource(WithEngine):
    """The crypto tables."""

    def opened(self) -> Any:
        """``Crypto``."""
        from tidemill import compose

        return compose.crypto(self.settings())


class PricesResource(OfHome):
    """The subscription to live prices."""

    def opened(self) -> Any:
        """``Subscription``."""
        from tidemill import compose

        return compose.live_prices(self.settings())


class EventsResource(WithEngine):
    """The reports of events."""

    def opened(self) -> Any:
        """``Events``."""
        from tidemill import compose

        return compose.events(self.settings())


class ClicksResource(OfHome):
    """The subscription to the topic of events."""

    def opened(self) -> Any:
        """``Subscription``."""
        from tidemill import compose

        return compose.clicks(self.settings())


class ShopFilesResource(OfHome):
    """What takes files of events."""

    def opened(self) -> Any:
        """``EventLanding``."""
        from tidemill import compose

        return compose.event_landing(self.settings())
