"""The times of events, in the forms that files and messages have them."""

FORMS = "2019-10-01 00:00:00 UTC, 2019-10-01T00:00:00Z or Unix time in s or ms"
"""What is said where a time is in none of them."""

_DIGITS = "^[0-9]{9,10}([.][0-9]+)?$"
_TO_MS = "^[0-9]+([.][0-9]{1,3})?"
_MILLISECONDS = "^[0-9]{12,13}$"
_TEXT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?$"
_FAR_MS = 10**15
"""Further from 1970 than any year of four digits."""


def event_ms_sql(text: str) -> str:
    """SQL (DuckDB, in UTC) of a time's epoch milliseconds, NULL where it is in no known form.

    Text is a date and a time, with a zone's name or an offset, else in UTC; a local time that
    summer time skips is as far behind the change as it says. Digits are Unix time in seconds
    (9 or 10 of them, that is from 1973 to 2286, maybe with a fraction) or milliseconds (12 or 13).
    What is less than a millisecond is cut off, so that no time becomes a later one.

    Args:
        text: SQL of the text.
    """
    return (
        f"case when regexp_matches({text}, '{_TEXT}') "
        # epoch_ms would round; to divide a negative number would cut to the later millisecond.
        f"then (epoch_us(try_cast({text} as timestamptz)) + {_FAR_MS}000) // 1000 - {_FAR_MS} "
        f"when regexp_matches({text}, '{_MILLISECONDS}') then try_cast({text} as bigint) "
        f"when regexp_matches({text}, '{_DIGITS}') "
        f"then (try_cast(regexp_extract({text}, '{_TO_MS}') as decimal(13, 3)) * 1000)::bigint end"
    )
