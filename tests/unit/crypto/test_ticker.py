"""Live prices from a local server: what is asked, when, and what of an answer is used."""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest

from tests.unit.crypto.exchange_server import (
    START,
    Fault,
    Market,
    Waits,
    market,
    refusal,
    silence,
    weighing,
)
from tidemill.crypto.exchange import Exchange, ExchangeError, UnknownSymbolError
from tidemill.crypto.ticker import Quotes, poll, quotes

PRICES = [
    {"symbol": "LTCBTC", "price": "4.00000200"},
    {"symbol": "ETHBTC", "price": "0.07946600"},
    {"symbol": "BTCUSDT", "price": "42000.50000000"},
]


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def polled(
    count: int, symbols: Sequence[str] = (), script: Sequence[Fault | None] = (), **settings: Any
) -> tuple[list[Quotes], Waits, Market]:
    """The first answers, on a clock that goes on by what is waited."""
    waits = Waits([], START)
    with market({}, script) as server:
        server.prices = PRICES
        exchange = Exchange(
            base_url=server.url, wait=waits, clock=waits.clock, rng=random.Random(7), **settings
        )
        return list(islice(poll(exchange, symbols, clock=waits.clock), count)), waits, server


def test_each_price_becomes_a_message_with_the_time_of_the_answer() -> None:
    (first,), _, server = polled(1)
    assert first.pairs[0] == (
        b"LTCBTC",
        b'{"symbol": "LTCBTC", "price": 4.000002, "timestamp": %d}' % (START * 1000),
    )
    assert [key for key, _ in first.pairs] == [b"LTCBTC", b"ETHBTC", b"BTCUSDT"]
    assert (first.at_ms, first.skipped, server.asked) == (START * 1000, 0, [{}])


def test_all_pairs_that_are_wanted_are_asked_in_one_request() -> None:
    (first,), _, server = polled(1, ["BTCUSDT", "LTCBTC"])
    assert server.asked == [{"symbols": '["BTCUSDT","LTCBTC"]'}]
    assert [key for key, _ in first.pairs] == [b"LTCBTC", b"BTCUSDT"]


def test_requests_keep_to_whole_seconds_and_missed_ones_are_not_made_up_for() -> None:
    busy = refusal(503, -1008, "Server is currently overloaded")
    found, waits, server = polled(4, script=[None, busy, refusal(429, -1003, "", "2")])
    assert len(server.asked) == 6
    offsets = [told.at_ms - START * 1000 for told in found]
    backoff = random.Random(7).uniform(0, 1)
    assert offsets == pytest.approx([0, (1 + backoff + 2) * 1000, 4000, 5000], abs=1)
    assert waits.slept == pytest.approx([1, backoff, 2, 1 - backoff, 1], abs=0.001)


def test_weight_near_the_limit_waits_for_the_next_minute() -> None:
    found, _, _ = polled(2, script=[weighing(91)], weight_limit=100)
    assert found[1].at_ms % 60_000 == 0


def test_an_unknown_pair_is_named() -> None:
    with pytest.raises(UnknownSymbolError, match="refuses BTCUSDT,NOPE"):
        polled(1, ["BTCUSDT", "NOPE"])


def test_an_exchange_that_gives_nothing_is_given_up() -> None:
    with pytest.raises(ExchangeError, match="gave up after 2 tries"):
        polled(1, script=[silence] * 2, retries=1, timeout_s=0.05)


def test_it_ends_when_told() -> None:
    waits = Waits([], START)
    with market({}) as server:
        server.prices = PRICES
        exchange = Exchange(base_url=server.url, wait=waits, clock=waits.clock)
        told = poll(exchange, stopped=lambda: len(waits.slept) == 2, clock=waits.clock)
        assert len(list(told)) == 2


@pytest.mark.parametrize(
    "entry",
    [
        *(
            {"symbol": "ABC", "price": price}
            for price in ("0", "-1", "NaN", "1e999", "", None, "x")
        ),
        *({"symbol": symbol, "price": "1"} for symbol in ("", "a", "btcusdt", "BTC/USDT", None, 5)),
        *({"symbol": "ABC"}, {"price": "1"}, [], None, "ABC"),
    ],
)
def test_an_entry_that_is_no_price_is_skipped_and_counted(entry: object) -> None:
    found = quotes([entry, PRICES[0]], 5)
    assert [json.loads(value)["symbol"] for _, value in found.pairs] == ["LTCBTC"]
    assert found.skipped == 1
