"""The asset that takes a topic into the lake: rows, with their ledger and their dead letters."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from assets import report
from tidemill.kafka import audit
from tidemill.kafka.consume import Consumed
from tidemill.kafka.spans import Span
from tidemill.kafka.subscription import Subscription
from tidemill.lake.contracts import Table
from tidemill.lake.store import Written


class Reading(dg.Config):
    """What to read.

    Attributes:
        topic_id: Kafka's id of the topic that the spans are of.
        spans: partition, first offset and offset after the last; empty means all that is new.
    """

    topic_id: str = ""
    spans: list[list[int]] = Field(default_factory=list)


def taken(
    name: str,
    tables: tuple[Table, Table, Table],
    group: str,
    resource: str,
    pool: str,
    description: str,
) -> dg.AssetsDefinition:
    """The step that takes spans of a topic into its tables.

    Args:
        name: Of the step.
        tables: Rows, ledger and dead letters.
        group: Of the assets.
        resource: Name of the subscription to the topic.
        pool: Which runs of it wait for one another.
        description: What it does.
    """
    rows, spans_table, dead = tables

    @dg.multi_asset(
        name=name,
        specs=[_spec(table, group) for table in (spans_table, dead, rows)],
        check_specs=[
            report.contract_spec(rows),
            dg.AssetCheckSpec(
                "conserves_messages",
                asset=report.key(spans_table),
                blocking=True,
                description="Each offset of the spans that this run read is accounted for once: "
                "consumed = good + late + duplicate + dead, and the tables have that many rows.",
            ),
        ],
        required_resource_keys={resource},
        pool=pool,
        description=description,
    )
    def step(
        context: dg.AssetExecutionContext, config: Reading
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        topic: Subscription = getattr(context.resources, resource)
        held = topic.held()
        if config.topic_id not in ("", held.topic_id):
            raise dg.Failure(
                f"{held.topic} was deleted and created again after this run was asked for; the "
                "sensor asks for the new topic's messages",
                allow_retries=False,
            )
        with report.tried_again():
            spans = [Span(*span) for span in config.spans] or topic.unread(held)
            done = topic.consume(held, spans)
        differences = audit.faults(topic.lake, topic.feed, held.topic_id, spans)
        written = Written(rows.id, 0, done.rows, done.size, done.seconds, "", done.files)
        days = [{"date": day} for day in done.dates]
        yield report.written(topic.lake, rows, [written], days, texts=_told(done))
        for table in (dead, spans_table):
            yield dg.MaterializeResult(
                asset_key=report.key(table), metadata=report.standing(topic.lake, table)
            )
        yield dg.AssetCheckResult(
            asset_key=report.key(spans_table),
            check_name="conserves_messages",
            passed=not differences,
            metadata={"differences": dg.MetadataValue.json(differences[:10])},
        )

    return step


def _spec(table: Table, group: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        report.key(table),
        group_name=group,
        description=table.meaning,
        metadata=report.described(table),
        kinds={"kafka", "duckdb", "delta"},
    )


def _told(done: Consumed) -> dict[str, str]:
    """The run's own ledger, as a table."""
    names = ("partition", "start", "stop", "consumed", "good", "late", "duplicate", "dead")
    lines = [names, ["---"] * len(names)]
    lines += [[str(getattr(account, name)) for name in names] for account in done.accounts]
    return {"spans": "\n".join("| " + " | ".join(line) + " |" for line in lines)}
