"""Sending messages so that each is known to be there, or known not to be; it knows no domain."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidemill.errors import TidemillError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

PARTITIONER = "murmur2_random"
"""Where a key goes: as Java's clients say, not as librdkafka does by default."""

_SETTINGS = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": PARTITIONER,
    "compression.type": "lz4",
    "linger.ms": 5,
    "retry.backoff.ms": 100,
    "retry.backoff.max.ms": 5000,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2000,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 65_536,
    # A message given up alone would leave a hole before later ones: the sender gives up, for all.
    "message.timeout.ms": 0,
    "delivery.report.only.error": True,
    "statistics.interval.ms": 250,
    "log_level": 0,
}
_BURST = 1000
_STEP_S = 0.1
_PURGE_S = 5.0
_SHORT_S = 10.0
_UNKNOWN = "given up before it was acknowledged; it may be there all the same"


class UnsentError(TidemillError):
    """The broker takes nothing any more; what was not acknowledged counts as failed."""


@dataclass(frozen=True)
class Report:
    """What became of messages: ``sent = acknowledged + failed``.

    Attributes:
        sent: Messages handed over.
        acknowledged: Messages that every replica the broker asks for has.
        retried: Messages transmitted again, as far as librdkafka's statistics tell.
        failed: Messages refused, or of which nothing is known: they may be there all the same.
        errors: How many failed, by reason.
    """

    sent: int = 0
    acknowledged: int = 0
    retried: int = 0
    failed: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


class Sender:
    """An idempotent producer for one topic, with bounded memory and an account of every message.

    Within a partition messages keep their order, and none is there twice however often the broker
    goes away and comes back. Where it stays away, the sender gives up on all that waits at once,
    so no message is missing before one that is there.

    Not for several threads, save ``halt``.

    Args:
        config: How clients connect, in librdkafka's names; what it holds wins over the sender's.
        topic: Where messages go.
        patience_s: How long nothing at all may be acknowledged before it gives up, seconds.
    """

    def __init__(self, config: Mapping[str, Any], topic: str, patience_s: float = 120.0) -> None:
        """It connects in the background."""
        from confluent_kafka import Producer

        hooks = {"on_delivery": self._refused, "stats_cb": self._counted}
        self._producer = Producer({**_SETTINGS, **config, **hooks})
        self.topic = topic
        self.patience_s = patience_s
        self._sent = 0
        self._failed = 0
        self._errors: Counter[str] = Counter()
        self._retried: dict[str, int] = {}
        self._statistics = 0
        self._halted = False
        self._moved = (0, time.monotonic())
        self._broken: str | None = None
        self._closed: Report | None = None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; after an error what waits is not waited for long."""
        self.close(_SHORT_S if error is not None else None)

    @property
    def report(self) -> Report:
        """The account so far: what is still on its way is in ``sent`` alone."""
        if self._closed is not None:
            return self._closed
        done = self._sent - self._failed - len(self._producer)
        return Report(
            self._sent, max(0, done), sum(self._retried.values()), self._failed, dict(self._errors)
        )

    @property
    def is_halted(self) -> bool:
        """Whether it was told to stop."""
        return self._halted

    def halt(self) -> None:
        """Take no more messages and wait no longer than needed; a signal's handler may call it."""
        self._halted = True

    def send(self, key: bytes | None, value: bytes) -> None:
        """Hand over one message; see ``send_all``."""
        self.send_all([(key, value)])
        self._producer.poll(0)

    def send_all(self, pairs: Iterable[tuple[bytes | None, bytes]]) -> int:
        """Hand over messages, in order; waits while the queue is full.

        Args:
            pairs: Key and value of each.

        Returns:
            How many were handed over: all, or fewer if it was told to ``halt``.

        Raises:
            UnsentError: The broker took nothing for ``patience_s``, or refused messages for good.
        """
        waiting = iter(pairs)
        before = self._sent
        if not len(self._producer):
            self._moved = (before, time.monotonic())  # patience starts with what is to wait
        while not self._halted and (burst := list(islice(waiting, _BURST))):
            self._hand_over(burst)
            self._producer.poll(0)
            self._see_broken()
        return self._sent - before

    def _hand_over(self, burst: list[tuple[bytes | None, bytes]]) -> None:
        from confluent_kafka import KafkaException

        produce, topic = self._producer.produce, self.topic
        for key, value in burst:
            while True:
                try:
                    produce(topic, value, key)
                except BufferError:
                    if self._halted:
                        return
                    self._producer.poll(_STEP_S)
                    self._see_progress(self.patience_s)
                    continue
                except KafkaException as error:  # too long for the topic, say: told at once
                    self._fail(error.args[0])
                    self._see_broken()
                self._sent += 1
                break

    def wait(self, seconds: float) -> None:
        """Pass time while messages are on their way; ends early when told to ``halt``.

        Raises:
            UnsentError: The broker took nothing for ``patience_s``, or refused messages for good.
        """
        until = time.monotonic() + seconds
        while not self._halted and (left := until - time.monotonic()) > 0:
            # poll returns when it has served something, or not before its time is up
            self._producer.poll(min(left, _STEP_S))
            self._see_progress(self.patience_s)

    def flush(self) -> Report:
        """Wait until nothing is on its way.

        Raises:
            UnsentError: The broker took nothing for ``patience_s``, or refused messages for good.
        """
        while self._producer.flush(_STEP_S):
            self._see_progress(self.patience_s)
        self._see_broken()
        return self.report

    def close(self, patience_s: float | None = None) -> Report:
        """Wait until nothing is on its way, give up on what cannot be sent, and tell what became.

        Args:
            patience_s: How long nothing may be acknowledged, seconds; by default the sender's, or
                ten seconds after ``halt``.
        """
        if self._closed is None:
            if patience_s is None:
                patience_s = min(_SHORT_S, self.patience_s) if self._halted else self.patience_s
            with suppress(UnsentError):  # all of it is in the report
                while self._producer.flush(_STEP_S):
                    self._see_progress(patience_s)
            if self._sent:
                self._hear_statistics()
            self._closed = self._settled()
            if not len(self._producer):
                self._producer.close()  # it would wait for what is left
        return self._closed

    def _see_progress(self, patience_s: float) -> None:
        """Give up where nothing was acknowledged for so long."""
        self._see_broken()
        done, now = self._sent - len(self._producer), time.monotonic()
        if done != self._moved[0] or not len(self._producer):
            self._moved = (done, now)
        elif now - self._moved[1] > patience_s:
            self._give_up(f"nothing was acknowledged for {patience_s:g} s")

    def _see_broken(self) -> None:
        if self._broken is not None:
            self._give_up(self._broken)

    def _give_up(self, reason: str) -> None:
        waiting = len(self._producer)
        self._halted = True
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        until = time.monotonic() + _PURGE_S
        while len(self._producer) and time.monotonic() < until:
            self._producer.poll(_STEP_S)
        raise UnsentError(
            f"topic {self.topic}: {reason}, so {waiting:,} messages are given up. See that the "
            "broker runs ('tidemill broker status') and has the topic ('tidemill broker topics')"
        )

    def _settled(self) -> Report:
        """The account with what is left counted as failed."""
        told, left = self.report, len(self._producer)
        errors = {**told.errors, **({_UNKNOWN: left} if left else {})}
        return replace(told, failed=told.failed + left, errors=errors)

    def _hear_statistics(self) -> None:
        """Wait for figures newer than the last acknowledgement."""
        heard, until = self._statistics, time.monotonic() + 1
        while self._statistics == heard and time.monotonic() < until:
            self._producer.poll(_STEP_S)

    def _refused(self, error: "KafkaError | None", message: "Message") -> None:
        if error is not None:
            self._fail(error)

    def _fail(self, error: "KafkaError") -> None:
        from confluent_kafka import KafkaError

        self._failed += 1
        self._errors[_reason(error)] += 1
        its_own = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
        if error.code() not in its_own and self._broken is None:
            self._broken = f"a message was refused ({error.str()})"

    def _counted(self, text: str) -> None:
        self._statistics += 1
        for told in json.loads(text)["topics"].values():
            for number, part in told["partitions"].items():
                left = part["msgq_cnt"] + part["xmit_msgq_cnt"]
                again = part["txmsgs"] + left - part["msgs"]
                # What was given up was never transmitted and would hide what was sent again.
                if number != "-1" and again > self._retried.get(number, 0):
                    self._retried[number] = again


def _reason(error: "KafkaError") -> str:
    from confluent_kafka import KafkaError

    # What waits to be sent again is in the queue too, so neither tells that nothing arrived.
    if error.code() in (KafkaError._PURGE_INFLIGHT, KafkaError._PURGE_QUEUE):
        return _UNKNOWN
    return str(error.str())
