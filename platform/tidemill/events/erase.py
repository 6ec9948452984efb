"""Erases one user from the tables of events, and leaves a receipt.

The user's rows stay, without user and session, so that offsets, counts and revenue still add up.
Which tables that is about their contracts say: those with a personal column. Windows by type, brand
and category have none, and count the same rows as before, so they are not touched.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from tidemill.engines.duck import connection
from tidemill.events import contracts as c
from tidemill.events.following import FOLLOWERS
from tidemill.events.intake.landing import EventLanding
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.events.traces import Traces, erase_lines
from tidemill.kafka.feed import Feed, roll_forward
from tidemill.lake.contracts import Column, Table, polars_schema
from tidemill.lake.purge import PATIENCE_S, purge
from tidemill.lake.rewrite import holding, listed, rewrite
from tidemill.lake.snapshot import Snapshot
from tidemill.windows.follow import follow

if TYPE_CHECKING:
    import duckdb

TABLES = (*c.TABLES, *r.TABLES)
MADE = (*r.TABLES, c.VISITS)
"""The tables that ``Events`` makes of all events."""
_TAKEN = tuple(table for table in TABLES if table not in MADE)

NOTE = ".erasing"
"""In the landing folder, while an erasure is under way: whose, so that a crash cannot hide it."""

REFUSED = "refused"
VACUUM_AFTER = timedelta(days=7)
SEGMENT = timedelta(days=7)
"""A message may be deleted that much later than retention says: Kafka's own ``segment.ms``."""

_ROWS = 10_000
_ERASED = "erased"


def personal(table: Table) -> tuple[Column, ...]:
    """The columns that tell who somebody is."""
    return tuple(column for column in table.columns if column.is_personal)


def by_user() -> list[Table]:
    """The tables of events: their rows say whose they are."""
    return [t for t in _TAKEN if any(column.name == "user_id" for column in personal(t))]


def by_text() -> list[Table]:
    """The tables of what could not be used: their rows hold text that may speak of anybody."""
    return [table for table in _TAKEN if personal(table) and table not in by_user()]


@dataclass(frozen=True)
class Request:
    """An erasure under way.

    Attributes:
        user_id: Whose.
        receipt_id: Its name.
        requested_at: When it began, UTC.
    """

    user_id: int
    receipt_id: str
    requested_at: datetime


@dataclass(frozen=True)
class Receipt:
    """A row of ``ERASURES``; see there."""

    receipt_id: str
    table_name: str
    action: str
    rows: int
    version: int | None
    files_deleted: int | None
    requested_at: datetime
    done_at: datetime
    vacuum_due_at: datetime | None
    topic_until: datetime


@dataclass(frozen=True)
class Erased:
    """What an erasure did.

    Attributes:
        receipts: A row a table; none where nothing was found.
        left: Where values of the user may be still, and until when.
    """

    receipts: Sequence[Receipt]
    left: Sequence[str]


@dataclass
class Eraser:
    """Erases users from a lake's tables of events, beside whoever else reads and writes them.

    Attributes:
        events: Makes again what depends on the events.
        feed: The topic's tables; Kafka itself is not asked.
        landing: Takes files; none lands while its tables change.
        patience_s: How long to wait for readers and writers before their old files are deleted.
    """

    events: Events
    feed: Feed
    landing: EventLanding
    patience_s: float = PATIENCE_S
    _unread: list[str] = field(default_factory=list, init=False)

    def erase(self, user_id: int, is_purged: bool = False) -> Erased:
        """Erase a user from every table; what comes of them later is not touched.

        Asked again it does nothing. What a crash interrupted the next call finishes first,
        whoever it is for.

        Args:
            user_id: Whose rows; sessions that are theirs alone are erased with them.
            is_purged: Whether to delete the older versions of these tables at once too, so that
                none can be read or restored; see ``purge``.

        Raises:
            TidemillError: Others were faster again and again, or read older versions all the time;
                what is done is done, and the next call goes on.
        """
        self.landing.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.landing.folder / f"{NOTE}.lock"):
            begun = self._begun()
            if begun is not None and begun.user_id != user_id:
                self._run(begun, is_purged)
                begun = None
            return self._run(begun or _request(user_id), is_purged)

    @property
    def _note(self) -> Path:
        return self.landing.folder / NOTE

    def _begun(self) -> Request | None:
        """What a crash interrupted; a note that was cut short stands before any change."""
        try:
            told = json.loads(self._note.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        at = datetime.fromisoformat(told["requested_at"])
        return Request(told["user_id"], told["receipt_id"], at)

    def _run(self, request: Request, is_purged: bool) -> Erased:
        told = {**asdict(request), "requested_at": request.requested_at.isoformat()}
        self._note.write_text(json.dumps(told))
        self._unread = []
        roll_forward(self.events.lake, self.feed)
        lines = self._erase_all(request)
        tables = [t for t in (*by_text(), *by_user()) if self.events.lake.snapshot(t).version >= 0]
        changed = {table.name: self._changed(table, request) for table in tables}
        is_found = bool(lines or sum(rows for rows, _ in changed.values()))
        made = self._made_again(request) if is_found or self._is_made(request.user_id) else {}
        deleted = self._purged() if is_purged else {}
        if is_found or made or sum(deleted.values()):
            receipts = self._receipts(request, lines, changed, made, deleted, is_purged)
            self._write(receipts)
        else:
            receipts = []
        self._note.unlink()
        return Erased(receipts, self._left(receipts, is_purged))

    def _erase_all(self, request: Request) -> int:
        """Erase from all tables that are not made of others, and from refused files; lines gone.

        Text goes first: which sessions were the user's is known as long as the events tell it.
        """
        with connection(self.landing.memory_limit_mb) as con, self.landing.held():
            con.execute("set preserve_insertion_order = true")
            traces = Traces.of(request.user_id, self._sessions(con, request.user_id))
            for table in by_text():
                self._erase_texts(con, table, traces, request)
            lines, self._unread = erase_lines(self.landing.folder / REFUSED, traces)
            for table in by_user():
                if table in [follower.table for follower in FOLLOWERS]:
                    # Where it stands behind the events, it would take the user from older files.
                    follow(self.events.lake, self.feed, FOLLOWERS, self.events.engine)
                self._erase_rows(con, table, request)
        return lines

    def _sessions(self, con: "duckdb.DuckDBPyConnection", user_id: int) -> list[str]:
        """The sessions that the user had, and nobody else."""
        scans = [self.events.lake.snapshot(table).scan() for table in by_user()]
        events = " union all ".join(f"select user_id, user_session from {scan}" for scan in scans)
        found = con.execute(
            f"""
            with events as ({events}), mine as materialized (
                select distinct user_session from events where user_id = {user_id}
            )
            select user_session from events where user_session in (from mine)
            group by 1 having count(distinct user_id) = 1
            """
        ).fetchall()
        return [session for (session,) in found]

    def _erase_rows(self, con: "duckdb.DuckDBPyConnection", table: Table, request: Request) -> None:
        mine = f"user_id = {request.user_id}"
        empty = ", ".join(
            f'case when {mine} is true then null else "{column.name}" end as "{column.name}"'
            for column in personal(table)
        )
        rewrite(
            self.events.lake,
            table,
            con,
            lambda now: holding(now, con, mine),
            lambda rows: f"select * replace ({empty}) from {rows}",
            lambda rows: _noted(con, request, f"{rows} where {mine}"),
        )

    def _erase_texts(
        self, con: "duckdb.DuckDBPyConnection", table: Table, traces: Traces, request: Request
    ) -> None:
        keys = ", ".join(f'"{name}"' for name in table.key)
        hit = f"({keys}) in (select ({keys}) from hits)"
        empty = ", ".join(
            f"case when {hit} then {'null' if column.nullable else repr(_ERASED)} "
            f'else "{column.name}" end as "{column.name}"'
            for column in personal(table)
        )
        rewrite(
            self.events.lake,
            table,
            con,
            lambda now: _speaking(con, now, traces),
            lambda rows: f"select * replace ({empty}) from {rows}",
            lambda rows: _noted(con, request, f"{rows} where {hit}"),
        )

    def _changed(self, table: Table, request: Request) -> tuple[int, int | None]:
        """The rows changed and the last version that did it; the table's history knows them.

        So those of before a crash are among them.
        """
        commits = self.events.lake.history(table)
        mine = [told for told in commits if told.get("erasure") == request.receipt_id]
        rows = sum(int(told["erased_rows"]) for told in mine)
        return rows, max((told["version"] for told in mine), default=None)

    def _is_made(self, user_id: int) -> bool:
        """Whether a table that is made of others has the user still."""
        tables = [table for table in MADE if any(x.name == "user_id" for x in table.columns)]
        with connection(self.landing.memory_limit_mb) as con:
            return any(
                con.execute(
                    f"select 1 from {self.events.lake.snapshot(table).scan()} "
                    f"where user_id = {user_id} limit 1"
                ).fetchone()
                for table in tables
            )

    def _made_again(self, request: Request) -> dict[str, int]:
        """Make again what there is of the tables made of events; the version of each."""
        makers = self.events.makers()
        there = [table for table in MADE if self.events.lake.snapshot(table).version >= 0]
        return {table.name: makers[table.name]().version for table in there}

    def _purged(self) -> dict[str, int]:
        lake = self.events.lake
        return {
            table.name: purge(lake, table, lambda: roll_forward(lake, self.feed), self.patience_s)
            for table in TABLES
            if personal(table)
        }

    def _receipts(
        self,
        request: Request,
        lines: int,
        changed: dict[str, tuple[int, int | None]],
        made: dict[str, int],
        deleted: dict[str, int],
        is_purged: bool,
    ) -> list[Receipt]:
        now, at = _now(), request.requested_at
        due = None if is_purged else now + VACUUM_AFTER
        until = now + self.feed.topic.retention + SEGMENT

        def receipt(
            name: str, action: str, rows: int, version: int | None, files: int | None
        ) -> Receipt:
            what = (request.receipt_id, name, action, rows, version, files)
            return Receipt(*what, at, now, due, until)

        done = [
            receipt(name, _ERASED, rows, version, deleted.get(name))
            for name, (rows, version) in changed.items()
        ]
        done += [receipt(t, "made again", 0, made[t], deleted.get(t)) for t in made]
        if lines:
            done.append(receipt(REFUSED, _ERASED, lines, None, None))
        return done

    def _write(self, receipts: Sequence[Receipt]) -> None:
        import polars as pl

        name = f"erasure/{receipts[0].receipt_id}"
        frame = pl.DataFrame([asdict(row) for row in receipts], schema=polars_schema(c.ERASURES))
        self.events.lake.append(c.ERASURES, frame, name, 1)

    def _left(self, receipts: Sequence[Receipt], is_purged: bool) -> list[str]:
        left = []
        if receipts:
            left.append(
                f"Kafka holds the messages until {receipts[0].topic_until:%Y-%m-%d} at the latest; "
                "a topic that is read again from its start brings them back"
            )
        if receipts and not is_purged:
            left.append(
                "older versions of the tables have the values until vacuum deletes them, from "
                f"{receipts[0].vacuum_due_at:%Y-%m-%d} on; --vacuum does it at once"
            )
        inbox = self.landing.folder / "inbox"
        if inbox.is_dir() and any(inbox.iterdir()):
            left.append("files in the inbox have not landed yet, and were not looked at")
        if self._unread:
            left.append(f"refused files that cannot be read: {', '.join(self._unread)}")
        return left


def _request(user_id: int) -> Request:
    return Request(user_id, uuid.uuid4().hex, _now())


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _noted(con: "duckdb.DuckDBPyConnection", request: Request, changed: str) -> dict[str, str]:
    """What a commit says: which erasure it is of, and of how many rows; not whose."""
    ((rows,),) = con.execute(f"select count(*) from {changed}").fetchall()
    return {"erasure": request.receipt_id, "erased_rows": str(rows)}


def _speaking(con: "duckdb.DuckDBPyConnection", now: Snapshot, traces: Traces) -> Snapshot:
    """Only the files with a row that speaks of the user; the keys of these rows are in ``hits``."""
    import polars as pl

    table, names = now.table, set()
    # Why a row or a message was refused quotes from it, and says what would have been right.
    came = [column.name for column in personal(table) if column.name not in ("error", "reason")]
    texts = ", ".join(f'"{name}"' for name in came)
    keys = ", ".join(f'"{name}"' for name in table.key)
    schema = {name: polars_schema(table)[name] for name in table.key}
    hits: list[Sequence[Any]] = []
    if now.files:
        relation = listed(file.path for file in now.files)
        for row in _each(con, f"select filename, {keys}, {texts} from {relation}"):
            key, told = row[1 : 1 + len(table.key)], row[1 + len(table.key) :]
            if any(map(traces.are_in, told)):
                names.add(row[0])
                hits.append(key)
    con.register("hits", pl.DataFrame(hits, schema=schema, orient="row").to_arrow())
    return now.only(lambda file: str(file.path) in names)


def _each(con: "duckdb.DuckDBPyConnection", sql: str) -> Iterator[tuple[Any, ...]]:
    found = con.cursor().execute(sql)
    while rows := found.fetchmany(_ROWS):
        yield from rows
