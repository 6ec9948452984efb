"""Raw messages into typed fields, in bulk; what is wrong with one is said in its ``error``."""

from functools import lru_cache
from typing import TYPE_CHECKING

from tidemill.errors import ContractError
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Column, Type, text_literal

if TYPE_CHECKING:
    import duckdb
    import polars as pl

_JSON_TYPES = {
    Type.STRING: ("text", ("VARCHAR",)),
    Type.DOUBLE: ("a number", ("DOUBLE", "BIGINT", "UBIGINT")),
    Type.BIGINT: ("a whole number", ("BIGINT", "UBIGINT")),
    Type.INT: ("a whole number", ("BIGINT", "UBIGINT")),
    Type.BOOLEAN: ("true or false", ("BOOLEAN",)),
}
_SHOWN = 60
LAST_MS = 253_402_300_799_999


def decode(con: "duckdb.DuckDBPyConnection", topic: Topic, messages: "pl.DataFrame") -> str:
    """Decode messages of a topic into a temporary table.

    One pass of DuckDB over all of them: a message is text in UTF-8, JSON, an object, has each
    field with its type, keeps the field's and the topic's rules, is not too long, and its event is
    not ahead of its own time. The first that does not hold is its ``error``.

    Args:
        con: Where the table is made.
        topic: Its contract.
        messages: As ``reader.chunks`` gives them.

    Returns:
        The table's name. Its columns: partition, offset, produced_ms, error (NULL
        where there is none), event_ms, each field of the topic, and key and value, which are kept
        of messages that have an error.
    """
    import polars as pl

    text = messages.get_column("value").cast(pl.String, strict=False)
    # The newest level hands strings over as they are; others copy them.
    arrow = (
        messages.with_columns(text=text)
        .with_row_index("row")
        .to_arrow(compat_level=pl.CompatLevel.newest())
    )
    con.register("raw_messages", arrow)
    con.execute(f"create or replace temp table decoded as {_sql(topic)}")
    con.unregister("raw_messages")
    return "decoded"


@lru_cache(maxsize=64)
def _sql(topic: Topic) -> str:
    """What decodes ``raw_messages``: partition, offset, produced_ms, key, value, text."""
    paths = ", ".join(text_literal(f'$."{column.name}"') for column in topic.value)
    numbered = list(enumerate(topic.value, 1))
    fields = ", ".join(f'{_value(n, column)} as "{column.name}"' for n, column in numbered)
    names = ", ".join(f'"{column.name}"' for column in topic.value)
    faults = " ".join(
        [
            "when value is null then 'expected a message, found none'",
            f"when octet_length(value) > {topic.max_bytes} then 'expected at most "
            f"{topic.max_bytes} bytes, found ' || octet_length(value)",
            "when text is null then 'expected text in UTF-8, found other bytes'",
            "when types is null and trim(text) = '' then 'expected JSON, found nothing'",
            "when types is null then 'expected JSON, found ' || " + _shown("text"),
            # A field that is there tells that it is an object.
            "when types[1] is null and json_type(text) <> 'OBJECT' "
            "then 'expected a JSON object, found ' || " + _shown("text"),
            *(_fault(n, column) for n, column in numbered),
            *_rules(topic),
        ]
    )
    return f"""
    with parsed as (
        select *, try(json_type(text, [{paths}])) as types,
               try(json_extract_string(text, [{paths}])) as texts
        from raw_messages
    ), fields as (
        select *, {fields} from parsed
    ), judged as (
        select *, "{topic.event_time}" as event_ms, case {faults} end as error from fields
    )
    select "partition", "offset", produced_ms, error, event_ms, {names},
           case when error is not null then "key" end as "key",
           case when error is not null then value end as value
    from judged
    """


def _value(n: int, column: Column) -> str:
    """SQL of a field's value, NULL where it has another type."""
    if column.type not in _JSON_TYPES:
        raise ContractError(f"a message cannot have {column.name} of type {column.type.value}")
    value = f"texts[{n}]"
    if column.type is not Type.STRING:
        value = f"try_cast({value} as {column.type.value})"
    return f"case when types[{n}] in ({_kinds(column)}) then {value} end"


def _kinds(column: Column) -> str:
    return ", ".join(text_literal(kind) for kind in _JSON_TYPES[column.type][1])


def _fault(n: int, column: Column) -> str:
    """What is wrong with a field's presence and type."""
    expected, _ = _JSON_TYPES[column.type]
    found = f"lower(types[{n}]) || ' ' || {_shown(f'texts[{n}]')}"
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
    for rule, sql in topic.rules.items():
        found.append(
            f"when ({sql}) is not true then {text_literal(f'expected {rule}, found ')} "
            f"|| {_shown('text')}"
        )
    ahead = f"produced_ms >= 0 and event_ms > produced_ms + {topic.ahead_ms}"
    found.append(
        f"when event_ms > {LAST_MS} then '{topic.event_time}: expected a time before the "
        "year 10000, found ' || event_ms"
    )
    found.append(
        f"when {ahead} then '{topic.event_time}: expected at most {topic.ahead_ms} ms after the "
        "message''s own time, found ' || (event_ms - produced_ms) || ' ms'"
    )
    return found


def _shown(sql: str) -> str:
    """A short look at a value, for a message."""
    return f"coalesce(left({sql}, {_SHOWN}), 'nothing')"
