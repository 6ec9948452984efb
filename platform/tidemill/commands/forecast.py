"""``tidemill forecast``: the days to come of one symbol, and what its forecasts were worth."""

from typing import Any

from tidemill import compose
from tidemill.commands import show
from tidemill.settings import Settings


def forecast(settings: Settings, symbol: str, days: int, as_of: int | None, as_json: bool) -> None:
    """Print the champion's forecast of the days after the last.

    Raises:
        TidemillError: There is no model, or no such version.
    """
    from tidemill.crypto.forecasting import build

    lake = compose.lake(settings)
    found = build.outlook(lake, symbol, days, as_of)
    told = _told(build.worth(lake, symbol, found.model))
    pairs = zip(found.dates, found.yhat, strict=True)
    rows = [{"ds": str(day), "yhat": float(yhat)} for day, yhat in pairs]
    if as_json:
        show.as_json(
            {"symbol": symbol, "model": found.model, "cutoff": str(found.cutoff), **told}
            | {"rows": rows}
        )
        return
    show.out.print(f"{symbol}: {found.model}, which knows the days until {found.cutoff}")
    show.out.print(told["worth"])
    show.table(["day (UTC)", "close (quote asset)"], [[r["ds"], f"{r['yhat']:,.8g}"] for r in rows])


def _told(score: dict[str, Any] | None) -> dict[str, Any]:
    """A model's score in a sentence, and as it is."""
    if score is None:
        return {"score": None, "worth": "No score: too few days to test it on."}
    sentence = (
        f"Mean error {score['value']:.2f} % over {score['folds']} folds of {score['horizon']} days;"
        f" {score['baseline']} {score['baseline_value']:.2f} %: skill {score['skill']:+.3f}"
        f" [{score['ci_low']:+.3f}, {score['ci_high']:+.3f}], p = {score['p_value']:.2g}"
    )
    return {"score": {**score, "at": str(score["at"])}, "worth": sentence}
