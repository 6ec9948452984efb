"""``tidemill forecast``: the days to come of one symbol, and what its forecasts were worth."""

from collections.abc import Mapping

from tidemill import compose
from tidemill.commands import show
from tidemill.settings import Settings
from tidemill.skill.compare import ANYTHING


def forecast(settings: Settings, symbol: str, days: int, as_of: int | None, as_json: bool) -> None:
    """Print the champion's forecast of the days after the last.

    Raises:
        TidemillError: There is no model, or no such version.
    """
    from tidemill.crypto.forecasting import build

    told = build.forecast(compose.lake(settings), symbol, days, as_of)
    rows = [{**row, "ds": str(row["ds"])} for row in told.days.iter_rows(named=True)]
    if as_json:
        score = {**told.score, "at": str(told.score["at"])} if told.score else None
        about = {"model": told.model, "cutoff": str(told.cutoff), "data_version": told.data_version}
        show.as_json({"symbol": symbol, **about, "score": score, "rows": rows})
        return
    show.out.print(
        f"{symbol}: {told.model}, champion of version {told.data_version} of crypto.prophet_input, "
        f"which knows the days until {told.cutoff}"
    )
    show.out.print(worth(told.score))
    names = ("ds", "yhat", "yhat_lower", "yhat_upper")
    head = ["day (UTC)", "close (quote asset)", "80 % from", "to"]
    show.table(head, [["" if row[n] is None else _shown(row[n]) for n in names] for row in rows])


def _shown(value: object) -> str:
    return f"{value:,.8g}" if isinstance(value, float) else str(value)


def worth(score: Mapping[str, object] | None) -> str:
    """A model's score in a sentence."""
    if score is None:
        from tidemill.crypto.forecasting.study import Plan

        return f"No score: too few days to test it on, which takes {Plan().least}."
    skill, low, high = (float(str(score[name])) for name in ("skill", "ci_low", "ci_high"))
    value, other, p = (float(str(score[name])) for name in ("value", "baseline_value", "p_value"))
    between = f"[{low:+.3f}, {high:+.3f}]"
    if (low, high) == ANYTHING:
        between = "(too few folds to say between what)"
    return (
        f"Mean error ({score['metric']}) {value:.4g} over {score['folds']} folds of "
        f"{score['horizon']} days; {score['baseline']} {other:.4g}: skill {skill:+.3f} "
        f"{between}, p = {p:.2g}"
    )
