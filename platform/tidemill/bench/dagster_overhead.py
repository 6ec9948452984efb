"""What Dagster adds: ``tidemill run crypto`` beside the library alone, over the same files.

Many months with few rows, so that what is counted is partitions and events, not rows.
"""

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidemill import compose
from tidemill.bench import sides
from tidemill.bench.measure import Work, alone
from tidemill.errors import TidemillError

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MONTHS = 160
FIRST = datetime(2012, 1, 1, tzinfo=UTC)
MINUTES_A_DAY = 2


def measured(folder: Path, months: int = MONTHS) -> dict[str, float]:
    """Make every table of two symbols with and without Dagster.

    Args:
        folder: Where two homes go.
        months: Of each symbol.

    Returns:
        library_seconds, dagster_seconds (from the command's start to its end) and added_seconds.

    Raises:
        TidemillError: A side failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain, other = (sides.settings(str(folder), name) for name in ("library", "dagster"))
    crypto = compose.crypto(plain)
    for symbol in SYMBOLS:
        crypto.landing.land_file(_sparse(folder / f"{symbol}.csv", months))
    shutil.copytree(plain.home, other.home)
    library = alone(everything, workdir=str(folder)).seconds
    dagster = _command_seconds(other.home)
    return {
        "library_seconds": library,
        "dagster_seconds": dagster,
        "added_seconds": dagster - library,
    }


def everything(workdir: str) -> Work:
    """The library alone: every table of what has landed."""
    return sides.opened(workdir, "library", is_fresh=False).all


def _sparse(path: Path, months: int) -> Path:
    """A file with two minutes each day of some months."""
    month = FIRST.year * 12 + months
    end = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
    lines = ["timestamp,open,high,low,close,volume"]
    for day in range((end - FIRST).days):
        at = int((FIRST + timedelta(days=day)).timestamp())
        price = 100 + day % 17
        lines += [
            f"{at + 60 * minute},{price},{price + 2},{price - 1},{price + 1},1.5"
            for minute in range(MINUTES_A_DAY)
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def _command_seconds(home: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", "run", "crypto", "--no-forecasts", "--json"],
        env={name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
        | {"TIDEMILL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TidemillError(f"tidemill run crypto failed with {done.returncode}: {done.stderr}")
    return time.perf_counter() - started
