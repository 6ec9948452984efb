"""Whether the ledger of a feed adds up, and whether the tables hold what it says."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Span, app_id
from tidemill.lake import duck, stream
from tidemill.lake.contracts import text_literal
from tidemill.lake.store import Lake

Differences = list[dict[str, Any]]

Bounds = dict[tuple[str, int], tuple[int, int]]
"""First offset, and the one after the last, by topic id and partition."""

ON_THEIR_WAY_S = 3.0
"""How long rows may be behind the ledger before that is a fault."""


def faults(lake: Lake, feed: Feed, topic_id: str = "", within: Sequence[Span] = ()) -> Differences:
    """Every way in which a feed's ledger and tables disagree; none where nothing is lost or twice.

    Of all that was ever consumed, or only of what one run had to consume.

    - a span whose messages are not good + late + duplicate + dead, or not as many as its offsets;
    - a hole or an overlap between the spans of a partition;
    - a span that has more or fewer rows, or dead letters, than the ledger says;
    - an offset that has two rows;
    - a table that has not reached the ledger's last offset.

    Args:
        lake: Where the tables are.
        feed: Whose tables.
        topic_id: Of the run's topic.
        within: The run's spans; all where there are none.
    """
    whose = f"topic = {text_literal(feed.topic.name)}"
    names = _names(lake, feed, whose)
    # Rows and dead letters first: what the ledger has more by then is on its way into them.
    (rows, rows_at), (dead, dead_at) = (
        stream.standing(lake, table, names) for table in (feed.table, feed.dead)
    )
    ledger = lake.snapshot(feed.spans).scan()
    bounds = {names[n]: (0, min(rows_at.get(n, 0), dead_at.get(n, 0))) for n in names}
    if within:
        bounds = _bounds(f"{ledger} where {whose}", topic_id, within, bounds)
    spans = (
        f"(select * exclude (staged) from {ledger} where {whose} "
        f"and {_inside('start', 'stop', bounds)})"
    )

    def looked_at(reached: Mapping[str, int]) -> str:
        """SQL of the rows to count: of a run's spans, or all but those on their way."""
        if within:
            return f"{whose} and {_inside('offset', 'offset', bounds)}"
        coming = {names[n]: (bounds[names[n]][1], reached.get(n, 0)) for n in names}
        return f"{whose} and not {_inside('offset', 'offset', coming)}"

    found = _rows(
        f"""
        with spans as (from {spans})
        select 'does not add up' as fault, topic_id, "partition", "start", "stop",
               "stop" - "start" - absent - lost as expected, good + late + duplicate + dead as found
        from spans
        where consumed <> good + late + duplicate + dead
           or "stop" - "start" <> consumed + absent + lost
        """
    )
    found += _rows(
        f"""
        with spans as (from {spans}), following as (
            select *, lag("stop") over (partition by topic_id, "partition" order by "start", "stop")
                as before from spans
        )
        select case when "start" > before then 'hole' else 'overlap' end as fault, topic_id,
               "partition", "start", "stop", before as expected, "start" as found
        from following where "start" <> before
        """
    )
    for name, table, at, said in (
        ("rows", rows, rows_at, "good + late"),
        ("dead letters", dead, dead_at, "dead"),
    ):
        found += _rows(
            f"""
            with spans as (from {spans}),
            had as (select topic_id, "partition", "offset" from {table.scan()}
                where {looked_at(at)}),
            placed as (
                select s.topic_id, s."partition", s."start", count(*) as n,
                       count(distinct h."offset") as n_distinct
                from had h asof left join spans s on h.topic_id = s.topic_id
                    and h."partition" = s."partition" and h."offset" >= s."start"
                group by all
            )
            select {text_literal(name)} as fault, coalesce(s.topic_id, p.topic_id) as topic_id,
                   coalesce(s."partition", p."partition") as "partition",
                   s."start", s."stop", {said} as expected, coalesce(n, 0) as found
            from spans s full join placed p using (topic_id, "partition", "start")
            where coalesce(n, 0) is distinct from {said} or n <> n_distinct
            """
        )
    return found + _cut(lake, feed, names) + _behind(lake, feed, names)


def _names(lake: Lake, feed: Feed, whose: str) -> dict[str, tuple[str, int]]:
    """Topic id and partition of each name under which the ledger's offsets are recorded."""
    found = _rows(
        f'select distinct topic_id, "partition" from {lake.snapshot(feed.spans).scan()} '
        f"where {whose} order by all"
    )
    places = [(row["topic_id"], row["partition"]) for row in found]
    return {app_id(feed.topic.name, *place): place for place in places}


def _bounds(ledger: str, topic_id: str, within: Sequence[Span], whole: Bounds) -> Bounds:
    """The ledger's own spans that touch those of a run, and none that came since."""
    found = {}
    for span in within:
        place = topic_id, span.partition
        _, end = whole.get(place, (0, 0))
        (row,) = _rows(
            f"""
            select min("start") filter ("stop" >= {span.start}) as floor,
                   max("stop") filter ("stop" <= {min(end, span.stop)}) as ceiling
            from {ledger} and topic_id = {text_literal(topic_id)}
                and "partition" = {span.partition}
            """
        )
        found[place] = row["floor"] or 0, row["ceiling"] or 0
    return found


def _inside(first: str, last: str, bounds: Bounds) -> str:
    """SQL that holds for what begins at or after the floor of its partition and ends by its end."""
    before = "<" if first == last else "<="
    each = (
        f'(topic_id = {text_literal(ident)} and "partition" = {part} and "{first}" >= {floor} '
        f'and "{last}" {before} {end})'
        for (ident, part), (floor, end) in bounds.items()
    )
    return f"({' or '.join(each) or 'false'})"


def _cut(lake: Lake, feed: Feed, names: Mapping[str, tuple[str, int]]) -> Differences:
    """The partitions whose last spans are not in the ledger, though their offsets are."""
    ledger, at = stream.standing(lake, feed.spans, names)
    last = _rows(
        f'select topic_id, "partition", max("stop") as "stop" from {ledger.scan()} '
        f"where topic = {text_literal(feed.topic.name)} group by all"
    )
    stops = {(row["topic_id"], row["partition"]): row["stop"] for row in last}
    return [
        {
            "fault": f"{feed.spans.name} has not reached the ledger",
            "topic_id": place[0],
            "partition": place[1],
            "expected": at.get(name),
            "found": stops.get(place),
        }
        for name, place in names.items()
        if at.get(name) != stops.get(place)
    ]


def _behind(lake: Lake, feed: Feed, names: Mapping[str, tuple[str, int]]) -> Differences:
    """The partitions of which a table has not reached the ledger's last offset, and does not."""
    deadline = time.monotonic() + ON_THEIR_WAY_S
    while True:
        want = stream.reached(lake, feed.spans, names)
        found = [
            {
                "fault": f"{table.name} has not reached the ledger",
                "topic_id": names[name][0],
                "partition": names[name][1],
                "expected": stop,
                "found": at.get(name),
            }
            for table in (feed.table, feed.dead)
            for at in [stream.reached(lake, table, names)]
            for name, stop in want.items()
            if at.get(name, -1) < stop
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _rows(sql: str) -> Differences:
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
