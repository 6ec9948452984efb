"""Commits of rows together with the offsets that they reach, exactly once.

Offsets are Delta application transactions: the name is a topic's partition, the version is the next
offset. They are in the same commit as the rows, so that no crash can part them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidemill.errors import TidemillError
from tidemill.lake import commit
from tidemill.lake.contracts import Range, Table
from tidemill.lake.files import NewFile
from tidemill.lake.snapshot import Snapshot, take
from tidemill.lake.store import Lake


@dataclass(frozen=True)
class Move:
    """Offsets from where a partition was read to where it was read to."""

    start: int
    stop: int


def reached(lake: Lake, table: Table, app_ids: Iterable[str]) -> dict[str, int]:
    """The offset that each name has committed up to; names without one are left out."""
    return _reached(lake.current(table)[1], app_ids)


def standing(lake: Lake, table: Table, app_ids: Iterable[str]) -> tuple[Snapshot, dict[str, int]]:
    """A table's rows and the offsets that they reach, of one and the same version."""
    snapshot, delta = lake.current(table)
    return snapshot, _reached(delta, app_ids)


def add(
    lake: Lake,
    table: Table,
    files: Sequence[NewFile],
    moves: Mapping[str, Move],
    is_first: bool = False,
) -> bool:
    """Commit files together with the offsets that their rows reach; nothing that was reached.

    Args:
        lake: Where the table is.
        table: What to add to.
        files: Written beside the table's own.
        moves: By application name.
        is_first: Whether this table is the first to take these offsets, so that they must begin
            exactly where it stands.

    Returns:
        False where these offsets had been committed before; nothing was done.

    Raises:
        Overtaken: ``is_first``, and another writer was faster, or something between is missing.
        TidemillError: A file is not there.
    """

    def attempt() -> bool:
        delta = lake.open(table, create=True)
        now = _reached(delta, moves)
        if not is_first and all(now.get(name, -1) >= move.stop for name, move in moves.items()):
            return False
        apart = {n: m for n, m in moves.items() if now.get(n, m.start) != m.start}
        if apart:
            name, move = next(iter(apart.items()))
            raise commit.Overtaken(
                f"{table.id}: {name} stands at {now[name]}, so offsets {move.start} to "
                f"{move.stop - 1} cannot follow"
            )
        gone = [
            file.relative for file in files if not (lake.folder(table) / file.relative).exists()
        ]
        if gone:
            raise TidemillError(
                f"{table.id}: {len(gone)} files of rows that the ledger names are gone, the first "
                f"{gone[0]}; 'tidemill reset' clears the domain, and the topic is read again"
            )
        ends = {name: move.stop for name, move in moves.items()}
        actions = [file.action(table, True) for file in files]
        commit.commit_files(delta, table, actions, commit.offsets(ends))
        return True

    return commit.against_rivals(attempt, table.id)


def advance(
    lake: Lake,
    table: Table,
    files: Sequence[NewFile],
    moves: Mapping[str, Move],
    replaced: Callable[[Snapshot], Snapshot],
) -> int:
    """Commit files together with the offsets that they reach, instead of some that were there.

    Args:
        lake: Where the table is.
        table: What to change.
        files: Written beside the table's own.
        moves: By application name; each must begin where the table stands.
        replaced: Of the version that the commit goes onto, the files to take out.

    Returns:
        The version made.

    Raises:
        Overtaken: Another writer was faster.
    """

    def attempt() -> int:
        delta = lake.open(table, create=True)
        now = _reached(delta, moves)
        if any(now.get(name, move.start) != move.start for name, move in moves.items()):
            raise commit.Overtaken(f"{table.id}: others have taken these offsets")
        actions = [file.action(table, True) for file in files]
        old = replaced(take(table, lake.folder(table), delta))
        actions += [commit.remove_action(file, True) for file in old.files]
        ends = {name: move.stop for name, move in moves.items()}
        commit.commit_files(delta, table, actions, commit.strict({}, ends))
        return int(delta.version())

    return commit.against_rivals(attempt, table.id)


def as_json(files: Sequence[NewFile]) -> str:
    """Files in words that ``from_json`` reads back."""
    return json.dumps([asdict(file) for file in files])


def from_json(text: str) -> list[NewFile]:
    """The files that ``as_json`` told of."""
    return [
        NewFile(**known | {"ranges": {name: Range(**r) for name, r in known["ranges"].items()}})
        for known in json.loads(text)
    ]


def _reached(delta: Any, app_ids: Iterable[str]) -> dict[str, int]:
    if delta is None:
        return {}
    known = {name: delta.transaction_version(name) for name in app_ids}
    return {name: int(at) for name, at in known.items() if at is not None and at >= 0}
