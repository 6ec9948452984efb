"""Opens the parts from the settings, for the command line and for Dagster's resources alike."""

from typing import Any

from tidemill.crypto import contracts, live
from tidemill.crypto import topics as crypto_topics
from tidemill.crypto.build import Crypto
from tidemill.crypto.forecasting import contracts as forecasting
from tidemill.crypto.intake.landing import Landing
from tidemill.engines.base import Engine, named
from tidemill.events import contracts as event_tables
from tidemill.events import live as live_events
from tidemill.events import topics as event_topics
from tidemill.events.intake.landing import EventLanding
from tidemill.events.reports import contracts as event_reports
from tidemill.events.reports.build import Events
from tidemill.kafka.broker import Broker
from tidemill.kafka.subscription import Subscription
from tidemill.lake.store import Lake
from tidemill.settings import Settings
from tidemill.skill.contracts import LEDGER

TABLES = (
    *contracts.TABLES,
    *forecasting.TABLES,
    LEDGER,
    *event_tables.TABLES,
    *event_reports.TABLES,
)

TOPICS = (*crypto_topics.TOPICS, *event_topics.TOPICS)


def lake(settings: Settings) -> Lake:
    """The lake with every table that there is, and its catalogue."""
    return Lake(settings.lake, settings.catalogue, TABLES)


def engine(settings: Settings) -> Engine:
    """The engine that the settings name."""
    return named(settings.engine, settings.memory_limit_mb, settings.spark_master)


def crypto(settings: Settings) -> Crypto:
    """The crypto tables over the settings' lake, engine and landing folder."""
    opened = lake(settings)
    landing = Landing(opened, settings.landing / "crypto", settings.memory_limit_mb)
    return Crypto(opened, engine(settings), landing, settings.home / "reports" / "crypto")


def event_landing(settings: Settings) -> EventLanding:
    """Takes clickstream files over the settings' lake and landing folder."""
    return EventLanding(lake(settings), settings.landing / "events", settings.memory_limit_mb)


def events(settings: Settings) -> Events:
    """The reports of events over the settings' lake and engine."""
    return Events(lake(settings), engine(settings), settings.home / "reports" / "events")


def broker(settings: Settings) -> Broker:
    """The embedded broker of the home."""
    return Broker(settings.home / "kafka", settings.kafka_port)


def kafka(settings: Settings) -> dict[str, Any]:
    """How clients connect to the broker that is used, in librdkafka's names."""
    servers = settings.kafka_servers or broker(settings).servers
    return {"bootstrap.servers": servers, **settings.kafka_options}


def live_prices(settings: Settings) -> Subscription:
    """The topic of live prices, and the tables that it fills."""
    opened = crypto(settings)
    return Subscription(
        opened.lake,
        live.feed(settings.max_symbols),
        kafka(settings),
        settings.memory_limit_mb,
        opened.symbols,
    )


def clicks(settings: Settings) -> Subscription:
    """The topic of events, and the tables that it fills."""
    return Subscription(lake(settings), live_events.FEED, kafka(settings), settings.memory_limit_mb)


SUBSCRIPTIONS = {
    crypto_topics.PRICES.name: live_prices,
    event_topics.EVENTS.name: clicks,
}
"""What reads each topic."""
