"""Whether rows keep a table's contract, by their files' statistics or read; and a look at them."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidemill.errors import ContractError
from tidemill.lake import duck
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.files import NewFile
from tidemill.lake.snapshot import Partition

if TYPE_CHECKING:
    import duckdb
    import polars as pl


def named(table: Table, partitions: Sequence[Partition]) -> set[tuple[str, ...]]:
    """The values of these partitions, as text in the order of the table's partition columns.

    Raises:
        ContractError: One does not name exactly the table's partition columns.
    """
    for partition in partitions:
        if set(partition) != set(table.partition_by):
            columns = ", ".join(table.partition_by) or "nothing, as it has no partitions"
            raise ContractError(
                f"{table.id}: a partition to replace is named by {columns}, not {dict(partition)}"
            )
    return {tuple(str(p[name]) for name in table.partition_by) for p in partitions}


def refuse_files(table: Table, files: Sequence[NewFile], partitions: set[tuple[str, ...]]) -> None:
    """Hold what is known of new files without reading them to the contract.

    Raises:
        ContractError: They break it, or hold rows outside ``partitions``.
    """
    found: list[str] = []
    for column in table.columns:
        known = (file.ranges.get(column.name) for file in files)
        found += column.breaches([r for r in known if r is not None])
    if found:
        raise ContractError(f"{table.id}: {'; '.join(found)}")
    for file in files:
        got = tuple(str(file.partition[name]) for name in table.partition_by)
        if got not in partitions:
            raise ContractError(f"{table.id}: rows for {got}, which was not asked for")


def typed(table: Table, rows: "pl.DataFrame") -> "pl.DataFrame":
    """The contract's columns of a frame, with its types, instants in UTC.

    Raises:
        ContractError: A column is missing, or a value cannot have its type.
    """
    import polars as pl

    missing = [column.name for column in table.columns if column.name not in rows.columns]
    if missing:
        raise ContractError(f"{table.id}: no column {', '.join(missing)}, only {rows.columns}")
    in_utc = [
        pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    schema = pl.Schema(polars_schema(table))
    try:
        return rows.with_columns(in_utc).select(*schema).cast(schema)
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{table.id}: {str(error).splitlines()[0]}") from error


def refuse_rows(table: Table, rows: "pl.DataFrame") -> None:
    """Hold every row of a typed frame to the contract.

    Raises:
        ContractError: A row breaks a rule.
    """
    import polars as pl

    with duck.cursor() as con:
        con.register("rows", rows.to_arrow())
        broken = broken_rules(table, con, "rows")
    for name in table.partition_by:
        empty = rows[name].cast(pl.String).eq("").sum()
        if empty:
            broken[f"{name} is not empty"] = int(empty)
    if broken:
        told = "; ".join(f"{n} rows break '{rule}'" for rule, n in broken.items())
        raise ContractError(f"{table.id}: {told}")


def broken_rules(table: Table, con: "duckdb.DuckDBPyConnection", relation: str) -> dict[str, int]:
    """How many rows of ``relation`` break each rule on a single row, where any does."""
    rules = table.conditions()
    counts = ", ".join(f"count_if(({sql}) is not true)" for sql in rules.values())
    if not rules:
        return {}
    found = con.execute(f"select {counts} from {relation}").fetchone() or ()
    return {rule: int(n) for rule, n in zip(rules, found, strict=True) if n}


def violations(
    table: Table, con: "duckdb.DuckDBPyConnection", relation: str, beside: str = ""
) -> dict[str, int]:
    """``broken_rules``, and the rows whose key another row has.

    Args:
        table: Its contract.
        con: Where the relations can be read.
        relation: SQL of the rows.
        beside: SQL of these and others, among which their keys must be alone; empty where there are
            no others.
    """
    broken = broken_rules(table, con, relation)
    key = ", ".join(f'"{name}"' for name in table.key)
    among = relation
    if beside:  # a hash, as a part of a key may be NULL
        # A table, as DuckDB 2.0 takes a type in one scan for a column of the other.
        con.execute(f"create or replace temp table mine as select hash({key}) from {relation}")
        among = f"(from {beside} where hash({key}) in (from mine))"
    twice = con.execute(
        f"select coalesce(sum(n - 1), 0)::BIGINT from (select count(*) as n from {among} "
        f"group by {key} having count(*) > 1)"
    ).fetchone()
    if twice and twice[0]:
        broken[f"unique ({', '.join(table.key)})"] = int(twice[0])
    return broken


def preview(table: Table, con: "duckdb.DuckDBPyConnection", relation: str, rows: int) -> str:
    """The last rows of ``relation`` in the table's order, as a Markdown table.

    Without personal columns, as it is kept where no rows are.
    """
    order = ", ".join(f'"{name}" desc' for name in table.sort_by or table.key)
    listed = ", ".join(f'"{column.name}"' for column in table.columns if not column.is_personal)
    shown = con.execute(f"select {listed} from {relation} order by {order} limit {rows}")
    names = [column[0] for column in shown.description or ()]
    cells = [[_cell(value) for value in row] for row in shown.fetchall()]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """A value in a Markdown table: text that came from anywhere is shown, and nothing more."""
    text = " ".join(str(value).split())
    for mark, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, shown)
    return re.sub(r"([\\`*_{}\[\]()#!|~])", r"\\\1", text)
