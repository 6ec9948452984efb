"""Final windows into a topic, each once.

Windows become final in the order of their ends, so all of them have one order: (window_end, table,
key). They are sent in that order into a topic of one partition, by one sender at a time, which goes
on behind the last that is there. So what a killed sender had sent is not sent again, and a consumer
needs no transactions.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill.errors import TidemillError
from tidemill.kafka import resume, topics
from tidemill.kafka.feed import Feed
from tidemill.kafka.producer import Sender
from tidemill.kafka.topics import Topic
from tidemill.lake import duck, lease, stream
from tidemill.lake.contracts import Table, Type, text_literal
from tidemill.lake.snapshot import File
from tidemill.lake.store import Lake
from tidemill.windows.declare import Windows
from tidemill.windows.follow import closed_ms, standing

BATCH = 10_000
Place = tuple[int, str, str]
"""A window in the order of all: window_end (epoch ms), table and key."""


def publish(
    lake: Lake, feed: Feed, windows: Sequence[Windows], config: Mapping[str, Any], topic: Topic
) -> int:
    """Send the final windows that the topic does not have.

    A message is a JSON object: table, window_start and window_end (epoch ms), key (the values of
    the table's keys, as JSON), and the table's other columns. Its key is the table's name.

    Args:
        lake: Where the windows are.
        feed: What they follow.
        windows: Whose windows; none with a session's extent, which end in no order.
        config: How clients connect, in librdkafka's names.
        topic: Where to; of one partition.

    Returns:
        How many were sent.

    Raises:
        TidemillError: The broker fails; the next call goes on behind what it took.
    """
    with _alone(lake, topic) as kept:
        _begin_anew(config, topic, kept)
        topics.ensure(config, [topic])
        end_ms = _closed(lake, feed, windows)
        if end_ms is None:
            return 0
        _refuse_partitions(config, topic)
        last = _last(config, topic, kept)
        sending, sent = _sending(kept), 0
        with Sender(config, topic.name) as sender:
            for place, pairs in _messages(lake, windows, last, end_ms):
                sending.touch()
                sent += sender.send_all(pairs)
                last = place
            sender.flush()
            report = sender.close()
        if report.failed:
            raise TidemillError(f"topic {topic.name}: {report.failed} windows were refused")
        sending.unlink(missing_ok=True)
        if last is not None:
            kept.with_suffix(".part").write_text(json.dumps(last))
            kept.with_suffix(".part").replace(kept)
        return sent


def forget(lake: Lake, topic: Topic) -> None:
    """Have the topic deleted and made anew by the next ``publish``, as its windows are no more."""
    with _alone(lake, topic) as kept:
        _anew(kept).touch()
        kept.unlink(missing_ok=True)


def is_owed(lake: Lake, feed: Feed, windows: Sequence[Windows], topic: Topic) -> bool:
    """Whether there are final windows that ``publish`` has not come to, as the lake has it."""
    closed = _closed(lake, feed, windows)
    if closed is None:
        return False
    last = last_sent(lake, topic)
    last_ms = None if last is None else last[0]
    snapshot = lake.snapshot(windows[0].table)
    final = snapshot.only(lambda file: file.partition["is_final"] == "true")
    newest = final.values("date")[-1:]
    with lease.reading(lake.root, [(snapshot.table, snapshot.version)]), duck.cursor() as con:
        (found,) = con.execute(
            "select max(epoch_ms(window_end)) from "
            f"{final.only(lambda file: file.partition['date'] in newest).scan()} "
            f"where epoch_ms(window_end) <= {closed}"
        ).fetchone() or (None,)
    return found is not None and (last_ms is None or found > last_ms)


def last_sent(lake: Lake, topic: Topic) -> Place | None:
    """The last window that was sent, as the lake has noted it; None where it has not."""
    return _read_place(_folder(lake) / f"{topic.name}.json")


def _read_place(kept: Path) -> Place | None:
    try:
        end, table, key = json.loads(kept.read_text())
    except (OSError, ValueError):
        return None
    return end, table, key


def _begin_anew(config: Mapping[str, Any], topic: Topic, kept: Path) -> None:
    """Delete a topic whose windows were forgotten."""
    if not _anew(kept).exists():
        return
    topics.delete(config, topic.name)
    for note in (kept, _sending(kept), _anew(kept)):
        note.unlink(missing_ok=True)


def _refuse_partitions(config: Mapping[str, Any], topic: Topic) -> None:
    """See that the order of the topic's messages is one.

    Raises:
        TidemillError: It has several partitions.
    """
    found = topics.described(config)[topic.name]
    if found != 1:
        raise TidemillError(
            f"topic {topic.name}: expected 1 partition, as its order tells what is in it, found "
            f"{found}; delete the topic, and it is made again with every final window"
        )


def _folder(lake: Lake) -> Path:
    return lake.root / ".published"


@contextmanager
def _alone(lake: Lake, topic: Topic) -> Iterator[Path]:
    """Hold off other senders; the file that tells what was sent last."""
    folder = _folder(lake)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{topic.name}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder / f"{topic.name}.json"


def _sending(kept: Path) -> Path:
    """A file that is there while windows are sent, and after a sender that came to no end."""
    return kept.with_suffix(".sending")


def _anew(kept: Path) -> Path:
    """A file that is there where the topic is to be made anew."""
    return kept.with_suffix(".anew")


def _closed(lake: Lake, feed: Feed, windows: Sequence[Windows]) -> int | None:
    """Up to where all the tables have their final windows, epoch ms."""
    names = standing(lake, feed).names
    ends = []
    for one in windows:
        at = stream.reached(lake, one.table, names)
        ends.append(closed_ms(lake, feed, names, at))
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


def _last(config: Mapping[str, Any], topic: Topic, kept: Path) -> Place | None:
    """The last window that the topic has had."""
    if _sending(kept).exists():  # who was killed may have left requests on the way
        [(first, after)] = resume.still_ends(config, topic.name, 1)
    else:
        [(first, after)] = topics.offsets(config, topic.name, 1)
    if first < after:
        value = resume.value_at(config, topic.name, 0, after - 1)
        try:
            told = json.loads(value)
            return int(told["window_end"]), str(told["table"]), str(told["key"])
        except (ValueError, TypeError, KeyError) as error:
            raise TidemillError(
                f"topic {topic.name}, offset {after - 1}: expected a window, found {value[:60]!r}; "
                "something else writes to it. Delete the topic, and it is made again"
            ) from error
    if after == 0:
        return None
    found = _read_place(kept)  # retention took all that the topic had
    if found is None:
        raise TidemillError(
            f"topic {topic.name}: its last message is gone by retention, and {kept} does not tell "
            "which one it was; delete the topic to have every final window in it again"
        )
    return found


def _messages(
    lake: Lake, windows: Sequence[Windows], last: Place | None, end_ms: int
) -> Iterator[tuple[Place, list[tuple[bytes | None, bytes]]]]:
    """Batches of messages in order, with the place of the last one of each."""
    snapshots = [(one, lake.snapshot(one.table)) for one in windows]
    since = "" if last is None else str(datetime.fromtimestamp(last[0] / 1000 - 86_400, UTC).date())

    def is_wanted(file: File) -> bool:
        return file.partition["is_final"] == "true" and file.partition["date"] >= since

    # A plain column, by which files are skipped and most rows before they become messages.
    near = f"window_end <= {_instant(end_ms)}"
    if last is not None:
        near += f" and window_end >= {_instant(last[0])}"
    parts = [
        messages_sql(one, f"(from {snapshot.only(is_wanted).scan()} where {near})")
        for one, snapshot in snapshots
    ]
    behind = "true"
    if last is not None:
        behind = (
            f'(end_ms, "table", "key") > ({last[0]}::bigint, {text_literal(last[1])}, '
            f"{text_literal(last[2])})"
        )
    query = (
        f'select end_ms, "table", "key", value from ({" union all ".join(parts)}) '
        f'where end_ms <= {end_ms} and {behind} order by end_ms, "table", "key"'
    )
    versions = [(one.table, snapshot.version) for one, snapshot in snapshots]
    with lease.reading(lake.root, versions), duck.cursor() as con:
        found = con.execute(query)
        while rows := found.fetchmany(BATCH):
            yield rows[-1][:3], [(table.encode(), value.encode()) for _, table, _, value in rows]


def _instant(ms: int) -> str:
    return f"make_timestamp({1000 * ms}::bigint)"


def messages_sql(windows: Windows, relation: str) -> str:
    """SQL of end_ms, table, key and value of each window."""
    table = windows.table
    keys = ", ".join(f'"{name}"::varchar' for name in windows.keys)
    key = f"to_json([{keys}])::varchar"
    fields = [
        f"'table', {text_literal(table.name)}",
        "'window_start', epoch_ms(window_start)",
        "'window_end', epoch_ms(window_end)",
        f"'key', {key}",
        *(f'{text_literal(c)}, "{c}"' for c in _told(table)),
    ]
    return (
        f'select epoch_ms(window_end) as end_ms, {text_literal(table.name)} as "table", '
        f'{key} as "key", json_object({", ".join(fields)})::varchar as value from {relation}'
    )


def _told(table: Table) -> list[str]:
    """The columns that a message tells besides its place."""
    return [
        c.name
        for c in table.columns
        if c.type not in (Type.TIMESTAMP, Type.DATE) and c.name != "is_final"
    ]
