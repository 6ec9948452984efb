"""The lake: Delta tables, read as snapshots, written a partition or an offset at a time."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill import progress
from tidemill.errors import TidemillError
from tidemill.lake import catalog, checks, commit, duck, files, lease
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Partition, Snapshot, past, take

if TYPE_CHECKING:
    import duckdb
    import polars as pl

UNFIT = "*?[]{}%^|=\\"


@dataclass(frozen=True)
class Written:
    """What a commit did.

    Attributes:
        table: Its id, as ``domain.name``.
        version: The version that the commit made; of an append, rivals' commits may be in it too.
        rows: Rows written.
        size: Bytes written.
        seconds: From the first row computed to the commit.
        sql: What computed the rows.
        files: Those that were added, where the partitions have others too.
    """

    table: str
    version: int
    rows: int
    size: int
    seconds: float
    sql: str
    files: tuple[str, ...] = ()


class Lake:
    """Tables under one folder, and the DuckDB catalogue over them.

    Args:
        root: Folder of the tables.
        catalogue: DuckDB file to publish after each commit; None publishes nothing.
        tables: Every table that the catalogue shows.
    """

    def __init__(
        self, root: Path, catalogue: Path | None = None, tables: Sequence[Table] = ()
    ) -> None:
        """Open the lake; nothing is made before the first write.

        Raises:
            TidemillError: Its path holds what DuckDB or Delta take for a pattern or a partition.
        """
        unfit = sorted(set(UNFIT) & set(str(root)))
        if unfit:
            raise TidemillError(f"the lake cannot be at {root}: its path has {' '.join(unfit)}")
        self.root = root.absolute()
        self.catalogue = catalogue
        self.tables = tuple(tables)
        self._seen: dict[str, tuple[tuple[int, int, int], Snapshot, Any]] = {}

    def folder(self, table: Table) -> Path:
        """Where a table's files are."""
        return self.root / table.domain / table.name

    def snapshot(self, table: Table, at: int | datetime | None = None) -> Snapshot:
        """The table's current version, or the one ``at`` a version number or an instant (UTC).

        Raises:
            TidemillError: The table has no such version, or vacuum took some of its files.
        """
        if at is None:
            return self.current(table)[0]
        delta = self.open(table)
        if delta is None:
            raise TidemillError(f"{table.id} has no version at {at}: nothing was written yet")
        return past(table, self.folder(table), delta, at)

    def current(self, table: Table) -> tuple[Snapshot, Any]:
        """The table's current version, and as delta-rs has it, to read from; None with no version.

        All who ask before the next commit share it: what writes, or moves it, takes ``open``.
        """
        if seen := self._unchanged(table):
            return seen
        delta = self.open(table)
        if delta is None:
            return Snapshot(table, -1), None
        taken = take(table, self.folder(table), delta)
        with suppress(OSError):
            self._seen[table.id] = (self._stamp(table, taken.version), taken, delta)
        return taken, delta

    def _log(self, table: Table, version: int) -> Path:
        return self.folder(table) / "_delta_log" / f"{version:020}.json"

    def _stamp(self, table: Table, version: int) -> tuple[int, int, int]:
        """What tells a commit's file from another one under the same name."""
        found = self._log(table, version).stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _unchanged(self, table: Table) -> tuple[Snapshot, Any] | None:
        """What was read before, if its commit is still there and none follows it."""
        if table.id not in self._seen:
            return None
        stamp, snapshot, delta = self._seen[table.id]
        try:
            same = self._stamp(table, snapshot.version) == stamp
        except OSError:
            return None
        if not same or self._log(table, snapshot.version + 1).exists():
            return None
        return snapshot, delta

    def replace(
        self,
        table: Table,
        con: "duckdb.DuckDBPyConnection",
        query: str,
        partitions: Sequence[Partition],
        note: Mapping[str, str] | None = None,
        still: Callable[[], bool] | None = None,
    ) -> Written:
        """Replace exactly these partitions by the rows of ``query``, in one commit.

        A partition for which the query gives no row is left empty. Until the commit, readers see
        the old rows; a crash leaves them. Of rules on the row as a whole and of the key nothing is
        known without reading the rows again: those are ``inspect``'s work.

        Args:
            table: What to write.
            con: Where ``query`` can run.
            query: SQL that gives the contract's columns.
            partitions: One mapping of every partition column each; ``[{}]`` for a table without.
            note: Added to the commit's audit trail.
            still: Asked right before the commit whether what the query read is still what it would
                read now; else a slow writer would put old rows over newer ones.

        Raises:
            ContractError: The rows break the contract, or lie outside ``partitions``.
            Overtaken: ``still`` said no; nothing was written.
        """

        def stage() -> files.Staged:
            return files.write(table, con, query, self.folder(table))

        return self.replace_by(table, stage, query, partitions, commit.strict(note or {}), still)

    def replace_by(
        self,
        table: Table,
        stage: Callable[[], files.Staged],
        sql: str,
        partitions: Sequence[Partition],
        properties: Any,
        still: Callable[[], bool] | None = None,
    ) -> Written:
        """``replace`` by files that ``stage`` writes into the table's folder.

        Args:
            table: What to write.
            stage: Writes the files of the new rows, and names them.
            sql: What computes the rows; told, not run.
            partitions: As of ``replace``.
            properties: Of the commit, ``commit.strict``.
            still: As of ``replace``.
        """
        started = time.perf_counter()
        asked = checks.named(table, partitions)
        self.folder(table).mkdir(parents=True, exist_ok=True)
        with lease.writing(self.root, table):
            staged = stage()
            try:
                checks.refuse_files(table, staged.files, asked)

                def old(now: Snapshot) -> Snapshot:
                    if still is not None and not still():
                        raise commit.Overtaken(f"{table.id}: what it is made from has changed")
                    return now.within(partitions)

                version = self.swap(table, staged, old, properties)
            except TidemillError:  # no commit was made; after any other error one may have been
                staged.discard()
                raise
        seconds = time.perf_counter() - started
        self.publish()
        progress.tell(table.id, len(partitions), staged.rows)
        return Written(table.id, version, staged.rows, staged.size, seconds, sql)

    def replace_frame(
        self,
        table: Table,
        rows: "pl.DataFrame",
        partitions: Sequence[Partition],
        still: Callable[[], bool] | None = None,
    ) -> Written:
        """``replace`` by the rows of a small frame."""
        with duck.cursor() as con:
            con.register("rows", checks.typed(table, rows).to_arrow())
            return self.replace(table, con, "select * from rows", partitions, still=still)

    def append(
        self, table: Table, rows: "pl.DataFrame", app_id: str, version: int
    ) -> Written | None:
        """Append rows together with the offset they reach, exactly once.

        Args:
            table: What to append to.
            rows: The contract's columns.
            app_id: Whose offsets these are, as ``topic/partition``.
            version: The next offset after these rows.

        Returns:
            What was written, or None where this ``app_id`` had reached ``version`` before.

        Raises:
            ContractError: A row breaks the contract.
        """
        started = time.perf_counter()
        kept = checks.typed(table, rows)
        checks.refuse_rows(table, kept)

        def attempt() -> int | None:
            from deltalake import write_deltalake

            delta = self.open(table, create=True)
            reached = delta.transaction_version(app_id)
            if reached is not None and reached >= version:
                return None
            write_deltalake(
                delta,
                kept.to_arrow(),
                mode="append",
                commit_properties=commit.offsets({app_id: version}),
            )
            return int(delta.version())

        made = commit.against_rivals(attempt, table.id)
        if made is None:
            return None
        seconds = time.perf_counter() - started
        self.publish()
        return Written(table.id, made, kept.height, int(kept.estimated_size()), seconds, "")

    def reached(self, table: Table, app_id: str) -> int | None:
        """The offset that ``app_id`` has committed up to, or None."""
        delta = self.open(table)
        version = None if delta is None else delta.transaction_version(app_id)
        return None if version is None or version < 0 else int(version)

    def history(self, table: Table) -> list[dict[str, Any]]:
        """The commits, newest first: version, timestamp (ms), operation, notes."""
        delta = self.open(table)
        return [] if delta is None else list(delta.history())

    def rollback(self, table: Table, at: int | datetime) -> int:
        """Make the table what it was ``at`` a version or an instant; returns the new version.

        What ``append`` had reached goes back with the rows, so that a range can be taken again.

        Raises:
            TidemillError: There is no such version, or vacuum took some of its files.
        """
        target = self.snapshot(table, at)

        def attempt() -> int:
            delta = self.open(table)
            then = self.open(table)
            then.load_as_version(target.version)
            if delta.version() == target.version:
                return target.version
            later = range(target.version + 1, delta.version() + 1)
            offsets = commit.rewound((self._log(table, v) for v in later), then)
            delta.restore(target.version, commit_properties=commit.strict({}, offsets))
            return int(delta.version())

        with lease.reading(self.root, [(table, target.version)]):
            target.require()
            version = commit.against_rivals(attempt, table.id)
        self.publish()
        return version

    def inspect(
        self,
        table: Table,
        partitions: Sequence[Partition],
        preview_rows: int,
        files: Collection[str] = (),
    ) -> tuple[dict[str, int], str]:
        """Rows of these partitions that break each rule of the contract, and a look at the last.

        Args:
            table: Whose rows.
            partitions: Of the table.
            preview_rows: How many rows to show.
            files: Look at the rows of these alone, where there are any; no other row of the
                partitions may have a key of theirs.

        Returns:
            Broken rows by rule, empty when the contract is kept; and a Markdown table.
        """
        within = self.snapshot(table).within(partitions)
        relation = within.only(lambda f: not files or f.relative in files).scan()
        beside = within.scan() if files else ""
        with duck.cursor() as con:
            violations = checks.violations(table, con, relation, beside)
            return violations, checks.preview(table, con, relation, preview_rows)

    def publish(self) -> None:
        """Publish the catalogue of the current versions."""
        if self.catalogue is not None:
            catalog.publish(self.catalogue, (self.snapshot(table) for table in self.tables))

    def open(self, table: Table, create: bool = False) -> Any:
        """The table as delta-rs has it, or None where nothing was ever written."""
        from deltalake import DeltaTable

        folder = self.folder(table)
        if create and not DeltaTable.is_deltatable(str(folder)):
            DeltaTable.create(
                str(folder),
                schema=table.delta_schema(),
                mode="ignore",
                partition_by=list(table.partition_by),
                name=table.id,
                description=table.meaning,
            )
        if not DeltaTable.is_deltatable(str(folder)):
            return None
        return DeltaTable(str(folder))

    def swap(
        self,
        table: Table,
        staged: files.Staged,
        old: Callable[[Snapshot], Snapshot],
        properties: Any,
        data_change: bool = True,
    ) -> int:
        """Commit new files for the old ones that ``old`` finds in the version they go onto.

        ``replace`` and ``compaction.compact`` are what to ask for first; this looks at no rows.
        """

        def attempt() -> int:
            delta = self.open(table, create=True)
            now = take(table, self.folder(table), delta)
            actions = [file.action(table, data_change) for file in staged.files]
            actions += [commit.remove_action(file, data_change) for file in old(now).files]
            commit.commit_files(delta, table, actions, properties)
            return now.version + 1

        return commit.against_rivals(attempt, table.id)


def utc(text: str) -> int | datetime:
    """``VERSION`` or an ISO instant (UTC when it names no zone), as ``snapshot`` takes them.

    Raises:
        TidemillError: It is neither.
    """
    if text.isdecimal():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise TidemillError(
            f"{text!r} is neither a version number nor a time like 2026-01-31T12:00"
        ) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
