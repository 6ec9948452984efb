"""Landing: each row of a file becomes good, a duplicate or rejected, once, and is counted.

Good rows go to a Parquet file in the landing folder, normalised; rejected ones to
``crypto.rejected_rows``; the counts to ``crypto.landed_files``, whose commit makes the file landed.
Until that commit nothing of the file is seen, and a file that landed before is known by its hash.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tidemill.crypto.contracts import LANDED_FILES, REJECTED_ROWS
from tidemill.crypto.intake import duplicates, files, rows, source
from tidemill.crypto.intake.accounts import Arrival, Landed, nothing_good, record, with_strays
from tidemill.errors import InputError
from tidemill.lake import duck
from tidemill.lake.contracts import polars_schema, text_literal
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb
    import polars as pl

__all__ = ["Landed", "Landing"]

UNFINISHED = ".unfinished"
"""In the landing folder: what a landing under way is about to make."""

LOCK = ".lock"
KEPT = ("inbox", "refused", LOCK)
"""In the landing folder: what never landed, and the lock, which others may be waiting for."""


class Landing:
    """Takes candle files and rows into the landing folder and the lake's ledger of it.

    Args:
        lake: Where ``landed_files`` and ``rejected_rows`` are.
        folder: The landing folder of this domain.
        memory_limit_mb: What parsing may hold before it spills, MiB.
    """

    def __init__(self, lake: Lake, folder: Path, memory_limit_mb: int = 1024) -> None:
        """Nothing is made before the first file."""
        self.lake = lake
        self.folder = folder
        self.memory_limit_mb = memory_limit_mb
        self._read: tuple[Snapshot, list[dict[str, Any]]] | None = None

    def land_file(
        self,
        path: Path,
        symbol: str | None = None,
        columns: Sequence[str] | None = None,
        now: datetime | None = None,
    ) -> list[Landed]:
        """Take one file.

        Args:
            path: CSV, JSON, gzip or one-member zip.
            symbol: Its trading pair, where neither the file nor its name tells it.
            columns: Names of all its columns, where it has no header.
            now: Bars after tomorrow, seen from here, are rejected; default the clock.

        Returns:
            A report a symbol.

        Raises:
            InputError: The file cannot be used; nothing of it was taken.
        """
        import duckdb

        limit_s = _limit_s(_utc(now))
        with source.plain(path) as text, self._parsing() as con, ThreadPoolExecutor() as aside:
            digest = aside.submit(_digest, path)
            try:
                layout = files.layout(text, columns)
                named = self._named(text, layout, symbol)
                parsed = rows.parse(con, text, layout, named, symbol is not None, limit_s)
                sha256 = digest.result()
            except (duckdb.IOException, FileNotFoundError):
                text.keep_still()  # says so if it was moved away
                raise
            with self._turn(con) as ledger:
                text.keep_still()
                arrival = Arrival(path.name, str(path), sha256, _utc(now))
                return self._known(ledger, arrival, parsed) or self._land(
                    con, ledger, arrival, parsed
                )

    def told(self, path: Path) -> str:
        """``land_file``, and a line that says what became of it."""
        return "; ".join(
            f"{r.file} {r.symbol}: {r.rows} rows, {r.good} good, {r.rejected} rejected"
            for r in self.land_file(path)
        )

    def _named(self, text: "source.Text", layout: files.Layout, given: str | None) -> str | None:
        """The trading pair that the user or the file's name tells; None if a column does."""
        told = next((found for hint in text.hints if (found := files.symbol_in(hint))), None)
        named = files.symbol_from(given) if given else told
        if named is None and "symbol" not in layout.roles:
            raise InputError(
                f"{text.shown}: neither its columns nor its name tell the trading pair; "
                "say it with --symbol, for example --symbol BTCUSDT"
            )
        return named

    def land_rows(
        self, frame: "pl.DataFrame", symbol: str, origin: str, interval_s: int
    ) -> list[Landed]:
        """Take rows that did not come from a file, as a page of an exchange's answers.

        Args:
            frame: timestamp (s), open, high, low, close, volume.
            symbol: Their trading pair.
            origin: Where they came from, as the ledger shows it.
            interval_s: Length of the bars.

        Returns:
            A report; none for a frame without rows.

        Raises:
            InputError: None of the rows can be used; nothing was taken.
        """
        if frame.is_empty():
            return []
        digest = hashlib.sha256(frame.write_ipc(None).getvalue() + origin.encode()).hexdigest()
        with self._parsing() as con:
            parsed = rows.from_frame(con, frame, symbol, interval_s, _limit_s(_utc(None)))
            with self._turn(con) as ledger:
                arrival = Arrival(origin, origin, digest, _utc(None))
                return self._known(ledger, arrival, parsed) or self._land(
                    con, ledger, arrival, parsed
                )

    def ledger(self, symbol: str | None = None) -> list[dict[str, Any]]:
        """The rows of ``landed_files``, in order of landing, of one symbol or all."""
        snapshot = self.lake.snapshot(LANDED_FILES)
        if self._read is None or self._read[0] is not snapshot:
            with duck.cursor() as con:
                found = con.execute(f"select * from {snapshot.scan()} order by position, symbol")
                names = [column[0] for column in found.description or ()]
                rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
            self._read = snapshot, rows
        return [row for row in self._read[1] if symbol in (None, row["symbol"])]

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Delete all that landed once the block has dropped the ledger; nothing lands meanwhile.

        Files in the inbox and those refused never landed, and stay.

        Raises:
            OSError: Something could not be deleted.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):
            yield
            for path in self.folder.iterdir():
                if path.name in KEPT:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    @contextmanager
    def _parsing(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        from tidemill.engines.duck import connection, shortage_told

        limit_mb = self.memory_limit_mb
        with shortage_told(limit_mb, str(self.folder)), connection(limit_mb) as con:
            con.execute("set preserve_insertion_order = true")  # source order decides duplicates
            yield con

    @contextmanager
    def _turn(self, con: "duckdb.DuckDBPyConnection") -> Iterator[list[dict[str, Any]]]:
        """One landing at a time, as what is a duplicate hangs on the ledger of all before it.

        What a landing left half made, because it was killed, is undone first.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):
            self._undo_unfinished(con)
            yield self.ledger()

    def _known(
        self, ledger: Sequence[dict[str, Any]], arrival: Arrival, parsed: rows.Parsed
    ) -> list[Landed]:
        """The reports of a file that landed before: all its good rows are duplicates now.

        The same bytes under another trading pair, named where a first guess was wrong, are another
        landing.
        """
        found = [row for row in ledger if row["sha256"] == arrival.sha256]
        if not {row["symbol"] for row in found} & set(parsed.intervals):
            return []
        return [
            Landed(
                file=arrival.name,
                symbol=row["symbol"],
                interval_s=row["interval_s"],
                rows=row["rows"],
                good=0,
                exact_duplicates=row["good"] + row["exact_duplicates"],
                conflicting_duplicates=row["conflicting_duplicates"],
                rejected=row["rejected"],
                empty_prices=0,
                first_s=None,
                last_s=None,
                notes=(f"landed before, on {row['landed_at']:%Y-%m-%d %H:%M} UTC: nothing to do",),
            )
            for row in found
            if row["symbol"] in ("", *parsed.intervals)
        ]

    def _land(
        self,
        con: "duckdb.DuckDBPyConnection",
        ledger: Sequence[dict[str, Any]],
        arrival: Arrival,
        parsed: rows.Parsed,
    ) -> list[Landed]:
        paths = {
            symbol: f"{symbol}/{arrival.sha256[:12]}-{uuid.uuid4().hex[:8]}.parquet"
            for symbol in parsed.intervals
        }
        self._begin(arrival, paths)
        try:
            landed = []
            for symbol, interval_s in parsed.intervals.items():
                earlier = {
                    self.folder / row["path"]: (row["first_at"], row["last_at"])
                    for row in ledger
                    if row["path"] and (row["symbol"], row["interval_s"]) == (symbol, interval_s)
                }
                path = self.folder / paths[symbol]
                path.parent.mkdir(parents=True, exist_ok=True)
                counts = duplicates.classify(con, symbol, interval_s, earlier, path)
                landed.append(
                    Landed(arrival.name, symbol, interval_s, **counts, notes=parsed.notes[symbol])
                )
                if not counts["good"]:
                    path.unlink()
            landed = with_strays(landed, parsed, arrival.name)
            if all(report.rows == report.rejected for report in landed):
                raise InputError(nothing_good(rows.rejected(con, parsed), arrival.shown))
            self._append_rejected(con, arrival, parsed)
            self._append_ledger(landed, paths, arrival, len(ledger))
        except BaseException:
            self._undo_unfinished(con)
            raise
        (self.folder / UNFINISHED).unlink()
        return landed

    def _append_rejected(
        self, con: "duckdb.DuckDBPyConnection", arrival: Arrival, parsed: rows.Parsed
    ) -> None:
        """Append the rejected rows; a line that an earlier landing of the file has stays as is."""
        import polars as pl

        app, known = f"landing/{arrival.sha256}", set()
        reached = self.lake.reached(REJECTED_ROWS, app) or 0
        if reached:
            mine = f"sha256 = {text_literal(arrival.sha256)}"
            known = set(con.execute(f"select line from {self._rejects()} where {mine}").fetchall())
        found = [row for row in rows.rejected(con, parsed) if (row[0],) not in known]
        if not found:
            return
        frame = pl.DataFrame(found, ("line", "reason", "raw"), orient="row").with_columns(
            file=pl.lit(arrival.name),
            sha256=pl.lit(arrival.sha256),
            rejected_at=pl.lit(_without_zone(arrival.at)).cast(pl.Datetime("us")),
        )
        self.lake.append(REJECTED_ROWS, frame, app, reached + 1)

    def _append_ledger(
        self,
        landed: Sequence[Landed],
        paths: Mapping[str, str],
        arrival: Arrival,
        position: int,
    ) -> None:
        import polars as pl

        records = [
            record(report, arrival, position, paths[report.symbol] if report.good else None)
            for report in landed
        ]
        frame = pl.DataFrame(records, schema=polars_schema(LANDED_FILES))
        app = f"landing/{arrival.sha256}"
        self.lake.append(LANDED_FILES, frame, app, (self.lake.reached(LANDED_FILES, app) or 0) + 1)

    def _rejects(self) -> str:
        return self.lake.snapshot(REJECTED_ROWS).scan()

    def _begin(self, arrival: Arrival, paths: Mapping[str, str]) -> None:
        """Write down what is about to be made, for whoever finds it half made."""
        told = {"sha256": arrival.sha256, "paths": paths, "at": _without_zone(arrival.at)}
        (self.folder / UNFINISHED).write_text(json.dumps(told, default=str))

    def _undo_unfinished(self, con: "duckdb.DuckDBPyConnection") -> None:
        """Take away what a landing made that the ledger does not know, after a crash or an error.

        A landing is two commits, rejected rows and then the ledger; what is between them is undone.
        """
        note = self.folder / UNFINISHED
        if not note.exists():
            return
        with suppress(json.JSONDecodeError):  # cut short: nothing was made yet
            told = json.loads(note.read_text())
            mine = [row for row in self.ledger() if row["sha256"] == told["sha256"]]
            if not {row["symbol"] for row in mine} & set(told["paths"]):
                for path in told["paths"].values():
                    (self.folder / path).unlink(missing_ok=True)
                self._remove_rejected(con, told["sha256"], told["at"])
        note.unlink()

    def _remove_rejected(self, con: "duckdb.DuckDBPyConnection", digest: str, at: str) -> None:
        mine = f"sha256 = {text_literal(digest)} and rejected_at = {text_literal(at)}"
        if con.execute(f"select 1 from {self._rejects()} where {mine} limit 1").fetchone():
            rest = f"select * from {self._rejects()} where not ({mine})"
            self.lake.replace(REJECTED_ROWS, con, rest, [{}])


def _utc(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now.astimezone(UTC)


def _without_zone(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


def _limit_s(now: datetime) -> int:
    return int((now + timedelta(days=1)).timestamp())


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
