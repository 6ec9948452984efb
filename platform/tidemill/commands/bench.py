"""``tidemill bench``: figures beside the bare engine's, in the same run."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tidemill.commands import show
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.bench.candles import Report as Candles
    from tidemill.bench.events import Report as Events
    from tidemill.bench.forecast import Report as Forecast
    from tidemill.bench.speed import Report as Speed

CANDLES = 8_000_000
MESSAGES = 1_000_000
EVENTS = 1_000_000
DAYS = 5_000


def bench(name: str, rows: int | None, dagster: bool, as_json: bool) -> None:
    """Run a benchmark and print its report.

    Raises:
        InputError: There is no such benchmark.
    """
    with TemporaryDirectory(prefix="tidemill-bench-") as folder:
        report = _measured(name, rows, Path(folder), dagster)
    if as_json:
        show.as_json(report.as_dict())
    else:
        for line in report.lines():
            show.out.print(line, highlight=False)


def _measured(
    name: str, rows: int | None, folder: Path, dagster: bool
) -> "Candles | Speed | Forecast | Events":
    if name == "candles":
        from tidemill.bench import candles

        return candles.run(rows or CANDLES, folder, dagster=dagster)
    if name == "speed":
        from tidemill.bench import speed

        return speed.run(rows or MESSAGES, folder)
    if name == "forecast":
        from tidemill.bench import forecast

        return forecast.run(rows or DAYS)
    if name == "events":
        from tidemill.bench import events

        return events.run(rows or EVENTS, folder)
    raise InputError(f"there is no benchmark {name!r}; there are: candles, speed, forecast, events")
