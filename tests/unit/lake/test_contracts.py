"""Claims about declarations of tables, and what they know of rows without reading them."""

import math
from typing import Any

import duckdb
import polars as pl
import pytest

from tidemill.errors import ContractError
from tidemill.lake.contracts import Column, Range, Table, Type, polars_schema, text_literal

SYMBOL = Column("symbol", Type.STRING, "Trading pair.")
PRICE = Column("price", Type.DOUBLE, "What was paid.", unit="EUR", low=0.0, high=100.0)
SIDE = Column("side", Type.STRING, "Who asked.", nullable=True, allowed=("buy", "sell"))


def table(*columns: Column, **more: Any) -> Table:
    return Table("d", "t", "A table.", columns, **({"key": ("symbol",)} | more))


@pytest.mark.parametrize("where", ["key", "partition_by", "sort_by"])
def test_a_declaration_that_names_a_column_it_lacks_is_refused(where: str) -> None:
    with pytest.raises(ContractError, match=r"d\.t: 'nope' is none of its columns"):
        table(SYMBOL, PRICE, **{where: ("nope",)})


def test_a_table_without_a_key_is_refused() -> None:
    with pytest.raises(ContractError, match="no key"):
        table(SYMBOL, key=())


def test_a_column_declared_twice_is_refused_whatever_its_case() -> None:
    with pytest.raises(ContractError, match="there twice"):
        table(SYMBOL, Column("Symbol", Type.INT, "Again."))


@pytest.mark.parametrize("name", ['a"b', "a b", "a.b", "", "../up", "1st"])
def test_a_name_that_sql_or_a_path_could_mistake_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match="no plain name"):
        table(SYMBOL, Column(name, Type.INT, "Odd."))
    with pytest.raises(ContractError, match="no plain name"):
        Table("d", name, "Odd.", (SYMBOL,), key=("symbol",))


@pytest.mark.parametrize(
    "column",
    [Column("part", Type.STRING, "May be empty.", nullable=True)]
    + [Column("part", t, "No.") for t in (Type.DOUBLE, Type.BLOB, Type.TIMESTAMP)],
)
def test_a_partition_column_that_may_be_empty_or_has_no_plain_text_is_refused(
    column: Column,
) -> None:
    with pytest.raises(ContractError, match="cannot be partitioned by 'part'"):
        table(SYMBOL, column, partition_by=("part",))


def test_a_table_partitioned_by_all_its_columns_is_refused() -> None:
    with pytest.raises(ContractError, match="files hold nothing"):
        table(SYMBOL, partition_by=("symbol",))


def test_a_comment_tells_the_unit() -> None:
    assert PRICE.comment == "What was paid. [EUR]"
    assert SYMBOL.comment == "Trading pair."


@pytest.mark.parametrize("value", ["plain", "it's", "''", "a\nb", "ünï", ""])
def test_text_is_the_same_after_sql(value: str) -> None:
    assert duckdb.execute(f"select {text_literal(value)}").fetchall() == [(value,)]


def test_every_type_has_a_name_in_delta_polars_and_duckdb() -> None:
    every = table(SYMBOL, *(Column(f"c_{t.name}", t, "One.") for t in Type))
    assert len(every.delta_schema().fields) == len(Type) + 1
    assert set(polars_schema(every)) == {c.name for c in every.columns}
    for column in every.columns:
        duckdb.execute(f"select null::{column.type.value}")


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        (("A", 1.0, "buy"), set()),
        (("A", 0.0, None), set()),
        (("A", 100.0, "sell"), set()),
        ((None, 1.0, "buy"), {"symbol is not null"}),
        (("A", None, "buy"), {"price is not null"}),
        (("A", -0.01, "buy"), {"price >= 0.0"}),
        (("A", 100.01, "buy"), {"price <= 100.0"}),
        (("A", math.nan, "buy"), {"price is finite", "price <= 100.0"}),
        (("A", math.inf, "buy"), {"price is finite", "price <= 100.0"}),
        (("A", -math.inf, "buy"), {"price is finite", "price >= 0.0"}),
        (("A", 1.0, "hold"), {"side in 'buy', 'sell'"}),
    ],
)
def test_a_row_breaks_just_the_rules_that_it_breaks(
    row: tuple[object, ...], broken: set[str]
) -> None:
    contract = table(SYMBOL, PRICE, SIDE)
    frame = pl.DataFrame([row], schema=polars_schema(contract), orient="row")
    with duckdb.connect() as con:
        con.register("rows", frame.to_arrow())
        found = {
            rule
            for rule, sql in contract.conditions().items()
            if not con.execute(f"select bool_and({sql}) from rows").fetchall()[0][0]
        }
    assert found == broken


@pytest.mark.parametrize(
    ("column", "known", "told"),
    [
        (PRICE, Range(0, 0.0, 100.0), []),
        (PRICE, Range(2, 1.0, 2.0), ["2 rows break 'price is not null'"]),
        (PRICE, Range(0, 1.0, 2.0, has_nan=True), ["rows break 'price is finite'"]),
        (PRICE, Range(0, -1.0, 2.0), ["rows break 'price >= 0.0': the lowest is -1.0"]),
        (PRICE, Range(0, 1.0, 101.0), ["rows break 'price <= 100.0': the highest is 101.0"]),
        (SIDE, Range(5, "buy", "sell"), []),
        (SIDE, Range(0, "buy", "wait"), ["rows break 'side in buy, sell': there is wait"]),
        (SIDE, Range(7), []),
    ],
)
def test_statistics_tell_which_rules_a_file_breaks(
    column: Column, known: Range, told: list[str]
) -> None:
    assert column.breaches([Range(0), known]) == told


def test_an_infinity_in_the_statistics_is_not_finite() -> None:
    unbounded = Column("x", Type.DOUBLE, "Any number.")
    assert unbounded.breaches([Range(0, -math.inf, 1.0)]) == ["rows break 'x is finite'"]
    assert unbounded.breaches([Range(0, -1e308, 1e308)]) == []
