"""Files of events as messages: every row that can be used, once, in order, as it was."""

import gzip
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tidemill.engines.duck import connection
from tidemill.errors import InputError
from tidemill.events.messages import Mark, marks, newest_ms
from tidemill.events.replay import Plan, Replay, read
from tidemill.events.topics import FIELDS
from tidemill.kafka.resume import partition_of

HEADER = ",".join(column.name for column in FIELDS)
SECOND = 1_569_888_000_000
"""2019-10-01 00:00:00 UTC, epoch ms."""


def row(number: int, kind: str = "view", brand: str = "aqua", at: str = "") -> str:
    at = at or f"2019-10-01 00:00:{number:02} UTC"
    return f"{at},{kind},{number},{100 + number},a.b,{brand},{number}.5,{number % 3},s{number}"


ROWS = [row(n, ("view", "view", "cart", "purchase")[n % 4]) for n in range(20)]


def write(path: Path, rows: list[str], header: str | None = HEADER) -> Path:
    path.write_text("\n".join([*([header] if header else []), *rows, ""]))
    return path


def sent(
    paths: list[Path], plan: Plan | None = None, most: int = 1000
) -> tuple[list[dict[str, Any]], int]:
    """The messages' values, and how many rows were skipped."""
    found, skipped = [], 0
    with connection(256) as con:
        for batch in Replay(con, read(con, paths), plan or Plan("event_type", 3)).batches():
            found += [json.loads(value) for _, value in batch.pairs(slice(0, None), 5)]
            skipped += len(batch.skipped)
            assert batch.due_ms == sorted(batch.due_ms)
            if len(found) >= most:
                break
    return found, skipped


def test_a_row_becomes_an_object_with_typed_fields_and_its_place(tmp_path: Path) -> None:
    odd = '"say ""hi"", <b>\n☕\\\';drop"'
    path = write(tmp_path / "e.csv", [row(1, brand=odd), f"{row(2, brand='')[:-2]}"])
    (first, second), skipped = sent([path])
    assert first == {
        "event_time": "2019-10-01 00:00:01 UTC",
        "event_type": "view",
        "product_id": 1,
        "category_id": 101,
        "category_code": "a.b",
        "brand": 'say "hi", <b>\n☕\\\';drop',
        "price": 1.5,
        "user_id": 1,
        "user_session": "s1",
        "n": 0,
        "produced_at": 5,
    }
    assert (second["brand"], second["user_session"], second["n"]) == (None, None, 1)
    assert skipped == 0


def test_however_a_file_is_packed_and_headed_it_sends_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", ROWS)
    bare = write(tmp_path / "bare", ROWS, None)
    semicolons = write(
        tmp_path / "other", [line.replace(",", ";") for line in ROWS], HEADER.replace(",", ";")
    )
    turned = [",".join(reversed(line.split(","))) for line in ROWS]
    names = ",".join(reversed(HEADER.upper().split(",")))
    misnamed = tmp_path / "misnamed.csv"
    misnamed.write_bytes(gzip.compress(plain.read_bytes()))
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.write(plain, "inside.csv")
    expected = sent([plain])
    assert [value["n"] for value in expected[0]] == list(range(20))
    for path in (bare, semicolons, misnamed, packed, write(tmp_path / "turned", turned, names)):
        assert sent([path]) == expected, path


@pytest.mark.parametrize(
    "bad",
    [
        row(1, at="yesterday"),
        row(1, at="2019-13-45 00:00:00 UTC"),
        row(1, kind=""),
        row(1).replace(",1.5,", ",-1.5,"),
        row(1).replace(",1.5,", ",nan,"),
        row(1).replace(",1.5,", ",free,"),
        row(1).replace(",101,", ",10.1,"),
        row(1).replace("view,1,", "view,one,"),
        row(1).replace(",1,s1", ",,s1"),
        row(1)[:40],
        row(1) + ",more",
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_and_counted(tmp_path: Path, bad: str) -> None:
    found, skipped = sent([write(tmp_path / "e.csv", [row(0), bad, row(2)])])
    assert [value["product_id"] for value in found] == [0, 2]
    assert skipped == 1


def test_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", ROWS[:7]), write(tmp_path / "b", ROWS[7:])]
    assert sent(paths) == sent([write(tmp_path / "all", ROWS)])


def test_what_is_left_out_is_told_by_file_and_placed_among_the_messages(tmp_path: Path) -> None:
    free, old = row(1).replace(",1.5,", ",free,"), row(1, at="0000-01-01")
    one = write(tmp_path / "one", [free, row(0), free, old, row(1), row(2)])
    two = write(tmp_path / "two", ROWS)
    three = write(tmp_path / "three", [row(7), row(8)[:35]])
    with connection(256) as con:
        source = read(con, [one, two, three])
        first, *others = Replay(con, source, Plan("event_type", 3)).batches()
    price = "price: expected a number from 0 to 100000000, found free (line 2, and 1 more like it)"
    assert source.left_out == (
        f"{one}: 3 of its 6 rows cannot be used: {price}; event_time: expected a time in "
        "the years 1900 to 2200, found 0000-01-01 (line 5)",
        f"{three}: 1 of its 2 rows cannot be used: expected 9 fields, found 5 (line 3)",
    )
    assert first.skipped == [0, 1, 1] and first.bodies[0].endswith(b'"n":1')
    assert sum(len(batch.skipped) for batch in others) == 1


def test_what_is_left_out_is_counted_behind_the_mark_of_a_resumed_replay(tmp_path: Path) -> None:
    bad = row(1).replace(",1.5,", ",free,")
    path = write(tmp_path / "e.csv", [bad, row(0), bad, row(1), row(2), bad])
    ends = {place: Mark(0, 1) for place in range(3)}
    found, skipped = sent([path], Plan("event_type", 3, after=ends))
    assert [value["n"] for value in found] == [3, 4]
    assert skipped == 2


def test_rows_keep_their_order_where_a_file_is_read_in_parallel(tmp_path: Path) -> None:
    size, long = 150_000, "brand" * 60  # DuckDB reads a file by pieces of 32 MB
    rows = [row(n, brand=long, at="2019-10-01 00:00:00 UTC") for n in range(size)]
    half = size // 2
    paths = [
        write(tmp_path / name, some) for name, some in (("a", rows[:half]), ("b", rows[half:]))
    ]
    found, _ = sent(paths, most=size)
    assert all(value["n"] == value["product_id"] == n for n, value in enumerate(found))
    assert len(found) == size


def test_a_loop_keeps_times_and_counts_rounds(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", ROWS)
    found, _ = sent([path], Plan("event_type", 3, is_endless=True), 45)
    once, _ = sent([path])
    assert [(value["cycle"], value["n"]) for value in found[:41]] == [
        (at // 20, at % 20) for at in range(41)
    ]
    assert [value["event_time"] for value in found[20:40]] == [v["event_time"] for v in once]


def test_restamped_the_first_event_is_now_and_each_round_follows_the_one_before(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "e.csv", [row(n) for n in (3, 4, 6, 9)])
    plan = Plan("event_type", 3, is_endless=True, restamp_ms=SECOND + 100_250)
    found, _ = sent([path], plan, 8)
    times = [value["event_time"] for value in found[:8]]
    assert times[:4] == [f"2019-10-01 00:01:{s}.250 UTC" for s in (40, 41, 43, 46)]
    assert times[4:] == [f"2019-10-01 00:01:{s}.250 UTC" for s in (48, 49, 51, 54)]


def after(last: Mapping[str, Mark]) -> dict[int, Mark]:
    return {partition_of(key.encode(), 3): mark for key, mark in last.items()}


def test_a_resumed_replay_sends_what_each_partition_lacks(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", ROWS)
    ends = after({key: Mark(0, 19) for key in ("view", "cart", "purchase")})
    behind = partition_of(b"cart", 3)
    ends[behind] = Mark(0, 6)
    found, _ = sent([path], Plan("event_type", 3, after=ends))
    lacking = [
        n
        for n, line in enumerate(ROWS)
        if n > 6 and partition_of(line.split(",")[1].encode(), 3) == behind
    ]
    assert [value["n"] for value in found] == lacking != []
    ends = after({key: Mark(2, 5) for key in ("view", "cart", "purchase")})
    found, _ = sent([path], Plan("event_type", 3, is_endless=True, after=ends), 30)
    assert [(value["cycle"], value["n"]) for value in found[:15]] == [
        *((2, n) for n in range(6, 20)),
        (3, 0),
    ]


def test_a_partition_without_any_message_is_sent_all_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", ROWS)
    ends = after({"view": Mark(0, 17)})
    places = [partition_of(line.split(",")[1].encode(), 3) for line in ROWS]
    found, _ = sent([path], Plan("event_type", 3, after=ends))
    lacking = [n for n, place in enumerate(places) if place not in ends or n > 17]
    assert [value["n"] for value in found] == lacking


def test_an_end_that_is_no_event_of_a_file_cannot_be_resumed() -> None:
    assert marks("t", {0: b'{"n": 5}', 1: b'{"n": 3, "cycle": 2}'}) == {
        0: Mark(0, 5),
        1: Mark(2, 3),
    }
    for value in (b"no JSON", b"[]", b'{"n": "5"}', b'{"event_type": "view"}'):
        with pytest.raises(InputError, match=r"partition 1 ends with .*without --resume"):
            marks("t", {1: value})


def test_the_newest_event_is_found_among_messages_of_any_sort() -> None:
    at = [b'{"event_time": "2019-10-01 00:00:00 UTC"}', b'{"event_time": 1569888000001}']
    with connection(256) as con:
        assert newest_ms(con, [*at, b"no JSON", b"[1]", b'{"event_time": null}']) == SECOND + 1
        assert newest_ms(con, []) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEADER.replace('price', 'cost')}\n{row(1)}\n", "found none called price"),
        ("", "the file is empty"),
        (f"{HEADER}\n", "and no rows under it"),
        (f"{HEADER}\n{row(1, at='soon')}\n", "none of its 1 rows can be used"),
        ("a,b\n1,2\n", "expected a header naming"),
    ],
)
def test_a_file_that_is_none_of_events_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        sent([path])
    with pytest.raises(InputError, match="no such file"):
        sent([tmp_path / "gone.csv"])
