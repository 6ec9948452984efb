"""The command line of the embedded Kafka broker."""

from typing import Annotated

import typer

from tidemill.settings import Settings

app = typer.Typer(help="The embedded Kafka broker: start, stop, status, topics.")
Json = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


@app.command("start")
def broker_start() -> None:
    """Start it, fetched the first time, and create the topics; it runs on by itself."""
    from tidemill.commands import broker

    broker.start(Settings.current())


@app.command("stop")
def broker_stop() -> None:
    """Stop it; what it holds stays."""
    from tidemill.commands import broker

    broker.stop(Settings.current())


@app.command("status")
def broker_status(json: Json = False) -> None:
    """Which broker is used, and whether the embedded one runs."""
    from tidemill.commands import broker, show

    found = broker.status(Settings.current())
    if json:
        show.as_json(found)
    else:
        show.table(list(found), [list(found.values())])


@app.command("topics")
def broker_topics(json: Json = False) -> None:
    """The partitions and messages of each topic."""
    from tidemill.commands import broker, show

    found = broker.listed(Settings.current())
    if json:
        show.as_json(found)
    else:
        names = ("topic", "partitions", "messages", "next_offsets", "meaning")
        show.table(names, [[topic[name] for name in names] for topic in found])
