"""What a replay of dead letters notes while it sends, so that the next one knows what it sent."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.errors import TidemillError
from tidemill.kafka import reader
from tidemill.kafka.spans import Span, Standing, standing
from tidemill.lake.store import Lake

if TYPE_CHECKING:
    import polars as pl

HEADER = "tidemill-replay"
STILL_S = 1.0
"""How long nothing may come from a sender that was killed, before all that it sent is there."""


def header(topic_id: str, partition: int, offset: int) -> tuple[str, bytes]:
    """The header of a letter that is sent again: where it was first."""
    return HEADER, f"{topic_id}/{partition}/{offset}".encode()


@contextmanager
def alone(lake: Lake, topic: str) -> Iterator[Path]:
    """Hold off other replays into a topic.

    Yields:
        The note: a file that is there while letters are sent and not yet marked, and after a
        replay that came to no end.
    """
    folder = lake.root / ".replayed"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{topic}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder / f"{topic}.sending"


def begin(note: Path, held: Standing) -> None:
    """Note that letters come behind what the topic holds."""
    ends = {str(partition): high for partition, (_, high) in held.marks.items()}
    whole = note.with_suffix(".part")
    whole.write_text(json.dumps({"topic_id": held.topic_id, "ends": ends}))
    whole.replace(note)


def letters(
    config: Mapping[str, Any],
    topic: str,
    note: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> "Iterator[pl.DataFrame]":
    """The letters that a replay which came to no end has sent, by its note.

    The topic is read on until no more of them come, as a sender that was killed may have left
    requests on the way. Others may go on sending to it.

    Args:
        config: How clients connect, in librdkafka's names.
        topic: Its name.
        note: What ``begin`` wrote.
        sleep: Waits some seconds.

    Yields:
        topic_id (String), partition (Int32) and offset (Int64) of each letter, some perhaps more
        than once.

    Raises:
        TidemillError: The topic does not hold all of what came since, or the broker fails.
    """
    # What another producer's open transaction holds back from others is wanted too.
    config = dict(config) | {"isolation.level": "read_uncommitted"}
    told = json.loads(note.read_text())
    at = {int(partition): end for partition, end in told["ends"].items()}
    is_first = True
    while True:
        held = standing(config, topic)
        _refuse_lost(note, told["topic_id"], at, held)
        ends = {partition: high for partition, (_, high) in held.marks.items()}
        spans = [Span(p, at.get(p, 0), end) for p, end in ends.items() if at.get(p, 0) < end]
        has_more = is_first
        for chunk in reader.chunks(config, topic, spans, HEADER):
            places = _places(chunk)
            if places.height:
                has_more = True
                yield places
        if not has_more:
            return
        at, is_first = ends, False
        sleep(STILL_S)


def _refuse_lost(note: Path, topic_id: str, at: Mapping[int, int], held: Standing) -> None:
    """See that the topic still holds what came since.

    Raises:
        TidemillError: It is another topic of that name, or retention took some of it.
    """
    gone = [
        f"offsets {at.get(p, 0)} to {low - 1} of partition {p} are gone by retention"
        for p, (low, _) in sorted(held.marks.items())
        if at.get(p, 0) < low
    ]
    if held.topic_id != topic_id:
        gone = [f"expected the topic with the id {topic_id}, found {held.topic_id}"]
    if gone:
        raise TidemillError(
            f"{held.topic}: a replay of dead letters came to no end, and which ones it sent cannot "
            f"be told: {'; '.join(gone)}. Delete {note} to send again all that are not marked; "
            "those that it sent come twice then"
        )


def _places(chunk: "pl.DataFrame") -> "pl.DataFrame":
    """The letters that messages say they are; a header that names none is passed over."""
    import polars as pl

    names = chunk["header"].drop_nulls().to_list()
    texts = pl.Series("text", [n.decode(errors="replace") for n in names], dtype=pl.String)
    # A topic's id is base64, which has slashes too.
    parts = texts.str.extract_groups(r"^(.+)/(\d{1,9})/(\d{1,18})$").struct.unnest()
    parts.columns = ["topic_id", "partition", "offset"]
    return parts.drop_nulls().cast({"partition": pl.Int32, "offset": pl.Int64})
