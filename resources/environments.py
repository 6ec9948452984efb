"""The environments by name, and the resources of each."""

import os
from collections.abc import Mapping

import dagster as dg

from resources.exchange import ExchangeResource
from resources.home import (
    ClicksResource,
    CryptoResource,
    EventsResource,
    PricesResource,
    ShopFilesResource,
)

NAMES = ("local", "cluster")


def current() -> str:
    """The environment named by ``TIDEMILL_ENV``, ``local`` when unset.

    Raises:
        ValueError: It names no known environment.
    """
    name = os.environ.get("TIDEMILL_ENV", "local")
    if name not in NAMES:
        raise ValueError(f"TIDEMILL_ENV is {name!r}, not one of {', '.join(NAMES)}")
    return name


def named(environment: str) -> Mapping[str, object]:
    """The resources of ``environment``, unopened; values come in when a run starts."""
    if environment == "cluster":
        return {
            "clicks": ClicksResource(home=dg.EnvVar("TIDEMILL_HOME")),
            "crypto": CryptoResource(home=dg.EnvVar("TIDEMILL_HOME"), engine="spark"),
            "events": EventsResource(home=dg.EnvVar("TIDEMILL_HOME"), engine="spark"),
            "exchange": ExchangeResource(),
            "prices": PricesResource(home=dg.EnvVar("TIDEMILL_HOME")),
            "shop_files": ShopFilesResource(home=dg.EnvVar("TIDEMILL_HOME")),
        }
    return {
        "clicks": ClicksResource(),
        "crypto": CryptoResource(),
        "events": EventsResource(),
        "exchange": ExchangeResource(),
        "prices": PricesResource(),
        "shop_files": ShopFilesResource(),
    }
