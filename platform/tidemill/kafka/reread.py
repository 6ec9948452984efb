"""Reads a topic as a batch: from an offset to another in one pass, in DuckDB or in Spark.

What comes out are the rows that the feed's table would have, had the messages come at once, so that
the stream can be held against them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError
from tidemill.kafka import reader
from tidemill.kafka.decode import decode
from tidemill.kafka.feed import Feed
from tidemill.kafka.judge import judge, nothing, taken_sql
from tidemill.kafka.spans import Span, Standing

if TYPE_CHECKING:
    import duckdb

ROWS = "replayed"


def whole(held: Standing) -> list[Span]:
    """All that a topic holds, from the earliest offset of each partition."""
    return [Span(p, low, high) for p, (low, high) in sorted(held.marks.items()) if low < high]


def read(
    con: "duckdb.DuckDBPyConnection",
    feed: Feed,
    config: Mapping[str, Any],
    held: Standing,
    spans: Sequence[Span],
    present: str | None = None,
    newest: Mapping[int, int] | None = None,
    without: str | None = None,
    closed: str | None = None,
) -> str:
    """Read spans into a temporary table with the columns of the feed's table.

    Every message key is admitted; ``without`` tells which ones were not.

    Args:
        con: Where the table is made.
        feed: What a message becomes.
        config: How clients connect, in librdkafka's names.
        held: What the topic holds.
        spans: At most one a partition.
        present: SQL of rows of the feed's table that came before; None where there are none.
        newest: Newest event (epoch ms) before the span, by partition.
        without: SQL of partition and offset of messages to pass over.
        closed: SQL of partition, start and closed_then: where windows were closed up to (epoch ms)
            when the messages from an offset on were read; None where none ever were.

    Returns:
        The table's name.

    Raises:
        OffsetsLost: The broker no longer holds some of it.
        TidemillError: The broker fails.
    """
    con.execute("drop table if exists good")
    for n, chunk in enumerate(reader.chunks(config, feed.topic.name, spans)):
        decode(con, feed.topic, chunk)
        how = "insert into good" if n else "create temp table good as"
        con.execute(f"{how} select * exclude (key, value) from decoded where error is null")
    if not spans:
        raise TidemillError(f"topic {feed.topic.name}: no offsets to read were named")
    left = f'anti join ({without}) using ("partition", "offset")' if without else ""
    then = ""
    if closed:
        con.execute(f"create or replace temp table closings as {closed}")
        then = (
            'asof left join closings on good."partition" = closings."partition" '
            'and good."offset" >= closings."start"'
        )
    con.execute(
        f"create or replace temp view decoded_once as select good.*{', closed_then' * bool(closed)}"
        f" from (from good {left}) good {then}"
    )
    judge(
        con,
        feed,
        held,
        present or nothing(feed),
        (newest or {}).items(),
        0,
        "closed_then" if closed else "null",
        "decoded_once",
    )
    con.execute(f"create or replace temp table {ROWS} as {taken_sql(feed)}")
    con.execute("drop table good")
    return ROWS


def read_with_spark(
    session: Any, feed: Feed, config: Mapping[str, Any], held: Standing, spans: Sequence[Span]
) -> Any:
    """Read spans into a Spark frame with the columns of the feed's table.

    Args:
        session: A Spark session with the Kafka connector.
        feed: What a message becomes; every message key is admitted.
        config: How clients connect, in librdkafka's names.
        held: What the topic holds.
        spans: At most one a partition.
    """
    from tidemill.engines.base import spark_ddl
    from tidemill.kafka import spark as parts

    ends = {
        f"{end}ingOffsets": {feed.topic.name: {span.partition: span[at] for span in spans}}
        for at, end in ((1, "start"), (2, "end"))
    }
    frame = session.read.format("kafka").options(**parts.options(config))
    chosen = {feed.topic.name: [span.partition for span in spans]}
    frame = frame.option("assign", json.dumps(chosen))
    for name, offsets in ends.items():
        frame = frame.option(name, json.dumps(offsets))
    messages = parts.decoded(feed.topic, frame.load())
    columns = {column.name: column.type for column in feed.table.columns}
    nothing = session.createDataFrame([], spark_ddl(columns))
    return parts.rows(feed, parts.judged(feed, held, messages, nothing, (), 0))
