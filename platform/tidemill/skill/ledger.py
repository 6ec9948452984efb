"""The ledger of scores: what a score must say to be one, and which models have none."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tidemill.errors import ContractError, InputError, TidemillError
from tidemill.lake import duck
from tidemill.lake.contracts import Column, Type, polars_schema
from tidemill.lake.store import Lake, Written
from tidemill.skill.contracts import LEDGER

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Score:
    """One row of the ledger; its attributes are the table's columns.

    ``exam`` makes them from forecasts. Nothing of a score can be left out, and what is not a
    number, out of range, or outside its own interval is refused.

    Raises:
        ContractError: Something is missing, or not what the contract says.
    """

    domain: str
    subject: str
    model: str
    metric: str
    value: float
    baseline: str
    baseline_value: float
    skill: float
    n: int
    folds: int
    horizon: int
    ci_low: float
    ci_high: float
    p_value: float
    is_leaky: bool
    data_version: int
    at: datetime

    def __post_init__(self) -> None:
        """Refuse a score that leaves out what it is to be held against."""
        wrong = [
            told
            for column in LEDGER.columns
            if (told := _fault(column, getattr(self, column.name)))
        ]
        if not wrong and not self.ci_low <= self.skill <= self.ci_high:
            wrong = [f"skill {self.skill} is not between {self.ci_low} and {self.ci_high}"]
        if wrong:
            raise ContractError(
                f"no score of {self.model} on {self.subject}: {'; '.join(wrong)}. A score has a "
                "baseline, n, folds, an interval and p, or it is none"
            )

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Domain, subject, model and metric."""
        return self.domain, self.subject, self.model, self.metric


_PYTHON: dict[Type, tuple[type, ...]] = {
    Type.STRING: (str,),
    Type.DOUBLE: (float, int),
    Type.BIGINT: (int,),
    Type.BOOLEAN: (bool,),
    Type.TIMESTAMP: (datetime,),
}


def _fault(column: Column, value: object) -> str:
    """What is wrong with one value of a score, or nothing."""
    of_type = isinstance(value, _PYTHON[column.type])
    if not of_type or (isinstance(value, bool) and column.type is not Type.BOOLEAN):
        return f"{column.name} is {value!r}, not a {column.type.value}"
    if isinstance(value, str) and not value.strip():
        return f"{column.name} is empty"
    if isinstance(value, datetime):
        return "" if value.tzinfo else f"{column.name} {value} has no time zone"
    if isinstance(value, float | int):
        if not math.isfinite(value):
            return f"{column.name} is {value}"
        low = -math.inf if column.low is None else column.low
        high = math.inf if column.high is None else column.high
        if not low <= value <= high:
            return f"{column.name} is {value}, not from {low:g} to {high:g}"
    return ""


def add(lake: Lake, scores: Sequence[Score]) -> Written | None:
    """Add scores to the ledger, all or none, exactly once; earlier ones stay.

    Args:
        lake: That holds the ledger.
        scores: Made at one time.

    Returns:
        What was written, or None where these scores were in it already.

    Raises:
        InputError: There is none, one is there twice, or they are of several times.
        TidemillError: Later scores of exactly these models are in the ledger.
    """
    import polars as pl

    keys = sorted({score.key for score in scores})
    times = sorted({score.at for score in scores})
    if len(times) != 1 or len(keys) < len(scores):
        raise InputError(
            "expected scores of one time, each model once a subject and metric, found "
            f"{len(scores)} of {len(keys)} at {len(times)} times"
        )
    rows = pl.DataFrame(
        [asdict(score) | {"at": score.at.astimezone(UTC).replace(tzinfo=None)} for score in scores],
        schema=polars_schema(LEDGER),
    )
    # Named for what is scored, so that a run that is repeated adds nothing and rivals do not wait.
    writer = f"skill/{hashlib.sha256(repr(keys).encode()).hexdigest()[:16]}"
    written = lake.append(LEDGER, rows, writer, int(times[0].timestamp() * 1_000_000))
    if written is None and not _holds(lake, rows):
        raise TidemillError(
            f"{LEDGER.id}: later scores than those of {times[0]:%Y-%m-%d %H:%M:%S} are there for "
            f"{keys[0][2]} on {keys[0][1]}, and no others were added: score again"
        )
    return written


def _holds(lake: Lake, rows: "pl.DataFrame") -> bool:
    key = list(LEDGER.key)
    return rows.join(read(lake), on=key, how="anti").is_empty()


def read(lake: Lake) -> "pl.DataFrame":
    """Every row, oldest first."""
    import polars as pl

    with duck.cursor() as con:
        rows = con.sql(f"select * from {lake.snapshot(LEDGER).scan()}").to_arrow_table()
    return pl.DataFrame(rows, schema=polars_schema(LEDGER)).sort("at", *LEDGER.key[:-1])


def latest(lake: Lake, domain: str | None = None) -> "pl.DataFrame":
    """The last score of each model, the most skilled first in domain, subject and metric.

    Args:
        lake: That holds the ledger.
        domain: Of the models; None for all.
    """
    import polars as pl

    rows = read(lake)
    if domain is not None:
        rows = rows.filter(pl.col("domain") == domain)
    last = rows.unique(list(LEDGER.key[:-1]), keep="last", maintain_order=True)
    order = ["domain", "subject", "metric", "skill", "model"]
    return last.sort(order, descending=[False, False, False, True, False])


def missing(
    lake: Lake,
    domain: str,
    subjects: Iterable[str],
    models: Iterable[str],
    data_version: int | None = None,
) -> list[tuple[str, str]]:
    """Which models have no score, for the check of what makes them.

    Args:
        lake: That holds the ledger.
        domain: Of the models.
        subjects: What each model is to be scored on.
        models: Their names.
        data_version: Count only scores on this version of the data; None counts all.

    Returns:
        Subject and model, sorted.
    """
    import polars as pl

    rows = read(lake).filter(pl.col("domain") == domain)
    if data_version is not None:
        rows = rows.filter(pl.col("data_version") == data_version)
    scored = set(rows.select("subject", "model").iter_rows())
    asked = {(subject, model) for model in set(models) for subject in set(subjects)}
    return sorted(asked - scored)
