"""Raw messages into typed fields, in bulk; what is wrong with one is said in its ``error``."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from tidemill.errors import ContractError
from tidemill.kafka.topics import FIRST_MS, LAST_MS, YEARS, Topic
from tidemill.lake.contracts import Column, Type, text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_JSON_TYPES = {
    Type.STRING: ("text", ("VARCHAR",)),
    Type.DOUBLE: ("a number", ("DOUBLE", "BIGINT", "UBIGINT")),
    Type.BIGINT: ("a whole number of 64 bits", ("BIGINT", "UBIGINT")),
    Type.INT: ("a whole number of 32 bits", ("BIGINT", "UBIGINT")),
    Type.BOOLEAN: ("true or false", ("BOOLEAN",)),
}
_SHOWN = 60
_WORDS = {
    "VARCHAR": "text",
    "DOUBLE": "number",
    "BIGINT": "number",
    "UBIGINT": "number",
    "BOOLEAN": "boolean",
    "ARRAY": "array",
    "OBJECT": "object",
}
"""DuckDB's names of JSON's types, as people say them."""


def decode(con: "duckdb.DuckDBPyConnection", topic: Topic, messages: "pl.DataFrame") -> str:
    """Decode messages of a topic into a temporary table.

    One pass of DuckDB over all of them: a message is text in UTF-8, JSON, an object, has each
    field with its type, keeps the field's and the topic's rules, is not too long, and its event is
    not ahead of its own time. The first that does not hold is its ``error``.

    JSON is what DuckDB takes for it, which differs from RFC 8259 in little: a comma may follow the
    last field, and ``NaN`` and ``Infinity`` may stand where nothing reads them (a field must be
    finite). Half a surrogate pair is no text, and a byte order mark no JSON. Of a field that is
    there twice the first counts. A number with a point or an exponent is no whole number, whatever
    its value; one of more digits than 64 bits hold is a number, but no whole one.

    Args:
        con: Where the table is made.
        topic: Its contract.
        messages: As ``reader.chunks`` gives them.

    Returns:
        The table's name. Its columns: partition, offset, produced_ms, error (NULL
        where there is none), event_ms, each field of the topic, and key and value, which are kept
        of messages that have an error. ``raw_messages`` has those of all, until the next call.
    """
    import polars as pl

    text = _texts(messages.get_column("value"))
    # The newest level hands strings over as they are; others copy them.
    arrow = (
        messages.with_columns(text=text)
        .with_row_index("row")
        .to_arrow(compat_level=pl.CompatLevel.newest())
    )
    con.register("raw_messages", arrow)
    con.execute(f"create or replace temp table decoded as {_sql(topic)}")
    return "decoded"


def _texts(values: "pl.Series") -> "pl.Series":
    """Bytes as text; null where they are no UTF-8."""
    import polars as pl

    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:  # which of them are other bytes, Polars does not say
        return pl.Series([_text(value) for value in values], dtype=pl.String)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=64)
def _sql(topic: Topic) -> str:
    """What decodes ``raw_messages``: partition, offset, produced_ms, key, value, text."""
    paths = ", ".join(text_literal(f'$."{column.name}"') for column in topic.value)
    numbered = list(enumerate(topic.value, 1))
    fields = ", ".join(f'{_value(topic, n, column)} as "{column.name}"' for n, column in numbered)
    names = ", ".join(f'"{column.name}"' for column in topic.value)
    faults = " ".join(
        [
            "when value is null then 'expected a message, found none'",
            f"when octet_length(value) > {topic.max_bytes} then 'expected at most "
            f"{topic.max_bytes} bytes, found ' || octet_length(value)",
            "when text is null then 'expected text in UTF-8, found other bytes'",
            "when types is null and trim(text, e' \\t\\r\\n') = '' "
            "then 'expected JSON, found nothing'",
            "when types is null then 'expected JSON, found ' || " + _shown("text"),
            # A field that is there tells that it is an object.
            "when types[1] is null and json_type(text) <> 'OBJECT' "
            "then 'expected a JSON object, found ' || " + _shown("text"),
            *(_fault(topic, n, column) for n, column in numbered),
            *_rules(topic),
        ]
    )
    return f"""
    with bounded as (
        select * exclude (text),
               case when octet_length(value) <= {topic.max_bytes} then text end as text
        from raw_messages
    ), parsed as (
        select *, try(json_type(text, [{paths}])) as types,
               try(json_extract_string(text, [{paths}])) as texts
        from bounded
    ), fields as (
        select *, {fields} from parsed
    ), timed as (
        select *, {topic.event_ms or f'"{topic.event_time}"'} as event_ms from fields
    ), judged as (
        select *, case {faults} end as error from timed
    )
    select "partition", "offset", produced_ms, error, event_ms, {names},
           case when error is not null then "key" end as "key",
           case when error is not null then value end as value
    from judged
    """


def _value(topic: Topic, n: int, column: Column) -> str:
    """SQL of a field's value, NULL where it has another type."""
    if column.type not in _JSON_TYPES:
        raise ContractError(f"a message cannot have {column.name} of type {column.type.value}")
    value = f"texts[{n}]"
    if column.type is not Type.STRING:
        value = f"try_cast({value} as {column.type.value})"
    kinds = ", ".join(text_literal(kind) for kind in _expected(topic, column)[1])
    return f"case when types[{n}] in ({kinds}) then {value} end"


def _expected(topic: Topic, column: Column) -> tuple[str, tuple[str, ...]]:
    """What a field must be, in words and in DuckDB's names."""
    if column.name in topic.loose:
        return "text or a number", _JSON_TYPES[Type.STRING][1] + _JSON_TYPES[Type.DOUBLE][1]
    return _JSON_TYPES[column.type]


def _fault(topic: Topic, n: int, column: Column) -> str:
    """What is wrong with a field's presence and type."""
    expected, _ = _expected(topic, column)
    words = " ".join(f"when '{kind}' then '{word} '" for kind, word in _WORDS.items())
    found = f"case types[{n}] {words} else '' end || coalesce(left(texts[{n}], {_SHOWN}), 'null')"
    wrong = f"'{column.name}: expected {expected}, found ' || {found}"
    lacking = f"when types[{n}] is null then '{column.name}: expected {expected}, found no field'"
    if column.nullable:
        return f"when types[{n}] <> 'NULL' and \"{column.name}\" is null then {wrong}"
    return f'{lacking} when "{column.name}" is null then {wrong}'


def _rules(topic: Topic) -> list[str]:
    """What is wrong with values of the right types."""
    found = []
    for column in topic.value:
        for rule, sql in column.conditions().items():
            if not rule.endswith("is not null"):
                shown = _shown(f'"{column.name}"::VARCHAR')
                found.append(
                    f"when ({sql}) is not true then "
                    f"{text_literal(f'expected {rule}, found ')} || {shown}"
                )
    if topic.event_ms:
        expected = text_literal(f"{topic.event_time}: expected {topic.times}, found ")
        found.append(f"when event_ms is null then {expected} || {_shown(topic.event_time)}")
    for rule, sql in topic.rules.items():
        named = [c.name for c in topic.value if re.search(rf"\b{c.name}\b", sql)]
        value = f"nullif(trim(\"{named[0]}\"::VARCHAR), '')" if len(named) == 1 else "text"
        shown = _shown(value)
        found.append(
            f"when ({sql}) is not true then {text_literal(f'expected {rule}, found ')} || {shown}"
        )
    for name, sql in ((f"{topic.event_time}", "event_ms"), ("message''s own time", "produced_ms")):
        found.append(
            f"when {sql} not between {FIRST_MS} and {LAST_MS} then '{name}: expected a time in "
            f"{YEARS}, found ' || {sql}"
        )
    ahead = f"produced_ms >= 0 and event_ms > produced_ms + {topic.ahead_ms}"
    found.append(
        f"when {ahead} then '{topic.event_time}: expected at most {topic.ahead_ms} ms after the "
        "message''s own time, found ' || (event_ms - produced_ms) || ' ms'"
    )
    return found


def _shown(sql: str) -> str:
    """A short look at a value, for a message."""
    return f"coalesce(left({sql}, {_SHOWN}), 'nothing')"
