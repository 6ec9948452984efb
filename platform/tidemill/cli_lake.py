"""The command line of a table's versions."""

from typing import Annotated

import typer

from tidemill.settings import Settings

app = typer.Typer(help="Versions of a table: history, rollback, compact, vacuum.")
Json = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
Table = Annotated[str, typer.Argument(help="domain.table")]


@app.command()
def history(table: Table, json: Json = False) -> None:
    """The commits of a table, newest first."""
    from tidemill.commands import tables

    tables.history(Settings.current(), table, json)


@app.command()
def rollback(
    table: Table, to: Annotated[str, typer.Argument(help="Version or time (UTC).")]
) -> None:
    """Make a table what it was; the versions since stay in its history."""
    from tidemill.commands import tables

    tables.rollback(Settings.current(), table, to)


@app.command()
def compact(
    table: Table,
    z_order: Annotated[str, typer.Option(help="Columns to order rows by, comma-separated.")] = "",
) -> None:
    """Join a table's small files, partition by partition."""
    from tidemill.commands import tables

    tables.compact(Settings.current(), table, [name for name in z_order.split(",") if name])


@app.command()
def vacuum(
    table: Table,
    retain_hours: Annotated[int, typer.Option(help="Keep versions younger than this.")] = 168,
) -> None:
    """Delete files that no kept version and no reader needs."""
    from tidemill.commands import tables

    tables.vacuum(Settings.current(), table, retain_hours)
