"""Fetches the minutes that have not landed from an exchange, and lands them as they come."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from tidemill.crypto.exchange import Exchange, interval_seconds
from tidemill.crypto.intake.landing import Landed, Landing
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    import polars as pl

MINUTE_S = 60
BATCH_ROWS = 50_000
"""Rows landed at once: half a minute's fetching at the exchange's rate limit, at most, is lost."""


@dataclass(frozen=True)
class Fetched:
    """What a backfill did.

    Attributes:
        rows: Rows fetched.
        landed: What became of them.
        spans: The spans asked for, epoch seconds, the end not included.
    """

    rows: int
    landed: tuple[Landed, ...]
    spans: tuple[tuple[int, int], ...]


def missing_spans(
    landing: Landing, symbol: str, since_s: int, until_s: int
) -> list[tuple[int, int]]:
    """The parts of a span that no landed file reaches over, oldest first.

    A file or a fetched batch reaches from its first minute to its last; what is missing inside it
    was missing at its source. So a backfill that was stopped goes on where it was.

    Args:
        landing: Has the ledger.
        symbol: Trading pair.
        since_s: Epoch seconds, included.
        until_s: Epoch seconds, not included.
    """
    covered = sorted(
        (
            int(row["first_at"].replace(tzinfo=UTC).timestamp()),
            int(row["last_at"].replace(tzinfo=UTC).timestamp()) + MINUTE_S,
        )
        for row in landing.ledger(symbol)
        if row["good"] and row["interval_s"] == MINUTE_S
    )
    spans = []
    at = since_s
    for first, end in covered:
        if first > at:
            spans.append((at, min(first, until_s)))
        at = max(at, end)
        if at >= until_s:
            break
    if at < until_s:
        spans.append((at, until_s))
    return [(start, end) for start, end in spans if start < end]


def backfill(
    landing: Landing,
    exchange: Exchange,
    symbol: str,
    since_s: int,
    until_s: int,
    heard: Callable[[int], None] = lambda rows: None,
) -> Fetched:
    """Fetch and land what is missing of a span; what was fetched before an error stays.

    Args:
        landing: Takes the rows.
        exchange: Gives them.
        symbol: Trading pair, as the exchange names it.
        since_s: Epoch seconds, included.
        until_s: Epoch seconds, not included; the clock's now, so that no open bar is taken.
        heard: Told the rows of each page.

    Raises:
        InputError: The exchange knows no such symbol, or answers nonsense.
        ExchangeError: It did not answer after all tries.
    """
    spans = missing_spans(landing, symbol, since_s, until_s)
    landed: list[Landed] = []
    rows = 0
    for start, end in spans:
        for batch in _batches(exchange, symbol, start, end, heard):
            rows += batch.height
            origin = f"{exchange.base_url} {symbol} 1m"
            landed += landing.land_rows(batch, symbol, origin, interval_seconds("1m"))
    return Fetched(rows, tuple(landed), tuple(spans))


def _batches(
    exchange: Exchange, symbol: str, start: int, end: int, heard: Callable[[int], None]
) -> "Iterator[pl.DataFrame]":
    """Pages joined to batches; the last, short one also when fetching ends in an error."""
    import polars as pl

    pages: list[pl.DataFrame] = []
    try:
        for page in exchange.klines(symbol, start, end):
            heard(page.height)
            pages.append(page)
            if sum(p.height for p in pages) >= BATCH_ROWS:
                yield pl.concat(pages)
                pages = []
    except TidemillError:
        if pages:
            yield pl.concat(pages)
        raise
    if pages:
        yield pl.concat(pages)
