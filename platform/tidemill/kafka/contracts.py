"""The tables that every domain with a topic has: what was consumed, and what could not be used."""

from tidemill.lake.contracts import Column, Table, Type

TOPIC = Column("topic", Type.STRING, "Kafka topic.")
TOPIC_ID = Column(
    "topic_id", Type.STRING, "Kafka's own id of the topic; one deleted and made again has another."
)
PARTITION = Column("partition", Type.INT, "Partition of the topic.", low=0)
OFFSET = Column("offset", Type.BIGINT, "Offset of the message in its partition.", low=0)
PRODUCED_AT = Column("produced_at", Type.TIMESTAMP, "The message's own time, UTC.")


def consumed_spans(domain: str) -> Table:
    """The ledger of a domain's topics: a row a partition and span of offsets."""
    return Table(
        domain=domain,
        name="consumed_spans",
        meaning="What became of each span of offsets: consumed = good + late + duplicate + dead. "
        "Spans of a partition follow each other without hole or overlap.",
        columns=(
            TOPIC,
            TOPIC_ID,
            PARTITION,
            Column("start", Type.BIGINT, "First offset.", low=0),
            Column("stop", Type.BIGINT, "Offset after the last.", low=1),
            Column(
                "absent",
                Type.BIGINT,
                "Offsets without a message: Kafka's own marks, or compacted away.",
                low=0,
            ),
            Column(
                "lost",
                Type.BIGINT,
                "Offsets that retention took before they were read, given up with accept-loss.",
                low=0,
            ),
            Column("consumed", Type.BIGINT, "Messages.", low=0),
            Column("good", Type.BIGINT, "Messages that went in, in time.", low=0),
            Column("late", Type.BIGINT, "Messages that went in behind the watermark.", low=0),
            Column("duplicate", Type.BIGINT, "Messages of an event that was in.", low=0),
            Column("dead", Type.BIGINT, "Messages in dead_letters.", low=0),
            Column(
                "newest_event_at",
                Type.TIMESTAMP,
                "Newest event of the partition up to stop, UTC; the watermark is behind it.",
                nullable=True,
            ),
            Column(
                "closed_before",
                Type.TIMESTAMP,
                "Windows that end by then were final when these messages were read, UTC.",
                nullable=True,
            ),
            Column(
                "closed_after",
                Type.TIMESTAMP,
                "Windows that end by then are final with them, UTC.",
                nullable=True,
            ),
            Column("batch", Type.STRING, "The run's own name of what it committed together."),
            Column("staged", Type.STRING, "The batch's files, as JSON, should a crash part them."),
            Column("committed_at", Type.TIMESTAMP, "When, UTC."),
        ),
        key=("topic", "topic_id", "partition", "start"),
        rules={
            "start < stop": '"start" < "stop"',
            "stop - start = consumed + absent + lost": '"stop" - "start" = consumed + absent '
            "+ lost",
            "consumed = good + late + duplicate + dead": "consumed = good + late + duplicate "
            "+ dead",
        },
    )


def dead_letters(domain: str, is_personal: bool = False) -> Table:
    """The messages of a domain's topics that could not be used, as they came.

    Args:
        domain: Room it belongs to.
        is_personal: Whether messages may tell who somebody is.
    """
    return Table(
        domain=domain,
        name="dead_letters",
        meaning="Messages that could not be used, as they came, with the reason; "
        "`tidemill replay-dead-letters` sends again those that today's rules take.",
        columns=(
            TOPIC,
            TOPIC_ID,
            PARTITION,
            OFFSET,
            PRODUCED_AT,
            Column(
                "key",
                Type.BLOB,
                "Key of the message, as it came.",
                nullable=True,
                is_personal=is_personal,
            ),
            Column(
                "value",
                Type.BLOB,
                "The message, as it came.",
                nullable=True,
                is_personal=is_personal,
            ),
            Column(
                "error",
                Type.STRING,
                "What was expected and what was found.",
                is_personal=is_personal,
            ),
            Column("replayed_at", Type.TIMESTAMP, "When it was sent again, UTC.", nullable=True),
        ),
        key=("topic", "topic_id", "partition", "offset"),
    )
