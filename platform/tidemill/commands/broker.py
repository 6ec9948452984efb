"""``tidemill broker``: the embedded broker, and the topics of whichever broker is used."""

from typing import Any

from tidemill import compose
from tidemill.commands import show
from tidemill.errors import InputError, TidemillError
from tidemill.kafka import topics
from tidemill.kafka.broker import Broker
from tidemill.processes import is_free
from tidemill.settings import Settings


def start(settings: Settings) -> None:
    """Start the embedded broker, fetching Kafka the first time, and create the topics.

    Raises:
        TidemillError: Another broker is set, or this one cannot start.
    """
    created = ensure(settings)
    broker = compose.broker(settings)
    running = broker.status()
    show.out.print(f"Kafka runs at {broker.servers} (process {running.pid if running else '?'})")
    if created:
        show.out.print(f"Topics created: {', '.join(created)}")
    show.out.print("It runs on until 'tidemill broker stop'.")


def ensure(settings: Settings) -> list[str]:
    """See that the embedded broker runs and that the topics are there; says which it created.

    Raises:
        TidemillError: Another broker is set, or this one cannot start.
    """
    broker = _embedded(settings)
    if broker.status() is None:
        with show.err.status("Starting Kafka (the first time it is fetched, about a minute)"):
            broker.start()
    return topics.ensure({"log_level": 0, **compose.kafka(settings)}, compose.TOPICS)


def require(settings: Settings) -> None:
    """See that something listens where the embedded broker does; another is let be.

    Raises:
        TidemillError: Nothing does, which clients would try again and again.
    """
    if not settings.kafka_servers and is_free(settings.kafka_port):
        raise TidemillError(
            f"no Kafka broker runs at port {settings.kafka_port}: 'tidemill broker start' starts "
            "it, and so does 'tidemill up'"
        )


def stop(settings: Settings) -> None:
    """Stop the embedded broker; what it holds stays."""
    ended = _embedded(settings).stop()
    show.out.print("Kafka stopped." if ended else "Kafka does not run.")


def status(settings: Settings) -> dict[str, Any]:
    """Which broker is used, and whether the embedded one runs."""
    if settings.kafka_servers:
        return {"servers": settings.kafka_servers, "embedded": False, "pid": None}
    broker = compose.broker(settings)
    running = broker.status()
    return {"servers": broker.servers, "embedded": True, "pid": running.pid if running else None}


def listed(settings: Settings) -> list[dict[str, Any]]:
    """The partitions and messages of each topic that is there.

    Raises:
        TidemillError: No broker answers.
    """
    config = compose.kafka(settings)
    meanings = {topic.name: topic.meaning for topic in compose.TOPICS}
    found = []
    for name, partitions in sorted(topics.described(config).items()):
        ends = topics.offsets(config, name, partitions)
        kept = sum(after - first for first, after in ends)
        found.append(
            {
                "topic": name,
                "partitions": partitions,
                "messages": kept,
                "next_offsets": [after for _, after in ends],
                "meaning": meanings.get(name, ""),
            }
        )
    return found


def _embedded(settings: Settings) -> Broker:
    if settings.kafka_servers:
        raise InputError(
            f"TIDEMILL_KAFKA_SERVERS is set, so the broker at {settings.kafka_servers} is used; "
            "unset it for the embedded one"
        )
    return compose.broker(settings)
