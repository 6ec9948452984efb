"""Prophet's Stan program, run with less around it.

Imported only where Prophet is, as Prophet's modules are heavy.
"""

import json
import subprocess
import tempfile
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from prophet.models import CmdStanPyBackend, TrendIndicator

from tidemill.crypto.forecasting.recipe import Begin
from tidemill.crypto.forecasting.start import posterior_mode

SEED = 7
SMALL_ROWS = 100
"""Below this Prophet takes Newton's method."""
_PARAMETERS = ("k", "m", "delta", "sigma_obs", "beta")


class QuickBackend(CmdStanPyBackend):
    """Talks to Stan in plain files, and chooses where its optimiser starts.

    Program, data and tolerances are Prophet's. Data are encoded once and only the parameters are
    read back: in Prophet's way that costs nearly as much as the thousand steps of its optimiser.
    Of the answer the trend over the training days is left out; Prophet does not use it.

    Attributes:
        begin: The start.
    """

    def __init__(self, begin: Begin) -> None:
        """Find Stan's program."""
        super().__init__()
        self.begin = begin

    def fit(
        self, stan_init: dict[str, Any], stan_data: dict[str, Any], **kwargs: Any
    ) -> "OrderedDict[str, np.ndarray]":
        """Parameters by name, each of shape (1, n).

        Should the program fail, Prophet's own way from its own start is taken, Newton's method
        included.
        """
        start: dict[str, Any] | None = stan_init
        if self.begin is Begin.MODE:
            is_linear = stan_data["trend_indicator"] == TrendIndicator.LINEAR.value
            start = posterior_mode(stan_data, stan_init) if is_linear else None
        found = self._optimise(start, stan_data) if start else None
        return found or super().fit(stan_init, stan_data, seed=SEED, **kwargs)

    def _optimise(
        self, start: dict[str, Any], data: dict[str, Any]
    ) -> "OrderedDict[str, np.ndarray] | None":
        bare = dict(data, X=data["X"].iloc[:0])  # the columns are most of it, and have an own way
        init, encoded = self.prepare_data(start, bare)
        encoded["X"] = []
        algorithm = "newton" if data["T"] < SMALL_ROWS else "lbfgs"
        with tempfile.TemporaryDirectory(prefix="tidemill-fit-") as folder:
            names = ("data.json", "init.json", "out.csv")
            given, begun, out = (Path(folder) / name for name in names)
            rows = self._rows(data["X"].to_numpy(float))
            given.write_text(json.dumps(encoded).replace('"X": []', f'"X": {rows}'))
            begun.write_text(json.dumps(init))
            ended = subprocess.run(
                [
                    *(str(self.model.exe_file), "optimize", f"algorithm={algorithm}", "iter=10000"),
                    *("random", f"seed={SEED}", "data", f"file={given}", f"init={begun}"),
                    *("output", f"file={out}", "sig_figs=17"),
                ],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            # from the mode it mostly ends with an error, as no step improves on the start
            is_sound = ended.returncode == 0 or self.begin is Begin.MODE
            return _read(out) if is_sound else None

    def _rows(self, columns: "np.ndarray") -> str:
        """The columns as JSON; from Prophet's own start as Prophet writes them.

        Stan reads another spelling of the same number to another last bit, and that is enough for
        its way from Prophet's start to end elsewhere, with scores 0.1 % away.
        """
        is_prophets = self.begin is Begin.PROPHET
        return json.dumps(columns.tolist()) if is_prophets else quick_rows(columns)


def quick_rows(columns: "np.ndarray") -> str:
    """A matrix as JSON to the last bit; Polars writes numbers five times faster than json does."""
    import polars as pl

    lines = pl.DataFrame(columns).write_csv(include_header=False)
    return "[[" + lines.strip().replace("\n", "],[") + "]]"


def _read(answer: Path) -> "OrderedDict[str, np.ndarray] | None":
    """Parameters from Stan's CSV: comments, a line of names, a line of numbers; None without."""
    if not answer.exists():
        return None
    lines = [line for line in answer.read_text().splitlines() if line and line[0] != "#"]
    if len(lines) < 2:
        return None
    values: dict[str, list[float]] = {name: [] for name in _PARAMETERS}
    for column, number in zip(lines[0].split(","), lines[-1].split(","), strict=True):
        name = column.partition(".")[0]
        if name in values:
            values[name].append(float(number))
    found = OrderedDict((name, np.array([numbers])) for name, numbers in values.items())
    return found if all(np.isfinite(one).all() for one in found.values()) else None


@cache
def backend(begin: Begin) -> QuickBackend:
    """The one backend of this process for a start; it keeps nothing from fit to fit."""
    return QuickBackend(begin)
