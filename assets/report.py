"""What every asset says of its table and of what it wrote."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, Written

PREVIEW_ROWS = 10
RETRY_S = 5
INTERRUPTED = "Query interrupted"
"""What DuckDB says instead of raising what a signal's handler did while a query ran."""


def key(table: Table) -> dg.AssetKey:
    """The asset key of a table."""
    return dg.AssetKey([table.domain, table.name])


def described(table: Table) -> dict[str, Any]:
    """A table's contract as asset metadata: column types, meanings, keys."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    c.name,
                    c.type.value,
                    description=c.comment,
                    constraints=dg.TableColumnConstraints(
                        nullable=c.nullable, unique=(c.name,) == table.key
                    ),
                )
                for c in table.columns
            ]
        ),
        "dagster/table_name": f"tidemill.{table.id}",
        "key": ", ".join(table.key),
        "partitioned by": ", ".join(table.partition_by) or "nothing",
    }


def contract_spec(table: Table) -> dg.AssetCheckSpec:
    """The check that every table carries; a failure stops what is downstream."""
    return dg.AssetCheckSpec(
        "keeps_contract",
        asset=key(table),
        blocking=True,
        description="Types, nulls, ranges, rules and the unique key of the partitions written.",
    )


@contextmanager
def tried_again() -> Iterator[None]:
    """Ask for another try of a step that failed for a reason outside it, which may pass.

    That is the disk, and rivals that kept changing what it reads. Rows that break a contract would
    break it again. A step that somebody ended is ended.
    """
    import duckdb

    try:
        yield
    except RuntimeError as error:
        if str(error) == INTERRUPTED:
            raise KeyboardInterrupt from error
        raise
    except (OSError, duckdb.IOException, Overtaken) as error:
        raise dg.RetryRequested(max_retries=2, seconds_to_wait=RETRY_S) from error


def answer(differences: Sequence[Mapping[str, object]]) -> dg.AssetCheckResult:
    """Of a check that found these differences, or none."""
    return dg.AssetCheckResult(
        passed=not differences,
        metadata={
            "differences": len(differences),
            "first": dg.MetadataValue.json([dict(d) for d in differences[:10]]),
        },
    )


def outside(table: Table, group: str, made: str) -> dg.AssetSpec:
    """A table that is made outside the asset graph."""
    return dg.AssetSpec(
        key(table),
        group_name=group,
        description=f"{table.meaning} Made {made}.",
        metadata=described(table),
        kinds={"delta"},
    )


def landed(lake: Lake, tables: Sequence[Table]) -> list[dg.AssetMaterialization]:
    """What tables that are made outside Dagster hold now, for the asset graph to show."""
    return [dg.AssetMaterialization(key(table), metadata=standing(lake, table)) for table in tables]


def standing(lake: Lake, table: Table) -> dict[str, Any]:
    """What a table holds now, as asset metadata."""
    snapshot = lake.snapshot(table)
    return {
        "dagster/row_count": snapshot.rows,
        "bytes": snapshot.size,
        "version": snapshot.version,
    }


def written(
    lake: Lake,
    table: Table,
    made: Sequence[Written],
    partitions: Sequence[Partition],
    charts: Mapping[str, bytes] | None = None,
    texts: Mapping[str, str] | None = None,
) -> dg.MaterializeResult:
    """Rows, bytes, seconds, SQL, a preview, charts and texts, with the contract's answer.

    What was written is that of all the run's partitions, which Dagster shows with each of them.
    """
    files = {name for w in made for name in w.files}
    violations, preview = lake.inspect(table, partitions, PREVIEW_ROWS, files)
    now = lake.snapshot(table)
    metadata: dict[str, Any] = {
        "dagster/row_count": now.rows,
        "rows written": sum(w.rows for w in made),
        "bytes": sum(w.size for w in made),
        "seconds": round(sum(w.seconds for w in made), 3),
        "partitions": len(partitions),
        "version": made[-1].version if made else now.version,
        "preview": dg.MetadataValue.md(preview),
    }
    if made and made[-1].sql:
        metadata["sql"] = dg.MetadataValue.md(f"```sql\n{made[-1].sql}\n```")
    for name, text in (texts or {}).items():
        metadata[name] = dg.MetadataValue.md(text)
    for name, png in (charts or {}).items():
        image = base64.b64encode(png).decode()
        metadata[name] = dg.MetadataValue.md(f"![{name}](data:image/png;base64,{image})")
    return dg.MaterializeResult(
        asset_key=key(table),
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                asset_key=key(table),
                check_name="keeps_contract",
                passed=not violations,
                metadata={"rows breaking each rule": dg.MetadataValue.json(violations)},
            )
        ],
    )
