"""One declaration a table, from which all that describes it comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tidemill.errors import ContractError


class Type(Enum):
    """A column's type, named as in SQL; times are UTC without a zone."""

    STRING = "VARCHAR"
    INT = "INTEGER"
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"


_DELTA = {
    Type.STRING: "string",
    Type.INT: "integer",
    Type.BIGINT: "long",
    Type.DOUBLE: "double",
    Type.BOOLEAN: "boolean",
    Type.DATE: "date",
    Type.TIMESTAMP: "timestamp_ntz",
}
IBIS_TYPES = {
    Type.STRING: "string",
    Type.INT: "int32",
    Type.BIGINT: "int64",
    Type.DOUBLE: "float64",
    Type.BOOLEAN: "boolean",
    Type.DATE: "date",
    Type.TIMESTAMP: "timestamp(6)",
}


@dataclass(frozen=True)
class Column:
    """One column: what it holds, in which unit, and what it may hold.

    Attributes:
        name: As in SQL.
        type: Its type.
        meaning: One sentence.
        unit: Unit of measure where the type does not say it.
        nullable: Whether NULL is allowed.
        low: Smallest value allowed, itself included.
        high: Largest value allowed, itself included.
        allowed: The only values allowed.
    """

    name: str
    type: Type
    meaning: str
    unit: str | None = None
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """Meaning and unit, as the catalogue and the asset page show them."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes:
        domain: Room it belongs to, and its schema in SQL.
        name: A noun.
        meaning: One sentence.
        columns: In order, partition columns included.
        key: Columns that together name one row.
        partition_by: Columns by which files are laid out, the first of them owned by one writer
            at a time.
        sort_by: Order of the rows inside a file, for skipping.
        rules: Name and SQL condition that every row keeps.
    """

    domain: str
    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    rules: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that names columns it does not have."""
        names = [column.name for column in self.columns]
        for name in (*self.key, *self.partition_by, *self.sort_by):
            if name not in names:
                raise ContractError(f"{self.id}: {name!r} is none of its columns {names}")

    @property
    def id(self) -> str:
        """``domain.name``, as in SQL."""
        return f"{self.domain}.{self.name}"

    @property
    def path(self) -> str:
        """``domain/name``, as in the lake."""
        return f"{self.domain}/{self.name}"

    @property
    def data_columns(self) -> tuple[Column, ...]:
        """The columns that are in the files: all but the partition columns."""
        return tuple(c for c in self.columns if c.name not in self.partition_by)

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(c for c in self.columns if c.name == name)

    def delta_schema(self) -> Any:
        """As delta-rs wants it; not-null stays the contract's work, since Spark asks a table that.

        declares it for a protocol feature that delta-rs does not write.
        """
        from deltalake import Field, Schema
        from deltalake.schema import PrimitiveType

        return Schema(
            [
                Field(
                    c.name,
                    PrimitiveType(_DELTA[c.type]),
                    nullable=True,
                    metadata={"comment": c.comment},
                )
                for c in self.columns
            ]
        )

    def conditions(self) -> dict[str, str]:
        """Each rule that a single row can break: what it says, and the SQL that holds."""
        held: dict[str, str] = {}
        for c in self.columns:
            if not c.nullable:
                held[f"{c.name} is not null"] = f'"{c.name}" is not null'
            if c.type is Type.DOUBLE:
                held[f"{c.name} is finite"] = f'("{c.name}" is null or isfinite("{c.name}"))'
            if c.low is not None:
                held[f"{c.name} >= {c.low}"] = f'("{c.name}" is null or "{c.name}" >= {c.low})'
            if c.high is not None:
                held[f"{c.name} <= {c.high}"] = f'("{c.name}" is null or "{c.name}" <= {c.high})'
            if c.allowed:
                listed = ", ".join(text_literal(v) for v in c.allowed)
                held[f"{c.name} in {listed}"] = f'("{c.name}" is null or "{c.name}" in ({listed}))'
        return held | dict(self.rules or {})


def polars_schema(table: Table) -> dict[str, Any]:
    """Name and Polars type of each column."""
    import polars as pl

    types = {
        Type.STRING: pl.String,
        Type.INT: pl.Int32,
        Type.BIGINT: pl.Int64,
        Type.DOUBLE: pl.Float64,
        Type.BOOLEAN: pl.Boolean,
        Type.DATE: pl.Date,
        Type.TIMESTAMP: pl.Datetime("us"),
    }
    return {column.name: types[column.type] for column in table.columns}


def text_literal(value: str) -> str:
    """``value`` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"
