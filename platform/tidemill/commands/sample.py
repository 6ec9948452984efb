"""Sample data for a first start: the seeded simulator's files, landed like anyone's.

The last days of each pair do not land: a replay sends them, so that what is live comes after the
batch.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill import compose
from tidemill.commands import show
from tidemill.settings import Settings

LIVE_DAYS = 3
EVENTS = 100_000
EVENT_DAYS = 35
EVENTS_FROM_MS = 1_767_571_200_000
"""Monday, 2026-01-05 00:00 UTC."""
_LIVE = "_live.csv"


def land(settings: Settings) -> None:
    """Simulate the sample universe and land it; the faults in it show up in the reports."""
    from tidemill.crypto import simulator

    crypto = compose.crypto(settings)
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="tidemill-sample-") as name:
        for market in simulator.sample_markets():
            whole = Path(name) / f"{market.symbol}.csv"
            truth = simulator.simulate(whole, market)
            first = datetime.combine(market.start, time(), UTC)
            end = first + timedelta(minutes=market.minutes)
            live_s = int((end - timedelta(days=LIVE_DAYS)).timestamp())
            path = Path(name) / f"sample_{market.symbol}_1m.csv"
            kept = split(whole, live_s, path, folder / f"{market.symbol}{_LIVE}")
            landed = crypto.landing.land_file(path)
            show.err.print(
                f"Sample {market.symbol}: {truth.rows:,} simulated minutes, "
                f"{sum(report.good for report in landed):,} good, "
                f"{truth.rows - kept:,} kept for 'tidemill produce crypto --speed 60x'"
            )


def land_events(settings: Settings) -> None:
    """Simulate a clickstream of some weeks and land it; its faults show up in the reports."""
    from tidemill.events.simulator import Clickstream, Faults, simulate

    stream = Clickstream(
        events=EVENTS,
        rate=EVENTS / (EVENT_DAYS * 86_400),
        is_poisson=True,
        faults=Faults(duplicates=0.001, broken=0.001),
    )
    with TemporaryDirectory(prefix="tidemill-sample-") as name:
        path = Path(name) / "sample_events.csv"
        truth = simulate(path, stream, EVENTS_FROM_MS)
        landed = compose.event_landing(settings).land_file(path, "sample")
    show.err.print(
        f"Sample of events: {truth.rows:,} simulated, {landed.good:,} good, "
        f"{landed.duplicates:,} duplicates, {landed.rejected:,} rejected"
    )


def split(whole: Path, at_s: int, before: Path, after: Path) -> int:
    """Part a simulated file by time, each line to one side; returns the rows of ``before``.

    Args:
        whole: A file with a header whose first column is epoch seconds.
        at_s: Where ``after`` begins, epoch s.
        before: Gets the rows before that, in their order.
        after: Gets the others; it is there only when it is whole.
    """
    partial = after.with_name(f"{after.name}.part")
    rows = 0
    with whole.open("rb") as lines, before.open("wb") as early, partial.open("wb") as late:
        header = next(lines)
        early.write(header)
        late.write(header)
        for line in lines:
            if float(line.partition(b",")[0]) < at_s:
                early.write(line)
                rows += 1
            else:
                late.write(line)
    partial.replace(after)
    return rows


def held_back(settings: Settings, symbols: Sequence[str] = ()) -> list[Path]:
    """The files of the days that did not land, of these trading pairs or of all."""
    paths = sorted(_folder(settings).glob(f"*{_LIVE}"))
    return [p for p in paths if not symbols or p.name.removesuffix(_LIVE) in symbols]


def _folder(settings: Settings) -> Path:
    return settings.home / "sample"
