"""The speed layer beside bare confluent-kafka, on a broker of its own.

Each side runs in this process, in turn, and the best of its runs counts; the freshness of the live
tail and of the sensors' path is a distribution over events, not a best.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from tidemill import compose
from tidemill.bench import sensor_path, tail
from tidemill.crypto.topics import PRICES
from tidemill.engines.duck import connection
from tidemill.errors import InputError, TidemillError
from tidemill.kafka import reread, topics
from tidemill.kafka.producer import Sender
from tidemill.kafka.reader import FETCHING
from tidemill.kafka.spans import plan
from tidemill.kafka.topics import Topic
from tidemill.processes import free_port
from tidemill.settings import Settings

BYTES = 265
SYMBOLS = 50
LEAST = 10_000
RUNS = 3
BATCH = 100_000
MERGED_DAYS = 8_000
START_MS = 1_704_067_200_000
"""2024-01-01; the ticks are 20 ms apart."""


@dataclass(frozen=True)
class Figure:
    """One measured thing.

    Attributes:
        name: What was done.
        ours: How fast it was.
        unit: Of ``ours`` and ``target``.
        target: At least so much where more is better, else at most; None where none is set.
        is_more_better: Whether it is a rate, not a time.
        bare: What bare confluent-kafka did at the same in the same run, by how it was set up.
        share: The least part of the first of these that ours must reach.
    """

    name: str
    ours: float
    unit: str
    target: float | None = None
    is_more_better: bool = True
    bare: Mapping[str, float] | None = None
    share: float | None = None

    @property
    def ratios(self) -> dict[str, float]:
        """Ours over each bare way."""
        return {name: self.ours / rate for name, rate in (self.bare or {}).items()}

    @property
    def is_met(self) -> bool | None:
        """Whether the targets are kept; None where there is none."""
        held = []
        if self.target is not None:
            held.append(
                self.ours >= self.target if self.is_more_better else self.ours <= self.target
            )
        if self.share is not None:
            held.append(next(iter(self.ratios.values())) >= self.share)
        return all(held) if held else None

    def line(self) -> str:
        """As text."""
        number = f"{self.ours:,.0f}" if self.ours >= 100 else f"{self.ours:.2f}"
        told = f"{self.name:44}{number:>10} {self.unit:11}"
        if self.target is not None:
            told += f"target {'>=' if self.is_more_better else '<='} {self.target:,g}"
        for name, ratio in self.ratios.items():
            told += f"; {name} {(self.bare or {})[name]:,.0f}, ratio {ratio:.2f}"
        if self.share is not None:
            told += f" (target {self.share:g})"
        return told + {True: "  met", False: "  MISSED", None: ""}[self.is_met]


@dataclass(frozen=True)
class Report:
    """What a run found."""

    messages: int
    cores: int
    figures: Sequence[Figure]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return asdict(self) | {
            "figures": [
                asdict(figure) | {"ratios": figure.ratios, "is_met": figure.is_met}
                for figure in self.figures
            ]
        }

    def lines(self) -> list[str]:
        """The report as text."""
        head = (
            f"{self.messages:,} messages of {BYTES} bytes, {self.cores} cores, a broker of its own "
            f"on the same machine; rates are the best of {RUNS}."
        )
        return [head, *(figure.line() for figure in self.figures)]


def run(messages: int, folder: Path) -> Report:
    """Measure everything.

    Args:
        messages: How many are produced and consumed.
        folder: Empty; everything is in it.

    Raises:
        InputError: Too few messages to say something.
        TidemillError: A side lost a message, or a row.
    """
    if messages < LEAST:
        raise InputError(f"expected at least {LEAST:,} messages, found {messages:,}")
    settings = replace(Settings.current(folder), kafka_servers="", kafka_port=free_port())
    broker = compose.broker(settings)
    broker.start()
    try:
        config = compose.kafka(settings)
        topics.ensure(config, [PRICES])
        values = payload(messages)
        figures = [
            produced(config, values),
            *consumed(settings, config, values),
            *merged(settings),
            *fresh(settings, config),
            *queryable(settings, config),
        ]
    finally:
        broker.stop()
    return Report(messages, os.cpu_count() or 0, figures)


def payload(messages: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of ticks, padded with a field that is none of the topic's."""
    made = []
    for n in range(messages):
        symbol = f"SIM{n % SYMBOLS:02}USDT"
        tick = {"symbol": symbol, "price": 1000 + n % 977 / 7, "timestamp": START_MS + 20 * n}
        short = json.dumps(tick | {"note": ""})
        value = json.dumps(tick | {"note": "x" * (BYTES - len(short))})
        made.append((symbol.encode(), value.encode()))
    return made


def produced(config: Mapping[str, Any], values: Sequence[tuple[bytes, bytes]]) -> Figure:
    """Sending all messages, until the last is acknowledged."""
    from confluent_kafka import Producer

    scratch = replace_topic("bench_produced")
    topics.ensure(config, [scratch])

    def ours() -> None:
        with Sender(config, scratch.name) as sender:
            sender.send_all(values)
            report = sender.close()
        if report.acknowledged != len(values):
            raise TidemillError(f"{report.acknowledged} of {len(values)} were acknowledged")

    def bare(**more: Any) -> Callable[[], None]:
        def work() -> None:
            safe = {"acks": "all", "enable.idempotence": True, "log_level": 0}
            producer = Producer(dict(config) | safe | more)
            for key, value in values:
                while True:
                    try:
                        producer.produce(scratch.name, value, key)
                        break
                    except BufferError:
                        producer.poll(0.05)
            if producer.flush(120):
                raise TidemillError("bare confluent-kafka did not send all")

        return work

    best = _best(
        len(values),
        {
            "ours": ours,
            "bare": bare(),
            "bare, our settings": bare(
                **{"compression.type": "lz4", "linger.ms": 5, "queue.buffering.max.kbytes": 65_536}
            ),
        },
    )
    return Figure(
        "produce, acknowledged",
        best.pop("ours"),
        "messages/s",
        150_000,
        bare=best,
    )


def replace_topic(name: str) -> Topic:
    """The topic of prices under another name."""
    return replace(PRICES, name=name)


def consumed(
    settings: Settings, config: Mapping[str, Any], values: Sequence[tuple[bytes, bytes]]
) -> list[Figure]:
    """Reading, decoding, judging and committing all messages; and reading some as a batch."""
    with Sender(config, PRICES.name) as sender:
        sender.send_all(values)
    _ours(
        replace(settings, home=settings.home / "warm", lake=settings.home / "warm" / "lake"), 1000
    )
    homes = iter(settings.home / f"run{n}" for n in range(RUNS))

    def ours() -> None:
        home = next(homes)
        n = _ours(replace(settings, home=home, lake=home / "lake"), None)
        if n != len(values):
            raise TidemillError(f"{n} of {len(values)} messages became rows")

    best = _best(
        len(values),
        {
            "ours": ours,
            "bare consume": lambda: _bare(config, len(values), {}),
            "bare consume, our settings": lambda: _bare(config, len(values), FETCHING),
        },
    )
    figures = [
        Figure(
            "consume, decode, commit",
            best.pop("ours"),
            "messages/s",
            100_000,
            bare=best,
            share=0.5,
        )
    ]
    figures.append(batch_read(settings, min(BATCH, len(values))))
    return figures


def batch_read(settings: Settings, messages: int) -> Figure:
    """Reading some messages from the earliest offset on as a batch."""
    prices = compose.live_prices(settings)
    held = prices.held()
    spans = plan({}, held, messages // len(held.marks))
    asked = sum(span.stop - span.start for span in spans)
    started = time.perf_counter()
    with connection(settings.memory_limit_mb) as con:
        table = reread.read(con, prices.feed, prices.config, held, spans)
        (rows,) = con.execute(f"select count(*) from {table}").fetchone() or (0,)
    seconds = time.perf_counter() - started
    if rows != asked:
        raise TidemillError(f"{rows} of {asked} messages were read as a batch")
    return Figure(f"batch read of {rows:,} messages", seconds, "s", 3.0, False)


def _ours(settings: Settings, limit: int | None) -> int:
    prices = compose.live_prices(settings)
    held = prices.held()
    done = prices.consume(held, prices.unread(held, limit or 1 << 40))
    shutil.rmtree(settings.home)
    return done.total("good")


def _bare(config: Mapping[str, Any], messages: int, more: Mapping[str, Any]) -> None:
    """Read all messages and look at their values, and nothing else."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(dict(config) | {"group.id": "bare", "enable.auto.commit": False, **more})
    try:
        consumer.assign([TopicPartition(PRICES.name, n, 0) for n in range(PRICES.partitions)])
        seen = size = 0
        while seen < messages:
            for message in consumer.consume(10_000, 1.0):
                if message.error() is None:
                    size += len(message.value() or b"")
                    seen += 1
        if size != messages * BYTES:
            raise TidemillError(f"bare confluent-kafka read {size} bytes")
    finally:
        consumer.close()


def merged(settings: Settings) -> list[Figure]:
    """Merging 8,000 days of a symbol with a live one."""
    import polars as pl

    from tidemill.crypto import contracts as c
    from tidemill.lake.contracts import polars_schema

    home = settings.home / "merge"
    crypto = compose.crypto(replace(settings, home=home, lake=home / "lake"))
    first = date(2004, 1, 1)
    days = pl.date_range(first, interval="1d", eager=True, end=date(2040, 1, 1)).head(MERGED_DAYS)
    frame = pl.DataFrame({"date": days}).with_columns(
        symbol=pl.lit("SIMAUSDT"),
        **{f"daily_{name}": pl.lit(5.0) for name in ("open", "high", "low", "close", "volume")},
        cnt=pl.lit(1440),
        source=pl.lit("1m"),
        year=pl.col("date").dt.year(),
        month=pl.col("date").dt.month(),
    )
    frame = frame.select(polars_schema(c.DAILY_OHLC).keys())
    partitions = [
        {"symbol": "SIMAUSDT", "year": year, "month": month}
        for year, month in frame.select("year", "month").unique().iter_rows()
    ]
    crypto.lake.replace_frame(c.DAILY_OHLC, frame, partitions)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        written = crypto.merged_daily_ohlc(["SIMAUSDT"])
        seconds.append(time.perf_counter() - started)
        if written.rows != MERGED_DAYS:
            raise TidemillError(f"{written.rows} of {MERGED_DAYS} days were merged")
    name = f"merge of {MERGED_DAYS:,} daily rows, the first time"
    return [Figure(name, seconds[0], "s", 1.0, False)]


def fresh(settings: Settings, config: Mapping[str, Any]) -> list[Figure]:
    """From an event's ``produce()`` to its being in the windows of the live tail."""
    found = tail.measured(config, settings.home / "tail")
    name = f"live tail, {found.per_second:,.0f} events/s"
    return [
        Figure(f"{name}: p50", found.p50_ms, "ms", 200, False),
        Figure(f"{name}: p99", found.p99_ms, "ms", 500, False),
    ]


def queryable(settings: Settings, config: Mapping[str, Any]) -> list[Figure]:
    """From an event's ``produce()`` to its row, by way of the sensors; and Dagster's share."""
    home = settings.home / "path"
    _emptied(config)
    found = sensor_path.measured(replace(settings, home=home), config["bootstrap.servers"])
    return [
        Figure("sensor path, produced to queryable: p50", found.p50_s, "s", 6.0, False),
        Figure("  of which reading and committing", found.reading_s, "s", None, False),
        Figure("  of which Dagster's", found.p50_s - found.reading_s, "s", None, False),
    ]


def _emptied(config: Mapping[str, Any]) -> None:
    """Delete the topic of prices and create it again."""
    from confluent_kafka.admin import AdminClient

    client = AdminClient(dict(config))
    client.delete_topics([PRICES.name])[PRICES.name].result()
    deadline = time.monotonic() + 30
    while PRICES.name not in topics.ensure(config, [PRICES]):
        if time.monotonic() > deadline:
            raise TidemillError(f"topic {PRICES.name} could not be created again")
        time.sleep(0.2)


def _best(messages: int, sides: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Messages a second of each side's best run; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: messages / min(runs) for name, runs in seconds.items()}
