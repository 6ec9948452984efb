"""The times of events, to the millisecond, however they are written."""

import pytest

from tidemill.engines.duck import connection
from tidemill.events.times import event_ms_sql


def read(text: str) -> int | None:
    with connection(64) as con:
        sql = f"select {event_ms_sql('told')} from (select ? as told)"
        ((found,),) = con.execute(sql, [text]).fetchall()
    return None if found is None else int(found)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1600948626.9999", 1_600_948_626_999),
        ("2020-09-24 11:57:06.9999 UTC", 1_600_948_626_999),
        ("2020-09-24T13:57:06.9999999+02:00", 1_600_948_626_999),
        ("1600948626.001", 1_600_948_626_001),
        ("1600948626.1", 1_600_948_626_100),
        ("1600948626", 1_600_948_626_000),
        ("999999999.99999999999999999999", 999_999_999_999),
        ("9999999999.9999", 9_999_999_999_999),
        ("9999-12-31 23:59:59.9999", 253_402_300_799_999),
        ("1969-12-31 23:59:59.9994", -1),
        ("1969-12-31 23:59:58.0001", -2000),
        ("0001-01-01", -62_135_596_800_000),
    ],
)
def test_a_time_is_cut_to_the_millisecond_it_is_in(text: str, ms: int) -> None:
    assert read(text) == ms


@pytest.mark.parametrize("text", ["1600948626.", "1600948626.5e3", "16009486261.5", "1_600948626"])
def test_digits_in_another_form_are_no_time(text: str) -> None:
    assert read(text) is None
