"""Takes a topic into the lake with Spark: what is the same for a stream and for a batch.

Messages are decoded on the executors by the very code that the DuckDB path uses, so the package
must be installed there; they are judged by the feed's transforms, which are Ibis.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import spark_ddl, spark_type
from tidemill.engines.spark import spark_sql
from tidemill.errors import TidemillError
from tidemill.kafka.feed import Feed
from tidemill.kafka.judge import between
from tidemill.kafka.spans import Standing
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Table, Type, text_literal
from tidemill.lake.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

WORKER_MB = 512
"""What DuckDB may hold in each Python worker before it spills."""

_SAME = ("bootstrap.servers", "security.protocol", "sasl.kerberos.service.name", "client.id")
_LOGIN = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


def options(config: Mapping[str, Any]) -> dict[str, str]:
    """How Spark connects, in the Java client's names, from librdkafka's.

    Raises:
        TidemillError: One has no counterpart that is known here.
    """
    found = {f"kafka.{name}": str(config[name]) for name in _SAME if name in config}
    left = {name: str(value) for name, value in config.items() if name not in _SAME}
    mechanism = left.pop("sasl.mechanisms", left.pop("sasl.mechanism", None))
    if mechanism is not None:
        found["kafka.sasl.mechanism"] = mechanism
    user, password = left.pop("sasl.username", None), left.pop("sasl.password", None)
    if user is not None and mechanism in _LOGIN:
        quoted = (f"{n}={_java_text(v)}" for n, v in (("username", user), ("password", password)))
        found["kafka.sasl.jaas.config"] = f"{_LOGIN[mechanism]} required {' '.join(quoted)};"
    if "ssl.ca.location" in left:
        found["kafka.ssl.truststore.type"] = "PEM"
        found["kafka.ssl.truststore.location"] = left.pop("ssl.ca.location")
    if left:
        raise TidemillError(
            f"TIDEMILL_KAFKA_OPTIONS: {', '.join(sorted(left))} cannot be told to Spark; it takes "
            f"{', '.join(_SAME[1:])}, sasl.mechanism, sasl.username, sasl.password and "
            "ssl.ca.location, and has others in spark-defaults.conf"
        )
    return found


def _java_text(value: str | None) -> str:
    escaped = (value or "").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def decoded(topic: Topic, messages: Any) -> Any:
    """Decode messages on the executors; see ``decode.decode``.

    Args:
        topic: Its contract.
        messages: A frame as Spark's Kafka source gives it.

    Returns:
        A frame of partition, offset, produced_ms, error, event_ms, the topic's fields, and key and
        value of those that have an error.
    """
    frame = messages.selectExpr(
        "partition", "offset", "unix_millis(timestamp) as produced_ms", "key", "value"
    )
    return frame.mapInArrow(_Decoder(topic), spark_ddl(_decoded_columns(topic)))


def _decoded_columns(topic: Topic) -> dict[str, Type]:
    columns = {
        "partition": Type.INT,
        "offset": Type.BIGINT,
        "produced_ms": Type.BIGINT,
        "error": Type.STRING,
        "event_ms": Type.BIGINT,
    }
    columns |= {column.name: column.type for column in topic.value}
    return columns | {"key": Type.BLOB, "value": Type.BLOB}


class _Decoder:
    """Decodes the Arrow batches of one task."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        import polars as pl

        from tidemill.engines.duck import connection
        from tidemill.kafka.decode import decode

        columns = ", ".join(
            f'"{name}"::{type_.value} as "{name}"'
            for name, type_ in _decoded_columns(self.topic).items()
        )
        with connection(WORKER_MB) as con:
            con.execute("set threads = 1")  # the task has one core
            for batch in batches:
                frame = pl.DataFrame(pl.from_arrow(batch))
                decode(con, self.topic, frame)
                found: pa.RecordBatchReader = con.sql(
                    f"select {columns} from decoded"
                ).to_arrow_reader()
                yield from found


def judged(
    feed: Feed,
    held: Standing,
    messages: Any,
    present: Any,
    newest: Iterable[tuple[int, int]],
    ingested_ms: int,
    closed_ms: int | None = None,
) -> Any:
    """Judge decoded messages; see ``judge.judge``.

    Args:
        feed: What goes where.
        held: What the topic holds; names the messages' topic.
        messages: A frame as ``decoded`` gives it.
        present: Rows of the feed's table that are in already.
        newest: Partition and newest event (epoch ms) before these messages.
        ingested_ms: When they were read, epoch ms.
        closed_ms: Where windows were closed up to by then, epoch ms.

    Returns:
        A frame of the messages without error, with is_late, is_duplicate and watermark_ms.
    """
    spark = messages.sparkSession
    inputs = {name: feed.inputs()[name] for name in ("messages", "present", "newest")}
    topic, topic_id = text_literal(held.topic), text_literal(held.topic_id)
    good = messages.where("error is null").selectExpr(
        f"{topic} as topic",
        f"{topic_id} as topic_id",
        f"cast({ingested_ms} as bigint) as ingested_ms",
        f"cast({'null' if closed_ms is None else closed_ms} as bigint) as closed_ms",
        "*",
    )
    good.select(*inputs["messages"]).createOrReplaceTempView("messages")
    present.createOrReplaceTempView("present")
    marks = spark.createDataFrame(list(newest), spark_ddl(inputs["newest"]))
    marks.createOrReplaceTempView("newest")
    return spark.sql(spark_sql(feed.judged, inputs))


def rows(feed: Feed, messages: Any) -> Any:
    """The rows of the feed's table, with its types, out of ``judged`` messages."""
    messages.createOrReplaceTempView("judged")
    sql = spark_sql(feed.taken, {"judged": feed.inputs()["judged"]})
    return typed(feed.table, messages.sparkSession.sql(sql))


def typed(table: Table, frame: Any) -> Any:
    """A table's columns of a frame, with the contract's types."""
    return frame.selectExpr(
        *[f"cast(`{c.name}` as {spark_type(c.type)}) as `{c.name}`" for c in table.columns]
    )


def buried(feed: Feed, held: Standing, messages: Any) -> Any:
    """Dead letters out of ``decoded`` messages, as they came."""
    topic, topic_id = text_literal(held.topic), text_literal(held.topic_id)
    at = "cast(timestamp_millis(greatest(produced_ms, 0)) as timestamp_ntz)"
    return typed(
        feed.dead,
        messages.where("error is not null").selectExpr(
            f"{topic} as topic",
            f"{topic_id} as topic_id",
            *("partition", "offset", f"{at} as produced_at"),
            *("key", "value", "error", "null as replayed_at"),
        ),
    )


def present(spark: Any, rows: Snapshot, low_ms: int, high_ms: int) -> Any:
    """The rows of a table with an event from one instant (epoch ms) to another, both included."""
    table = rows.table
    files = between(rows, low_ms, high_ms).files
    ddl = spark_ddl({column.name: column.type for column in table.columns})
    if not files:
        return spark.createDataFrame([], ddl)
    folder = str(files[0].path).removesuffix(files[0].relative)
    reader = spark.read.schema(ddl).option("basePath", folder)
    return reader.parquet(*[str(file.path) for file in files]).where(
        f"event_time between cast(timestamp_millis({low_ms}) as timestamp_ntz) "
        f"and cast(timestamp_millis({high_ms}) as timestamp_ntz)"
    )


def refused(feed: Feed, messages: Any, admitted: Sequence[str], raw: Any) -> Any:
    """Put an error on decoded messages whose key is not among those ``admitted``.

    Args:
        feed: Has the key's name.
        messages: As ``decoded`` gives them.
        admitted: Message keys.
        raw: The frame that ``messages`` was decoded from, for what they were as they came.
    """
    from pyspark.sql import functions as f

    key = f.col(feed.topic.key)
    is_strange = f.col("error").isNull() & ~key.isin(*admitted)
    error = f.when(is_strange, f.concat(f.lit(feed.no_room), key)).otherwise(f.col("error"))
    came = raw.selectExpr("partition", "offset", "key as raw_key", "value as raw_value")
    told = messages.withColumn("is_strange", is_strange).withColumn("error", error)
    kept = [
        f.when(f.col("is_strange"), f.col(f"raw_{name}")).otherwise(f.col(name)).alias(name)
        for name in ("key", "value")
    ]
    others = [name for name in messages.columns if name not in ("key", "value")]
    return told.join(came, ["partition", "offset"], "left").select(*others, *kept)
