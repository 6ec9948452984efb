"""Commits to one Delta table: files that DuckDB wrote, or rows with a consumed offset range.

delta-rs leaves two things to its caller, and both are done here. It does not skip a repeated
application transaction, so the recorded version is compared first and the commit goes through the
same open table: a rival's commit then conflicts instead of landing beside it. And it gives up after
15 commit retries, which eight busy writers exceed.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from tidemill.errors import TidemillError
from tidemill.lake.contracts import Table, Type

T = TypeVar("T")

COMMIT_RETRIES = 200
RIVAL_RETRIES = 60


def add_action(table: Table, relative: str, size: int, rows: int, columns: Any, keys: Any) -> Any:
    """The Delta action for a file that DuckDB's ``COPY ... (RETURN_STATS)`` has written.

    Args:
        table: Its contract.
        relative: Path inside the table's folder.
        size: Bytes.
        rows: Rows.
        columns: DuckDB's ``column_statistics``: text by statistic by quoted column name.
        keys: DuckDB's ``partition_keys``: text by column name.
    """
    from deltalake.transaction import AddAction

    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    found = {name.strip('"'): stats for name, stats in columns.items()}
    for column in table.data_columns:
        stats = found.get(column.name, {})
        if "null_count" in stats:
            nulls[column.name] = int(stats["null_count"])
        if stats.get("has_nan") == "true" or "min" not in stats:
            continue
        bounds = _bound(column.type, stats["min"]), _bound(column.type, stats["max"])
        if bounds[0] is not None and stats.get("max_is_exact", "true") == "true":
            low[column.name], high[column.name] = bounds
    stats_json = json.dumps(
        {"numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    )
    return AddAction(
        path=relative,
        size=size,
        partition_values={name: str(keys[name]) for name in table.partition_by},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=stats_json,
    )


def _bound(type_: Type, text: str) -> Any:
    if type_ in (Type.INT, Type.BIGINT):
        return int(text)
    if type_ is Type.DOUBLE:
        return float(text)
    if type_ is Type.DATE:
        return text
    if type_ is Type.TIMESTAMP:
        return text.replace(" ", "T")
    return text if type_ is Type.STRING and len(text) <= 32 else None


def remove_action(relative: str, size: int, partition: dict[str, str]) -> Any:
    """The Delta action that takes a file out of the table; the file itself stays for readers."""
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        path=relative,
        data_change=True,
        deletion_timestamp=int(time.time() * 1000),
        size=size,
        partition_values=partition,
    )


def properties(app: Iterable[tuple[str, int]], note: dict[str, str]) -> Any:
    """Commit properties: application transactions, audit notes, and enough retries."""
    from deltalake.transaction import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata=note,
        max_commit_retries=COMMIT_RETRIES,
        app_transactions=[Transaction(name, version) for name, version in app],
    )


def commit_files(delta: Any, table: Table, actions: Sequence[Any], commit: Any) -> None:
    """Commit added and removed files to an open table, in one version."""
    delta.create_write_transaction(
        list(actions),
        mode="append",
        schema=table.delta_schema(),
        partition_by=list(table.partition_by),
        commit_properties=commit,
    )


def against_rivals(attempt: Callable[[], T], what: str) -> T:
    """Run ``attempt`` again while another writer's commit beats it to the same rows.

    Raises:
        TidemillError: It was beaten ``RIVAL_RETRIES`` times.
    """
    from deltalake.exceptions import CommitFailedError

    for tried in range(RIVAL_RETRIES):
        try:
            return attempt()
        except CommitFailedError as error:
            last = error
            time.sleep(random.uniform(0, min(1.0, 0.02 * 2**tried)))
    raise TidemillError(f"{what}: other writers were first {RIVAL_RETRIES} times; last: {last}")
