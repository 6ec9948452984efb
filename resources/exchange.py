"""The exchange's REST API, as a run asks for it."""

from typing import TYPE_CHECKING

import dagster as dg

from tidemill.settings import Settings

if TYPE_CHECKING:
    from tidemill.crypto.exchange import Exchange


class ExchangeResource(dg.ConfigurableResource):
    """Gives runs the exchange; an empty address is read from the environment at run time.

    Attributes:
        base_url: Address of the API.
    """

    base_url: str = ""

    def client(self) -> "Exchange":
        """A client that retries, waits and honours the rate limits."""
        from tidemill.crypto.exchange import Exchange

        return Exchange(base_url=self.base_url or Settings.current().exchange_url)
