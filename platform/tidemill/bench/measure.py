"""Time and peak memory of one function, alone in a process of its own.

What is measured says in two steps what it does: a function opens and imports what it needs, and
returns the work, of which the time is taken. Memory is the process's, from its start.
"""

import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tidemill.errors import TidemillError

Work = Callable[[], object]


@dataclass(frozen=True)
class Sample:
    """What some work took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of all its threads; where others use the machine too, the steadier figure.
        peak_mib: Most memory that the process held at once, MiB.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float

    @classmethod
    def best(cls, samples: Iterable[Self]) -> Self:
        """The least time of several runs, and the most memory."""
        runs = list(samples)
        return cls(
            min(run.seconds for run in runs),
            min(run.cpu_seconds for run in runs),
            max(run.peak_mib for run in runs),
        )


def alone(prepare: Callable[..., Work], **arguments: str) -> Sample:
    """Run what ``prepare(**arguments)`` returns in a fresh process.

    Args:
        prepare: A function of a module; what it does is not in the time.
        arguments: What it takes.

    Raises:
        TidemillError: The process failed; the message has its last words.
    """
    told = [prepare.__module__, prepare.__name__, json.dumps(arguments)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *told], capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise TidemillError(f"{prepare.__name__} failed with {done.returncode}: {words[0]}")
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def timed(work: Work) -> Sample:
    """Run ``work`` here."""
    started, used = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    return Sample(seconds, cpu_seconds, _peak_mib())


def _peak_mib() -> float:
    # On Linux ru_maxrss starts at what the parent held; the kernel's own mark does not.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _main(module: str, name: str, arguments: str) -> None:
    prepare = getattr(importlib.import_module(module), name)
    sample = timed(prepare(**json.loads(arguments)))
    print(json.dumps(vars(sample)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
