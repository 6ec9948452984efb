"""The times of events, in the forms that files and messages have them."""

FORMS = "2019-10-01 00:00:00 UTC, 2019-10-01T00:00:00Z or Unix time in s or ms"
"""What is said where a time is in none of them."""

_DIGITS = "^[0-9]{9,10}([.][0-9]+)?$"
_MILLISECONDS = "^[0-9]{12,13}$"
_TEXT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?$"


def event_ms_sql(text: str) -> str:
    """SQL (DuckDB, in UTC) of a time's epoch milliseconds, NULL where it is in no known form.

    Text is a date and a time, with a zone's name or an offset, else in UTC; a local time that
    summer time skips is as far behind the change as it says. Digits are Unix time in seconds
    (9 or 10 of them, that is from 1973 to 2286, maybe with a fraction) or milliseconds (12 or 13).

    Args:
        text: SQL of the text.
    """
    return (
        f"case when regexp_matches({text}, '{_TEXT}') "
        f"then epoch_ms(try_cast({text} as timestamptz)) "
        f"when regexp_matches({text}, '{_MILLISECONDS}') then try_cast({text} as bigint) "
        f"when regexp_matches({text}, '{_DIGITS}') "
        f"then (try_cast({text} as double) * 1000)::bigint end"
    )
