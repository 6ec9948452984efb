"""Makes the forecast tables of symbols in a lake, and forecasts again as of an earlier version."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from tidemill import progress
from tidemill.crypto.forecasting import contracts as c
from tidemill.crypto.forecasting import history, rows
from tidemill.crypto.forecasting.crew import Crew, Told
from tidemill.crypto.forecasting.outlook import Outlook, baseline_outlook, load, train
from tidemill.crypto.forecasting.recipe import Recipe
from tidemill.crypto.forecasting.verdict import DOMAIN, Verdict, forecaster, judge
from tidemill.errors import InputError, TidemillError
from tidemill.lake import duck
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.store import Lake, Written
from tidemill.skill import ledger


@dataclass
class Made:
    """What came of some symbols.

    Attributes:
        verdicts: By symbol.
        written: By table's name, a commit a symbol.
        failed: By symbol, why it has no forecasts.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    written: dict[str, list[Written]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def findings(self, is_leaky: bool) -> list[dict[str, object]]:
        """What guard and alarm found of leaky recipes, or of the other models that are kept."""
        return [
            {"symbol": symbol, "model": model, "found": str(finding)}
            for symbol, verdict in self.verdicts.items()
            for model, findings in verdict.found.items()
            for finding in findings
            if (model in verdict.study.leaky) == is_leaky
        ]


def make(
    lake: Lake,
    symbols: Sequence[str],
    workers: int | None = None,
) -> Made:
    """Forecast symbols, one after the other; one that fails stops no other.

    The scores go in first: no forecast is in the lake without its score.

    Args:
        lake: Holds ``prophet_input``; the forecast tables and the skill ledger are written.
        symbols: Which.
        workers: Processes, by default one a core.
    """
    made = Made()
    with Crew(workers) as crew:
        for symbol in symbols:
            try:
                learnt = history.read(lake, symbol)
                verdict = judge(
                    learnt,
                    crew,
                    datetime.now(UTC),
                    champion(lake, symbol),
                    told=_noted(symbol),
                )
                if verdict.scores:
                    ledger.add(lake, verdict.scores)
                for table, frame in rows.tables(verdict):
                    done = lake.replace_frame(table, frame, [{"symbol": symbol}])
                    made.written.setdefault(table.name, []).append(done)
                made.verdicts[symbol] = verdict
            except TidemillError as error:
                made.failed[symbol] = str(error)
    return made


def _noted(symbol: str) -> Told:
    return lambda done, total: progress.note(f"{symbol} {done}/{total} forecasts")


def champion(lake: Lake, symbol: str) -> str | None:
    """The model that is believed so far; None where nothing was forecast."""
    models = read(lake, c.FORECAST_MODELS, symbol).filter(pl.col("is_champion"))
    return None if models.is_empty() else str(models["model"][0])


def read(lake: Lake, table: Table, symbol: str, at: int | None = None) -> pl.DataFrame:
    """A symbol's rows of a forecast table, in the table's order."""
    relation = lake.snapshot(table, at).within([{"symbol": symbol}]).scan()
    order = ", ".join(f'"{name}"' for name in table.sort_by or table.key)
    with duck.cursor() as con:
        found = con.sql(f"select * from {relation} order by {order}").to_arrow_table()
    return pl.DataFrame(found, schema=polars_schema(table))


def outlook(lake: Lake, symbol: str, days: int, as_of: int | None = None) -> Outlook:
    """What the champion says of the days after the last.

    Args:
        lake: Holds the models.
        symbol: Of which one is kept.
        days: From 1 on.
        as_of: A version of ``prophet_input``: the model that was champion on it is fitted to it
            again, and gives what it gave then, to the bit.

    Raises:
        InputError: There is no model, or no such data.
        TidemillError: There is no such version.
    """
    if days < 1:
        raise InputError(f"expected at least 1 day to forecast, found {days}")
    model = _model(lake, symbol, as_of)
    if as_of is None and model["fitted"]:
        return load(str(model["fitted"])).outlook(days)
    learnt = history.read(lake, symbol, int(str(model["data_version"])) if as_of is None else as_of)
    if model["recipe"]:
        recipe = Recipe.from_dict(json.loads(str(model["recipe"])))
        return train(learnt.series, recipe, learnt.version).outlook(days)
    return baseline_outlook(learnt.series, forecaster(str(model["model"])), days)


def _model(lake: Lake, symbol: str, as_of: int | None) -> Mapping[str, object]:
    """The champion's row: the latest, or of the data that is asked for the first that was kept."""
    now = lake.snapshot(c.FORECAST_MODELS).version
    for version in range(now, -1 if as_of is not None else now - 1, -1):
        found = read(lake, c.FORECAST_MODELS, symbol, version).filter(pl.col("is_champion"))
        if as_of is not None:
            found = found.filter(pl.col("data_version") == as_of)
        if not found.is_empty():
            return found.row(0, named=True)
    said = f" on version {as_of} of crypto.prophet_input" if as_of is not None else ""
    raise InputError(
        f"{symbol}: expected a forecast model{said}, found none; "
        f"'tidemill run crypto --symbol {symbol}' makes one of the newest data"
    )


def stale(lake: Lake, symbols: Sequence[str]) -> list[str]:
    """The symbols that have whole days after those that their forecasts know."""
    found = []
    for symbol in symbols:
        models = read(lake, c.FORECAST_MODELS, symbol)
        try:
            last = history.read(lake, symbol).series.dates[-1].item()
        except InputError:
            continue
        if models.is_empty() or models["cutoff"].max() < last:
            found.append(symbol)
    return found


def unscored(lake: Lake) -> list[dict[str, object]]:
    """The models that are kept without a score on the data that they learnt from.

    A naive forecast of a series too short to score claims nothing, and needs none.
    """
    with duck.cursor() as con:
        models = con.sql(
            "select symbol, model, data_version, recipe is null and model = 'naive' as is_naive, "
            f"from {lake.snapshot(c.FORECAST_MODELS).scan()} order by all"
        ).fetchall()
        scored = {
            symbol
            for (symbol,) in con.sql(
                f"select distinct symbol from {lake.snapshot(c.FORECAST_METRICS).scan()}"
            ).fetchall()
        }
    return [
        {"symbol": symbol, "model": model, "data_version": version}
        for symbol, model, version, is_naive in models
        if not (is_naive and symbol not in scored)
        and ledger.missing(lake, DOMAIN, [symbol], [model], version)
    ]


def worth(lake: Lake, symbol: str, model: str) -> dict[str, object] | None:
    """The last row of the skill ledger in percent for a symbol's model; None without one."""
    rows = ledger.latest(lake, DOMAIN).filter(
        (pl.col("subject") == symbol) & (pl.col("model") == model) & (pl.col("metric") == "mape")
    )
    return None if rows.is_empty() else rows.row(0, named=True)
