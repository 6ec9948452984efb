"""``tidemill ingest`` and ``tidemill backfill``: rows come in, and each is accounted for."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill import compose
from tidemill.commands import run, show
from tidemill.crypto.backfill import backfill as fetch
from tidemill.crypto.exchange import Exchange
from tidemill.crypto.intake.files import symbol_from
from tidemill.crypto.intake.landing import Landed
from tidemill.errors import InputError, TidemillError
from tidemill.settings import Settings

COUNTS = ("rows", "good", "exact_duplicates", "conflicting_duplicates", "rejected")


def ingest(
    settings: Settings,
    paths: Sequence[Path],
    symbol: str | None,
    columns: str | None,
    as_json: bool,
) -> list[str]:
    """Land files, each whole or not at all; returns the refusals."""
    landing = compose.crypto(settings).landing
    names = [name.strip() for name in columns.split(",")] if columns else None
    landed: list[Landed] = []
    refused: list[str] = []
    for path in paths:
        try:
            landed += landing.land_file(path, symbol, names)
        except InputError as error:
            refused.append(str(error))
    if as_json:
        show.as_json({"landed": [asdict(report) for report in landed], "refused": refused})
    else:
        _print(landed)
        if landed:
            show.out.print("[dim]Next: tidemill run crypto   (or let the UI's sensor do it)")
    for message in refused:
        show.err.print(f"[red]Refused:[/red] {message}", markup=True, soft_wrap=True)
    return refused


def backfill(
    settings: Settings, symbols: Sequence[str], since: datetime, until: datetime, as_json: bool
) -> None:
    """Fetch what has not landed, then make the months that it touches.

    Raises:
        TidemillError: A symbol could not be fetched to the end; what came before it is kept.
    """
    crypto = compose.crypto(settings)
    exchange = Exchange(base_url=settings.exchange_url)
    reports: list[dict[str, Any]] = []
    failed: TidemillError | None = None
    for name in symbols:
        symbol = symbol_from(name)
        with show.err.status(f"{symbol}: fetching") as line:
            counted = [0]

            def heard(rows: int, symbol: str = symbol, n: list[int] = counted) -> None:
                n[0] += rows
                line.update(f"{symbol}: {n[0]:,} minutes fetched")

            try:
                done = fetch(
                    crypto.landing,
                    exchange,
                    symbol,
                    int(since.timestamp()),
                    int(until.timestamp()),
                    heard,
                )
            except TidemillError as error:
                failed = error
                break
        good = sum(report.good for report in done.landed)
        reports.append({"symbol": symbol, "fetched": done.rows, "good": good})
    made = run.run_pending(settings)
    if as_json:
        show.as_json({"backfilled": reports, "made": made})
    else:
        for report in reports:
            show.out.print(
                f"{report['symbol']}: {report['fetched']:,} minutes fetched, {report['good']:,} new"
            )
        run.print_report(made, settings)
    if failed is not None:
        raise failed


def _print(landed: Sequence[Landed]) -> None:
    if not landed:
        return
    show.table(
        [
            "file",
            "symbol",
            "rows",
            "good",
            "exact dup.",
            "conflicting dup.",
            "rejected",
            "from",
            "to",
        ],
        [
            [
                report.file,
                report.symbol,
                *[getattr(report, name) for name in COUNTS],
                _minute(report.first_s),
                _minute(report.last_s),
            ]
            for report in landed
        ],
    )
    for report in landed:
        for note in report.notes:
            show.out.print(f"  {report.file}: {note}", highlight=False)
    if any(report.rejected for report in landed):
        show.out.print(
            '  Rejected rows: tidemill sql "select file, line, reason, raw '
            'from crypto.rejected_rows order by rejected_at desc limit 20"'
        )


def _minute(seconds: int | None) -> str:
    from datetime import UTC

    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
