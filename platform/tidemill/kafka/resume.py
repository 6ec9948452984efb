"""Where a stopped replay was: what each partition ends with, and which keys go to it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.errors import TidemillError
from tidemill.kafka import topics

_SEED, _MULTIPLIER = 0x9747B28C, 0x5BD1E995
_MASK = 0xFFFF_FFFF
_TIMEOUT_S = 30.0
_STILL_S = 1.0
_LOOKS = 20


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that a key goes to: MurmurHash2, as Java's clients and ``Sender`` have it."""
    mixed = _SEED ^ len(key)
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        mixed = mixed * _MULTIPLIER & _MASK ^ word
    if rest := key[whole:]:
        mixed = (mixed ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    mixed = (mixed ^ mixed >> 13) * _MULTIPLIER & _MASK
    return ((mixed ^ mixed >> 15) & 0x7FFF_FFFF) % partitions


def last_values(
    config: Mapping[str, Any],
    topic: str,
    partitions: int,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[int, bytes]:
    """The value of each partition's last message; a partition without any is left out.

    Waits until nothing more comes, as a producer that was killed may have left requests on the
    way.

    Raises:
        TidemillError: Something else goes on producing, retention took a partition's last message,
            or the broker does not answer.
    """
    ends = still_ends(config, topic, partitions, sleep)
    found: dict[int, bytes] = {}
    for number, (first, after) in enumerate(ends):
        if first < after:
            found[number] = value_at(config, topic, number, after - 1)
        elif after:
            raise TidemillError(
                f"topic {topic}, partition {number}: its last message is gone by retention, so "
                "where a replay was cannot be told; start it anew without --resume"
            )
    return found


def peek(config: Mapping[str, Any], topic: str, partitions: int) -> list[bytes]:
    """The values of the last messages of the partitions that hold any, as they are at the moment.

    Raises:
        TidemillError: The broker does not answer.
    """
    ends = topics.offsets(config, topic, partitions)
    return [
        value_at(config, topic, number, after - 1)
        for number, (first, after) in enumerate(ends)
        if first < after
    ]


def still_ends(
    config: Mapping[str, Any],
    topic: str,
    partitions: int,
    sleep: Callable[[float], None] = time.sleep,
) -> list[tuple[int, int]]:
    """First offset and end of each partition, once nothing more comes.

    Raises:
        TidemillError: The topic goes on growing.
    """
    ends = topics.offsets(config, topic, partitions)
    for _ in range(_LOOKS):
        sleep(_STILL_S)
        before, ends = ends, topics.offsets(config, topic, partitions)
        if ends == before:
            return ends
    raise TidemillError(
        f"topic {topic} goes on growing: another producer runs; stop it before --resume"
    )


def value_at(config: Mapping[str, Any], topic: str, partition: int, offset: int) -> bytes:
    """The value of one message.

    Raises:
        TidemillError: It cannot be read.
    """
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(dict(config) | {"group.id": "tidemill-resume", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(_TIMEOUT_S)
    finally:
        consumer.close()
    if message is None or (error := message.error()) is not None:
        told = "no answer" if message is None else str(error)
        raise TidemillError(
            f"topic {topic}, partition {partition}: the message at offset {offset} cannot be read "
            f"({told}); try again, or start the replay anew without --resume"
        )
    return message.value() or b""
