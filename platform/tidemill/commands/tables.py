"""``tidemill lake``: the versions of a table."""

from datetime import UTC, datetime

from tidemill import compose
from tidemill.commands import show
from tidemill.errors import InputError
from tidemill.kafka.feed import roll_forward
from tidemill.lake import compaction, purge
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake, utc
from tidemill.settings import Settings


def _find(lake: Lake, name: str) -> Table:
    for table in lake.tables:
        if name.replace("/", ".") == table.id:
            return table
    raise InputError(
        f"there is no table {name!r}; there are {', '.join(t.id for t in lake.tables)}"
    )


def history(settings: Settings, name: str, as_json: bool) -> None:
    """Print the commits, newest first."""
    lake = compose.lake(settings)
    commits = lake.history(_find(lake, name))
    if as_json:
        show.as_json(commits)
        return
    show.table(
        ["version", "at (UTC)", "operation", "by"],
        [
            [
                commit["version"],
                f"{datetime.fromtimestamp(commit['timestamp'] / 1000, UTC):%Y-%m-%d %H:%M:%S}",
                commit["operation"],
                commit.get("engineInfo", ""),
            ]
            for commit in commits
        ],
    )


def rollback(settings: Settings, name: str, to: str) -> None:
    """Make a table what it was."""
    lake = compose.lake(settings)
    table = _find(lake, name)
    feeds = [opened(settings).feed for opened in compose.SUBSCRIPTIONS.values()]
    if any(table in (feed.table, feed.spans, feed.dead) for feed in feeds):
        raise InputError(
            f"{table.id} goes with the offsets that other tables have reached: it cannot go back "
            "alone; 'tidemill sql --as-of' shows what it was, and after 'tidemill reset' the "
            "topic is read again"
        )
    version = lake.rollback(table, utc(to))
    show.out.print(f"{table.id} is what it was at {to}, as version {version}")


def compact(settings: Settings, name: str, z_order: list[str]) -> None:
    """Join small files."""
    lake = compose.lake(settings)
    table = _find(lake, name)
    done = compaction.compact(lake, table, z_order)
    show.out.print(
        f"{table.id}: {done.get('numFilesRemoved', 0)} files became {done.get('numFilesAdded', 0)}"
    )


def vacuum(settings: Settings, name: str, retain_hours: int) -> None:
    """Delete what nothing needs."""
    lake = compose.lake(settings)
    table = _find(lake, name)
    # A batch that a crash left in the ledger alone has files that no version names yet.
    for opened in compose.SUBSCRIPTIONS.values():
        roll_forward(lake, opened(settings).feed)
    show.out.print(f"{table.id}: {len(purge.vacuum(lake, table, retain_hours))} files deleted")
