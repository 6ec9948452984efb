"""Kills every process of the live path in turn, at random moments, and counts what is there then.

    python benchmarks/conservation.py events --messages 1000000 --kills 20 --seed 7

A new home gets its own broker, ``tidemill up`` and ``tidemill produce DOMAIN FILE --resume``, all
as a user starts them, on free ports. While the file's messages go in, the producer, a run in the
middle of its work, the Dagster daemon, the code server, the whole of ``up`` and the broker are
killed with SIGKILL in turn; what does not come back by itself is started again, as a user would.
Once the sensors have caught up, the conservation table is printed: what the broker holds beside
what became of it. The exit code is 1 where anything is lost or doubled, with the differences.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import accounts
from benchmarks.accounts import Domain, Sent
from benchmarks.live_path import LivePath
from benchmarks.trial_crypto import Ticks
from benchmarks.trial_events import Clicks
from tidemill.errors import TidemillError
from tidemill.processes import free_port
from tidemill.settings import Settings

DOMAINS: dict[str, Domain] = {"crypto": Ticks(), "events": Clicks()}
KILL_TAKES_S = 20
"""How long a kill and what starts again take on two busy processors, roughly."""


@dataclass(frozen=True)
class Trial:
    """What to do.

    Attributes:
        messages: To send, at least.
        kills: How many processes are killed; each kind once before any comes again.
        seed: Of the data, the order of the kills and their moments.
        minutes: How long it may take after the last kill until all is consumed.
        seconds: How long the messages take to be sent where nothing is killed; sets their rate.
    """

    messages: int
    kills: int
    seed: int
    minutes: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        settings: Of the home.
        sent: What was sent.
        found: Broker against lake.
        kills: How many, by what was hit.
        produced_s: From the first message until the last one was acknowledged, seconds.
        caught_up_s: From then, and the last kill, until the lake had it all, seconds.
    """

    settings: Settings
    sent: Sent
    found: accounts.Accounts
    kills: dict[str, int]
    produced_s: float
    caught_up_s: float


def run(trial: Trial, home: Path, say: Callable[[str], None], domain: Domain) -> Outcome:
    """Do a trial in a new home.

    Raises:
        TimeoutError: The lake has not caught up in time.
    """
    rate = trial.messages / trial.seconds
    settings = replace(Settings.current(home), lake=home / "lake", kafka_port=free_port())
    rng = random.Random(trial.seed)
    sent = domain.write(home, trial.messages, rate, trial.seed)
    path = LivePath(settings, free_port(), domain, sent, rate, rng)
    with path.running():
        began = time.monotonic()
        path.produce()
        kills = _kill(path, trial.kills, rng, say)
        while not path.has_produced():
            time.sleep(0.2)
        produced = time.monotonic()
        say(f"{sent.messages:,} messages sent after {produced - began:.0f} s")
        domain.spoil(settings, sent, rng)
        _wait(domain, settings, produced + 60 * trial.minutes)
        caught_up = time.monotonic()
        found = domain.take(settings, sent)
    took_s, late_s = produced - began, caught_up - produced
    return Outcome(settings, sent, found, dict(sorted(kills.items())), took_s, late_s)


def _kill(
    path: LivePath, number: int, rng: random.Random, say: Callable[[str], None]
) -> Counter[str]:
    """Kill so many, each kind in turn and each turn in another order; tells what was hit."""
    kills: Counter[str] = Counter()
    kinds = path.kinds()
    while kills.total() < number:
        for kind in rng.sample(sorted(kinds), len(kinds))[: number - kills.total()]:
            time.sleep(rng.uniform(1, 5))
            began = time.monotonic()
            hit = kinds[kind]()
            say(f"{hit or f'no {kind} to kill'} ({time.monotonic() - began:.1f} s)")
            kills[hit or f"none: {kind}"] += 1
    return kills


def _wait(domain: Domain, settings: Settings, deadline: float) -> None:
    while not _is_caught_up(domain, settings):
        if time.monotonic() > deadline:
            raise TimeoutError("the lake has not caught up; see up.log and the Dagster UI's runs")
        time.sleep(1)


def _is_caught_up(domain: Domain, settings: Settings) -> bool:
    try:
        return domain.is_caught_up(settings)
    except TidemillError:  # the broker is on its way back
        return False


def table(outcome: Outcome) -> Iterator[str]:
    """The conservation table, line by line."""
    found = outcome.found
    sums = [sum(column) for column in zip(*found.lines, strict=True)][1:]
    for line in (accounts.COLUMNS, *found.lines, ("all", *sums)):
        yield " ".join(
            f"{value:>10,}" if isinstance(value, int) else f"{value:>10}" for value in line
        )
    yield ""
    for name, number in found.whole.items():
        yield f"{name:<44}{number:>12,}"
    yield ""
    for hit, number in outcome.kills.items():
        yield f"killed: {hit:<36}{number:>12,}"
    yield f"sent within {outcome.produced_s:.0f} s; caught up {outcome.caught_up_s:.0f} s later"
    yield "nothing lost, nothing doubled" if not found.differences else "DIFFERENCES"
    yield from found.differences


@contextmanager
def _folder(home: Path | None) -> Iterator[Path]:
    """A new home; one that nobody named goes again."""
    if home is None:
        with tempfile.TemporaryDirectory(prefix="tidemill-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if home.exists() and any(home.iterdir()):
        raise SystemExit(f"{home}: expected a new folder, found one that holds something")
    yield home.absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=15, help="until all must be consumed")
    parser.add_argument("--seconds", type=float, help="of sending; by default all are killed in it")
    parser.add_argument("--home", type=Path, help="a new folder, which stays")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what was started is ended

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    with _folder(asked.home) as home:
        seconds = asked.seconds or max(10, asked.kills * KILL_TAKES_S)
        trial = Trial(asked.messages, asked.kills, asked.seed, asked.minutes, seconds)
        outcome = run(trial, home, say, DOMAINS[asked.domain])
    print("\n".join(table(outcome)))
    return 1 if outcome.found.differences else 0


if __name__ == "__main__":
    sys.exit(main())
