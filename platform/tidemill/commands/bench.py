"""``tidemill bench``: figures beside the bare engine's, in the same run."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill.commands import show
from tidemill.errors import InputError


def bench(name: str, rows: int, dagster: bool, as_json: bool) -> None:
    """Run a benchmark and print its report.

    Raises:
        InputError: There is no such benchmark.
    """
    if name != "candles":
        raise InputError(f"there is no benchmark {name!r}; there is: candles")
    from tidemill.bench import candles

    with TemporaryDirectory(prefix="tidemill-bench-") as folder:
        report = candles.run(rows, Path(folder), dagster=dagster)
    if as_json:
        show.as_json(report.as_dict())
    else:
        for line in report.lines():
            show.out.print(line, highlight=False)
