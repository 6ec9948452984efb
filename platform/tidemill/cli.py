"""The command line: names and arguments of the verbs; what they do is in ``commands``."""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill import cli_broker, cli_erase, cli_lake
from tidemill.errors import InputError, TidemillError
from tidemill.settings import Settings

app = typer.Typer(
    help="Tidemill: a stream and a pile of files, turned into tables that can be trusted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(cli_lake.app, name="lake", no_args_is_help=True)
app.add_typer(cli_broker.app, name="broker", no_args_is_help=True)
app.command()(cli_erase.erase)

DOMAINS = ("crypto", "events")
Domain = Annotated[str, typer.Argument(help="Domain: crypto or events.")]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
Symbol = Annotated[list[str] | None, typer.Option("--symbol", help="Trading pair; repeatable.")]
Engine = Annotated[str | None, typer.Option("--engine", help="duckdb or spark.")]


def main() -> None:
    """Run the command line; a refusal is one message and exit code 2.

    A request to end is what Ctrl-C is, so that what was started is ended, too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except TidemillError as error:
        sys.stderr.write(f"tidemill: {error}\n")
        sys.exit(2)


def _settings(engine: str | None = None) -> Settings:
    settings = Settings.current()
    return replace(settings, engine=engine) if engine else settings


def _known(domain: str, known: Sequence[str] = DOMAINS) -> None:
    """Refuse a domain that there is not, or that has no such verb.

    Raises:
        InputError: It is none of those known.
    """
    if domain in DOMAINS and domain not in known:
        raise InputError(f"this is not for {domain}; it is for {', '.join(known)}")
    if domain not in known:
        raise InputError(f"there is no domain {domain!r}; there are {', '.join(known)}")


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the Dagster UI.")] = 3000,
    sample: Annotated[bool, typer.Option(help="Make sample data on the first start.")] = True,
) -> None:
    """Start the Dagster UI and daemon; sample data on the first start; Ctrl-C stops all of it."""
    from tidemill.commands import up as command

    command.up(_settings(), port, sample)


@app.command()
def run(
    selection: Annotated[
        str, typer.Argument(help="A domain, or one table of it: crypto, events, crypto.TABLE")
    ] = "crypto",
    symbol: Symbol = None,
    engine: Engine = None,
    forecasts: Annotated[bool, typer.Option(help="Forecast too, a minute a long series.")] = True,
    json: Json = False,
) -> None:
    """Materialize assets in this process, with a progress bar."""
    from tidemill.commands import run as command
    from tidemill.commands import run_events, show
    from tidemill.crypto.intake.files import symbol_from

    domain, _, table = selection.replace("/", ".").partition(".")
    _known(domain)
    settings, print_report = _settings(engine), command.print_report
    if domain == "events":
        _not_for("run events", {"--symbol": symbol})
        report = run_events.run_events(settings, table or None)
        print_report = run_events.print_report
    else:
        wanted = [symbol_from(text) for text in symbol or []]
        report = command.run(settings, wanted, table or None, forecasts)
    (show.as_json if json else print_report)(report)
    if report["failed_checks"] or report["errors"]:
        raise typer.Exit(1)


@app.command()
def ingest(
    domain: Domain,
    files: Annotated[list[Path], typer.Argument(help="CSV, JSON, gz or zip.")],
    symbol: Annotated[str | None, typer.Option(help="Trading pair of the files.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Names of all columns, for files without a header.")
    ] = None,
    json: Json = False,
) -> None:
    """Check files, normalise their names and land them; reports rows taken, rejected, duplicate."""
    from tidemill.commands import ingest as command
    from tidemill.commands import ingest_events

    _known(domain)
    if domain == "events":
        _not_for("ingest events", {"--symbol": symbol, "--columns": columns})
        refused = ingest_events.ingest(_settings(), files, json)
    else:
        refused = command.ingest(_settings(), files, symbol, columns, json)
    if refused:
        raise typer.Exit(2)


@app.command()
def backfill(
    domain: Annotated[str, typer.Argument(help="Domain: crypto.")],
    symbol: Annotated[list[str], typer.Option(help="Trading pair; repeatable.")],
    since: Annotated[
        datetime | None, typer.Option(help="First minute, UTC; default after the last landed one.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="End, UTC; default now.")] = None,
    json: Json = False,
) -> None:
    """Fetch minutes that have not landed from the exchange, then make what they touch again."""
    from tidemill.commands import ingest as command

    _known(domain, ("crypto",))
    start = since.replace(tzinfo=UTC) if since else None
    end = (until or datetime.now(UTC)).replace(tzinfo=UTC)
    made = command.backfill(_settings(), symbol, start, end, json)
    if made["failed_checks"] or made["errors"]:
        raise typer.Exit(1)


@app.command()
def produce(
    domain: Annotated[str, typer.Argument(help="Domain: crypto or events.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Candles or events to replay, any files that ingest takes."),
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Replay by its own times at 1x, 60x, ... or max.")
    ] = None,
    symbol: Symbol = None,
    since: Annotated[datetime | None, typer.Option(help="First minute to replay, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="End of the replay, UTC.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Messages at most.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="Messages a second, or max; events: 100 by default.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Events: event_type or user_id.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    restamp: Annotated[
        bool, typer.Option("--restamp", help="Events: move a file's times to now.")
    ] = False,
    faults: Annotated[
        str | None,
        typer.Option(help="Simulated events: late=0.01,duplicates=0.005,broken=0.001, say."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this replay was.")] = False,
    json: Json = False,
) -> None:
    """Send to Kafka: prices of the exchange or a replay; simulated events or files of them."""
    from tidemill.commands import produce as prices
    from tidemill.commands import produce_events as events
    from tidemill.events.topics import EVENTS
    from tidemill.kafka.pace import rate_of

    if domain == "events":
        _not_for(f"produce {domain}", {"--symbol": symbol, "--since": since, "--until": until})
        paths, by = tuple(files or ()), key or "event_type"
        told = events.Order(paths, rate, speed, by, limit, loop, resume, restamp, faults)
        report, error = events.produce(_settings(), told, EVENTS)
        print_report = events.print_report
    else:
        _known(domain)
        _not_for(f"produce {domain}", {"--key": key, "--restamp": restamp, "--faults": faults})
        if files and len(files) > 1:
            raise InputError(f"produce {domain} replays one file at a time, found {len(files)}")
        start, end = (at.replace(tzinfo=UTC) if at else None for at in (since, until))
        file, pairs, most = files[0] if files else None, symbol or (), rate_of(rate or "max")
        order = prices.Order(file, speed, tuple(pairs), start, end, limit, most, loop, resume)
        report, error = prices.produce(_settings(), order)
        print_report = prices.print_report
    _told(report, error, None if json else print_report)


def _told(
    report: dict[str, Any],
    error: TidemillError | None,
    print_report: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Say what was sent, as JSON where nothing prints it; exit with 1 where some was not."""
    from tidemill.commands import show

    (print_report or show.as_json)(report)
    if error is not None:
        sys.stderr.write(f"tidemill: {error}\n")
    if error is not None or report["failed"]:
        raise typer.Exit(1)


def _not_for(verb: str, options: Mapping[str, object]) -> None:
    """Refuse what was told of options that another domain has.

    Raises:
        InputError: There is some.
    """
    if told := [name for name, value in options.items() if value]:
        raise InputError(f"{verb} has no {', '.join(told)}")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    as_of: Annotated[
        str | None, typer.Option(help="Show tables at a version or a time (UTC).")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
    json: Json = False,
) -> None:
    """Query every table, read-only."""
    from tidemill.commands import sql as command

    command.sql(_settings(), query, as_of, "json" if json else form, output)


@app.command()
def forecast(
    symbol: Annotated[str, typer.Option(help="Trading pair.")],
    days: Annotated[int, typer.Option(help="Days after the last.", min=1, max=365)] = 30,
    as_of: Annotated[
        int | None, typer.Option(help="Version of crypto.prophet_input to learn from.")
    ] = None,
    json: Json = False,
) -> None:
    """What the champion of a symbol says of the days to come, with how good it was."""
    from tidemill.commands import forecast as command
    from tidemill.crypto.intake.files import symbol_from

    command.forecast(_settings(), symbol_from(symbol), days, as_of, json)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port on 127.0.0.1.")] = 8000,
) -> None:
    """Answer requests for predictions and their skill as JSON, read-only; Ctrl-C stops it."""
    from tidemill.commands import serve as command

    command.serve(_settings(), port)


@app.command()
def status(json: Json = False) -> None:
    """Show tables, symbols, what waits to be made, and checks that do not hold."""
    from tidemill.commands import show
    from tidemill.commands import status as command

    report = command.status(_settings())
    if json:
        show.as_json(report)
    else:
        command.print_report(report)
    if report["failed_checks"]:
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="candles, speed, forecast or events.")] = "candles",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows of the two CSV files together (8,000,000), messages or events (1,000,000) "
            "or days (5,000).",
        ),
    ] = None,
    dagster: Annotated[bool, typer.Option(help="Also time what Dagster adds.")] = False,
    json: Json = False,
) -> None:
    """Time each stage beside the bare engine doing the same work in the same run."""
    from tidemill.commands import bench as command

    command.bench(name, rows, dagster, json)


@app.command()
def reset(
    domain: Domain,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Clear a domain's tables, charts and landed files, asking first; the inbox stays."""
    from tidemill.commands import reset as command

    _known(domain)
    settings = _settings()
    command.refuse_while_up(settings)
    if not yes:
        typer.confirm(
            f"This deletes every {domain} table in {settings.lake}, its charts in "
            f"{settings.home / 'reports' / domain} and every landed file in "
            f"{settings.landing / domain}; the folders inbox and refused in it stay. Go on?",
            abort=True,
        )
    command.reset(settings, domain)


@app.command()
def doctor(json: Json = False) -> None:
    """Check Python, Java, ports, disk and versions, with the fix for each."""
    from tidemill.commands import doctor as command
    from tidemill.commands import show

    found = command.examine(_settings())
    if json:
        show.as_json([asdict(f) for f in found])
    else:
        command.print_report(found)
    if any(f.is_broken for f in found):
        raise typer.Exit(1)


@app.command()
def stream(
    domain: Domain,
    engine: Engine = None,
    once: Annotated[bool, typer.Option("--once", help="End when all was taken.")] = False,
) -> None:
    """Take live messages into the lake continuously, without Dagster; Ctrl-C ends it."""
    from tidemill.commands import stream as command

    _known(domain)
    command.stream(_settings(engine), domain, once)


@app.command("replay-dead-letters")
def replay_dead_letters(
    topic: Annotated[str | None, typer.Argument(help="Topic; all by default.")] = None,
    json: Json = False,
) -> None:
    """Send again the messages that could not be used and that today's rules take."""
    from tidemill.commands import dead_letters, show

    report = dead_letters.replay(_settings(), topic)
    if json:
        show.as_json(report)
    else:
        dead_letters.print_report(report)


@app.command("accept-loss")
def accept_loss(
    topic: Annotated[str, typer.Argument(help="Topic.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Give up messages that retention deleted before they were read, and go on behind them."""
    from tidemill.commands import dead_letters, show

    settings = _settings()
    gone = dead_letters.lost(settings, topic)
    if gone and not yes:
        told = "; ".join(f"partition {s.partition}, {s.start} to {s.stop - 1}" for s in gone)
        typer.confirm(f"These offsets of {topic} are lost: {told}. Go on without?", abort=True)
    found = dead_letters.accept_loss(settings, topic) if gone else []
    if json:
        show.as_json(found)
    elif found:
        show.table(list(found[0]), [list(row.values()) for row in found])
    else:
        show.out.print(f"{topic}: no offset was lost")
