"""The memory of a consumer, over and over: it must not grow with what it has read.

    python benchmarks/flat_memory.py [MILLIONS]

starts a broker, sends that many millions of ticks (10 by default) from another process, consumes
them in this one and prints its peak after each million.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.integration.desk import Desk, running
from tests.unit.kafka.messages import NOON_MS

MILLION = 1_000_000


def main(millions: int) -> None:
    """Produce and consume, a million at a time."""
    with (
        tempfile.TemporaryDirectory(prefix="flat-memory-") as home,
        running(Path(home) / "kafka") as broker,
    ):
        desk = Desk.at(broker, Path(home), partitions=1)
        for number in range(millions):
            sender = multiprocessing.Process(target=send, args=(desk, number * MILLION))
            sender.start()
            sender.join()
            started = time.perf_counter()
            desk.catch_up()
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            now = psutil.Process().memory_info().rss >> 20
            print(
                f"{number + 1:3} M read, peak {peak:,} MiB, now {now:,} MiB, {seconds:.1f} s",
                flush=True,
            )


def send(desk: Desk, first: int) -> None:
    """A million ticks, a millisecond apart."""
    desk.produce(
        (b"BTCUSDT", b'{"symbol":"BTCUSDT","price":%d.5,"timestamp":%d}' % (n, NOON_MS + n))
        for n in range(first + 1, first + MILLION + 1)
    )


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
