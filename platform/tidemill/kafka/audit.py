"""Whether the ledger of a feed adds up, and whether the tables hold what it says."""

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.kafka.feed import Feed
from tidemill.kafka.spans import Span, app_id
from tidemill.lake import duck, stream
from tidemill.lake.contracts import text_literal
from tidemill.lake.store import Lake

Differences = list[dict[str, Any]]


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
    ledger, rows, dead = (lake.snapshot(t).scan() for t in (feed.spans, feed.table, feed.dead))
    whose = f"topic = {text_literal(feed.topic.name)}"
    floors = _floors(f"{ledger} where {whose}", topic_id, within) if within else None
    spans = (
        f"(select * exclude (staged) from {ledger} where {whose} "
        f"and {_from('start', topic_id, floors)})"
    )
    had_since = f"{whose} and {_from('offset', topic_id, floors)}"
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
    for name, relation, said in (("rows", rows, "good + late"), ("dead letters", dead, "dead")):
        found += _rows(
            f"""
            with spans as (from {spans}),
            had as (select topic_id, "partition", "offset" from {relation}
                where {had_since}),
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
    return found + _behind(lake, feed, spans)


def _floors(ledger: str, topic_id: str, within: Sequence[Span]) -> dict[int, int]:
    """Where the ledger's span begins that ends at, or after, the start of each of these spans."""
    found = {}
    for span in within:
        rows = _rows(
            f'select min("start") as floor from {ledger} and topic_id = {text_literal(topic_id)} '
            f'and "partition" = {span.partition} and "stop" >= {span.start}'
        )
        found[span.partition] = span.start if rows[0]["floor"] is None else rows[0]["floor"]
    return found


def _from(column: str, topic_id: str, floors: Mapping[int, int] | None) -> str:
    """SQL that holds for what is at or after the floor of its partition."""
    if floors is None:
        return "true"
    each = (f'"partition" = {part} and "{column}" >= {at}' for part, at in floors.items())
    return f"topic_id = {text_literal(topic_id)} and (({') or ('.join(each)}))"


def _behind(lake: Lake, feed: Feed, spans: str) -> Differences:
    """The partitions of which a table has not reached the ledger's last offset."""
    ends = _rows(
        'select topic_id, "partition", max("stop") as "stop" '
        f"from {spans} group by all order by all"
    )
    found = []
    for table in (feed.spans, feed.table, feed.dead):
        names = [app_id(feed.topic.name, end["topic_id"], end["partition"]) for end in ends]
        at = stream.reached(lake, table, names)
        found += [
            {
                "fault": f"{table.name} has not reached the ledger",
                "topic_id": end["topic_id"],
                "partition": end["partition"],
                "expected": end["stop"],
                "found": at.get(name),
            }
            for name, end in zip(names, ends, strict=True)
            if at.get(name) != end["stop"]
        ]
    return found


def _rows(sql: str) -> Differences:
    with duck.cursor() as con:
        found = con.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
