"""Judges decoded messages in DuckDB, with the feed's own transforms."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING

from tidemill.engines.base import compiled
from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Standing
from tidemill.lake.contracts import text_literal
from tidemill.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb


DAY_MS = 86_400_000
EPOCH = date(1970, 1, 1)


def between(rows: Snapshot, low_ms: int, high_ms: int) -> Snapshot:
    """The files of the UTC days from one instant (epoch ms) to another, both included."""
    first, last = (str(EPOCH + timedelta(ms // DAY_MS)) for ms in (low_ms, high_ms))
    return rows.only(lambda file: first <= file.partition["date"] <= last)


def judge(
    con: "duckdb.DuckDBPyConnection",
    feed: Feed,
    held: Standing,
    present: str,
    newest: Iterable[tuple[int, int]],
    ingested_ms: int,
    closed: str = "null",
    decoded: str = "decoded",
) -> None:
    """Make ``judged`` out of ``decoded``: the messages without error, late and duplicate or not.

    Args:
        con: Where ``decoded`` is.
        feed: What goes where.
        held: What the topic holds; names the messages' topic.
        present: SQL of rows of the feed's table that are in already; it may ask ``messages``.
        newest: Partition and newest event (epoch ms) before these messages.
        ingested_ms: When they were read, epoch ms.
        closed: SQL of where windows were closed up to by then, epoch ms; it may ask ``decoded``.
        decoded: A relation as ``decode`` makes it; key and value may lack.
    """
    topic, topic_id = text_literal(held.topic), text_literal(held.topic_id)
    columns = ", ".join(f'"{name}"' for name in feed.inputs()["messages"])
    con.execute(
        f"create or replace temp view messages as select {columns} from (select {topic} as topic, "
        f"{topic_id} as topic_id, {ingested_ms}::bigint as ingested_ms, "
        f"({closed})::bigint as closed_ms, * from {decoded} where error is null)"
    )
    con.execute("create or replace temp table newest (partition integer, newest_ms bigint)")
    for partition, newest_ms in newest:
        con.execute("insert into newest values (?, ?)", [partition, newest_ms])
    con.execute(f"create or replace temp view present as {present}")
    inputs = {name: feed.inputs()[name] for name in ("messages", "present", "newest")}
    con.execute(f"create or replace temp table judged as {compiled(feed.judged, inputs, 'duckdb')}")


def nothing(feed: Feed) -> str:
    """SQL of no row of the feed's table."""
    each = ", ".join(f'null::{c.type.value} as "{c.name}"' for c in feed.table.columns)
    return f"select {each} where false"


def taken_sql(feed: Feed) -> str:
    """SQL of the rows of the feed's table out of ``judged``."""
    return compiled(feed.taken, {"judged": feed.inputs()["judged"]}, "duckdb")
