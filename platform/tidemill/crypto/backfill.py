"""Fetches the minutes that have not landed from an exchange, and lands them as they come."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.crypto.exchange import Exchange
from tidemill.crypto.intake.landing import Landed, Landing
from tidemill.errors import TidemillError

if TYPE_CHECKING:
    import polars as pl

MINUTE_S = 60
BATCH_ROWS = 50_000
"""Rows landed at once: half a minute's fetching at the exchange's rate limit, at most, is lost."""

Span = tuple[int, int]
"""Epoch seconds: start, and end, which is not included."""


@dataclass(frozen=True)
class Fetched:
    """What a backfill did.

    Attributes:
        rows: Rows fetched.
        landed: What became of them.
        spans: The spans to fetch.
        error: What ended it early; None when all was fetched.
    """

    rows: int
    landed: tuple[Landed, ...]
    spans: tuple[Span, ...]
    error: TidemillError | None = None

    @property
    def good(self) -> int:
        """Rows that went in."""
        return sum(report.good for report in self.landed)


def missing_spans(
    landing: Landing, symbol: str, since_s: int, until_s: int, absent: Iterable[Span] = ()
) -> list[Span]:
    """The parts of a span that no landed file reaches over, oldest first.

    A file or a fetched batch reaches from its first minute to its last; what is missing inside it
    was missing at its source. So a backfill that was stopped goes on where it was.

    Args:
        landing: Has the ledger.
        symbol: Trading pair.
        since_s: Epoch seconds, included.
        until_s: Epoch seconds, not included.
        absent: Spans that are known to have no minutes.
    """
    spans = []
    at = since_s
    for first, end in sorted([*_reached(landing, symbol), *absent]):
        if first > at:
            spans.append((at, min(first, until_s)))
        at = max(at, end)
        if at >= until_s:
            break
    if at < until_s:
        spans.append((at, until_s))
    return [(start, end) for start, end in spans if start < end]


def _reached(landing: Landing, symbol: str) -> list[Span]:
    """From the first minute to the last of each landed file."""
    return [
        (
            int(row["first_at"].replace(tzinfo=UTC).timestamp()),
            int(row["last_at"].replace(tzinfo=UTC).timestamp()) + MINUTE_S,
        )
        for row in landing.ledger(symbol)
        if row["good"] and row["interval_s"] == MINUTE_S
    ]


def landed_until(landing: Landing) -> dict[str, int]:
    """The end of the last minute that has landed, epoch seconds, by symbol that has one."""
    symbols = sorted({row["symbol"] for row in landing.ledger()})
    return {
        symbol: max(end for _, end in reached)
        for symbol in symbols
        if (reached := _reached(landing, symbol))
    }


def backfill(
    landing: Landing,
    exchange: Exchange,
    symbol: str,
    since_s: int,
    until_s: int,
    heard: Callable[[int], None] = lambda rows: None,
) -> Fetched:
    """Fetch and land what is missing of a span; what was fetched before an error stays.

    A gap with a bar behind it is the exchange's own, and not asked for again. An empty answer may
    be an outage: where one ends a span, the next backfill asks again, which is one request.

    Args:
        landing: Takes the rows.
        exchange: Gives them; what its clock calls the future is not asked for, as a bar that is
            still open would land half made, and the first to land stays.
        symbol: Trading pair, as the exchange names it.
        since_s: Epoch seconds, included.
        until_s: Epoch seconds, not included.
        heard: Told the rows of each page.

    Returns:
        What was done, and in ``error`` the refusal or failure of the exchange that ended it.
    """
    until_s = min(until_s, int(exchange.clock()))
    work = _Work(landing, exchange, symbol)
    spans = missing_spans(landing, symbol, since_s, until_s, work.absent())
    error = None
    try:
        for start, end in spans:
            work.fetch(start, end, heard)
    except TidemillError as stopped:
        error = stopped
    return Fetched(work.rows, tuple(work.landed), tuple(spans), error)


@dataclass
class _Work:
    """Takes pages, and lands them a batch at a time."""

    landing: Landing
    exchange: Exchange
    symbol: str
    rows: int = 0
    landed: list[Landed] = field(default_factory=list)
    pages: "list[pl.DataFrame]" = field(default_factory=list)

    def fetch(self, start: int, end: int, heard: Callable[[int], None]) -> None:
        """Fetch a span; whatever ends it early, Ctrl-C too, the pages that came are landed."""
        try:
            for page in self.exchange.klines(self.symbol, start, end):
                self.rows += page.height
                self.pages.append(page)
                heard(page.height)
                if sum(page.height for page in self.pages) >= BATCH_ROWS:
                    self._land(start)
        finally:
            self._land(start)

    def _land(self, since: int) -> None:
        """Land the pages so far, the last of what was asked for from ``since`` on."""
        import polars as pl

        if not self.pages:
            return
        batch, self.pages = pl.concat(self.pages), []
        origin = f"{self.exchange.base_url} {self.symbol} 1m"
        self.landed += self.landing.land_rows(batch, self.symbol, origin, MINUTE_S)
        until = int(batch.item(-1, "timestamp")) + MINUTE_S
        self._note(missing_spans(self.landing, self.symbol, since, until))

    def absent(self) -> list[Span]:
        """The gaps that this exchange is known to have."""
        return [(start, end) for start, end in self._notes().get(self.exchange.base_url, [])]

    def _note(self, gaps: list[Span]) -> None:
        """Keep what an answer reached over and did not have, for the next backfill."""
        if gaps:
            known = {self.exchange.base_url: sorted({*self.absent(), *gaps})}
            whole = self._path.with_suffix(".new")
            whole.write_text(json.dumps(self._notes() | known))
            whole.replace(self._path)

    def _notes(self) -> dict[str, list[list[int]]]:
        found: dict[str, list[list[int]]] = {}
        if self._path.exists():
            found = json.loads(self._path.read_text())
        return found

    @property
    def _path(self) -> Path:
        return self.landing.folder / self.symbol / "absent.json"
