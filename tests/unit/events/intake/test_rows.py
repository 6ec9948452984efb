"""Each row of a clickstream file is good, a duplicate or rejected, once, with its line."""

from datetime import datetime

import pytest

from tests.unit.events.intake.desk import HEADER, Desk, asked, click
from tidemill.events.contracts import FILE_EVENTS
from tidemill.kafka.topics import YEARS


def test_a_row_is_taken_with_its_types_and_its_line(desk: Desk) -> None:
    assert desk.counts(HEADER + click(6)) == (1, 1, 0, 0)
    names = "event_time, event_timestamp, event_type, product_id, category_id, category_code, "
    assert desk.kept(
        names + "brand, price, user_id, user_session, source, line, date::varchar"
    ) == [
        (
            "2020-09-24 11:00:06 UTC",
            datetime(2020, 9, 24, 11, 0, 6),
            "view",
            1996170,
            2144415922528452715,
            "electronics.telephone",
            "apple",
            31.9,
            1515915625519388267,
            "LJuJVLEjPT",
            "files",
            2,
            "2020-09-24",
        )
    ]
    desk.audit()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("event_time", "", "event_time: expected one, found nothing"),
        ("event_time", "yesterday", "event_time: expected 2019-10-01 00:00:00 UTC, "),
        ("event_time", "2020-02-30 00:00:00 UTC", "event_time: expected 2019-10-01 00:00:00 UTC"),
        ("event_time", "0000-01-01", f"event_time: expected a time in {YEARS}, found 0000-01-01"),
        ("event_time", "0001-01-01T00:00:00Z", f"event_time: expected a time in {YEARS}, found"),
        ("event_time", "1899-12-31 23:59:59.999", f"event_time: expected a time in {YEARS}, found"),
        ("event_time", "2201-01-01", f"event_time: expected a time in {YEARS}, found 2201-01-01"),
        ("brand", "b" * 10_001, "brand: expected at most 10000 bytes, found bbb"),
        (
            "user_session",
            "\u00e4" * 5_001,
            "user_session: expected at most 10000 bytes, found \u00e4",
        ),
        ("event_type", " ", "event_type: expected one, found nothing"),
        ("product_id", "", "product_id: expected a whole number, found nothing"),
        ("product_id", "1.5", "product_id: expected a whole number, found 1.5"),
        ("product_id", "1e3", "product_id: expected a whole number, found 1e3"),
        ("product_id", "1_0", "product_id: expected a whole number, found 1_0"),
        ("product_id", "9" * 30, "product_id: expected a whole number, found 999"),
        ("category_id", "shoes", "category_id: expected a whole number, found shoes"),
        ("user_id", "", "user_id: expected a whole number, found nothing"),
        ("user_id", "me", "user_id: expected a whole number, found me"),
        ("price", "", "price: expected a number from 0 to 100000000, found nothing"),
        ("price", "-1", "price: expected a number from 0 to 100000000, found -1"),
        ("price", "NaN", "price: expected a number from 0 to 100000000, found NaN"),
        ("price", "inf", "price: expected a number from 0 to 100000000, found inf"),
        ("price", "1e10", "price: expected a number from 0 to 100000000, found 1e10"),
        ("price", "1_0", "price: expected a number from 0 to 100000000, found 1_0"),
        ("price", "free", "price: expected a number from 0 to 100000000, found free"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_with_its_reason(
    desk: Desk, field: str, value: str, reason: str
) -> None:
    bad = click(**{"event_time": "1600948627", field: value})
    assert desk.counts(HEADER + click() + bad + click(2)) == (3, 2, 0, 1)
    ((line, told, raw),) = desk.rejected()
    assert (line, raw) == (3, bad.rstrip("\n"))
    assert told.startswith(reason)
    assert desk.kept("line") == [(2,), (4,)]
    desk.audit()


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("price", "0", 0.0),
        ("price", "-0.0", 0.0),
        ("price", "1e8", 1e8),
        ("brand", "b" * 10_000, "b" * 10_000),
        ("event_type", "remove_from_cart", "remove_from_cart"),
        ("category_id", "", None),
        ("category_code", "", None),
        ("brand", "  ", None),
        ("user_session", "", None),
        ("user_id", "541312140.0", 541312140),
        ("brand", " o'neill; drop table x --", "o'neill; drop table x --"),
        ("brand", "<b>\N{SNOWMAN}</b>\\n|", "<b>\N{SNOWMAN}</b>\\n|"),
    ],
)
def test_an_odd_value_that_is_good_is_kept(
    desk: Desk, field: str, value: str, kept: float | str | None
) -> None:
    assert desk.counts(HEADER + click(**{field: value})) == (1, 1, 0, 0)
    ((found,),) = desk.kept(field)
    assert found == kept
    assert str(found) == str(kept)  # a zero has no sign
    desk.audit()


@pytest.mark.parametrize(
    "time",
    [
        "2020-09-24 11:57:06 UTC",
        "2020-09-24T11:57:06Z",
        "2020-09-24T13:57:06+02:00",
        "1600948626",
        "1600948626000",
    ],
)
def test_a_time_is_read_in_each_form(desk: Desk, time: str) -> None:
    desk.land(HEADER + click(event_time=time))
    assert desk.kept("event_time, event_timestamp") == [(time, datetime(2020, 9, 24, 11, 57, 6))]


def test_rows_equal_in_all_nine_columns_count_once_and_the_first_stays(desk: Desk) -> None:
    rows = [click(1), click(2), click(1), click(1, brand="Apple"), click(1, price="31.9"), click(2)]
    assert desk.counts(HEADER + "".join(rows)) == (6, 3, 3, 0)
    assert desk.kept("line, brand") == [(2, "apple"), (3, "apple"), (5, "Apple")]
    desk.audit()


def test_equal_rows_without_a_brand_are_duplicates_too(desk: Desk) -> None:
    row = click(brand="", category_code="", user_session="", category_id="")
    assert desk.counts(HEADER + row + row) == (2, 1, 1, 0)


def test_equal_rows_that_are_no_good_are_rejected_each(desk: Desk) -> None:
    bad = click(price="-1")
    assert desk.counts(HEADER + click() + bad + bad) == (3, 1, 0, 2)
    assert [line for line, *_ in desk.rejected()] == [3, 4]
    desk.audit()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("2020-09-24 11:57:06 UTC,view,1996170", "expected 9 fields, found 3"),
        (click().rstrip("\n").rpartition(",")[0], "expected 9 fields, found 8"),
        (click(user_session="x,y").rstrip("\n"), "expected 9 fields, found 10"),
        (click(user_session="x,y,z,").rstrip("\n"), "expected 9 fields, found 12"),
        ("nonsense", "expected 9 fields, found 1"),
    ],
)
def test_a_line_with_too_few_or_too_many_fields_is_rejected(
    desk: Desk, bad: str, reason: str
) -> None:
    assert desk.counts(f"{HEADER}{click()}{bad}\n{click(1)}") == (3, 2, 0, 1)
    assert desk.rejected() == [(3, reason, bad)]
    assert desk.kept("line") == [(2,), (4,)]


def test_a_file_cut_within_its_last_line_loses_that_line_only(desk: Desk) -> None:
    assert desk.counts((HEADER + click() + click(1))[:-14]) == (2, 1, 0, 1)
    assert desk.rejected()[0][:2] == (3, "expected 9 fields, found 8")


def test_quotes_hold_delimiters_quotes_and_line_ends(desk: Desk) -> None:
    rows = [
        click(1, brand='"a,b"'),
        click(2, brand='"the ""best"""'),
        click(3, brand='"two\nlines\r\nor three"'),
        click(4, brand='5" nail'),
        click(5, price="-5", brand='"x,\ny"'),
        click(6),
    ]
    assert desk.counts(HEADER + "".join(rows)) == (6, 5, 0, 1)
    assert desk.kept("line, brand") == [
        (2, "a,b"),
        (3, 'the "best"'),
        (4, "two\nlines\r\nor three"),
        (7, '5" nail'),
        (10, "apple"),
    ]
    ((line, reason, raw),) = desk.rejected()
    assert (line, raw) == (8, rows[4].rstrip("\n"))
    assert reason == "price: expected a number from 0 to 100000000, found -5"
    desk.audit()


def test_a_rejected_row_with_quotes_on_one_line_is_kept_as_it_came(desk: Desk) -> None:
    bad = click(1, brand='"a,""b"', price="-1")
    assert desk.counts(HEADER + click(brand='"c"') + bad + click(2)) == (3, 2, 0, 1)
    assert desk.rejected()[0][::2] == (3, bad.rstrip("\n"))
    assert desk.kept("brand") == [("c",), ("apple",)]


@pytest.mark.parametrize("filler", [1, 150])
def test_a_quote_that_is_never_closed_costs_its_own_line(desk: Desk, filler: int) -> None:
    stray = click(1, brand='"open')
    others = "".join(click(10 + n) for n in range(filler))
    later = click(400, brand='"a,b"')
    assert desk.counts(HEADER + stray + others + later) == (filler + 2, filler + 1, 0, 1)
    assert desk.rejected() == [(2, "expected a closing quote, found none", stray.rstrip("\n"))]
    assert desk.kept("line, brand")[-1] == (filler + 3, "a,b")


def test_a_quote_closed_where_it_gives_no_row_costs_its_own_line(desk: Desk) -> None:
    content = HEADER + click(1, brand='"open') + click(2, user_session='shut"')
    assert desk.counts(content) == (2, 1, 0, 1)
    assert desk.kept("line, user_session") == [(3, 'shut"')]


def test_a_quote_closed_after_a_hundred_lines_costs_its_own_line(desk: Desk) -> None:
    others = "".join(click(10 + n) for n in range(100))
    content = HEADER + click(1, user_session='"open') + others + click(400, user_session='shut"')
    assert desk.counts(content) == (102, 101, 0, 1)


def test_text_behind_a_closing_quote_costs_its_own_line(desk: Desk) -> None:
    assert desk.counts(HEADER + click(1, brand='"a"b') + click(2)) == (2, 1, 0, 1)
    assert desk.rejected()[0][:2] == (
        2,
        "expected quotes around whole fields, found text after a closing one",
    )


@pytest.mark.parametrize(
    ("brand", "reason"),
    [
        (b"caf\xe9", "expected UTF-8 text, found other bytes"),
        (b"a\x00b", "expected text, found a NUL byte"),
        (b"a\rb", "expected one row on the line, found a carriage return inside it"),
        (b"x" * 1_000_001, "expected a line of at most 1000000 bytes, found 1000117"),
    ],
)
def test_bytes_that_are_no_text_cost_their_own_line(desk: Desk, brand: bytes, reason: str) -> None:
    bad = click(1).encode().replace(b"apple", brand)
    content = (HEADER + click()).encode() + bad + click(2).encode()
    assert desk.counts(content) == (3, 2, 0, 1)
    assert desk.rejected()[0][:2] == (3, reason)
    assert desk.kept("line") == [(2,), (4,)]
    desk.audit()


@pytest.mark.parametrize("blank", ["\n", "  \n", "\r\n", " \t\n", "\f\n"])
def test_blank_lines_are_no_rows_and_count_as_lines(desk: Desk, blank: str) -> None:
    content = HEADER + blank + click() + blank + blank + click(1, price="-1") + click(2) + blank
    assert desk.counts(content) == (3, 2, 0, 1)
    assert desk.kept("line") == [(3,), (7,)]
    assert desk.rejected()[0][0] == 6


def test_the_letter_that_escapes_in_the_copy_comes_through(desk: Desk) -> None:
    brand = "a\x1eb\x1en\x1ee"
    desk.land(HEADER + click(brand=f'"{brand},\n"') + click(1, brand=brand) + "\n" + click(2))
    assert desk.kept("brand") == [(brand + ",\n",), (brand,), ("apple",)]


def test_rows_far_down_a_file_have_their_own_numbers(desk: Desk) -> None:
    rows = [click(n % 3600, user_session=str(n)) for n in range(250_000)]
    rows[200_000] = click(price="-1")
    assert desk.counts(HEADER + "".join(rows)) == (250_000, 249_999, 0, 1)
    assert desk.rejected()[0][0] == 200_002
    misplaced = f"from {desk.scan(FILE_EVENTS)} where line <> user_session::bigint + 2"
    assert asked(f"select count(*) {misplaced}") == [(0,)]
