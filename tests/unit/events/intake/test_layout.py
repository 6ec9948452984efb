"""A clickstream file's columns are told by its header, else by their order; else it is refused."""

import gzip
import io
import zipfile

import pytest

from tests.unit.events.intake.desk import HEADER, Desk, click
from tidemill.errors import InputError

NAMES = HEADER.strip().split(",")


def zipped(content: bytes, *names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        HEADER.upper(),
        HEADER.replace("_", " "),
        HEADER.replace(",", " , "),
        "\ufeff" + HEADER,
    ],
)
def test_a_header_is_known_by_its_names(desk: Desk, header: str) -> None:
    assert desk.counts(header + click()) == (1, 1, 0, 0)
    assert desk.kept("line, brand, price") == [(2, "apple", 31.9)]


def test_columns_may_come_in_any_order_with_others_among_them(desk: Desk) -> None:
    values = dict(zip(NAMES, click().strip().split(","), strict=True))
    order = ["note", *reversed(NAMES), ""]
    row = ["hello", *[values[name] for name in reversed(NAMES)], "7"]
    desk.land(",".join(order) + "\n" + ",".join(row) + "\n")
    assert desk.kept("event_type, brand, price, user_id") == [
        ("view", "apple", 31.9, 1515915625519388267)
    ]


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_without_a_header_the_columns_are_in_the_order_of_the_spec(desk: Desk, start: str) -> None:
    assert desk.counts(start + click() + click(1, price="-1") + click(2)) == (3, 2, 0, 1)
    assert desk.kept("line, brand") == [(1, "apple"), (3, "apple")]
    assert desk.rejected()[0][0] == 2


def test_a_file_cut_out_of_a_larger_one_has_no_header_and_a_broken_first_line(desk: Desk) -> None:
    assert desk.counts(click()[60:] + click(1) + click(2)) == (3, 2, 0, 1)
    assert desk.rejected()[0][0] == 1


def test_a_header_within_the_rows_is_rejected_as_a_row(desk: Desk) -> None:
    assert desk.counts(HEADER + click() + HEADER + click(1)) == (3, 2, 0, 1)
    assert desk.rejected()[0][0] == 3


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_each_common_delimiter_is_known(desk: Desk, delimiter: str) -> None:
    assert desk.counts((HEADER + click() + click(1, price="x")).replace(",", delimiter)) == (
        *(2, 1),
        *(0, 1),
    )
    assert desk.kept("brand") == [("apple",)]
    assert desk.rejected()[0][2] == click(1, price="x").strip().replace(",", delimiter)


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_each_line_end_is_known(desk: Desk, end: str) -> None:
    assert desk.counts((HEADER + click() + click(1)).replace("\n", end)) == (2, 2, 0, 0)
    assert desk.kept("user_session") == [("LJuJVLEjPT",)] * 2


def test_a_delimiter_at_the_end_of_rows_is_let_be(desk: Desk) -> None:
    assert desk.counts(HEADER + (click() + click(1)).replace("\n", ",\n")) == (2, 2, 0, 0)


def test_a_file_is_known_by_its_content_whatever_its_name(desk: Desk) -> None:
    def content(n: int) -> bytes:
        return (HEADER + click(n)).encode()

    assert desk.counts(gzip.compress(content(1)), "a.csv")[1] == 1
    assert desk.counts(content(2), "b.csv.gz")[1] == 1
    assert desk.counts(content(3), "no_ending")[1] == 1
    assert desk.counts(zipped(content(4), "x.csv"), "c.gz")[1] == 1
    assert desk.counts(gzip.compress(gzip.compress(content(5))), "d.zip")[1] == 1
    assert desk.counts(content(6).decode().encode("utf-16"), "e.csv")[1] == 1
    desk.audit()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b" \n\n", "the file is empty: nothing but blanks and line ends"),
        (HEADER.encode(), "and no rows under it"),
        (
            b"event_time,event_type,product_id,price\n2020-09-24,view,1,2\n",
            "found none called category_id, category_code, brand, user_id, user_session; it has "
            "event_time, event_type, product_id, price",
        ),
        (
            (HEADER.strip() + ",Price\n" + click().strip() + ",1\n").encode(),
            "expected each column once, found price more than once",
        ),
        (b"hello\nworld\n", "found 'hello' in the first line. Put a header above it"),
        (b"a,b,c,d,e,f,g,h,i\n" + click().encode(), "Put a header above it"),
        (b'{"event_time": 1}\n', "this is JSON; events are taken from CSV text"),
        (b"PAR1" + b"x" * 100, "this is a Parquet file; events are taken from CSV text"),
        (gzip.compress((HEADER + click()).encode())[:-9], "the gzip file is damaged or cut short"),
        (zipped(HEADER.encode(), "a", "b"), "expected a zip with one file, found 2 (a, b)"),
        (
            (HEADER + click(price="-1") * 3 + click(user_id="x")).encode(),
            "none of its 4 rows can be used, so nothing was taken: price: expected a number from "
            "0 to 100000000, found -1 (line 2, and 2 more like it); user_id: expected a whole "
            "number, found x (line 5)",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_whole_with_one_message(
    desk: Desk, content: bytes, told: str
) -> None:
    with pytest.raises(InputError) as refusal:
        desk.land(content)
    assert str(refusal.value).startswith(f"{desk.outside / 'events.csv'}: ")
    assert told in str(refusal.value)
    assert desk.is_untouched()
