"""Spark as an engine, for data that outgrows a machine: the same transforms, the same tables."""

import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill import java
from tidemill.engines.base import Source, compiled, properties, spark_type
from tidemill.errors import ContractError
from tidemill.lake import duck, files
from tidemill.lake.contracts import Table, Type
from tidemill.lake.files import Staged
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, Written

if TYPE_CHECKING:
    import duckdb

DELTA = "io.delta:delta-spark_2.13:4.0.1"
DELTA_JARS = ("delta-spark_2.13-4.0.1", "delta-storage-4.0.1", "antlr4-runtime-4.13.1")
KAFKA = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.0"
KAFKA_JARS = (
    "spark-sql-kafka-0-10_2.13-4.0.0",
    "spark-token-provider-kafka-0-10_2.13-4.0.0",
    "kafka-clients-3.9.0",
    "commons-pool2-2.12.0",
)
IN_SPARK = "org.apache.hadoop:hadoop-client-runtime,org.apache.hadoop:hadoop-client-api"
"""What the connectors ask for and Spark brings itself: 50 MB that need not be fetched."""
IVY = Path.home() / ".cache" / "tidemill" / "ivy"
"""Where the connectors are kept once fetched, so that a start asks no network."""

_SUM_IN_ORDER = re.compile(r"\bSUM_IN_ORDER\(\s*([^(),]+?)\s*,\s*([^(),]+?)\s*\)", re.IGNORECASE)


def session(master: str) -> Any:
    """A Spark session in UTC for the lake's tables and for topics; the one that runs, if any.

    The connectors are fetched once from Maven by the Ivy inside pyspark.

    Args:
        master: ``local[*]``, or a cluster's URL; other settings come from ``spark-defaults.conf``.

    Raises:
        TidemillError: There is no Java and none could be fetched.
    """
    os.environ["JAVA_HOME"] = str(java.home())
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    builder = (
        SparkSession.builder.appName("tidemill")
        .master(master)
        .config(*_connectors())
        .config("spark.jars.excludes", IN_SPARK)
        .config("spark.log.level", "ERROR")
        .config("spark.jars.ivy", str(IVY))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.timestampType", "TIMESTAMP_NTZ")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.databricks.delta.snapshotPartitions", "2")
    )
    if master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1")
        builder = builder.config("spark.sql.shuffle.partitions", "4")
    return builder.getOrCreate()


def _connectors() -> tuple[str, str]:
    """The setting that brings the connectors: their jars once fetched, else their names.

    Always both, as a session that runs cannot be given another.
    """
    jars = IVY / "jars"
    found = [next(jars.glob(f"*{name}*.jar"), None) for name in DELTA_JARS + KAFKA_JARS]
    if all(found):
        return "spark.jars", ",".join(str(jar) for jar in found)
    return "spark.jars.packages", f"{DELTA},{KAFKA}"


class SparkEngine:
    """Runs transforms in Spark."""

    name = "spark"

    def __init__(self, master: str = "local[*]") -> None:
        """Nothing starts before the first transform."""
        self.master = master
        self._session: Any = None

    def write(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
        partitions: Sequence[Partition],
        still: Callable[[], bool],
    ) -> Written:
        """As ``Engine.write`` says."""
        with self._frame(table, transform, sources) as (frame, sql):

            def stage() -> Staged:
                _refuse_rows(table, frame)
                with duck.cursor() as con:
                    return staged(lake, table, frame, con)

            frame.persist()
            try:
                told = properties(self.name, sources)
                return lake.replace_by(table, stage, sql, partitions, told, still)
            finally:
                frame.unpersist()

    def stage(
        self,
        lake: Lake,
        table: Table,
        transform: Callable[..., Any],
        sources: Mapping[str, Source],
    ) -> Staged:
        """As ``Engine.stage`` says."""
        with self._frame(table, transform, sources) as (frame, _), duck.cursor() as con:
            return staged(lake, table, frame, con)

    @contextmanager
    def _frame(
        self, table: Table, transform: Callable[..., Any], sources: Mapping[str, Source]
    ) -> Iterator[tuple[Any, str]]:
        """The transform's rows with the table's types, while the block runs, and its SQL."""
        if self._session is None:
            self._session = session(self.master)
        sql = spark_sql(transform, {name: s.columns for name, s in sources.items()})
        for name, source in sources.items():
            source.spark(self._session).createOrReplaceTempView(name)
        typed = [f"cast(`{c.name}` as {spark_type(c.type)}) as `{c.name}`" for c in table.columns]
        with folded_once(self._session, sql) as rows:
            yield rows.selectExpr(*typed), sql

    def close(self) -> None:
        """Stop the session, and with it the JVM's work."""
        if self._session is not None:
            self._session.stop()
            self._session = None


def staged(lake: Lake, table: Table, frame: Any, con: "duckdb.DuckDBPyConnection") -> Staged:
    """Have Spark write a frame, and take its files to the table's.

    Spark's own writer to Delta would record one application transaction at most, and the range of
    personal columns.

    Args:
        lake: Where the table is.
        table: What its rows are for.
        frame: The table's columns, with its types.
        con: Looks at the files.
    """
    # Beside the tables: Spark keeps files of its own in a folder while it writes there.
    beside = lake.root / ".spark" / uuid.uuid4().hex
    if table.partition_by:
        frame = frame.hint("rebalance", *table.partition_by)
    elif table.sort_by:
        frame = frame.repartition(1)  # one file, whose order is the table's
    if table.sort_by:
        frame = frame.sortWithinPartitions(*table.partition_by, *table.sort_by)
    try:
        writer = frame.write.option("compression", "zstd")
        writer.partitionBy(*table.partition_by).parquet(str(beside))
        return files.adopted(table, con, beside, lake.folder(table))
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _refuse_rows(table: Table, frame: Any) -> None:
    """Hold every row of a frame to the rules on a single row.

    Raises:
        ContractError: One breaks them.
    """
    rules = table.conditions()
    if not rules:
        return
    counts = [f"count_if(({_condition(sql)}) is not true)" for sql in rules.values()]
    found = zip(rules, frame.selectExpr(*counts).first(), strict=True)
    broken = [f"{n} rows break '{rule}'" for rule, n in found if n]
    if broken:
        raise ContractError(f"{table.id}: {'; '.join(broken)}")


def _condition(sql: str) -> str:
    """A contract's condition, which is DuckDB's, in Spark's terms."""
    finite = r"(not isnan(\1) and abs(\1) < double('Infinity'))"
    return re.sub(r"\bisfinite\(([^()]*)\)", finite, sql).replace('"', "`")


@contextmanager
def folded_once(session: Any, sql: str) -> Iterator[Any]:
    """The rows of a query that Ibis wrote, while the block runs.

    Ibis names the parts that a query uses more than once, and Spark would compute such a part each
    time; one that groups, has distinct rows, or looks at others by a window is kept instead.
    """
    import sqlglot
    from sqlglot import exp

    dialect = _dialect()
    tree = sqlglot.parse_one(sql, dialect=dialect)
    parts = tree.find(exp.With)
    if parts is None:
        yield session.sql(sql)
        return
    parts.pop()
    with ExitStack() as kept:
        for part in parts.expressions:
            rows = session.sql(part.this.sql(dialect=dialect))
            if part.this.find(exp.Group, exp.Distinct, exp.Window):
                rows.persist()
            rows.createOrReplaceTempView(part.alias)
            kept.callback(session.catalog.dropTempView, part.alias)  # which forgets its rows, too
        yield session.sql(tree.sql(dialect=dialect))


def spark_sql(transform: Callable[..., Any], inputs: Mapping[str, Mapping[str, Type]]) -> str:
    """``compiled`` for Spark, which has no ``sum_in_order``; DuckDB's is a macro."""
    return _SUM_IN_ORDER.sub(
        r"case when count(\1) > 0 then aggregate(array_sort(collect_list("
        r"case when \1 is not null then struct(\2 as k, \1 as v) end)), "
        r"0D, (total, row) -> total + row.v) end",
        compiled(transform, inputs, _dialect()),
    )


def _dialect() -> str:
    """Ibis' name of Spark's SQL, which sqlglot knows from then on."""
    import ibis

    ibis.pyspark  # noqa: B018  the attribute loads the dialect and its options
    return "pyspark"
