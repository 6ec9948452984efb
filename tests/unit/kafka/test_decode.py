"""Decoding says of each message what it holds, or exactly what is wrong with it."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kafka.messages import NOON_MS, frame, tick
from tidemill.crypto.topics import FIRST_MS, PRICES
from tidemill.engines.duck import connection
from tidemill.kafka.decode import decode
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Column, Type

Row = tuple[Any, ...]
GOOD = tick()
LONG = b'{"symbol": "' + b"A" * (10 << 20) + b'"}'
DEEP = b"[" * 300_000 + b"]" * 300_000


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connection(1024) as opened:
        yield opened


def decoded(
    con: duckdb.DuckDBPyConnection, values: Sequence[bytes | None], produced_ms: int = NOON_MS
) -> list[Row]:
    """Symbol, price, timestamp and error of each message."""
    decode(con, PRICES, frame(values, produced_ms=produced_ms))
    return con.execute(
        'select symbol, price, "timestamp", error from decoded order by "offset"'
    ).fetchall()


def raw(symbol: str = '"BTCUSDT"', price: str = "1.5", at: str = str(NOON_MS)) -> bytes:
    return f'{{"symbol":{symbol},"price":{price},"timestamp":{at}}}'.encode()


WRONG: list[tuple[bytes | None, str]] = [
    (None, "expected a message, found none"),
    (b"", "expected JSON, found nothing"),
    (b" \r\n\t", "expected JSON, found nothing"),
    (b"not json", "expected JSON, found not json"),
    (b"\x00", "expected JSON, found \x00"),
    (b"\xff\xfe", "expected text in UTF-8, found other bytes"),
    (GOOD[:-1] + b', "note": "\xe4"}', "expected text in UTF-8, found other bytes"),
    (GOOD + b"x", "expected JSON, found " + GOOD.decode()[:60]),
    (b"\xef\xbb\xbf{}", "expected JSON, found \ufeff{}"),
    (b'{"symbol":"\\ud800"}', 'expected JSON, found {"symbol":"\\ud800"}'),
    (LONG, f"expected at most 1048576 bytes, found {len(LONG)}"),
    (b"null", "expected a JSON object, found null"),
    (b"[1]", "expected a JSON object, found [1]"),
    (b'"BTCUSDT"', 'expected a JSON object, found "BTCUSDT"'),
    (DEEP, "expected a JSON object, found " + "[" * 60),
    (b"{}", "symbol: expected text, found no field"),
    (b'{"symbol":"BTCUSDT","timestamp":1}', "price: expected a number, found no field"),
    (raw(symbol="5"), "symbol: expected text, found number 5"),
    (raw(symbol="null"), "symbol: expected text, found null"),
    (raw(symbol='["A"]'), 'symbol: expected text, found array ["A"]'),
    (raw(price='"1.5"'), "price: expected a number, found text 1.5"),
    (raw(price='{"usd":1.5}'), 'price: expected a number, found object {"usd":1.5}'),
    (raw(price="true"), "price: expected a number, found boolean true"),
    (raw(price="null"), "price: expected a number, found null"),
    (raw(price="NaN"), "expected price is finite, found nan"),
    (raw(price="-Infinity"), "expected price is finite, found -inf"),
    (raw(price="1e400"), "expected price is finite, found inf"),
    (raw(price="9" * 400), "expected price is finite, found inf"),
    (raw(price="0"), "expected price > 0, found 0.0"),
    (raw(price="-0.0"), "expected price > 0, found -0.0"),
    (raw(price="-1"), "expected price > 0, found -1.0"),
    (
        raw(symbol='"btc"'),
        "expected symbol is 2 to 30 letters and digits, found btc",
    ),
    (
        raw(at=f'"{NOON_MS}"'),
        f"timestamp: expected a whole number of 64 bits, found text {NOON_MS}",
    ),
    (raw(at="1.5"), "timestamp: expected a whole number of 64 bits, found number 1.5"),
    (
        raw(at=str(2**63)),
        f"timestamp: expected a whole number of 64 bits, found number {2**63}",
    ),
    (
        raw(at="9" * 30),
        f"timestamp: expected a whole number of 64 bits, found number {'9' * 30}",
    ),
    (raw(at="1767268800"), f"expected timestamp >= {FIRST_MS}, found 1767268800"),
    (raw(at="-1"), f"expected timestamp >= {FIRST_MS}, found -1"),
    (
        raw(at=str(2**63 - 1)),
        f"timestamp: expected a time in the years 1900 to 2200, found {2**63 - 1}",
    ),
    (
        raw(at=str(NOON_MS + 3_600_001)),
        "timestamp: expected at most 3600000 ms after the message's own time, found 3600001 ms",
    ),
]


def test_what_is_wrong_with_a_message_is_said_and_its_neighbours_are_taken(
    con: duckdb.DuckDBPyConnection,
) -> None:
    values = [value for wrong, _ in WRONG for value in (wrong, GOOD)]
    found = decoded(con, values)
    assert [row[3] for row in found[::2]] == [error for _, error in WRONG]
    assert set(found[1::2]) == {("BTCUSDT", 1.5, NOON_MS, None)}


def test_a_message_with_an_error_is_kept_as_it_came_and_no_other(
    con: duckdb.DuckDBPyConnection,
) -> None:
    values = [b"\xff", GOOD, None, LONG]
    decode(con, PRICES, frame(values))
    kept = con.execute('select value from decoded order by "offset"').fetchall()
    assert [value for (value,) in kept] == [b"\xff", None, None, LONG]


def test_more_than_the_contract_asks_is_let_be(con: duckdb.DuckDBPyConnection) -> None:
    odd = [
        tick(exchange="x", nested={"price": -1, "deep": [[{}]]}),
        GOOD[:-1] + b', "z": 1e999}',
        GOOD[:-1] + b', "z": ' + DEEP + b"}",
        b" \n" + GOOD + b"\t ",
        raw(symbol='"BTC\\u0055SDT"'),
        tick(at=NOON_MS + 3_600_000),
    ]
    assert [row[3] for row in decoded(con, odd)] == [None] * len(odd)


def test_json_that_is_laxer_than_its_rfc_is_taken_and_the_first_of_two_fields_counts(
    con: duckdb.DuckDBPyConnection,
) -> None:
    lax = [GOOD[:-1] + b",}", GOOD[:-1] + b', "z": NaN}', GOOD[:-1] + b', "price": -7}']
    assert decoded(con, lax) == [("BTCUSDT", 1.5, NOON_MS, None)] * 3


@pytest.mark.parametrize("produced_ms", [2**63 - 1, -(2**63), 253_402_300_800_000])
def test_a_message_whose_own_time_is_none_is_told(
    con: duckdb.DuckDBPyConnection, produced_ms: int
) -> None:
    ((*_, error),) = decoded(con, [GOOD], produced_ms)
    assert error == (
        f"message's own time: expected a time in the years 1900 to 2200, found {produced_ms}"
    )


def test_a_message_without_a_time_of_its_own_is_ahead_of_nothing(
    con: duckdb.DuckDBPyConnection,
) -> None:
    assert decoded(con, [GOOD], produced_ms=-1)[0][3] is None


def test_a_field_that_may_be_empty_may_be_missing_but_not_of_another_type(
    con: duckdb.DuckDBPyConnection,
) -> None:
    topic = Topic(
        "orders",
        "An order.",
        (
            Column("id", Type.BIGINT, "Number."),
            Column("note", Type.STRING, "Text.", nullable=True),
            Column("n", Type.INT, "Pieces.", nullable=True, low=1),
            Column("is_paid", Type.BOOLEAN, "Whether.", nullable=True),
        ),
        key="id",
        event_key=("id",),
        event_time="id",
    )
    values = [b'{"id":1}', b'{"id":1,"note":null,"n":null}', b'{"id":1,"note":7}']
    values += [b'{"id":1,"n":0}', b'{"id":1,"n":3000000000}', b'{"id":1,"is_paid":"no"}']
    decode(con, topic, frame(values))
    found = con.execute('select error from decoded order by "offset"').fetchall()
    assert [error for (error,) in found] == [
        None,
        None,
        "note: expected text, found number 7",
        "expected n >= 1, found 0",
        "n: expected a whole number of 32 bits, found number 3000000000",
        "is_paid: expected true or false, found text no",
    ]


LAX = re.compile(
    r'"(?:[^"\\]|\\.)*"'
    r"|(?<=[^\s\[{,:])[ \t\r\n]*,(?=[ \t\r\n]*[}\]])"
    r"|nan|inf(?:inity)?",
    re.I | re.S,
)


def plain(text: str) -> Any:
    """JSON as Python reads it, where a comma may end a list and NaN has several spellings."""

    def strict(found: "re.Match[str]") -> str:
        word = found.group()
        if word[0] == '"':
            return word
        return "" if word[-1] == "," else "NaN" if word.lower() == "nan" else "Infinity"

    def first_counts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    found = json.loads(LAX.sub(strict, text), object_pairs_hook=first_counts)
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair has no bytes
    return found


def expected(value: bytes | None) -> Row | None:
    """The fields of a price message by the rules in its contract; None where it breaks one."""
    try:
        found = plain((value or b"").decode())
        symbol, price, at = found["symbol"], found["price"], found["timestamp"]
        price = float(price) if type(price) in (int, float) else math.nan
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    is_right = (
        isinstance(symbol, str)
        and re.fullmatch("[A-Z0-9]{2,30}", symbol)
        and 0 < price < math.inf
        and type(at) is int
        and FIRST_MS <= at <= NOON_MS + PRICES.ahead_ms
    )
    return (symbol, price, at) if is_right else None


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(FIRST_MS, NOON_MS + 7_200_000),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["BTCUSDT", "X", 10**40, -(2**63), 2**64, 1e-320]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def mostly(right: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(right), st.just(right), st.just(right), VALUES)


FIELDS = st.fixed_dictionaries(
    {"symbol": mostly("BTCUSDT"), "price": mostly(1.5), "timestamp": mostly(NOON_MS)},
    optional={"other": VALUES},
)
PIECES = st.sampled_from(
    [
        *b', } { ] [ : " \\ - . e5 0 NaN inf \\u0000 \\ud83d null "price":2,'.split(),
        *(b" ", b"\n", b"\x00", b"\xc3", b"\xed\xa0\x80"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A price message, maybe with other values, cut or stuffed in places."""
    found = json.dumps(draw(FIELDS), ensure_ascii=draw(st.booleans()))
    value = found.encode("utf-8", "replace")
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        start = draw(st.integers(0, len(value)))
        stop = draw(st.integers(start, min(len(value), start + 3)))
        value = value[:start] + draw(st.one_of(st.just(b""), PIECES)) + value[stop:]
    return value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(damaged(), st.binary(max_size=30), st.none()), min_size=20, max_size=60))
def test_whatever_comes_is_judged_as_a_plain_reader_of_json_would(
    con: duckdb.DuckDBPyConnection, values: list[bytes | None]
) -> None:
    found = decoded(con, values)
    taken = [row[:3] if row[3] is None else None for row in found]
    assert list(zip(values, taken, strict=True)) == [(v, expected(v)) for v in values]
