"""A read-only REST endpoint: what is forecast, beside how good its model was, out of the lake.

What is not there is a 404 and a value that cannot be is a 400, with what there is instead. Nothing
that a caller sends becomes a part of SQL.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidemill.crypto.forecasting.contracts import FORECAST_METRICS, FORECASTS
from tidemill.crypto.forecasting.study import NAIVE, Plan
from tidemill.crypto.intake.files import symbol_from
from tidemill.errors import InputError, TidemillError
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake
from tidemill.skill import ledger
from tidemill.skill.compare import ANYTHING
from tidemill.skill.contracts import LEDGER

TABLES = (FORECASTS, FORECAST_METRICS, LEDGER)
ROUTES = ("/health", "/symbols", "/forecasts/SYMBOL?days=&model=", "/skill?domain=&subject=&model=")
MOST_DAYS = 30
MOST_LISTED = 40
LONGEST_SHOWN = 80
MAKE = "run `tidemill run crypto`"
AHEAD = "model, is_champion, cutoff, data_version, ahead, ds, yhat, yhat_lower, yhat_upper"
BAND = ("ds", "yhat", "yhat_lower", "yhat_upper")
SCORE = ("skill", "ci_low", "ci_high", "p_value", "baseline", "baseline_value", "value")
SCORED = ("n", "folds", "horizon", "is_leaky", "data_version", "at")
SKILL = (*SCORE, "metric", "model", "subject", "domain", *SCORED)
MAPE = {"skill": "value", "baseline_value": "baseline_mape", "value": "mape"}
"""What columns of the ledger are called in the skill of a forecast."""

Row = dict[str, Any]


class Refused(TidemillError):
    """A request that cannot be answered.

    Args:
        status: Of HTTP.
        message: What was expected, what was found, what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


class Answer(JSONResponse):
    """JSON that no cache keeps: the next run may change it."""

    def __init__(self, content: Any, status_code: int = 200) -> None:
        """As ``JSONResponse``; dates and instants, UTC, may be in the content."""
        super().__init__(content, status_code, {"Cache-Control": "no-store"})

    def render(self, content: Any) -> bytes:
        """The content as UTF-8."""
        text = json.dumps(content, default=_plain, allow_nan=False, ensure_ascii=False)
        return text.encode()


def app(lake: Lake) -> Starlette:
    """The endpoint over a lake; it answers GET and HEAD."""
    import duckdb

    published = _Published(lake)

    def health(request: Request) -> Answer:
        snapshots = [lake.snapshot(table) for table in TABLES]
        tables = {s.table.id: {"version": s.version, "rows": s.rows} for s in snapshots}
        return Answer({"status": "ok", "tables": tables})

    def symbols(request: Request) -> Answer:
        return Answer({"symbols": published.symbols()})

    def forecast(request: Request) -> Answer:
        asked = _parameters(request, "days", "model")
        days = _days(asked.get("days", str(MOST_DAYS)))
        symbol = _symbol(published, request.path_params["symbol"])
        return Answer(_forecast(published, symbol, days, asked.get("model")))

    def skill(request: Request) -> Answer:
        asked = _parameters(request, "domain", "subject", "model")
        return Answer({"rows": _skill(published.scores(), asked)})

    made = Starlette(
        routes=[
            Route("/health", health),
            Route("/symbols", symbols),
            Route("/forecasts/{symbol:path}", forecast),  # a pair may be written with a slash
            Route("/skill", skill),
        ],
        exception_handlers={
            Refused: _refused,
            404: _no_route,
            405: _no_method,
            duckdb.IOException: _changed,
            Exception: _failed,
        },
    )
    made.router.redirect_slashes = False
    return made


class _Published:
    """What the tables say; each is read again when it has changed."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._kept: dict[tuple[str, str], tuple[Snapshot, Any]] = {}

    def symbols(self) -> list[str]:
        """The symbols that have forecasts."""
        return self._lake.snapshot(FORECASTS).values("symbol")

    def ahead(self, symbol: str) -> list[Row]:
        """The forecasts of days to come, of all models, by day."""
        return self._rows(
            FORECASTS, symbol, f"select {AHEAD} from {{}} where is_ahead order by model, ds"
        )

    def coverage(self, symbol: str, model: str) -> float | None:
        """Share of tested days inside the model's 80 % interval, where it is known."""
        rows = self._rows(FORECAST_METRICS, symbol, "select model, coverage from {}")
        return next((row["coverage"] for row in rows if row["model"] == model), None)

    def scores(self) -> list[Row]:
        """The last score of each model, the most skilled first in domain, subject and metric."""
        return self._unchanged(LEDGER, "", lambda _: ledger.latest(self._lake).to_dicts())

    def _rows(self, table: Table, symbol: str, query: str) -> list[Row]:
        def read(snapshot: Snapshot) -> list[Row]:
            with duck.cursor() as con:
                found = con.execute(query.format(snapshot.within([{"symbol": symbol}]).scan()))
                names = [column[0] for column in found.description or ()]
                return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        return self._unchanged(table, symbol, read)

    def _unchanged(
        self, table: Table, part: str, read: Callable[[Snapshot], list[Row]]
    ) -> list[Row]:
        # The lake hands out one and the same snapshot until there is another commit.
        snapshot = self._lake.snapshot(table)
        seen, rows = self._kept.get((table.id, part), (None, []))
        if seen is not snapshot:
            rows = read(snapshot)
            self._kept[table.id, part] = snapshot, rows
        return rows


def _forecast(published: _Published, symbol: str, days: int, wanted: str | None) -> Row:
    """The forecast of one model of a symbol, that of the champion where none is wanted."""
    rows = published.ahead(symbol)
    models = {row["model"]: row["is_champion"] for row in rows}
    champion = next((model for model, is_champion in models.items() if is_champion), None)
    model = wanted or champion
    if not rows:
        raise Refused(404, f"{symbol}: expected forecasts of days to come, found none; {MAKE}")
    if model is None:
        raise Refused(404, f"{symbol}: no model is the champion; name one: {_listed(models)}")
    if model not in models:
        raise Refused(
            404, f"{symbol}: expected a model of {_listed(models)}, found {_shown(model)}"
        )
    mine = [row for row in rows if row["model"] == model]
    cutoff = max(row["cutoff"] for row in mine)
    newest = [row for row in mine if row["cutoff"] == cutoff]
    return {
        "symbol": symbol,
        "model": model,
        "is_champion": models[model],
        "cutoff": cutoff,
        "data_version": newest[0]["data_version"],
        **_score(published.scores(), symbol, model),
        "coverage": published.coverage(symbol, model),
        "rows": [{name: row[name] for name in BAND} for row in newest if row["ahead"] <= days],
    }


def _score(scores: Sequence[Row], symbol: str, model: str) -> Row:
    """How good a model was, or why that is not known."""
    key = FORECASTS.domain, symbol, model, "mape"
    for score in scores:
        if tuple(score[name] for name in LEDGER.key[:-1]) == key:
            told = _told(score)
            return {"skill": {MAPE.get(name, name): told[name] for name in (*SCORE, *SCORED)}}
    reason = f"{LEDGER.id} has no mape of {model} on {symbol}; {MAKE}"
    if model == NAIVE and not any(
        (score["domain"], score["subject"]) == key[:2] for score in scores
    ):
        reason = f"{symbol} has too few days to test forecasts on, which takes {Plan().least}"
    return {"skill": None, "reason": reason}


def _skill(scores: list[Row], asked: dict[str, str]) -> list[Row]:
    """The scores that are asked for, skill first."""
    rows = scores
    if not rows:
        raise Refused(404, f"expected scores in {LEDGER.id}, found none; {MAKE}")
    for name, value in asked.items():
        same = {value} | ({_as_symbol(value)} if name == "subject" else set())
        found = [row for row in rows if row[name] in same]
        if not found:
            there = sorted({row[name] for row in rows})
            raise Refused(404, f"{name}: expected one of {_listed(there)}, found {_shown(value)}")
        rows = found
    return [{name: _told(row)[name] for name in SKILL} for row in rows]


def _told(score: Row) -> Row:
    """A score, without an interval where its folds are too few for one."""
    if (score["ci_low"], score["ci_high"]) != ANYTHING:
        return score
    return score | {"ci_low": None, "ci_high": None}


def _symbol(published: _Published, text: str) -> str:
    """The symbol that has forecasts, however its pair is written."""
    there = published.symbols()
    symbol = _as_symbol(text)
    if not there:
        raise Refused(404, f"{_shown(text)}: nothing is forecast yet; {MAKE}")
    if symbol not in there:
        raise Refused(
            404, f"expected a symbol that has forecasts, {_listed(there)}, found {_shown(text)}"
        )
    return symbol


def _as_symbol(text: str) -> str:
    try:
        return symbol_from(text)
    except InputError:
        return text


def _parameters(request: Request, *names: str) -> dict[str, str]:
    """The parameters that were given and are not empty."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in names:
            raise Refused(400, f"expected parameters of {', '.join(names)}, found {_shown(name)}")
        if len(request.query_params.getlist(name)) > 1:
            raise Refused(400, f"expected {name} once, found it several times")
    return {name: value for name, value in given if value}


def _days(text: str) -> int:
    if not (re.fullmatch("[0-9]{1,9}", text) and 1 <= int(text) <= MOST_DAYS):
        raise Refused(
            400, f"days: expected a whole number from 1 to {MOST_DAYS}, found {_shown(text)}"
        )
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}...")


def _listed(values: Iterable[str]) -> str:
    names = sorted(values)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")


def _refused(request: Request, error: Exception) -> Answer:
    return Answer({"error": str(error)}, error.status if isinstance(error, Refused) else 400)


def _no_route(request: Request, error: Exception) -> Answer:
    told = f"expected one of {', '.join(ROUTES)}, found {_shown(request.url.path)}"
    return Answer({"error": told}, 404)


def _no_method(request: Request, error: Exception) -> Answer:
    told = f"expected GET or HEAD, found {_shown(request.method)}: tables are only read here"
    answer = Answer({"error": told}, 405)
    answer.headers["Allow"] = "GET, HEAD"
    return answer


def _changed(request: Request, error: Exception) -> Answer:
    told = "a table was replaced or deleted while it was read: ask again"
    return Answer({"error": told}, 503)


def _failed(request: Request, error: Exception) -> Answer:
    told = "expected to read the lake, and could not; the reason is where `tidemill serve` runs"
    return Answer({"error": told}, 500)
