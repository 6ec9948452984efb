"""What a row of a clickstream file is judged against, as SQL that says why one is no good."""

from tidemill.events.times import FORMS
from tidemill.events.topics import HIGHEST_PRICE, LONGEST_BYTES, TEXTS
from tidemill.kafka.topics import FIRST_MS, LAST_MS, YEARS

IDS = ("product_id", "category_id", "user_id")

BLANK = "blank"
"""The reason of a line that is no row at all."""

_WHOLE = "[+-]?[0-9]+([.]0*)?"


def whole(text: str) -> str:
    """SQL of a whole number, NULL where the text is none; 12.0 is one, as some programs write."""
    number = f"try_cast({text} as bigint)"
    # DuckDB rounds 1.5 and takes 1_000 and 1e3; to look at the text is slower than to write it.
    return (
        f"case when {number}::varchar = {text} or regexp_full_match({text}, '{_WHOLE}') "
        f"then {number} end"
    )


def price(text: str) -> str:
    """SQL of a number, NULL where the text is none."""
    return f"case when not contains({text}, '_') then try_cast({text} as double) end"


def reason(width: int, found: str) -> str:
    """SQL that says why a row is no good, or NULL; cheap for a row that is good.

    It reads ``told``, ``is_uneven``, the fields as ``c0`` and on, the texts by name, ``event_ms``,
    and the numbers as ``..._number``.

    Args:
        width: Fields that a row has.
        found: SQL of the fields of a row.
    """
    sound = (
        f"told is null and not is_uneven and event_ms between {FIRST_MS} and {LAST_MS} "
        "and event_type is not null and product_id_number is not null "
        "and user_id_number is not null "
        "and (category_id is null or category_id_number is not null) "
        f"and price_number between 0 and {HIGHEST_PRICE} "
        f"and {' and '.join(map(_is_short, TEXTS))}"
    )
    tests = [
        "when told is not null then told",
        f"when c1 is null and trim(c0, ' \t\v\f') = '' then '{BLANK}'",
        f"when is_uneven then 'expected {width} fields, found ' || ({found})",
        _lacks("event_time", "one"),
        _unless("event_time", "event_ms is not null", FORMS),
        _unless("event_time", f"event_ms between {FIRST_MS} and {LAST_MS}", f"a time in {YEARS}"),
        _lacks("event_type", "one"),
    ]
    for name in IDS:
        if name != "category_id":
            tests.append(_lacks(name, "a whole number"))
        good = f"{name} is null or {name}_number is not null"
        tests.append(_unless(name, good, "a whole number"))
    highest = f"a number from 0 to {HIGHEST_PRICE:.0f}"
    tests.append(_lacks("price", highest))
    good = f"coalesce(price_number between 0 and {HIGHEST_PRICE}, false)"
    tests.append(_unless("price", good, highest))
    longest = f"at most {LONGEST_BYTES} bytes"
    tests += [_unless(name, _is_short(name), longest) for name in TEXTS]
    return f"case when {sound} then null {' '.join(tests)} end"


def _is_short(name: str) -> str:
    return f"coalesce(strlen({name}), 0) <= {LONGEST_BYTES}"


def _lacks(name: str, expected: str) -> str:
    return f"when {name} is null then '{name}: expected {expected}, found nothing'"


def _unless(name: str, good: str, expected: str) -> str:
    found = f"left({name}, 60)"
    return f"when not ({good}) then '{name}: expected {expected}, found ' || {found}"
