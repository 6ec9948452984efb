"""Spark Structured Streaming as the continuous writer of a feed's tables: the cluster form.

Each micro-batch is judged as every other way of taking messages does it, Spark writes its Parquet
files, and the driver commits them through the feed's ledger. Exactly once therefore does not hang
on Spark's checkpoint: what the ledger has is left out, whoever took it, and a batch that Spark
repeats after a crash finds its offsets taken.

Spark's own ``withWatermark`` is not used. It drops what comes behind the watermark, and its state
lives in the checkpoint alone; here such a message is kept and flagged as late, its watermark (the
topic's ``grace_ms`` behind the newest event of its partition) is in the ledger, and a daily window
is made again from the table for each day that a batch has touched, by the transform of the batch.
"""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill.engines.spark import staged
from tidemill.errors import TidemillError
from tidemill.kafka import feed as feeds
from tidemill.kafka import spark as parts
from tidemill.kafka.batch import Batch, known_keys, taken
from tidemill.kafka.spans import Span, plan, refuse_another
from tidemill.kafka.subscription import Subscription
from tidemill.lake import stream
from tidemill.lake.contracts import Table
from tidemill.lake.files import NewFile

BATCH_MESSAGES = 1_000_000
"""Messages of a micro-batch at most."""

EVERY_S = 1
WAIT_S = 1.0

Offsets = dict[int, int]
"""The next offset by partition."""


@dataclass(frozen=True)
class Taken:
    """What a micro-batch did.

    Attributes:
        rows: Added to the feed's table.
        dead: Dead letters.
        dates: UTC days that have new rows, ISO.
    """

    rows: int
    dead: int
    dates: tuple[str, ...]


@dataclass
class Stream:
    """A topic that flows into a feed's tables through Spark.

    Attributes:
        subscription: The feed, its lake and its broker.
        session: A Spark session with the Kafka connector.
        checkpoints: Where Spark writes down its progress, a folder a topic and topic id.
        told: Asked after each micro-batch that took something, in another thread.
        beat: Called about once a second, and at the end.
        is_over: Asked as often, whether to stop behind the micro-batch at work.
        batch_messages: Messages of a micro-batch at most.
    """

    subscription: Subscription
    session: Any
    checkpoints: Path
    told: Callable[[Taken], None] = lambda _: None
    beat: Callable[[], None] = lambda: None
    batch_messages: int = BATCH_MESSAGES
    is_over: Callable[[], bool] = lambda: False
    failure: BaseException | None = field(default=None, init=False)
    _at_work: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, is_once: bool = False) -> None:
        """Take messages until it is over, or, with ``is_once``, what there is now.

        Raises:
            OffsetsLost: The broker no longer holds what is to be read next.
            TidemillError: The broker, Spark, or a batch fails.
        """
        from pyspark.errors import StreamingQueryException

        self.held = self.subscription.held()
        self.checkpoint = self.checkpoints / self.held.topic / self.held.topic_id
        feeds.roll_forward(self.subscription.lake, self.subscription.feed)
        query = self._query(self._starts(), is_once)
        try:
            while not query.awaitTermination(WAIT_S):
                if self.is_over():
                    # Of a batch that begins now Spark would tell in many lines that it was ended.
                    self.session.sparkContext.setLogLevel("OFF")
                    with self._at_work:
                        query.stop()
                    return
                self.beat()
            self.beat()
        except StreamingQueryException as error:
            if isinstance(self.failure, TidemillError):
                raise self.failure from None
            told = (str(error).strip() or "no message").splitlines()[0]
            raise TidemillError(
                f"{self.held.topic}: Spark ended the stream: {told}; nothing is lost, and the "
                "stream goes on from where the lake stands when it is started again"
            ) from error
        finally:
            query.stop()

    def _query(self, starts: Offsets, is_once: bool) -> Any:
        reader = self.session.readStream.format("kafka")
        for name, value in parts.options(self.subscription.config).items():
            reader = reader.option(name, value)
        writer = (
            reader.option("subscribe", self.held.topic)
            .option("startingOffsets", json.dumps({self.held.topic: starts}))
            .option("maxOffsetsPerTrigger", self.batch_messages)
            .load()
            .writeStream.foreachBatch(self._guarded)
            .option("checkpointLocation", str(self.checkpoint))
        )
        if is_once:
            return writer.trigger(availableNow=True).start()
        return writer.trigger(processingTime=f"{EVERY_S} seconds").start()

    def _starts(self) -> Offsets:
        """Where each partition is to be read from, by the lake.

        A checkpoint that tells otherwise is put away: the lake alone knows what it holds.
        """
        at = feeds.reached(self.subscription.lake, self.subscription.feed, self.held)
        plan(at, self.held, 1)
        starts = {p: at.get(p, low) for p, (low, _) in self.held.marks.items()}
        self.stood = dict(at)
        if not self._agrees(starts):
            shutil.rmtree(self.checkpoint, ignore_errors=True)
        return starts

    def _agrees(self, starts: Offsets) -> bool:
        """Whether Spark's checkpoint, if there is one, goes on where the lake stands."""
        folder = self.checkpoint / "offsets"
        last = max((int(p.name) for p in folder.glob("[0-9]*") if p.name.isdecimal()), default=None)
        if last is None:
            return False
        before, after = self._planned(last - 1), self._planned(last)
        commit = self.checkpoint / "commits" / str(last)
        if commit.exists():
            before = after
        else:  # its checksum alone would keep Spark from writing it again
            commit.with_name(f".{last}.crc").unlink(missing_ok=True)
        # A micro-batch that Spark did not end is done again; the lake may have it.
        return all(
            p in before and p in after and before[p] <= start <= after[p]
            for p, start in starts.items()
        )

    def _planned(self, number: int) -> Offsets:
        """The offsets that a micro-batch ends before; of the one before the first, the start."""
        folder = self.checkpoint
        path = folder / "sources" / "0" / "0" if number < 0 else folder / "offsets" / str(number)
        try:
            told = json.loads(path.read_text().splitlines()[-1])
        except (OSError, ValueError, IndexError):
            return {}
        return {int(p): int(at) for p, at in told.get(self.held.topic, {}).items()}

    def _guarded(self, frame: Any, number: int) -> None:
        # Spark tells of a failure in many lines of another language; the cause is kept.
        try:
            if not self._at_work.acquire(blocking=False):
                raise TidemillError("the stream is over")
            try:
                self.take(frame, number)
            finally:
                self._at_work.release()
        except BaseException as error:
            self.failure = error
            raise

    def take(self, frame: Any, number: int) -> None:
        """Take a micro-batch into the tables; what the lake has of it is left out.

        Raises:
            TidemillError: The lake stands before the batch, or the topic is another one by now.
        """
        sub = self.subscription
        starts, stops = self._planned(number - 1), self._planned(number)
        if not stops:
            raise TidemillError(
                f"{self.held.topic}: {self.checkpoint} does not tell the offsets of micro-batch "
                f"{number}; start the stream again"
            )
        spans = [
            Span(p, starts.get(p, self.held.marks.get(p, (0, 0))[0]), stop)
            for p, stop in sorted(stops.items())
        ]
        self._refuse_holes(spans)

        def fill(batch: Batch) -> None:
            _Micro(batch, frame, sub.known_keys()).fill()
            self._refuse_another()

        spans = [span for span in spans if span.start < span.stop]
        batch = taken(sub.lake, sub.feed, self.held, spans, sub.memory_limit_mb, fill)
        self.stood |= {span.partition: span.stop for span in spans}
        if batch is not None:
            dates = tuple(sorted({str(file.partition["date"]) for file in batch.rows}))
            rows, dead = (sum(file.rows for file in f) for f in (batch.rows, batch.dead))
            self.told(Taken(rows, dead, dates))

    def _refuse_holes(self, spans: Sequence[Span]) -> None:
        """See that the lake has all that comes before.

        Raises:
            TidemillError: It does not; a table was rolled back, say.
        """
        feed = self.subscription.feed
        names = {self.held.app_id(span.partition): span.partition for span in spans}
        found = stream.reached(self.subscription.lake, feed.spans, names)
        at = {names[name]: reached for name, reached in found.items()}
        for span in spans:
            if at.get(span.partition, -1 if span.partition in self.stood else span[1]) < span[1]:
                raise TidemillError(
                    f"{feed.topic.name}, partition {span.partition}: {feed.spans.id} has not what "
                    f"comes before offset {span.start}, where Spark is: the lake was rolled back "
                    "or cleared meanwhile; start the stream again, and it goes on from the lake"
                )

    def _refuse_another(self) -> None:
        """See that the topic is still the one whose offsets these are.

        Raises:
            TidemillError: It was deleted and created again.
        """
        refuse_another(self.subscription.config, self.held)


@dataclass
class _Micro:
    """One micro-batch on its way into a batch of the ledger."""

    batch: Batch
    frame: Any
    known_keys: Sequence[str]

    def fill(self) -> None:
        """Write rows and dead letters, and count the messages."""
        from pyspark.sql import functions as f

        batch, feed = self.batch, self.batch.feed
        wanted = f.lit(False)
        for span in batch.spans:
            here = (f.col("partition") == span.partition) & (f.col("offset") >= span.start)
            wanted = wanted | (here & (f.col("offset") < span.stop))
        messages = parts.decoded(feed.topic, self.frame.where(wanted)).persist()
        judged = None
        try:
            kept = self._with_known_keys(messages)
            judged = parts.judged(
                feed,
                batch.held,
                kept,
                self._present(kept),
                batch.newest(),
                batch.began_ms,
                batch.closed_ms,
            ).persist()
            self._count(kept, judged)
            if any(a.good + a.late for a in batch.accounts.values()):
                batch.rows += self._written(feed.table, parts.rows(feed, judged))
            if any(a.dead for a in batch.accounts.values()):
                batch.dead += self._written(feed.dead, parts.buried(feed, batch.held, kept))
        finally:
            messages.unpersist()
            if judged is not None:
                judged.unpersist()

    def _with_known_keys(self, messages: Any) -> Any:
        """Admit new message keys as long as there is room; the messages of others are dead."""
        from pyspark.sql import functions as f

        feed = self.batch.feed
        if feed.max_keys is None:
            return messages
        known, key = known_keys(self.batch.lake, feed, self.known_keys), feed.topic.key
        strange = messages.where(f.col("error").isNull() & ~f.col(key).isin(*known))
        first = strange.groupBy(key).agg(f.min("partition").alias("p"), f.min("offset").alias("o"))
        room = max(0, feed.max_keys - len(known))
        new = first.orderBy("p", "o").limit(room + 1).collect()
        if len(new) <= room:
            return messages
        admitted = [*known, *(row[key] for row in new[:room])]
        return parts.refused(feed, messages, admitted, self.frame)

    def _present(self, messages: Any) -> Any:
        batch = self.batch
        ends = messages.where("error is null").selectExpr("min(event_ms)", "max(event_ms)").first()
        low, high = (ends[0], ends[1]) if ends[0] is not None else (0, 0)
        now = batch.lake.snapshot(batch.feed.table)
        if not batch.feed.topic.event_key:
            now = now.only(lambda _: False)
        return parts.present(messages.sparkSession, now, low, high)

    def _count(self, messages: Any, judged: Any) -> None:
        told = messages.groupBy("partition").agg(*_exprs("count(*)", "count(error)"))
        sorted_ = judged.groupBy("partition").agg(
            *_exprs(
                "count_if(not is_duplicate and not is_late)",
                "count_if(not is_duplicate and is_late)",
                "count_if(is_duplicate)",
                "max(event_ms)",
            )
        )
        good = {row[0]: row[1:] for row in sorted_.collect()}
        for partition, consumed, dead in told.collect():
            counts = good.get(partition, (0, 0, 0, None))
            self.batch.accounts[partition].add(consumed, dead, *counts)

    def _written(self, table: Table, frame: Any) -> tuple[NewFile, ...]:
        """Have Spark write a frame, and take its files to the table's."""
        return staged(self.batch.lake, table, frame, self.batch.con).files


def _exprs(*sql: str) -> list[Any]:
    from pyspark.sql import functions as f

    return [f.expr(text) for text in sql]
