"""A seeded clickstream with known faults: a CSV file or an endless stream, and the truth about it.

Reading it back does not belong here: the truth shares no code with what is held against it. What
the shop's visitors do is in ``shop``; here their events get times, and some of them faults.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl

from tidemill.errors import InputError
from tidemill.events.shop import Bools, Floats, Ints, Shop
from tidemill.events.topics import FIELDS
from tidemill.kafka.resume import partition_of

GRACE_MS = 10_000
BROKEN = ("cut off", "wrong type", "negative price", "impossible time")
"""How an event may be broken: no JSON, or a line of four fields; a price that is a word; a price
below 0; a date that no calendar has."""

_NEAR_MS, _FAR_MS = (1_000, 9_000), (15_000, 900_000)
_IMPOSSIBLE = "2026-13-45 25:61:61 UTC"
_PAUSE_S = 10.0
_PAUSES = (20.0, 2000.0)  # few sessions are open at once, so that the mix is soon the stated one
_TIME_FORM = "%Y-%m-%d %H:%M:%S%.3f UTC"
_BATCH = 20_000

Key = Literal["event_type", "user_id"]


@dataclass(frozen=True)
class Faults:
    """Which share of the events gets which fault; no event gets two.

    Attributes:
        late: Happened before they are sent: half of them 1 to 9 s, half 15 s to 15 minutes.
        duplicates: Come again, in all columns, right after the first.
        broken: Cannot be used, each kind of ``BROKEN`` as often.

    Raises:
        InputError: A share is no number from 0 to 1, or they are more than 1 in all.
    """

    late: float = 0.0
    duplicates: float = 0.0
    broken: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        shares = (self.late, self.duplicates, self.broken)
        if not all(0 <= share <= 1 for share in shares) or sum(shares) > 1:
            raise InputError(f"{self}: expected shares from 0 to 1, of 1 together at most")

    @classmethod
    def of(cls, text: str) -> Self:
        """Read them as the command line has them: ``late=0.01,duplicates=0.005,broken=0.001``.

        Raises:
            InputError: It is something else.
        """
        names = [share.name for share in fields(cls)]
        try:
            told = [part.split("=") for part in text.split(",")]
            shares = {name.strip(): float(share) for name, share in told}
        except ValueError:
            shares = {"": 0.0}
        if unknown := sorted(set(shares) - set(names)):
            raise InputError(
                f"--faults {text}: expected shares of {', '.join(names)}, as "
                f"late=0.01,duplicates=0.005,broken=0.001, found {unknown[0] or 'something else'}"
            )
        return cls(**shares)


@dataclass(frozen=True)
class Clickstream:
    """What to simulate.

    Attributes:
        shop: Who does what.
        events: How many, without what comes again; None is endless.
        rate: Events a second by their times; None stamps each batch with the time it is made at.
        is_poisson: Whether times are random at that rate, and not even.
        faults: What is wrong with some.
        key: What messages are keyed by: it says which share a partition, whose newest event sets
            the watermark.
        partitions: Of the topic.

    Raises:
        InputError: The number or the rate is not above 0.
    """

    shop: Shop = field(default_factory=Shop)
    events: int | None = None
    rate: float | None = 100.0
    is_poisson: bool = False
    faults: Faults = Faults()
    key: Key = "event_type"
    partitions: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.events is not None and self.events < 1:
            raise InputError(f"a clickstream needs 1 event or more, not {self.events}")
        if self.rate is not None and not 0 < self.rate < np.inf:
            raise InputError(f"a clickstream needs a rate above 0, not {self.rate}")


@dataclass(frozen=True)
class Truth:
    """What a file holds: rows = good + duplicates + broken.

    Attributes:
        rows: Data lines.
        good: Distinct events that can be used.
        duplicates: Lines equal to the one before.
        broken: Lines that cannot be used.
        late: Good events that happened 1 s to 15 minutes before it was their line's turn.
        behind: Those of them that are behind the watermark, when the lines are sent in their order:
            more than 10 s before the newest event of their partition that was sent before.
        by_type: Good events, by event_type.
        cents: Sum of the prices of good events, by event_type.
        broken_by: Broken lines, by kind.
    """

    rows: int
    good: int
    duplicates: int
    broken: int
    late: int
    behind: int
    by_type: dict[str, int]
    cents: dict[str, int]
    broken_by: dict[str, int]


def simulate(path: Path, clickstream: Clickstream, start_ms: int) -> Truth:
    """Write a clickstream as CSV, replacing ``path`` when it is complete.

    The same clickstream and start give the same bytes. The folder of ``path`` is made.

    Args:
        path: The file.
        clickstream: What to simulate; not an endless one.
        start_ms: Time of the first event, epoch ms.

    Raises:
        InputError: The clickstream is endless, or has no rate.
    """
    if clickstream.events is None or clickstream.rate is None:
        raise InputError("a file needs a clickstream with a number of events and a rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    faults: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    cents: Counter[str] = Counter()
    with partial.open("wb") as file:
        file.write((",".join(column.name for column in FIELDS) + "\n").encode())
        for batch in events(clickstream, start_ms, size=_BATCH):
            faults.update(batch["fault"].to_list())
            good = batch.filter(~pl.col("fault").is_in([*BROKEN, "duplicate"]))
            value = (pl.col("price") * 100).round().cast(pl.Int64).sum()
            for name, number, total in good.group_by("event_type").agg(pl.len(), value).iter_rows():
                by_type[name] += number
                cents[name] += total
            batch.select(_line()).write_csv(file, include_header=False, quote_style="never")
    partial.replace(path)
    broken = {kind: faults[kind] for kind in BROKEN}
    return Truth(
        rows=faults.total(),
        good=by_type.total(),
        duplicates=faults["duplicate"],
        broken=sum(broken.values()),
        late=faults["late"] + faults["behind"],
        behind=faults["behind"],
        by_type=dict(by_type),
        cents=dict(cents),
        broken_by=broken,
    )


def events(
    clickstream: Clickstream,
    start_ms: int,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    size: int | None = None,
) -> Iterator[pl.DataFrame]:
    """A clickstream, in the order in which it is sent.

    Args:
        clickstream: What to simulate.
        start_ms: When the first event is sent, epoch ms.
        now_ms: The time, epoch ms; asked where the clickstream has no rate.
        size: Events made at a time, which is part of what a seed means; by default a second's, as
            a stream that is watched should not be made long before it is sent.

    Yields:
        Frames, not empty: the nine columns; ``event_ms``, the time of the event, also where its
        text is broken; ``sent_ms``, when it is to be sent, in order; ``fault``: "", ``late``,
        ``behind`` (late, and behind the watermark), ``duplicate``, or one of ``BROKEN``.
    """
    run = _Run(clickstream, start_ms, now_ms)
    rate = clickstream.rate
    pause = _PAUSES[1] if rate is None else min(max(rate * _PAUSE_S, _PAUSES[0]), _PAUSES[1])
    for told in clickstream.shop.events(pause, clickstream.events):
        for batch in told.iter_slices(size or _second(rate)):
            yield run.batch(batch)


def _second(rate: float | None) -> int:
    return _BATCH if rate is None else int(min(max(rate, 1.0), _BATCH))


class _Run:
    """A clickstream on its way."""

    def __init__(self, told: Clickstream, start_ms: int, now_ms: Callable[[], int]) -> None:
        """Nothing is made yet."""
        self._told = told
        self._rng, self._waits = np.random.default_rng([told.shop.seed, 3]).spawn(2)
        self._start_ms = start_ms
        self._now_ms = now_ms
        self._count = 0
        self._passed = 0.0  # ms since the start, where times are random or now
        self._newest = np.full(told.partitions, np.iinfo(np.int64).min // 2)

    def batch(self, visited: pl.DataFrame) -> pl.DataFrame:
        """Events with times and faults."""
        size, faults = visited.height, self._told.faults
        luck = self._rng.random(size)
        bounds = np.cumsum([faults.late, faults.duplicates, faults.broken])
        fault = np.searchsorted(bounds, luck, side="right")  # 0 late, 1 duplicate, 2 broken
        kind = self._rng.integers(0, len(BROKEN), size)
        near, far = self._rng.integers(*_NEAR_MS, size), self._rng.integers(*_FAR_MS, size)
        delay = np.where(self._rng.random(size) < 0.5, near, far)

        of = np.repeat(np.arange(size), 1 + (fault == 1))
        is_again = np.append(False, of[1:] == of[:-1])
        sent_ms = self._sent_ms(of.size)
        event_ms = np.where(is_again, np.append(0, sent_ms[:-1]), sent_ms)
        event_ms -= np.where(fault == 0, delay, 0)[of]
        labels = np.select(
            [fault == 0, fault == 2], [np.full(size, 1), 4 + kind], np.zeros(size, np.int64)
        )[of]
        labels[is_again] = 3
        made = self._frame(visited[of], event_ms, sent_ms)
        is_late = labels == 1
        labels[is_late & self._behind(made, event_ms, labels < 4)] = 2
        names = pl.Series(["", "late", "behind", "duplicate", *BROKEN])
        made = made.with_columns(fault=names.gather(labels))
        return made.with_columns(_broken("event_time"), _broken("price"))

    def _frame(self, visited: pl.DataFrame, event_ms: Ints, sent_ms: Ints) -> pl.DataFrame:
        at = pl.from_epoch(pl.Series(event_ms), "ms").dt.strftime(_TIME_FORM)
        sold = self._told.shop.catalogue[visited["product"]]
        made = visited.hstack(sold.drop("share")).with_columns(
            event_time=at, event_ms=pl.Series(event_ms), sent_ms=pl.Series(sent_ms)
        )
        return made.select(*(column.name for column in FIELDS), "event_ms", "sent_ms")

    def _sent_ms(self, size: int) -> Ints:
        """When the next are to be sent, epoch ms, in order."""
        count, rate = self._count, self._told.rate
        self._count += size
        passed: Floats
        if rate is not None and not self._told.is_poisson:
            passed = np.arange(count, self._count, dtype=np.float64) * (1000 / rate)
        else:
            before = self._passed
            if rate is None:
                now = max(before, self._now_ms() - self._start_ms)
                passed = np.linspace(before, now, size)
            else:
                waits = self._waits.exponential(1000 / rate, size)
                passed = before + np.cumsum(waits, dtype=np.float64)
            self._passed = float(passed[-1])
        return self._start_ms + passed.astype(np.int64)

    def _behind(self, made: pl.DataFrame, event_ms: Ints, is_good: Bools) -> Bools:
        """Which are behind the watermark of their partition; it is moved on by the good ones."""
        found = np.zeros(made.height, np.bool_)
        keys = made[self._told.key].cast(pl.String)
        places = np.array([_place(key, self._told.partitions) for key in keys.unique()])
        place = keys.replace_strict(keys.unique(), places).to_numpy()
        for number in range(self._told.partitions):
            here = np.flatnonzero((place == number) & is_good)
            newest = np.maximum.accumulate(np.append(self._newest[number], event_ms[here]))
            self._newest[number] = newest[-1]
            found[here] = event_ms[here] < newest[:-1] - GRACE_MS
        return found


@lru_cache(maxsize=100_000)
def _place(key: str, partitions: int) -> int:
    return partition_of(key.encode(), partitions)


def _broken(name: Literal["event_time", "price"]) -> pl.Expr:
    """A column as its fault has it, where that is one of values."""
    fault, value = pl.col("fault"), pl.col(name)
    if name == "price":
        return pl.when(fault == "negative price").then(-value).otherwise(value).alias(name)
    broken = pl.lit(_IMPOSSIBLE)
    return pl.when(fault == "impossible time").then(broken).otherwise(value).alias(name)


def _line() -> pl.Expr:
    """An event as a line of CSV; nothing in it needs quotes."""
    cents = (pl.col("price").abs() * 100).round().cast(pl.Int64)
    sign = pl.when(pl.col("price") < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    decimals = (cents % 100).cast(pl.String).str.zfill(2)
    price = pl.concat_str(sign, cents // 100, pl.lit("."), decimals)
    told = {"price": pl.when(pl.col("fault") == "wrong type").then(pl.lit("free")).otherwise(price)}
    texts = [told.get(c.name, pl.col(c.name).cast(pl.String).fill_null("")) for c in FIELDS]
    whole = pl.concat_str(texts, separator=",")
    cut = pl.concat_str(texts[:4], separator=",")
    return pl.when(pl.col("fault") == "cut off").then(cut).otherwise(whole).alias("line")
