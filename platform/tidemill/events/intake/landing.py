"""Landing: each row of a clickstream file becomes good, a duplicate or rejected, once.

Good rows go to ``events.file_events``, rejected ones to ``events.rejected_rows``, and the counts to
``events.landed_files``, last. What a landing left that was killed before that is taken out by the
next one. A file that landed before is known by its content.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tidemill.errors import InputError, TidemillError
from tidemill.events.contracts import FILE_EVENTS, LANDED_FILES, REJECTED_ROWS
from tidemill.events.intake import rows
from tidemill.events.intake.accounts import Landed, counted, nothing_good
from tidemill.events.intake.layout import TAKEN, layout
from tidemill.intake import source as sources
from tidemill.lake import duck, files, lease, stream
from tidemill.lake.contracts import Table, polars_schema, text_literal
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb

__all__ = ["EventLanding", "Landed"]

UNFINISHED = ".unfinished"
"""In the landing folder: which file a landing under way is about to write."""

LOCK = ".lock"
FLUSH_ROWS = 65_536
"""Rows of a day that are held before they are written; DuckDB's default takes twice as long."""

ID_LETTERS = 16
"""Of the hash; two of a billion files would share them once in 37 such lots."""


class EventLanding:
    """Takes clickstream files into the lake.

    Args:
        lake: Where the tables are.
        folder: The landing folder of this domain; it holds the inbox and the lock.
        memory_limit_mb: What parsing may hold before it spills, MiB.
    """

    def __init__(self, lake: Lake, folder: Path, memory_limit_mb: int = 1024) -> None:
        """Nothing is made before the first file."""
        self.lake = lake
        self.folder = folder
        self.memory_limit_mb = memory_limit_mb

    def land_file(self, path: Path, source: str = "files") -> Landed:
        """Take one file.

        Args:
            path: CSV, gzip or one-member zip.
            source: ``files``, or ``sample`` for simulated events; they are never added together.

        Raises:
            InputError: The file cannot be used; nothing of it was taken.
        """
        if source not in (allowed := FILE_EVENTS.column("source").allowed):
            raise InputError(f"source: expected {' or '.join(allowed)}, found {source!r}")
        with sources.plain(path, TAKEN) as text, self._parsing() as con:
            with ThreadPoolExecutor() as aside:
                digest = aside.submit(_digest, text.path)
                found = layout(text.path, str(path))
                file_id = digest.result()
            if known := self._known(path.name, file_id):
                return known
            line = rows.parse(con, text, found)
            rows.find_repeats(con)
            report = counted(con, path.name, file_id)
            if not report.good:
                raise InputError(nothing_good(con, str(path), line))
            with self.held():
                # Another process may have taken the same file meanwhile.
                if known := self._known(path.name, file_id):
                    return known
                self._find_known(con, source)
                return self._land(con, counted(con, path.name, file_id), source, line)

    def _find_known(self, con: "duckdb.DuckDBPyConnection", source: str) -> None:
        """Add the rows of ``parsed`` that landed in other files of a source to ``repeats``."""
        found = con.execute(
            "select distinct make_timestamp(event_ms * 1000)::date::varchar from parsed "
            "where reason is null"
        ).fetchall()
        days = {day for (day,) in found}
        now = self.lake.snapshot(FILE_EVENTS)
        there = now.only(lambda file: file.partition["date"] in days)
        with lease.reading(self.lake.root, [(FILE_EVENTS, now.version)]):
            mine = f"where source = {text_literal(source)}"
            rows.find_known(con, f"(from {there.scan()} {mine})")

    def told(self, path: Path) -> str:
        """``land_file``, and a line that says what became of it."""
        report = self.land_file(path)
        counts = f"{report.good} good, {report.duplicates} duplicates, {report.rejected} rejected"
        return "; ".join([f"{report.file}: {report.rows} rows, {counts}", *report.notes])

    def ledger(self) -> list[dict[str, Any]]:
        """The rows of ``landed_files``, in order of landing."""
        return _rows(f"select * from {self._scan(LANDED_FILES)} order by landed_at, file_id")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing lands while the block runs; what a killed landing left is taken out first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):
            self._undo_unfinished()
            yield

    @contextmanager
    def _parsing(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        from tidemill.engines.duck import connection, shortage_told

        limit_mb = self.memory_limit_mb
        with shortage_told(limit_mb, str(self.folder)), connection(limit_mb) as con:
            # The number of a row is its line, and of equal rows the first stays.
            con.execute("set preserve_insertion_order = true")
            con.execute(f"set partitioned_write_flush_threshold = {FLUSH_ROWS}")
            yield con

    def _known(self, name: str, file_id: str) -> Landed | None:
        """The report of a file that landed before: all its good rows are there already."""
        mine = f"file_id = {text_literal(file_id)}"
        found = _rows(f"select * from {self._scan(LANDED_FILES)} where {mine}")
        if not found:
            return None
        row = found[0]
        alias = "" if row["file"] == name else f" as {row['file']}"
        return Landed(
            file=name,
            file_id=file_id,
            rows=row["rows"],
            good=0,
            duplicates=row["good"] + row["duplicates"],
            rejected=row["rejected"],
            first_at=None,
            last_at=None,
            notes=(
                f"landed before{alias}, on {row['landed_at']:%Y-%m-%d %H:%M} UTC, into source "
                f"{row['source']}: nothing to do",
            ),
        )

    def _land(
        self, con: "duckdb.DuckDBPyConnection", report: Landed, source: str, line: str
    ) -> Landed:
        now = datetime.now(UTC).replace(tzinfo=None)
        (self.folder / UNFINISHED).write_text(json.dumps({"file_id": report.file_id}))
        try:
            if report.rejected:
                self._write_rejected(con, report, line, now)
            self._write_events(con, report, source, line, now)
            self._write_ledger(report, source, now)
        except BaseException:
            self._undo_unfinished()
            raise
        (self.folder / UNFINISHED).unlink()
        return report if not report.duplicates else replace(report, notes=(_SAME,))

    def _write_rejected(
        self, con: "duckdb.DuckDBPyConnection", report: Landed, line: str, now: datetime
    ) -> None:
        query = f"""
            select {_told(report)}, {line} as line, reason, raw,
                   {text_literal(now.isoformat())}::timestamp as rejected_at
            from parsed where reason is not null
        """
        folder = self.lake.folder(REJECTED_ROWS)
        folder.mkdir(parents=True, exist_ok=True)
        app = f"landing/{report.file_id}"
        reached = self.lake.reached(REJECTED_ROWS, app) or 0
        with lease.writing(self.lake.root, REJECTED_ROWS):
            staged = files.write(REJECTED_ROWS, con, query, folder, "line")
            move = {app: stream.Move(reached, reached + 1)}
            try:
                stream.add(self.lake, REJECTED_ROWS, staged.files, move)
            except TidemillError:
                staged.discard()
                raise

    def _write_events(
        self,
        con: "duckdb.DuckDBPyConnection",
        report: Landed,
        source: str,
        line: str,
        now: datetime,
    ) -> None:
        good = "reason is null and rowid not in (select id from repeats)"
        date = "make_timestamp(event_ms * 1000)::date"
        dates = con.execute(f"select distinct {date}::varchar from parsed where {good}").fetchall()
        query = f"""
            select *, make_timestamp(event_ms * 1000) as event_timestamp, {date} as date,
                   {text_literal(source)} as source, {_told(report)}, {line} as line,
                   {text_literal(now.isoformat())}::timestamp as ingested_at
            from parsed where {good}
        """
        partitions = [{"file_id": report.file_id, "date": date} for (date,) in sorted(dates)]
        if partitions:
            self.lake.replace(FILE_EVENTS, con, query, partitions)

    def _write_ledger(self, report: Landed, source: str, now: datetime) -> None:
        import polars as pl

        told = asdict(report) | {"source": source, "landed_at": now}
        schema = polars_schema(LANDED_FILES)
        frame = pl.DataFrame([{name: told[name] for name in schema}], schema=schema)
        app = f"landing/{report.file_id}"
        self.lake.append(LANDED_FILES, frame, app, (self.lake.reached(LANDED_FILES, app) or 0) + 1)

    def _undo_unfinished(self) -> None:
        """Take out what a landing wrote, after a crash or an error, that the ledger has not."""
        note = self.folder / UNFINISHED
        if not note.exists():
            return
        with suppress(json.JSONDecodeError):  # cut short: nothing was written yet
            file_id = json.loads(note.read_text())["file_id"]
            if not any(row["file_id"] == file_id for row in self.ledger()):
                self._take_out(file_id)
        note.unlink()

    def _take_out(self, file_id: str) -> None:
        snapshot = self.lake.snapshot(FILE_EVENTS)
        found = {f.partition["date"] for f in snapshot.files if f.partition["file_id"] == file_id}
        mine = text_literal(file_id)
        with duck.cursor() as con:
            if found:
                nothing = f"select * from {snapshot.scan()} where false"
                gone = [{"file_id": file_id, "date": date} for date in sorted(found)]
                self.lake.replace(FILE_EVENTS, con, nothing, gone)
            rejected = self.lake.snapshot(REJECTED_ROWS)
            scan = rejected.scan()
            if con.execute(f"select 1 from {scan} where file_id = {mine} limit 1").fetchone():
                rest = f"select * from {scan} where file_id <> {mine}"

                def still() -> bool:
                    return self.lake.snapshot(REJECTED_ROWS).version == rejected.version

                self.lake.replace(REJECTED_ROWS, con, rest, [{}], still=still)

    def _scan(self, table: Table) -> str:
        return self.lake.snapshot(table).scan()


_SAME = (
    "rows that are equal in all nine columns count once, in one file or in several; the first to "
    "land stays"
)


def _told(report: Landed) -> str:
    return f"{text_literal(report.file_id)} as file_id, {text_literal(report.file)} as file"


def _rows(query: str) -> list[dict[str, Any]]:
    with duck.cursor() as con:
        found = con.execute(query)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:ID_LETTERS]
