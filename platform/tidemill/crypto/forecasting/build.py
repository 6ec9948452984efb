"""Makes the forecast tables of symbols in a lake, and forecasts again as of an earlier version."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from tidemill import progress
from tidemill.crypto.contracts import PROPHET_INPUT
from tidemill.crypto.forecasting import contracts as c
from tidemill.crypto.forecasting import history, rows
from tidemill.crypto.forecasting.crew import Crew
from tidemill.crypto.forecasting.crew import Told as Progress
from tidemill.crypto.forecasting.outlook import Outlook, baseline_outlook, load, train
from tidemill.crypto.forecasting.recipe import Recipe
from tidemill.crypto.forecasting.verdict import DOMAIN, METRICS, Verdict, forecaster, judge
from tidemill.errors import InputError, TidemillError
from tidemill.lake import duck
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.store import Lake, Written
from tidemill.skill import ledger
from tidemill.skill.findings import Check


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

    def missed(self) -> list[dict[str, object]]:
        """The leaky recipes that the guard did not catch: then it catches nothing."""
        return [
            {"symbol": symbol, "model": model, "found": "nothing: the guard does not work"}
            for symbol, verdict in self.verdicts.items()
            for model in sorted(verdict.study.leaky & verdict.study.testing.forecasts.keys())
            if all(one.check is not Check.FUTURE for one in verdict.found.get(model, ()))
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
                verdict = judge(learnt, crew, champion(lake, symbol), told=_noted(symbol))
                _write(lake, verdict, made)
            except Overtaken:
                raise  # a rival wrote; the same may do at another try
            except (TidemillError, ArithmeticError, RuntimeError, ValueError) as error:
                # model libraries complain in their own words
                made.failed[symbol] = str(error) or type(error).__name__
    return made


def _write(lake: Lake, verdict: Verdict, made: Made) -> None:
    """Write a symbol's scores and rows, unless a rival has forecast it from newer data."""
    symbol, version = verdict.symbol, verdict.history.version
    newest = read(lake, c.FORECAST_MODELS, symbol)["data_version"].max()
    if isinstance(newest, int) and newest > version:
        raise TidemillError(
            f"{symbol}: forecasts of version {newest} of {PROPHET_INPUT.id} are there; these, of "
            f"version {version}, were not written"
        )
    if verdict.scores:
        ledger.add(lake, verdict.scores)
    for table, frame in rows.tables(verdict):
        done = lake.replace_frame(table, frame, [{"symbol": symbol}])
        made.written.setdefault(table.name, []).append(done)
    made.verdicts[symbol] = verdict


def _noted(symbol: str) -> Progress:
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


@dataclass(frozen=True)
class Told:
    """What a champion says of the days to come.

    Attributes:
        symbol: Of which.
        model: The champion.
        cutoff: The last day that it knows.
        data_version: Of ``prophet_input``, whose choice the champion is.
        days: ``ds``, ``yhat``, ``yhat_lower`` and ``yhat_upper``, the 80 % interval, which is told
            for the days that are in the table of forecasts and NULL for others.
        score: Its row of the ledger, from the same study; None where nothing could be scored.
    """

    symbol: str
    model: str
    cutoff: date
    data_version: int
    days: pl.DataFrame
    score: Mapping[str, object] | None


def forecast(lake: Lake, symbol: str, days: int, as_of: int | None = None) -> Told:
    """What the champion says of the days after the last.

    Args:
        lake: Holds the models.
        symbol: Of which one is kept.
        days: From 1 on.
        as_of: A version of ``prophet_input``: the champion of the last study up to it is fitted to
            it again. On data that was studied it gives what it gave then, to the bit.

    Raises:
        InputError: There is no model, or no such data.
        TidemillError: There is no such version.
    """
    if days < 1:
        raise InputError(f"expected at least 1 day to forecast, found {days}")
    model = _model(lake, symbol, as_of)
    name, version = str(model["model"]), int(str(model["data_version"]))
    score = worth(lake, symbol, name, version)
    rows = read(lake, c.FORECASTS, symbol).filter(
        pl.col("is_ahead") & (pl.col("model") == name) & (pl.col("data_version") == version)
    )
    told = rows.select("ds", "yhat", "yhat_lower", "yhat_upper")
    if as_of is None and days <= told.height:
        cutoff = rows.select("cutoff").row(0)[0]
        return Told(symbol, name, cutoff, version, told.head(days), score)
    outlook = _outlook(lake, model, symbol, days, as_of)
    found = pl.DataFrame({"ds": outlook.dates, "yhat": outlook.yhat})
    bands = told.select("ds", "yhat_lower", "yhat_upper")
    if as_of is not None:
        bands = bands.clear()
    joined = found.join(bands, on="ds", how="left", maintain_order="left")
    cutoff = date.fromisoformat(str(outlook.cutoff))
    return Told(symbol, name, cutoff, version, joined, score)


def _outlook(
    lake: Lake, model: Mapping[str, object], symbol: str, days: int, as_of: int | None
) -> Outlook:
    """A model's forecast, from itself where it is kept, else fitted again."""
    if as_of is None and model["fitted"]:
        return load(str(model["fitted"])).outlook(days)
    learnt = history.read(lake, symbol, int(str(model["data_version"])) if as_of is None else as_of)
    if model["recipe"]:
        recipe = Recipe.from_dict(json.loads(str(model["recipe"])))
        return train(learnt.series, recipe, learnt.version).outlook(days)
    return baseline_outlook(learnt.series, forecaster(str(model["model"])), days)


def _model(lake: Lake, symbol: str, as_of: int | None) -> Mapping[str, object]:
    """The champion's row: the latest, or that of the last study of data up to a version."""
    now = lake.snapshot(c.FORECAST_MODELS).version
    last = now if as_of is None else 0
    studied = set()
    for version in range(now, last - 1, -1):
        try:
            kept = read(lake, c.FORECAST_MODELS, symbol, version if version < now else None)
        except TidemillError:  # vacuum took it
            continue
        for row in kept.filter(pl.col("is_champion")).iter_rows(named=True):
            studied.add(int(row["data_version"]))
            if as_of is None or row["data_version"] <= as_of:
                return row
    said = f" of version {as_of} of {PROPHET_INPUT.id} or before" if as_of is not None else ""
    there = f" (there are versions {', '.join(map(str, sorted(studied)))})" if studied else ""
    others = lake.snapshot(c.FORECAST_MODELS).values("symbol")
    if others and symbol not in others:
        there = f"; there is one for {', '.join(others)}"
    raise InputError(
        f"{symbol}: expected a forecast model{said}, found none{there}; "
        f"'tidemill run crypto --symbol {symbol}' makes one of the newest data"
    )


def stale(lake: Lake, symbols: Sequence[str]) -> list[str]:
    """The symbols whose whole days are not those that their forecasts know."""
    return [symbol for symbol in symbols if _is_stale(lake, symbol)]


def _is_stale(lake: Lake, symbol: str) -> bool:
    models = read(lake, c.FORECAST_MODELS, symbol)
    try:
        now = history.read(lake, symbol).series
    except InputError:
        return False
    if models.is_empty() or models["cutoff"].max() != now.dates[-1].item():
        return True
    try:
        then = history.read(lake, symbol, models["data_version"][0]).series
    except TidemillError:  # vacuum took it: the last day must do
        return False
    return then.values.tobytes() != now.values.tobytes()


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


def worth(lake: Lake, symbol: str, model: str, version: int) -> dict[str, object] | None:
    """The ledger's row of a symbol's model on a version of its data, by the first metric told."""
    rows = ledger.read(lake).filter(
        (pl.col("domain") == DOMAIN)
        & (pl.col("subject") == symbol)
        & (pl.col("model") == model)
        & (pl.col("data_version") == version)
    )
    for metric in METRICS:
        found = rows.filter(pl.col("metric") == metric)
        if not found.is_empty():
            return found.row(-1, named=True)
    return None if rows.is_empty() else rows.row(-1, named=True)
