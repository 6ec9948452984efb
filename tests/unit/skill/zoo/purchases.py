"""Pipelines over purchases, which have no time: ``part`` is 0 in training and 1 in the test.

All but the label comes with the question, so that a row's answer may hang on its own product and on
nothing of another test row.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from tests.unit.skill.zoo.exhibit import Split, Tables, TableTwin, exhibit
from tidemill.skill.alarm import PURCHASES_R2
from tidemill.skill.findings import Check
from tidemill.skill.future import Source

ROWS, PRODUCTS, FOLDS = 400, 60, 5
Recipe = Callable[[Tables, int], Split]
OWN = ("product", "city", "weight")


def purchases(seed: int = 2) -> pl.DataFrame:
    """A purchase is its product's price, more or less."""
    rng = np.random.default_rng(seed)
    product = rng.integers(0, PRODUCTS, ROWS)
    prices = rng.normal(9000.0, 2000.0, PRODUCTS)
    weight = rng.lognormal(0.0, 0.5, ROWS)
    return pl.DataFrame(
        {
            "row": np.arange(ROWS),
            "part": (rng.random(ROWS) < 0.25).astype(np.int64),
            "product": [f"P{p}" for p in product],
            "city": rng.choice(["A", "B", "C"], ROWS),
            "weight": weight,
            "purchase": prices[product] + 800 * weight + rng.normal(0.0, 1500.0, ROWS),
        }
    )


def source(frame: pl.DataFrame) -> Source:
    return Source(frame, known="part", key=("row",), own=OWN)


def with_copies() -> pl.DataFrame:
    """Each fourth purchase once more under another number, in whichever part."""
    frame = purchases()
    copies = frame[::4].with_columns(row=pl.col("row") + ROWS, part=1 - pl.col("part"))
    return pl.concat([frame, copies])


def without_copies() -> pl.DataFrame:
    return with_copies().unique([*OWN, "purchase"], keep="first", maintain_order=True)


def parted(frame: pl.DataFrame) -> Split:
    rows = frame.with_columns(at=pl.lit(0, pl.Int64), known="part", y="purchase")
    names = [column for column in rows.columns if column.startswith("x")]
    rows = rows.select("row", "part", "at", "known", *names, "y")
    train, test = rows.filter(pl.col("part") == 0), rows.filter(pl.col("part") == 1)
    return Split(train.drop("part"), test.drop("part"))


def encoded(frame: pl.DataFrame, seen: pl.DataFrame) -> pl.Series:
    """The mean purchase of each row's product among the rows that are seen."""
    overall = seen["purchase"].mean()
    means = seen.group_by("product", maintain_order=True).agg(mean=pl.col("purchase").mean())
    joined = frame.join(means, on="product", how="left", maintain_order="left")
    return joined["mean"].fill_null(overall)


def trained(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("part") == 0)


def encoded_on_all(tables: Tables, cutoff: int) -> Split:
    frame = tables["purchases"]
    return parted(frame.with_columns(x=encoded(frame, frame)))


def encoded_with_itself(tables: Tables, cutoff: int) -> Split:
    frame = tables["purchases"]
    return parted(frame.with_columns(x=encoded(frame, trained(frame))))


def encoded_out_of_fold(tables: Tables, cutoff: int) -> Split:
    """Training rows by the other folds' means, test rows by all of training."""
    frame = tables["purchases"]
    fold = pl.col("row") % FOLDS
    train = trained(frame)
    parts = [frame.filter(pl.col("part") == 1)]
    parts = [parts[0].with_columns(x=encoded(parts[0], train))]
    for number in range(FOLDS):
        mine, others = train.filter(fold == number), train.filter(fold != number)
        parts.append(mine.with_columns(x=encoded(mine, others)))
    return parted(pl.concat(parts))


def _weighed(frame: pl.DataFrame, seen: pl.DataFrame) -> Split:
    weights = seen["weight"].to_numpy()
    low, high = float(weights.mean()), float(weights.std())
    return parted(frame.with_columns(x=(pl.col("weight") - low) / high))


def scaled_on_all(tables: Tables, cutoff: int) -> Split:
    return _weighed(tables["purchases"], tables["purchases"])


def scaled_on_training(tables: Tables, cutoff: int) -> Split:
    return _weighed(tables["purchases"], trained(tables["purchases"]))


def _counted(frame: pl.DataFrame, seen: pl.DataFrame) -> Split:
    counts = seen["product"].value_counts(name="x")
    joined = frame.join(counts, on="product", how="left", maintain_order="left")
    return parted(joined.with_columns(pl.col("x").fill_null(0).cast(pl.Float64)))


def counted_in_all(tables: Tables, cutoff: int) -> Split:
    return _counted(tables["purchases"], tables["purchases"])


def counted_in_training(tables: Tables, cutoff: int) -> Split:
    return _counted(tables["purchases"], trained(tables["purchases"]))


def twin(recipe: Recipe, frame: pl.DataFrame | None = None) -> TableTwin:
    sources = {"purchases": source(purchases() if frame is None else frame)}
    return TableTwin(recipe, sources, 0, PURCHASES_R2, label="purchase")


EXHIBITS = (
    exhibit(
        "target encoding on all rows",
        twin(encoded_on_all),
        twin(encoded_out_of_fold),
        Check.FUTURE,
        Check.OWN_LABEL,
    ),
    exhibit(
        "target encoding that counts the row itself",
        twin(encoded_with_itself),
        twin(encoded_out_of_fold),
        Check.OWN_LABEL,
    ),
    exhibit(
        "copies across the split",
        twin(encoded_out_of_fold, with_copies()),
        twin(encoded_out_of_fold, without_copies()),
        Check.SHARED,
    ),
    exhibit(
        "scaling with the test rows", twin(scaled_on_all), twin(scaled_on_training), Check.FUTURE
    ),
    exhibit(
        "counts of the test rows too", twin(counted_in_all), twin(counted_in_training), Check.FUTURE
    ),
)
