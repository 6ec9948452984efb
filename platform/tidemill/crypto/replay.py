"""Candles sent again as the ticks they were, at any speed, and gone on with after a stop."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count

from tidemill.crypto.ticks import Candles, Mark, Ticks
from tidemill.crypto.topics import PRICES
from tidemill.errors import InputError
from tidemill.kafka.pace import Pace
from tidemill.kafka.producer import Sender
from tidemill.kafka.resume import partition_of


def cycles(
    candles: Candles, is_endless: bool = False, after: Mapping[str, Mark] | None = None
) -> Iterator[Ticks]:
    """The ticks of candles; endless, they start again, later by the whole days that they touch.

    Args:
        candles: Whose.
        is_endless: Whether to start again.
        after: By symbol, the mark that its ticks must be behind.
    """
    for number in count() if is_endless else range(1):
        yield from candles.ticks(number * candles.cycle_ms, after)


def replay(
    sender: Sender,
    batches: Iterable[Ticks],
    pace: Pace,
    limit: int | None = None,
    heard: Callable[[int], None] = lambda at_ms: None,
) -> None:
    """Send ticks, each when its time has come, until they end or the sender is halted.

    Args:
        sender: Takes them.
        batches: What to send.
        pace: When.
        limit: How many at most.
        heard: Told the time of the last tick sent, epoch ms.

    Raises:
        UnsentError: The broker takes nothing any more.
    """
    left = limit
    for batch in batches:
        times = batch.times_ms if left is None else batch.times_ms[:left]
        for part in pace.slices(times, lambda: sender.is_halted):
            sender.send_all(batch.pairs[part])
            heard(times[part.stop - 1])
        if left is not None:
            left -= len(times)
        if left == 0 or sender.is_halted:
            return


def marks(last: Mapping[int, bytes], symbols: Iterable[str], partitions: int) -> dict[str, Mark]:
    """Where a replay goes on, by symbol: behind the last tick of the partition that it goes to.

    A partition holds its ticks in the order of the replay, so all up to its last one were sent.
    That holds for one and the same replay: what another one sent is taken for its own.

    Args:
        last: Value of each partition's last message.
        symbols: Those that are replayed.
        partitions: How many the topic has.

    Raises:
        InputError: A partition ends with something that is no tick.
    """
    found = {number: _mark(number, value) for number, value in last.items()}
    places = {symbol: partition_of(symbol.encode(), partitions) for symbol in symbols}
    return {symbol: found[place] for symbol, place in places.items() if place in found}


def _mark(partition: int, value: bytes) -> Mark:
    try:
        told = json.loads(value)
        at_ms, symbol = told["timestamp"], told["symbol"]
    except (ValueError, TypeError, KeyError):
        at_ms = symbol = None
    if not isinstance(at_ms, int) or not isinstance(symbol, str):
        raise InputError(
            f"topic {PRICES.name}, partition {partition} ends with {value[:100]!r}, which is no "
            "tick of a replay; start it anew without --resume"
        )
    return Mark(at_ms, symbol)
