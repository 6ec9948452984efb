"""Which versions of other tables a table was made from, as its own commits say it.

They are Delta application transactions: the name is the other table's id, the version is the first
one that was not read, 0 where there was none yet. They are in the commit of the rows, so that they
stay when the table is compacted or cleaned, and go back with the rows in a rollback.
"""

from collections.abc import Iterable, Sequence

from tidemill.lake import stream
from tidemill.lake.contracts import Table
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake


def told(inputs: Iterable[Snapshot]) -> dict[str, int]:
    """What the commit of rows made from these has to record, by application name."""
    return {snapshot.table.id: snapshot.version + 1 for snapshot in inputs}


def standing(
    lake: Lake, table: Table, inputs: Sequence[Table]
) -> tuple[Snapshot, tuple[int, ...] | None]:
    """A table's rows, and the version of each input that they were made from.

    Args:
        lake: Where the tables are.
        table: What was made.
        inputs: What it is made from.

    Returns:
        The rows; and a version for each input, -1 where it had none. None instead of these where
        no commit says them: the table was never made, or by what does not say it.
    """
    names = [each.id for each in inputs]
    rows, reached = stream.standing(lake, table, names)
    if not reached.keys() >= set(names):
        return rows, None
    return rows, tuple(reached[name] - 1 for name in names)
