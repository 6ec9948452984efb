"""``tidemill ingest`` and ``tidemill backfill``: rows come in, and each is accounted for."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tidemill import compose
from tidemill.commands import run, show, up
from tidemill.crypto.backfill import Fetched, landed_until
from tidemill.crypto.backfill import backfill as fetch
from tidemill.crypto.exchange import Exchange
from tidemill.crypto.intake.accounts import COUNTS
from tidemill.crypto.intake.files import symbol_from
from tidemill.crypto.intake.landing import Landed, Landing
from tidemill.errors import InputError, TidemillError
from tidemill.settings import Settings


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
        if landed and up.process(settings) is not None:
            show.out.print("The sensors of tidemill up make the tables from here.", style="dim")
        elif landed:
            show.out.print("Next: tidemill run crypto", style="dim")
    for message in refused:
        show.marked(show.err, "Refused:", message, "red")
    return refused


def backfill(
    settings: Settings,
    symbols: Sequence[str],
    since: datetime | None,
    until: datetime,
    as_json: bool,
) -> dict[str, Any]:
    """Fetch what has not landed, then make the months that it touches; returns ``run``'s report.

    Args:
        settings: Home and exchange.
        symbols: Trading pairs.
        since: First minute; None means after each symbol's last one that has landed.
        until: End, not included.
        as_json: Report as JSON.

    Raises:
        InputError: Without ``since``, no minute of a symbol has landed, or it is not before
            ``until``; nothing was fetched.
        TidemillError: Symbols could not be fetched to the end; what came of them, and the other
            symbols, is kept and made.
    """
    if since is not None and since >= until:
        raise InputError(
            f"expected --since to be before --until, found {since:%Y-%m-%d %H:%M} and "
            f"{until:%Y-%m-%d %H:%M} UTC: there is nothing between them to fetch"
        )
    crypto = compose.crypto(settings)
    exchange = Exchange(base_url=settings.exchange_url)
    starts = _starts(crypto.landing, [symbol_from(name) for name in symbols], since)
    end = int(until.timestamp())
    done = {
        symbol: _fetched(crypto.landing, exchange, symbol, start, end)
        for symbol, start in starts.items()
    }
    reports = [
        {
            "symbol": symbol,
            "fetched": fetched.rows,
            "good": fetched.good,
            "error": str(fetched.error) if fetched.error else None,
        }
        for symbol, fetched in done.items()
    ]
    made = run.run_pending(settings, list(starts))
    if as_json:
        show.as_json({"backfilled": reports, "made": made})
    else:
        for report in reports:
            told = f"{report['fetched']:,} minutes fetched, {report['good']:,} new"
            ending = ", then it failed" if report["error"] else ""
            show.out.print(f"{report['symbol']}: {told}{ending}")
        if made["symbols"]:
            run.print_report(made)
    failed = [f"{symbol}: {fetched.error}" for symbol, fetched in done.items() if fetched.error]
    if failed:
        raise TidemillError("\n".join(failed))
    return made


def _starts(landing: Landing, symbols: Sequence[str], since: datetime | None) -> dict[str, int]:
    """Where each symbol's fetching starts, epoch seconds."""
    if since is not None:
        return dict.fromkeys(symbols, int(since.timestamp()))
    ends = landed_until(landing)
    if new := sorted(set(symbols) - set(ends)):
        raise InputError(
            f"no minute of {', '.join(new)} has landed, so there is none to go on from; "
            "say where to start with --since, for example --since 2026-01-01"
        )
    return {symbol: ends[symbol] for symbol in symbols}


def _fetched(
    landing: Landing, exchange: Exchange, symbol: str, since_s: int, until_s: int
) -> Fetched:
    """Fetch one symbol, telling how far it is."""
    rows = 0
    with show.err.status(f"{symbol}: fetching") as line:

        def heard(more: int) -> None:
            nonlocal rows
            rows += more
            line.update(f"{symbol}: {rows:,} minutes fetched")

        return fetch(landing, exchange, symbol, since_s, until_s, heard)


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
        notes = list(report.notes)
        if report.empty_prices:
            notes.append(
                f"{report.empty_prices:,} of the good rows lack a price; crypto.raw_candles fills "
                "it from the last one before, marked is_filled"
            )
        for note in notes:
            show.out.print(f"  {report.file}: {note}", highlight=False)
    if any(report.rejected for report in landed):
        show.out.print(
            '  Rejected rows: tidemill sql "select file, line, reason, raw '
            'from crypto.rejected_rows order by rejected_at desc limit 20"'
        )


def _minute(seconds: int | None) -> str:
    from datetime import UTC

    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
