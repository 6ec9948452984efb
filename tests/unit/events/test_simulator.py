"""The simulated clickstream is what it says: its mix in the long run, and its faults to the row."""

import csv
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tidemill.errors import InputError
from tidemill.events.shop import SHARES, Shop
from tidemill.events.simulator import BROKEN, Clickstream, Faults, events, simulate
from tidemill.kafka.resume import partition_of

START_MS = 1_790_000_000_000
FAULTY = Faults(late=0.04, duplicates=0.03, broken=0.02)
SIGMAS = 5


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def is_near(found: int, trials: int, chance: float) -> bool:
    """Whether a binomial draw is as far from its mean as one in a million is."""
    sigma = float(np.sqrt(trials * chance * (1 - chance)))
    return abs(found - trials * chance) < SIGMAS * sigma


def ms(text: str) -> int:
    return int(np.datetime64(text.removesuffix(" UTC"), "ms").astype(int))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_mix_is_three_quarters_views_as_the_visits_have_it(seed: int) -> None:
    told = pl.concat(Shop(seed=seed).events(100, 200_000))
    found = Counter(told["event_type"])
    assert found.total() == 200_000
    for name, share in SHARES.items():
        assert is_near(found[name], 200_000, share), name
    assert is_near(found["cart"], found["view"], 7 / 30)
    assert is_near(found["purchase"], found["cart"], 3 / 7)


def test_a_product_is_met_as_often_as_its_share_says() -> None:
    shop = Shop()
    told = pl.concat(shop.events(100, 200_000)).filter(pl.col("event_type") == "view")
    views = told.height
    for place in (0, 1, 7, 20):
        found = told.filter(pl.col("product") == place).height
        assert is_near(found, views, shop.shares[place]), place
    sold = shop.catalogue
    for name in ("brand", "category_code"):
        places = set(sold.with_row_index().filter(pl.col(name).is_null())["index"])
        share = shop.shares[sorted(places)].sum()
        assert 0.1 < share < 0.4
        assert is_near(told.filter(pl.col("product").is_in(list(places))).height, views, share)


def test_an_event_comes_once_in_a_session_and_a_purchase_after_its_cart_after_its_view() -> None:
    told = pl.concat(Shop(products=1000).events(50, 100_000)).with_row_index("at")
    assert not told.select("user_session", "product", "event_type").is_duplicated().any()
    assert told.group_by("user_session").agg(pl.col("user_id").n_unique())["user_id"].max() == 1
    steps = told.pivot("event_type", index=["user_session", "product"], values="at")
    assert steps["view"].null_count() == 0
    assert (steps["cart"] > steps["view"]).all()
    bought = steps.drop_nulls("purchase")
    assert bought["cart"].null_count() == 0 and (bought["purchase"] > bought["cart"]).all()


@pytest.mark.parametrize("seed", [7, 8])
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    tmp_path: Path, seed: int
) -> None:
    for name, number in (("a", seed), ("b", seed), ("c", seed + 1)):
        told = Clickstream(Shop(seed=number), events=30_000, faults=FAULTY, is_poisson=True)
        simulate(tmp_path / name, told, START_MS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("key", ["event_type", "user_id"])
def test_the_truth_is_what_the_lines_of_the_file_say(tmp_path: Path, key: str) -> None:
    told = Clickstream(events=50_000, rate=50.0, faults=FAULTY, key=key)  # type: ignore[arg-type]
    truth = simulate(tmp_path / "events.csv", told, START_MS)
    kinds: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    cents: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    newest, newest_of, late, behind = 0, dict.fromkeys(range(3), 0), 0, 0
    for line in lines(tmp_path / "events.csv"):
        kind = fault(line)
        if kind is None and tuple(line) in seen:
            kinds["duplicate"] += 1
            continue
        seen.add(tuple(line))
        if kind is not None:
            kinds[kind] += 1
            continue
        by_type[line[1]] += 1
        cents[line[1]] += int(line[6].replace(".", ""))
        at, place = ms(line[0]), partition_of(line[1 if key == "event_type" else 7].encode(), 3)
        late += at < newest
        behind += at < newest_of[place] - 10_000
        newest, newest_of[place] = max(newest, at), max(newest_of[place], at)
    assert truth.by_type == by_type and truth.cents == cents
    assert truth.good == by_type.total() and truth.duplicates == kinds["duplicate"] > 1000
    assert truth.broken_by == {kind: kinds[kind] for kind in BROKEN}
    assert truth.rows == truth.good + truth.duplicates + truth.broken
    assert 0 < truth.behind == behind < truth.late and abs(truth.late - late) < 5
    assert is_near(truth.late, 50_000, FAULTY.late)
    assert is_near(truth.duplicates, 50_000, FAULTY.duplicates)
    assert is_near(truth.broken, 50_000, FAULTY.broken)


def fault(line: list[str]) -> str | None:
    """What is wrong with a line by its looks."""
    if len(line) < 9:
        return "cut off"
    if line[6] == "free":
        return "wrong type"
    if line[6].startswith("-"):
        return "negative price"
    return "impossible time" if "-13-" in line[0] else None


def test_without_faults_nothing_is_wrong_and_times_are_even(tmp_path: Path) -> None:
    truth = simulate(tmp_path / "e.csv", Clickstream(events=30_000, rate=250.0), START_MS)
    assert (truth.rows, truth.good) == (30_000, 30_000)
    assert (truth.late, truth.behind, truth.duplicates, truth.broken) == (0, 0, 0, 0)
    times = [ms(line[0]) for line in lines(tmp_path / "e.csv")]
    assert times == list(range(START_MS, START_MS + 120_000, 4))


def test_random_times_are_in_order_and_keep_the_rate() -> None:
    told = Clickstream(events=40_000, rate=200.0, is_poisson=True)
    times = pl.concat(events(told, START_MS))["event_ms"]
    assert times.is_sorted()
    assert abs(times[-1] - START_MS - 200_000) < SIGMAS * 1000 * 40_000**0.5 / 200


def test_an_endless_stream_is_sent_at_its_rate_and_stamped_so() -> None:
    made = islice(events(Clickstream(rate=1000.0, faults=FAULTY), START_MS), 20)
    told = pl.concat(made)
    assert told["sent_ms"].to_list() == list(range(START_MS, START_MS + told.height))
    on_time = told.filter(pl.col("fault") == "")
    assert (on_time["event_ms"] == on_time["sent_ms"]).all()
    behind = told.filter(pl.col("fault").is_in(["late", "behind"]))
    assert (behind["event_ms"] < behind["sent_ms"] - 999).all()


def test_without_a_rate_events_are_stamped_with_the_time_they_are_made_at() -> None:
    clock = iter(range(START_MS + 10, START_MS + 10_000, 10))
    made = islice(events(Clickstream(rate=None), START_MS, lambda: next(clock)), 5)
    times = [batch["event_ms"] for batch in made]
    assert [batch[-1] for batch in times] == [START_MS + 10 * n for n in range(1, 6)]
    assert pl.concat(times).is_sorted()


def test_faults_are_read_from_text_and_what_is_none_is_refused() -> None:
    assert Faults.of("late=0.01, broken=0.5") == Faults(late=0.01, broken=0.5)
    for text in ("lates=1", "late", "late=x", "late=2", "late=0.6,broken=0.6", "late=-1"):
        with pytest.raises(InputError, match="expected shares"):
            Faults.of(text)


def test_what_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    for refused in (lambda: Shop(products=10), lambda: Clickstream(events=0)):
        with pytest.raises(InputError):
            refused()
    with pytest.raises(InputError, match="rate above 0"):
        Clickstream(rate=0)
    with pytest.raises(InputError, match="number of events"):
        simulate(tmp_path / "e.csv", Clickstream(), START_MS)
