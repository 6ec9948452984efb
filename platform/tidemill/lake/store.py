"""The lake: Delta tables, read as snapshots, written a partition or an offset at a time."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill import progress
from tidemill.errors import ContractError, TidemillError
from tidemill.lake import catalog, commit, lease
from tidemill.lake.contracts import Table, text_literal
from tidemill.lake.snapshot import Partition, Snapshot, take

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@dataclass(frozen=True)
class Written:
    """What a commit did.

    Attributes:
        table: Its id, as ``domain.name``.
        version: The version read back after the commit; rivals' commits may be in it too.
        rows: Rows written.
        size: Bytes written.
        seconds: From the first row computed to the commit.
        sql: What computed the rows.
    """

    table: str
    version: int
    rows: int
    size: int
    seconds: float
    sql: str


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
        """Open the lake; nothing is made before the first write."""
        self.root = root
        self.catalogue = catalogue
        self.tables = tuple(tables)
        self._seen: dict[str, tuple[int, Snapshot]] = {}

    def folder(self, table: Table) -> Path:
        """Where a table's files are."""
        return self.root / table.domain / table.name

    def snapshot(self, table: Table, at: int | datetime | None = None) -> Snapshot:
        """The table's current version, or the one ``at`` a version number or an instant (UTC).

        Raises:
            TidemillError: The table has no such version.
        """
        if at is None and (seen := self._unchanged(table)):
            return seen
        delta = self._open(table)
        if delta is None:
            if at is not None:
                raise TidemillError(f"{table.id} has no version at {at}: nothing was written yet")
            return Snapshot(table, -1, ())
        if at is not None:
            try:
                delta.load_as_version(at)
            except Exception as error:  # delta-rs raises bare exceptions of several kinds here
                known = f"versions 0 to {delta.version()}"
                raise TidemillError(f"{table.id} has no version at {at}: {known}") from error
        taken = take(table, self.folder(table), delta)
        if at is None:
            with suppress(OSError):
                stamp = self._log(table, taken.version).stat().st_mtime_ns
                self._seen[table.id] = (stamp, taken)
        return taken

    def _log(self, table: Table, version: int) -> Path:
        return self.folder(table) / "_delta_log" / f"{version:020}.json"

    def _unchanged(self, table: Table) -> Snapshot | None:
        """The snapshot read before, if its commit is still there and none follows it."""
        if table.id not in self._seen:
            return None
        stamp, snapshot = self._seen[table.id]
        try:
            same = self._log(table, snapshot.version).stat().st_mtime_ns == stamp
        except OSError:
            return None
        return snapshot if same and not self._log(table, snapshot.version + 1).exists() else None

    def replace(
        self,
        table: Table,
        con: "duckdb.DuckDBPyConnection",
        query: str,
        partitions: Sequence[Partition],
        note: Mapping[str, str] | None = None,
    ) -> Written:
        """Replace exactly these partitions by the rows of ``query``, in one commit.

        A partition for which the query gives no row is left empty. Until the commit, readers see
        the old rows; a crash leaves them.

        Args:
            table: What to write.
            con: Where ``query`` can run.
            query: SQL that gives the contract's columns.
            partitions: One mapping of every partition column each; ``[{}]`` for a table without.
            note: Added to the commit's audit trail.

        Raises:
            ContractError: The rows break the contract, or lie outside ``partitions``.
        """
        started = time.perf_counter()
        folder = self.folder(table)
        folder.mkdir(parents=True, exist_ok=True)
        actions, rows, size = self._copy(table, con, query, folder)
        try:
            self._keep_within(table, actions, partitions)
            version = commit.against_rivals(
                lambda: self._swap(table, actions, partitions, dict(note or {})), table.id
            )
        except BaseException:
            for action in actions:
                with suppress(OSError):
                    (folder / action.path).unlink()
            raise
        written = Written(table.id, version, rows, size, time.perf_counter() - started, query)
        self.publish()
        progress.tell(table.id, len(partitions), rows)
        return written

    def replace_frame(
        self, table: Table, rows: "pl.DataFrame", partitions: Sequence[Partition]
    ) -> Written:
        """``replace`` by the rows of a small frame."""
        import duckdb

        with duckdb.connect() as con:
            con.register("rows", rows.to_arrow())
            return self.replace(table, con, "select * from rows", partitions)

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
        """
        started = time.perf_counter()
        self._check(table, rows)

        def attempt() -> int | None:
            from deltalake import write_deltalake

            delta = self._open(table, create=True)
            reached = delta.transaction_version(app_id)
            if reached is not None and reached >= version:
                return None
            write_deltalake(
                delta,
                rows.select(c.name for c in table.columns).to_arrow(),
                mode="append",
                commit_properties=commit.properties([(app_id, version)], {}),
            )
            return int(delta.version())

        made = commit.against_rivals(attempt, table.id)
        if made is None:
            return None
        seconds = time.perf_counter() - started
        self.publish()
        return Written(table.id, made, rows.height, int(rows.estimated_size()), seconds, "")

    def ensure(self, table: Table) -> None:
        """Make the table, empty, if it is not there."""
        self._open(table, create=True)

    def reached(self, table: Table, app_id: str) -> int | None:
        """The offset that ``app_id`` has committed up to, or None."""
        delta = self._open(table)
        version = None if delta is None else delta.transaction_version(app_id)
        return None if version is None else int(version)

    def history(self, table: Table) -> list[dict[str, Any]]:
        """The commits, newest first: version, timestamp (ms), operation, notes."""
        delta = self._open(table)
        return [] if delta is None else list(delta.history())

    def rollback(self, table: Table, at: int | datetime) -> int:
        """Make the table what it was ``at`` a version or an instant; returns the new version."""
        self.snapshot(table, at)
        delta = self._open(table)
        delta.restore(at)
        self.publish()
        return int(delta.version())

    def compact(self, table: Table, z_order: Sequence[str] = ()) -> dict[str, Any]:
        """Join small files of each partition, with the rows Z-ordered by some columns."""
        delta = self._open(table)
        if delta is None:
            return {}
        done: dict[str, Any]
        done = delta.optimize.z_order(list(z_order)) if z_order else delta.optimize.compact()
        self.publish()
        return done

    def vacuum(self, table: Table, retention_hours: int = 168) -> list[str]:
        """Delete files that no version inside the retention and no reader's lease needs.

        Args:
            table: What to clean.
            retention_hours: Versions younger than this stay readable; at least 1, since a reader
                without a lease (any DuckDB on the catalogue) may be that far behind.

        Returns:
            The files deleted, relative to the table's folder.

        Raises:
            TidemillError: The retention is under an hour.
        """
        if retention_hours < 1:
            raise TidemillError(
                f"vacuum keeps at least 1 hour for readers at work, {retention_hours} asked for"
            )
        delta = self._open(table)
        if delta is None:
            return []
        with lease.held(self.root, table) as versions:
            keep = sorted({*versions, delta.version()})
            return list(
                delta.vacuum(
                    retention_hours=retention_hours,
                    dry_run=False,
                    enforce_retention_duration=False,
                    full=True,
                    keep_versions=keep,
                )
            )

    def inspect(
        self, table: Table, partitions: Sequence[Partition], preview_rows: int
    ) -> tuple[dict[str, int], str]:
        """Rows of these partitions that break each rule of the contract, and a look at the last.

        Returns:
            Broken rows by rule, empty when the contract is kept; and a Markdown table.
        """
        import duckdb

        relation = self.snapshot(table).within(partitions).scan()
        with duckdb.connect() as con:
            violations = _violations(table, con, relation)
            order = ", ".join(f'"{name}" desc' for name in table.sort_by or table.key)
            shown = con.execute(f"select * from {relation} order by {order} limit {preview_rows}")
            names = [column[0] for column in shown.description or ()]
            rows = [[str(value) for value in row] for row in shown.fetchall()]
        lines = [names, ["---"] * len(names), *rows]
        return violations, "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def publish(self) -> None:
        """Publish the catalogue of the current versions."""
        if self.catalogue is not None:
            catalog.publish(self.catalogue, (self.snapshot(table) for table in self.tables))

    def _open(self, table: Table, create: bool = False) -> Any:
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

    def _copy(
        self, table: Table, con: "duckdb.DuckDBPyConnection", query: str, folder: Path
    ) -> tuple[list[Any], int, int]:
        """Write ``query`` as Parquet beside the table's files; the commit makes them its own."""
        columns = ", ".join(f'"{c.name}"::{c.type.value} as "{c.name}"' for c in table.columns)
        order = ", ".join(f'"{name}"' for name in table.sort_by)
        rows = f"select {columns} from ({query})" + (f" order by {order}" if order else "")
        if table.partition_by:
            by = ", ".join(f'"{name}"' for name in table.partition_by)
            target = folder
            options = f"partition_by ({by}), filename_pattern 'p-{{uuid}}', append true, "
        else:
            import uuid

            target = folder / f"p-{uuid.uuid4()}.parquet"
            options = ""
        files = con.execute(
            f"copy ({rows}) to {text_literal(str(target))} "
            f"(format parquet, compression zstd, {options}return_stats true)"
        ).fetchall()
        actions = []
        for name, count, size, _footer, statistics, keys, *_ in files:
            if count == 0:
                Path(name).unlink(missing_ok=True)
                continue
            relative = str(Path(name).relative_to(folder))
            actions.append(commit.add_action(table, relative, size, count, statistics, keys or {}))
        return actions, sum(file[1] for file in files), sum(action.size for action in actions)

    def _keep_within(
        self, table: Table, actions: Sequence[Any], partitions: Sequence[Partition]
    ) -> None:
        asked = {tuple(str(p[name]) for name in table.partition_by) for p in partitions}
        for action in actions:
            got = tuple(action.partition_values[name] for name in table.partition_by)
            if got not in asked:
                raise ContractError(f"{table.id}: rows for {got}, which was not asked for")
        for column in table.data_columns:
            if not column.nullable:
                nulls = sum(_null_count(action, column.name) for action in actions)
                if nulls:
                    raise ContractError(f"{table.id}: {nulls} rows without {column.name}")

    def _swap(
        self,
        table: Table,
        actions: Sequence[Any],
        partitions: Sequence[Partition],
        note: dict[str, str],
    ) -> int:
        delta = self._open(table, create=True)
        old = take(table, self.folder(table), delta).within(partitions)
        removed = [commit.remove_action(f.relative, f.size, dict(f.partition)) for f in old.files]
        # Two writers of one owner must not both find it empty and both add: the owner's counter
        # makes the second of them conflict.
        first = table.partition_by[:1]
        owners = sorted(
            {f"replace/{p[name]}" for p in partitions for name in first} or {"replace/"}
        )
        app = [(owner, (delta.transaction_version(owner) or 0) + 1) for owner in owners]
        commit.commit_files(delta, table, [*actions, *removed], commit.properties(app, note))
        delta.update_incremental()
        return int(delta.version())

    def _check(self, table: Table, rows: "pl.DataFrame") -> None:
        for column in table.columns:
            if column.name not in rows.columns:
                raise ContractError(f"{table.id}: no column {column.name}")
            if not column.nullable and rows[column.name].null_count():
                nulls = rows[column.name].null_count()
                raise ContractError(f"{table.id}: {nulls} rows without {column.name}")


def _violations(table: Table, con: "duckdb.DuckDBPyConnection", relation: str) -> dict[str, int]:
    rules = table.conditions()
    counts = ", ".join(f"count_if(({sql}) is not true)" for sql in rules.values())
    found = con.execute(f"select {counts} from {relation}").fetchone() or ()
    broken = {rule: int(n) for rule, n in zip(rules, found, strict=True) if n}
    key = ", ".join(f'"{name}"' for name in table.key)
    twice = con.execute(
        f"select coalesce(sum(n - 1), 0)::BIGINT from (select count(*) as n from {relation} "
        f"group by {key} having count(*) > 1)"
    ).fetchone()
    if twice and twice[0]:
        broken[f"unique ({', '.join(table.key)})"] = int(twice[0])
    return broken


def _null_count(action: Any, column: str) -> int:
    import json

    return int(json.loads(action.stats)["nullCount"].get(column, 0))


def utc(text: str) -> int | datetime:
    """``VERSION`` or an ISO instant (UTC when it names no zone), as ``snapshot`` takes them.

    Raises:
        TidemillError: It is neither.
    """
    if text.isdigit():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise TidemillError(
            f"{text!r} is neither a version number nor a time like 2026-01-31T12:00"
        ) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
