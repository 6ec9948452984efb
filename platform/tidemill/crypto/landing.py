"""Landing: each row of a file becomes good, a duplicate or rejected, once, and is counted.

Good rows go to a Parquet file in the landing folder, normalised; rejected ones to
``crypto.rejected_rows``; the counts to ``crypto.landed_files``, whose commit makes the file landed.
Until that commit nothing of the file is seen, and a file that landed before is known by its hash.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tidemill.crypto import files, rows
from tidemill.crypto.contracts import LANDED_FILES, REJECTED_ROWS
from tidemill.errors import InputError
from tidemill.lake.contracts import polars_schema, text_literal
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@dataclass(frozen=True)
class Landed:
    """What became of one file's rows, for one symbol; times in epoch seconds.

    Attributes:
        file: Name of the file, or where the rows came from.
        symbol: Trading pair.
        interval_s: Length of its bars.
        rows: Data rows; the sum of the next four.
        good: Rows that went in.
        exact_duplicates: Rows equal to one already in.
        conflicting_duplicates: Rows that differ from the one already in for that time.
        rejected: Rows in ``rejected_rows``.
        empty_prices: Good rows whose prices are to be filled.
        first_s: Start of the first good bar, None when none is good.
        last_s: Start of the last good bar.
        notes: What a reader of the report should know.
    """

    file: str
    symbol: str
    interval_s: int
    rows: int
    good: int
    exact_duplicates: int
    conflicting_duplicates: int
    rejected: int
    empty_prices: int
    first_s: int | None
    last_s: int | None
    notes: tuple[str, ...] = ()


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
        now = now or datetime.now(UTC)
        with files.plain(path) as text, self._parsing() as con:
            layout = files.layout(text, str(path), columns)
            named = files.symbol_from(symbol) if symbol else files.symbol_in(path.name)
            if named is None and "symbol" not in layout.roles:
                raise InputError(
                    f"{path}: neither its columns nor its name tell the trading pair; "
                    "say it with --symbol, for example --symbol BTCUSDT"
                )
            digest = _digest(path)
            limit_s = int((now + timedelta(days=1)).timestamp())
            parsed = rows.parse(con, text, layout, str(path), symbol and named, named, limit_s)
            with self._turn():
                before = self._landed_before(digest)
                if before:
                    return [replace(b, file=path.name) for b in before]
                return self._land(con, path.name, digest, parsed, now)

    def land_rows(
        self, frame: "pl.DataFrame", symbol: str, origin: str, interval_s: int
    ) -> list[Landed]:
        """Take rows that did not come from a file, as a page of an exchange's answers.

        Args:
            frame: timestamp (s), open, high, low, close, volume.
            symbol: Their trading pair.
            origin: Where they came from, as the ledger shows it.
            interval_s: Length of the bars.
        """
        digest = hashlib.sha256(frame.write_ipc(None).getvalue() + origin.encode()).hexdigest()
        now = datetime.now(UTC)
        with self._parsing() as con:
            limit_s = int((now + timedelta(days=1)).timestamp())
            parsed = rows.from_frame(con, frame, symbol, interval_s, limit_s)
            with self._turn():
                return self._landed_before(digest) or self._land(con, origin, digest, parsed, now)

    def ledger(self, symbol: str | None = None) -> list[dict[str, Any]]:
        """The rows of ``landed_files``, in order of landing, of one symbol or all."""
        with self._parsing() as con:
            where = f"symbol = {text_literal(symbol)}" if symbol else "true"
            found = con.execute(
                f"select * from {self.lake.snapshot(LANDED_FILES).scan()} where {where} "
                "order by position, symbol"
            )
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    @contextmanager
    def _parsing(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        from tidemill.engines.duck import connection

        with connection(self.memory_limit_mb) as con:
            con.execute("set preserve_insertion_order = true")  # source order decides duplicates
            yield con

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One landing at a time, since what is a duplicate depends on all that landed before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            yield

    def _landed_before(self, digest: str) -> list[Landed]:
        """The reports of a file that landed before: all its good rows are duplicates now."""
        return [
            Landed(
                file=row["file"],
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
            for row in self.ledger()
            if row["sha256"] == digest
        ]

    def _land(
        self,
        con: "duckdb.DuckDBPyConnection",
        name: str,
        digest: str,
        parsed: rows.Parsed,
        now: datetime,
    ) -> list[Landed]:
        ledger = self.ledger()
        landed = []
        records = []
        made: list[Path] = []
        try:
            for symbol in parsed.symbols:
                paths = [
                    self.folder / row["path"]
                    for row in ledger
                    if row["path"]
                    and (row["symbol"], row["interval_s"]) == (symbol, parsed.interval_s)
                ]
                path = self.folder / symbol / f"{digest[:12]}-{uuid.uuid4().hex[:8]}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                made.append(path)
                counts = rows.classify(con, symbol, parsed.interval_s, paths, path)
                report = Landed(name, symbol, parsed.interval_s, **counts, notes=parsed.notes)
                landed.append(report)
                kept = str(path.relative_to(self.folder)) if report.good else None
                if kept is None:
                    path.unlink(missing_ok=True)
                records.append(_record(report, digest, len(ledger), kept, now))
            landed = _with_strays(landed, parsed, name)
            records += [
                _record(stray, digest, len(ledger), None, now) for stray in landed[len(records) :]
            ]
            if all(report.rows == report.rejected for report in landed):
                raise InputError(_nothing_good(con, name, landed))
            self._commit(con, name, digest, records, parsed, now)
        except BaseException:
            for path in made:
                with suppress(OSError):
                    path.unlink()
            raise
        return landed

    def _commit(
        self,
        con: "duckdb.DuckDBPyConnection",
        name: str,
        digest: str,
        records: Sequence[Mapping[str, Any]],
        parsed: rows.Parsed,
        now: datetime,
    ) -> None:
        import polars as pl

        rejected = rows.rejected(con, parsed)
        if rejected.height:
            stamped = rejected.with_columns(
                file=pl.lit(name),
                sha256=pl.lit(digest),
                rejected_at=pl.lit(now.replace(tzinfo=None)).cast(pl.Datetime("us")),
            )
            self.lake.append(REJECTED_ROWS, stamped, f"landing/{digest}", 1)
        frame = pl.DataFrame(records, schema=polars_schema(LANDED_FILES))
        self.lake.append(LANDED_FILES, frame, f"landing/{digest}", 1)


def _with_strays(landed: list[Landed], parsed: rows.Parsed, name: str) -> list[Landed]:
    """Add a report for rejected rows that name no symbol of the file."""
    strays = parsed.rows - sum(report.rows for report in landed)
    if not strays:
        return landed
    if len(landed) == 1:
        only = landed[0]
        return [replace(only, rows=only.rows + strays, rejected=only.rejected + strays)]
    return [
        *landed,
        Landed(name, "", parsed.interval_s, strays, 0, 0, 0, strays, 0, None, None, parsed.notes),
    ]


def _nothing_good(con: "duckdb.DuckDBPyConnection", name: str, landed: Sequence[Landed]) -> str:
    reasons = con.execute(
        "select reason, count(*) as n from parsed where reason is not null "
        "group by 1 order by n desc limit 3"
    ).fetchall()
    told = "; ".join(f"{n} rows: {reason}" for reason, n in reasons)
    rejected = sum(report.rejected for report in landed)
    return f"{name}: none of its {rejected} rows can be used, so nothing was taken ({told})"


def _record(
    report: Landed, digest: str, position: int, path: str | None, now: datetime
) -> dict[str, Any]:
    def at(seconds: int | None) -> datetime | None:
        return (
            None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
        )

    return {
        "file": report.file,
        "sha256": digest,
        "symbol": report.symbol,
        "interval_s": report.interval_s,
        "position": position,
        "rows": report.rows,
        "good": report.good,
        "exact_duplicates": report.exact_duplicates,
        "conflicting_duplicates": report.conflicting_duplicates,
        "rejected": report.rejected,
        "empty_prices": report.empty_prices,
        "first_at": at(report.first_s),
        "last_at": at(report.last_s),
        "path": path,
        "landed_at": now.replace(tzinfo=None),
    }


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
