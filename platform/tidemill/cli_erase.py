"""The command line of erasure."""

from typing import Annotated

import typer

from tidemill.errors import InputError
from tidemill.settings import Settings


def erase(
    domain: Annotated[str, typer.Argument(help="Domain: events.")],
    user: Annotated[str, typer.Option("--user", help="Whose data, by user_id.")],
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Delete older versions of these tables at once too, so that the id is in no file "
            "and they cannot be read any more. Waits up to a minute for Tidemill's own readers and "
            "writers; another program with the old catalogue open fails and has to open it again.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Erase one user's data, with a receipt in events.erasures.

    The user's rows stay, without user and session, so that offsets, counts and revenue add up; what
    depends on users is made again. It may run while messages are consumed: those that come later
    are not touched, and Kafka's own copy ends with the topic's retention.
    """
    from tidemill.commands import erase as command

    if domain != "events":
        raise InputError(f"there is no domain {domain!r} with users; there is: events")
    command.erase(Settings.current(), user, vacuum, json)
