"""``tidemill ingest events``: clickstream files come in, and each row is accounted for."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from tidemill import compose
from tidemill.commands import show
from tidemill.errors import InputError
from tidemill.events.intake.accounts import COUNTS, Landed
from tidemill.settings import Settings


def ingest(settings: Settings, paths: Sequence[Path], as_json: bool) -> list[str]:
    """Land files, each whole or not at all; returns the refusals."""
    landing = compose.event_landing(settings)
    landed: list[Landed] = []
    refused: list[str] = []
    for path in paths:
        try:
            landed.append(landing.land_file(path))
        except InputError as error:
            refused.append(str(error))
    if as_json:
        show.as_json({"landed": [asdict(report) for report in landed], "refused": refused})
    elif landed:
        _print(landed)
        show.out.print("Next: tidemill run events", style="dim")
    for message in refused:
        show.marked(show.err, "Refused:", message, "red")
    return refused


def _print(landed: Sequence[Landed]) -> None:
    show.table(
        ["file", *COUNTS, "from", "to"],
        [
            [
                report.file,
                *[getattr(report, name) for name in COUNTS],
                _second(report.first_at),
                _second(report.last_at),
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
            'from events.rejected_rows order by rejected_at desc limit 20"'
        )


def _second(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
