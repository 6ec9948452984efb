"""Commits to one Delta table: files that DuckDB wrote, or rows with a consumed offset range.

delta-rs leaves some things to its caller, and they are done here:

- It does not skip a repeated application transaction, so the recorded version is compared first
  and the commit goes through the same open table: a rival's commit then conflicts instead of
  landing beside it.
- It gives up after 15 commit retries, which eight busy writers exceed.
- It does not see that a rival compacted, or filled, the partition that this commit replaces. What
  removes files is therefore ``strict``: it lands right after the version it was computed from, or
  it is computed again.
"""

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tidemill.errors import TidemillError
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import File

T = TypeVar("T")

COMMIT_RETRIES = 200
RIVAL_RETRIES = 60


class Overtaken(TidemillError):
    """What a commit was computed from is no longer there."""


def remove_action(file: File, data_change: bool) -> Any:
    """The Delta action that takes a file out of the table; the file itself stays for readers."""
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        path=file.relative,
        data_change=data_change,
        deletion_timestamp=int(time.time() * 1000),
        size=file.size,
        partition_values=dict(file.partition),
    )


def offsets(reached: Mapping[str, int]) -> Any:
    """Properties of a commit that may land beside rivals', but never twice for the same offsets.

    Args:
        reached: The next offset by application name.
    """
    return _properties(reached, {}, COMMIT_RETRIES)


def strict(note: Mapping[str, str], offsets: Mapping[str, int] | None = None) -> Any:
    """Properties of a commit that lands right after the version it was computed from, or fails.

    Args:
        note: Added to the audit trail.
        offsets: Application transactions to record.
    """
    return _properties(offsets or {}, note, 0)


def _properties(offsets: Mapping[str, int], note: Mapping[str, str], retries: int) -> Any:
    from deltalake.transaction import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata=dict(note),
        max_commit_retries=retries,
        app_transactions=[Transaction(name, version) for name, version in offsets.items()],
    )


def commit_files(delta: Any, table: Table, actions: Sequence[Any], properties: Any) -> None:
    """Commit added and removed files to an open table, in one version."""
    delta.create_write_transaction(
        list(actions),
        mode="append",
        schema=table.delta_schema(),
        partition_by=list(table.partition_by),
        commit_properties=properties,
    )


def rewound(logs: Iterable[Path], then: Any) -> dict[str, int]:
    """What every application transaction of some commits was before them.

    Args:
        logs: The commits' files in the log.
        then: The table, opened at the version before them.

    Returns:
        The version of each application; -1 for one that had none, as Delta cannot forget it.
    """
    names = set()
    for log in logs:
        for line in log.read_text().splitlines():
            if '"txn"' in line and (made := json.loads(line).get("txn")):
                names.add(made["appId"])
    versions = {name: then.transaction_version(name) for name in sorted(names)}
    return {name: -1 if version is None else version for name, version in versions.items()}


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
