"""Pipelines over daily bars that answer a coming day's return, each leaky and honest.

A row is asked at the end of its day: ``at`` is the day, as a number, and its label, the return of
the next day or of the next ``AHEAD``, is known when these are over.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from tests.unit.skill.zoo.exhibit import Exhibit, Split, Tables, TableTwin, exhibit
from tidemill.skill.alarm import RETURNS_R2
from tidemill.skill.findings import Check
from tidemill.skill.future import Source

DAYS, CUTOFF, AHEAD = 320, 219, 5
Recipe = Callable[[Tables, int], Split]
Features = Callable[[pl.DataFrame, int], pl.DataFrame]
RETURN = pl.col("close") / pl.col("close").shift(1) - 1


def bars(seed: int = 3) -> pl.DataFrame:
    """Prices that wander; one volume in six is not there."""
    rng = np.random.default_rng(seed)
    volume = rng.lognormal(3.0, 0.5, DAYS)
    frame = pl.DataFrame(
        {
            "day": np.arange(DAYS),
            "close": 50 * np.exp(rng.normal(0.0, 0.02, DAYS).cumsum()),
            "volume": volume,
        }
    )
    held = pl.Series(rng.random(DAYS) > 1 / 6)
    return frame.with_columns(volume=pl.when(held).then("volume"))


def revisions() -> pl.DataFrame:
    """An estimate a week of the week's output, and three weeks later what it really was."""
    rng = np.random.default_rng(4)
    weeks = np.arange(0, DAYS, 7)
    first = rng.normal(100.0, 5.0, len(weeks))
    later = first + rng.normal(0.0, 5.0, len(weeks))
    named = [("day", np.tile(weeks, 2)), ("output", np.concatenate([first, later]))]
    return pl.DataFrame(dict(named)).with_columns(known=np.concatenate([weeks, weeks + 21]))


def labelled(frame: pl.DataFrame, ahead: int = 1) -> pl.DataFrame:
    """With the return of the days ahead, and the day on which it is known."""
    return frame.with_columns(
        y=pl.col("close").shift(-ahead) / pl.col("close") - 1, known=pl.col("day") + ahead
    )


def in_time(rows: pl.DataFrame, cutoff: int, last: pl.Expr) -> Split:
    """Rows from the 30th on; training until ``last`` is the cutoff."""
    asked = pl.max_horizontal("day", pl.lit(cutoff)).alias("at")
    names = [column for column in rows.columns if column.startswith("x")]
    rows = rows.filter(pl.col("day") >= 30).select("day", asked, "known", *names, "y")
    train = rows.filter(last <= cutoff)
    return Split(train, rows.filter(pl.col("day") > cutoff))


def next_day(features: Features) -> Recipe:
    """The recipe of most exhibits: all is honest but, perhaps, the features."""

    def recipe(tables: Tables, cutoff: int) -> Split:
        rows = labelled(features(tables["bars"], cutoff))
        return in_time(rows, cutoff, pl.col("known"))

    return recipe


def trained(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.filter(pl.col("day") <= cutoff)


def centred_window(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("close").rolling_mean(5, center=True) / pl.col("close") - 1)


def trailing_window(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("close").rolling_mean(5) / pl.col("close") - 1)


def filled_backward(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("volume").backward_fill().forward_fill())


def filled_forward(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("volume").forward_fill())


def interpolated(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=pl.col("volume").interpolate().forward_fill())


def extrapolated(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    """A gap goes on by half of the last step that is known."""
    known = frame.filter(pl.col("volume").is_not_null()).select(
        "day", last="volume", step=pl.col("volume").diff().fill_null(0.0) / 2
    )
    joined = frame.join_asof(known, on="day")
    step = pl.when(pl.col("volume").is_null()).then("step").otherwise(0.0)
    return joined.with_columns(x=pl.col("last") + step)


def _scaled(frame: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    moves = seen.select(RETURN).to_series().drop_nulls().to_numpy()
    return frame.with_columns(x=(RETURN - float(moves.mean())) / float(moves.std()))


def scaled_on_all(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _scaled(frame, frame)


def scaled_on_training(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _scaled(frame, trained(frame, cutoff))


def _component(frame: pl.DataFrame, seen: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """The first principal component of the last six returns, by the rows that are seen."""
    names = [f"lag{lag}" for lag in range(6)]
    lags = frame.with_columns(RETURN.shift(lag).alias(name) for lag, name in enumerate(names))
    learnt = seen(lags).select(names).drop_nulls().to_numpy()
    centre = learnt.mean(axis=0)
    axis = np.linalg.svd(learnt - centre, full_matrices=False)[2][0]
    axis = axis * np.sign(axis[0])
    rows = lags.select(names).to_numpy()
    return frame.with_columns(x=pl.Series(((rows - centre) * axis).sum(axis=1)))


def component_of_all(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _component(frame, lambda rows: rows)


def component_of_training(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _component(frame, lambda rows: trained(rows, cutoff))


def _selected(frame: pl.DataFrame, seen: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Of twenty lags of the return the one that goes best with the next."""
    lags = labelled(frame).with_columns(RETURN.shift(lag).alias(f"lag{lag}") for lag in range(20))
    learnt = seen(lags).drop_nulls()
    y = learnt["y"].to_numpy()
    names = [f"lag{lag}" for lag in range(20)]
    fits = [abs(np.corrcoef(learnt[name].to_numpy(), y)[0, 1]) for name in names]
    return frame.with_columns(x=lags[names[int(np.argmax(fits))]])


def selected_on_all(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _selected(frame, lambda rows: rows)


def selected_on_training(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return _selected(frame, lambda rows: rows.filter(pl.col("known") <= cutoff))


def ranked_among_all(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=RETURN.rank() / pl.len())


def ranked_among_past(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    moves = frame.select(RETURN).to_series().to_numpy()
    past = np.sort(moves[1 : cutoff + 1])
    ranks = np.searchsorted(past, moves) / len(past)
    return frame.with_columns(x=pl.Series(ranks))


def clipped_by_all(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=RETURN.clip(RETURN.quantile(0.1), RETURN.quantile(0.9)))


def clipped_by_training(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    moves = trained(frame, cutoff).select(RETURN).to_series()
    low, high = moves.quantile(0.1), moves.quantile(0.9)
    return frame.with_columns(x=RETURN.clip(low, high))


def week_of_the_day(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    week = pl.col("close").mean().over(pl.col("day") // 7)
    return frame.with_columns(x=week / pl.col("close") - 1)


def week_before(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    weeks = frame.group_by(week=pl.col("day") // 7 + 1).agg(mean=pl.col("close").mean())
    joined = frame.with_columns(week=pl.col("day") // 7).join(
        weeks, on="week", how="left", maintain_order="left"
    )
    return frame.with_columns(x=joined["mean"] / frame["close"] - 1)


def return_to_come(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=RETURN.shift(-1).fill_null(0.0))


def return_before(frame: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    return frame.with_columns(x=RETURN.shift(1))


def revised(tables: Tables, cutoff: int) -> Split:
    last = tables["output"].sort("known").unique("day", keep="last").sort("day")
    joined = tables["bars"].sort("day").join_asof(last.select("day", "output"), on="day")
    rows = labelled(joined.with_columns(x=pl.col("output")))
    return in_time(rows, cutoff, pl.col("known"))


def as_published(tables: Tables, cutoff: int) -> Split:
    told = tables["output"].sort("known").select("known", "output")
    joined = tables["bars"].sort("day").join_asof(told, left_on="day", right_on="known")
    rows = labelled(joined.with_columns(x=pl.col("output")))
    return in_time(rows, cutoff, pl.col("known"))


def without_embargo(tables: Tables, cutoff: int) -> Split:
    rows = labelled(tables["bars"].with_columns(x=RETURN), AHEAD)
    return in_time(rows, cutoff, pl.col("day"))


def with_embargo(tables: Tables, cutoff: int) -> Split:
    rows = labelled(tables["bars"].with_columns(x=RETURN), AHEAD)
    return in_time(rows, cutoff, pl.col("known"))


def random_split(tables: Tables, cutoff: int) -> Split:
    """A quarter of the days, anywhere, are the test; each is asked at its end."""
    rows = labelled(tables["bars"].with_columns(x=RETURN)).filter(pl.col("day") >= 30)
    rows = rows.drop_nulls(["x", "y"]).with_columns(at=pl.col("day"))
    rows = rows.select("day", "at", "known", "x", "y")
    tested = pl.Series(np.random.default_rng(1).random(len(rows)) < 0.25)
    return Split(rows.filter(~tested), rows.filter(tested))


def split_in_time(tables: Tables, cutoff: int) -> Split:
    rows = labelled(tables["bars"].with_columns(x=RETURN))
    return in_time(rows, cutoff, pl.col("known"))


def _of_its_own_day(frame: pl.DataFrame, cutoff: int, asked: pl.Expr, x: pl.Expr) -> Split:
    """The day's close against the mean of the four before it, from a mean of five days."""
    before = pl.col("close").shift(1).rolling_mean(4)
    rows = frame.with_columns(y=pl.col("close") / before - 1, known="day", x=x / before - 1)
    rows = rows.filter(pl.col("day") >= 30).with_columns(at=pl.max_horizontal(asked, cutoff))
    rows = rows.select("day", "at", "known", "x", "y")
    return Split(rows.filter(pl.col("known") <= cutoff), rows.filter(pl.col("known") > cutoff))


def asked_at_the_end(tables: Tables, cutoff: int) -> Split:
    mean = pl.col("close").rolling_mean(5)
    return _of_its_own_day(tables["bars"], cutoff, pl.col("day"), mean)


def asked_the_day_before(tables: Tables, cutoff: int) -> Split:
    mean = pl.col("close").shift(1).rolling_mean(5)
    return _of_its_own_day(tables["bars"], cutoff, pl.col("day") - 1, mean)


def twin(recipe: Recipe) -> TableTwin:
    sources = {"bars": Source(bars(), known="day", key=("day",))}
    if recipe in (revised, as_published):
        sources["output"] = Source(revisions(), known="known")
    return TableTwin(recipe, sources, CUTOFF, RETURNS_R2)


def _features(name: str, leaky: Features, honest: Features, *also: Check) -> Exhibit:
    twins = [twin(next_day(features)) for features in (leaky, honest)]
    return exhibit(name, twins[0], twins[1], Check.FUTURE, *also)


EXHIBITS = (
    _features("a centred window", centred_window, trailing_window, Check.ALARM),
    _features("backward fill", filled_backward, filled_forward),
    _features("interpolation across the cutoff", interpolated, extrapolated),
    _features("scaling on all rows", scaled_on_all, scaled_on_training),
    _features("principal components of all rows", component_of_all, component_of_training),
    _features("features selected on all rows", selected_on_all, selected_on_training),
    _features("ranks among all rows", ranked_among_all, ranked_among_past),
    _features("outliers clipped by all rows", clipped_by_all, clipped_by_training),
    _features("the week's mean on its days", week_of_the_day, week_before, Check.ALARM),
    _features("a label shifted the wrong way", return_to_come, return_before, Check.ALARM),
    exhibit("a join to a later revision", twin(revised), twin(as_published), Check.FUTURE),
    exhibit(
        "a horizon without embargo",
        twin(without_embargo),
        twin(with_embargo),
        Check.FUTURE,
        Check.EMBARGO,
    ),
    exhibit(
        "a random split of a series",
        twin(random_split),
        twin(split_in_time),
        Check.FUTURE,
        Check.ORDER,
        Check.EMBARGO,
    ),
    exhibit(
        "a day asked at its own end",
        twin(asked_at_the_end),
        twin(asked_the_day_before),
        Check.ASKED,
        Check.ALARM,
    ),
)
