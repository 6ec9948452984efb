"""One declaration a table, from which all that describes it comes."""

import math
from collections.abc import Mapping, Sequence
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
    BLOB = "BLOB"


_DELTA = {
    Type.STRING: "string",
    Type.INT: "integer",
    Type.BIGINT: "long",
    Type.DOUBLE: "double",
    Type.BOOLEAN: "boolean",
    Type.DATE: "date",
    Type.TIMESTAMP: "timestamp_ntz",
    Type.BLOB: "binary",
}
IBIS_TYPES = {
    Type.STRING: "string",
    Type.INT: "int32",
    Type.BIGINT: "int64",
    Type.DOUBLE: "float64",
    Type.BOOLEAN: "boolean",
    Type.DATE: "date",
    Type.TIMESTAMP: "timestamp(6)",
    Type.BLOB: "binary",
}
PARTITION_TYPES = (Type.STRING, Type.INT, Type.BIGINT, Type.DATE, Type.BOOLEAN)


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
        is_personal: Whether it tells who somebody is: its values stand in the rows alone, in no
            preview and no statistics, so that one can be erased.
    """

    name: str
    type: Type
    meaning: str
    unit: str | None = None
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[str, ...] = ()
    is_personal: bool = False

    @property
    def comment(self) -> str:
        """Meaning and unit, as the catalogue and the asset page show them."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning

    def conditions(self) -> dict[str, str]:
        """Each rule of this column: what it says, and the SQL that holds."""
        name = f'"{self.name}"'
        held: dict[str, str] = {}
        if not self.nullable:
            held[f"{self.name} is not null"] = f"{name} is not null"
        if self.type is Type.DOUBLE:
            held[f"{self.name} is finite"] = f"({name} is null or isfinite({name}))"
        if self.low is not None:
            held[f"{self.name} >= {self.low}"] = f"({name} is null or {name} >= {self.low})"
        if self.high is not None:
            held[f"{self.name} <= {self.high}"] = f"({name} is null or {name} <= {self.high})"
        if self.allowed:
            listed = ", ".join(text_literal(v) for v in self.allowed)
            held[f"{self.name} in {listed}"] = f"({name} is null or {name} in ({listed}))"
        return held

    def breaches(self, ranges: "Sequence[Range]") -> list[str]:
        """The rules that these files are known to break by their statistics alone.

        A rule on the row as a whole, and a forbidden value between two allowed ones, do not show
        in statistics.
        """
        name = self.name
        found = []
        ends = [end for r in ranges for end in (r.low, r.high) if end is not None]
        numbers = [end for end in ends if not isinstance(end, str)]
        nulls = sum(r.nulls for r in ranges)
        if nulls and not self.nullable:
            found.append(f"{nulls} rows break '{name} is not null'")
        if any(r.has_nan for r in ranges) or not all(math.isfinite(n) for n in numbers):
            found.append(f"rows break '{name} is finite'")
        if self.low is not None and any(n < self.low for n in numbers):
            found.append(f"rows break '{name} >= {self.low}': the lowest is {min(numbers)}")
        if self.high is not None and any(n > self.high for n in numbers):
            found.append(f"rows break '{name} <= {self.high}': the highest is {max(numbers)}")
        strange = sorted({str(end) for end in ends} - set(self.allowed)) if self.allowed else []
        if strange:
            found.append(f"rows break '{name} in {', '.join(self.allowed)}': there is {strange[0]}")
        return found


@dataclass(frozen=True)
class Range:
    """What a file's statistics say of one column.

    Attributes:
        nulls: Rows without a value.
        low: Smallest value, exact, of the column's type or as ISO text; None where not known.
        high: Largest value, likewise.
        has_nan: Whether one of them is no number.
    """

    nulls: int
    low: float | str | None = None
    high: float | str | None = None
    has_nan: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes:
        domain: Room it belongs to, and its schema in SQL.
        name: A noun.
        meaning: One sentence.
        columns: In order, partition columns included.
        key: Columns that together name one row.
        partition_by: Columns by which files are laid out; each is text, a whole number or a date,
            and always has a value.
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
        """Refuse a declaration that names columns it does not have, or that no file could keep."""
        names = [column.name for column in self.columns]
        for name in (*self.key, *self.partition_by, *self.sort_by):
            if name not in names:
                raise ContractError(f"{self.id}: {name!r} is none of its columns {names}")
        for name in (self.domain, self.name, *names):
            if not name.isidentifier():
                raise ContractError(f"{self.id}: {name!r} is no plain name")
        if not self.key:
            raise ContractError(f"{self.id}: no key says what one row is")
        if len({name.lower() for name in names}) < len(names):
            raise ContractError(f"{self.id}: a column's name is there twice in {names}")
        for name in self.partition_by:
            if self.column(name).nullable or self.column(name).type not in PARTITION_TYPES:
                raise ContractError(
                    f"{self.id}: cannot be partitioned by {name!r}, which must be not null and one "
                    f"of {', '.join(t.value for t in PARTITION_TYPES)}"
                )
        if len(names) == len(self.partition_by):
            raise ContractError(f"{self.id}: partitioned by every column, so files hold nothing")

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
        """As delta-rs wants it, all nullable.

        Not-null stays the contract's work: Spark asks of a table that declares it a protocol
        feature that delta-rs does not write.
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
        for column in self.columns:
            held |= column.conditions()
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
        Type.BLOB: pl.Binary,
    }
    return {column.name: types[column.type] for column in table.columns}


def text_literal(value: str) -> str:
    """``value`` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"
