"""What one would write by hand: confluent-kafka, JSON in DuckDB, and a group by into Parquet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill.engines.duck import connection
from tidemill.errors import TidemillError
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import text_literal

_FIELDS = (
    '{"event_time":"VARCHAR","event_type":"VARCHAR","product_id":"BIGINT","category_id":"BIGINT",'
    '"category_code":"VARCHAR","brand":"VARCHAR","price":"DOUBLE","user_id":"BIGINT",'
    '"user_session":"VARCHAR"}'
)
_RAW = f"""
    select e.* exclude (event_time), replace(e.event_time, ' UTC', '')::timestamp as event_at,
           time_bucket(interval 2 second, event_at) as window_start
    from (select json_transform(value, '{_FIELDS}') as e from batch)
"""
_BOUGHT = "sum(price) filter (event_type = 'purchase')"
_WINDOWS = {
    "event_counts": "event_type, window_start, count(*) as event_count, sum(price) as total_value",
    "brand_metrics": "brand, event_type, window_start, count(*) as event_count, "
    f"sum(price) as total_value, coalesce({_BOUGHT}, 0) as revenue",
    "category_metrics": "nullif(split_part(category_code, '.', 1), '') as top_category, "
    "window_start, count_if(event_type = 'view') as views, count_if(event_type = 'cart') as carts, "
    "count_if(event_type = 'purchase') as purchases, count(*) as events, "
    f"coalesce({_BOUGHT}, 0) as revenue",
}


def windows(config: Mapping[str, Any], topic: Topic, events: int, batch: int, folder: Path) -> None:
    """Read a topic from its start into Parquet, and group that by windows, all of it at once.

    It checks nothing, and keeps no offsets: what it is killed in is lost, or there twice.

    Args:
        config: How clients connect, in librdkafka's names.
        topic: What to read.
        events: How many it holds.
        batch: How many are decoded at a time.
        folder: Where the files go.
    """
    from confluent_kafka import Consumer, TopicPartition

    raw = folder / "raw"
    raw.mkdir(parents=True)
    told = {"group.id": "bare", "enable.auto.commit": False}
    consumer = Consumer(dict(config) | told)
    consumer.assign([TopicPartition(topic.name, n, 0) for n in range(topic.partitions)])
    values: list[bytes] = []
    seen = 0
    with connection() as con:
        while seen < events:
            for message in consumer.consume(10_000, 1.0):
                if message.error() is not None:
                    raise TidemillError(f"the bare script: {message.error()}")
                values.append(message.value() or b"")
                seen += 1
            if len(values) >= batch or seen == events:
                _decode(con, values, raw / f"{seen}.parquet")
                values.clear()
        for name, columns in _WINDOWS.items():
            con.execute(
                f"copy (select {columns} from {relation(folder, 'raw')} group by all) "
                f"to {text_literal(str(folder / f'{name}.parquet'))}"
            )
    consumer.close()


def relation(folder: Path, name: str) -> str:
    """SQL of what was written under a name."""
    path = folder / name / "*.parquet" if name == "raw" else folder / f"{name}.parquet"
    return f"read_parquet({text_literal(str(path))})"


def _decode(con: Any, values: list[bytes], path: Path) -> None:
    import polars as pl

    column = pl.Series("value", values, dtype=pl.Binary).cast(pl.String)
    con.register("batch", pl.DataFrame(column).to_arrow())
    con.execute(f"copy ({_RAW}) to {text_literal(str(path))}")
