"""``tidemill sql``: one SELECT, shown or saved."""

import csv
import sys
from pathlib import Path

from tidemill import compose, query
from tidemill.commands import show
from tidemill.errors import InputError
from tidemill.lake.store import utc
from tidemill.settings import Settings


def sql(settings: Settings, text: str, as_of: str | None, form: str, output: Path | None) -> None:
    """Print a query's rows as ``form``, or write them to ``output``.

    Raises:
        InputError: There is no such form, or it needs a file.
    """
    if form not in query.FORMATS:
        raise InputError(f"--format {form}: expected one of {', '.join(query.FORMATS)}")
    lake = compose.lake(settings)
    at = utc(as_of) if as_of else None
    if output is not None:
        kind = output.suffix.removeprefix(".") if form == "table" else form
        if kind not in query.FORMATS[1:]:
            raise InputError(f"{output}: say csv, json or parquet with --format or the suffix")
        rows = query.save(lake, text, output, kind, at)
        show.err.print(f"{rows:,} rows to {output}")
        return
    if form == "parquet":
        raise InputError("--format parquet needs --output FILE")
    answer = query.ask(lake, text, at)
    if form == "json":
        show.as_json([dict(zip(answer.names, row, strict=True)) for row in answer.rows])
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.names)
        writer.writerows(map(show.as_text, row) for row in answer.rows)
    else:
        show.table(answer.names, answer.rows, is_grouped=False)
        show.err.print(f"{len(answer.rows):,} rows", style="dim")
