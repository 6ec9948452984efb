"""A simulated shop: what it sells, and the visits of its sessions, whose expectation is known.

A session visits one to twenty products. A visit is a view; in 7 of 30 visits the product goes into
the cart, and 3 of 7 carts are bought. So a visit has 1 + 7/30 + 1/10 = 4/3 events in expectation,
of which 75 % are views, 17.5 % carts and 7.5 % purchases.

The products of a session are places on a circle, a golden ratio of it apart from a random first
one, on which a product holds the arc of its share: each visit meets a product with exactly that
chance, and none twice in a session, as no share is as wide as two such places are near.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidemill.errors import InputError
from tidemill.events.topics import TYPES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CART_PER_VIEW = 7 / 30
PURCHASE_PER_VIEW = 1 / 10
MOST_VISITS = 20
SHARES = {"view": 0.75, "cart": 0.175, "purchase": 0.075}
"""Of all events, in expectation."""

_SESSIONS = 2000  # drawn at a time; part of what a seed means
_GOLDEN = (5**0.5 - 1) / 2
_ON = 0.75  # chance of one more visit
_EVENTS = (1 - _ON**MOST_VISITS) / (1 - _ON) * 4 / 3  # of a session, in expectation
_FEWEST = 1000  # the widest share is 2.7 %; twenty places are 3.4 % apart or more
_SKEW = 0.6
_FIRST_USER, _FIRST_PRODUCT = 512_000_001, 1_000_001
_CATEGORY = 2_053_013_552_259_662_000
_CODES = (
    "electronics.smartphone",
    "electronics.audio.headphone",
    "electronics.video.tv",
    "electronics.clocks",
    "computers.notebook",
    "computers.desktop",
    "computers.peripherals.mouse",
    "appliances.kitchen.washer",
    "appliances.kitchen.kettle",
    "appliances.environment.vacuum",
    "apparel.shoes",
    "apparel.shoes.keds",
    "apparel.dress",
    "furniture.bedroom.bed",
    "furniture.living_room.sofa",
    "auto.accessories.player",
    "sport.bicycle",
    "kids.toys",
    "kids.carriage",
    "construction.tools.drill",
)
_SYLLABLES = ("al", "bo", "ke", "lu", "mi", "no", "ra", "so", "ti", "vel")
_BRANDS = tuple(a + b for a in _SYLLABLES for b in _SYLLABLES if a != b)


@dataclass(frozen=True)
class Shop:
    """What is sold, and to how many; the same seed gives the same shop.

    Attributes:
        products: How many, at least 1000, so that none is too common.
        users: How many; each session has one, all alike likely.
        seed: At least 0.

    Raises:
        InputError: There are too few products or users.
    """

    products: int = 5000
    users: int = 20_000
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.products < _FEWEST or self.users < 1:
            raise InputError(f"{self}: expected products of {_FEWEST} and users of 1, or more")

    @cached_property
    def shares(self) -> Floats:
        """The chance that a visit is to each product; its k-th is as 1 / k^0.6."""
        weights = np.arange(1, self.products + 1) ** -_SKEW
        shares: Floats = weights / weights.sum()
        return shares

    @cached_property
    def catalogue(self) -> pl.DataFrame:
        """The products: product_id, category_id, category_code, brand, price, share.

        One product of seven has no brand, one of three no category_code. Of 90 brands the k-th has
        a product with a chance as 1 / k. Prices are whole cents, log-normal around 55.
        """
        rng = np.random.default_rng([self.seed, 1])
        number = np.arange(self.products)
        chance = 1 / np.arange(1, len(_BRANDS) + 1)
        brand = rng.choice(len(_BRANDS), self.products, p=chance / chance.sum())
        price = np.clip(np.exp(rng.normal(4, 1.2, self.products)), 0.5, 5000)
        category = rng.integers(0, len(_CODES), self.products)
        return pl.DataFrame(
            {
                "product_id": _FIRST_PRODUCT + 37 * number,
                "category_id": _CATEGORY + 977 * category,
                "category_code": pl.Series(_CODES).gather(category),
                "brand": pl.Series(_BRANDS).gather(brand),
                "price": np.round(price, 2),
                "share": self.shares,
            }
        ).with_columns(
            category_code=pl.when(pl.Series(number % 3 != 1)).then("category_code"),
            brand=pl.when(pl.Series(number % 7 != 3)).then("brand"),
        )

    def events(self, pause: float, limit: int | None = None) -> Iterator[pl.DataFrame]:
        """What its sessions do, in order, without times; endless, or until ``limit`` events.

        With a limit each session comes to its end but the last one, which is cut, so that the
        shares hold in expectation for all; a stream that is stopped lacks what its open sessions
        had still to do.

        Args:
            pause: Events of others, in the mean, between two of a session.
            limit: How many at most.

        Yields:
            Frames, not empty: event_type, product (place in the catalogue), user_id, user_session.
        """
        rng = np.random.default_rng([self.seed, 2])
        open_, drawn, begin = _NONE, 0, 0.0
        while limit is None or drawn < limit:
            new = self._drawn(rng, begin, pause)
            if limit is not None:
                new = new.head(limit - drawn)
            drawn += new.height
            begin += _SESSIONS * _EVENTS
            waiting = pl.concat([open_, new]).sort("at", maintain_order=True)
            is_last = limit is not None and drawn >= limit
            stop = waiting.height if is_last else waiting["at"].search_sorted(begin)
            open_ = waiting.slice(stop)
            if stop:
                yield waiting.head(stop).drop("at")

    def _drawn(self, rng: np.random.Generator, begin: float, pause: float) -> pl.DataFrame:
        """The events of the next sessions; ``at`` orders them, one a unit in the mean."""
        visits = np.minimum(rng.geometric(1 - _ON, _SESSIONS), MOST_VISITS)
        session = np.repeat(np.arange(_SESSIONS), visits)
        nth = _counted(visits)
        place = (rng.random(_SESSIONS)[session] + nth * _GOLDEN) % 1
        product = np.searchsorted(np.cumsum(self.shares)[:-1], place, side="right")
        luck = rng.random(session.size)
        steps = 1 + (luck < CART_PER_VIEW) + (luck < PURCHASE_PER_VIEW)
        visit = np.repeat(np.arange(session.size), steps)
        of = session[visit]

        passed = np.cumsum(rng.exponential(pause, of.size))
        starts = begin + np.arange(_SESSIONS) * _EVENTS
        firsts = np.searchsorted(of, np.arange(_SESSIONS))
        text = rng.bytes(16 * _SESSIONS).hex()
        names = [_uuid(text[at : at + 32]) for at in range(0, 32 * _SESSIONS, 32)]
        users = _FIRST_USER + rng.integers(0, self.users, _SESSIONS)
        return pl.DataFrame(
            {
                "at": starts[of] + passed - passed[firsts][of],
                "event_type": pl.Series(TYPES).gather(_counted(steps)),
                "product": product[visit],
                "user_id": users[of],
                "user_session": pl.Series(names).gather(of),
            }
        )


_NONE = pl.DataFrame(
    schema={
        "at": pl.Float64,
        "event_type": pl.String,
        "product": pl.Int64,
        "user_id": pl.Int64,
        "user_session": pl.String,
    }
)


def _counted(lengths: Ints) -> Ints:
    """0, 1, 2 ... up to each length, one after the other."""
    ends = np.cumsum(lengths)
    counted: Ints = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return counted


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
