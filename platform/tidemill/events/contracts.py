"""The tables of e-commerce events."""

from tidemill.events.topics import HIGHEST_PRICE
from tidemill.kafka import contracts as kafka
from tidemill.lake.contracts import Column, Table, Type

DOMAIN = "events"

SOURCE = Column(
    "source",
    Type.STRING,
    "Where the events came from: files that were ingested, the simulated sample, or the topic. "
    "They are never added together.",
    allowed=("files", "sample", "topic"),
)
EVENT_TYPE = Column("event_type", Type.STRING, "view, cart, purchase, or another one.")
USER_ID = Column(
    "user_id",
    Type.BIGINT,
    "Who; NULL where it was erased.",
    nullable=True,
    is_personal=True,
)
USER_SESSION = Column(
    "user_session",
    Type.STRING,
    "Session, as the shop tells it; NULL where it told none, or it was erased.",
    nullable=True,
    is_personal=True,
)
EVENT = (
    Column("event_time", Type.STRING, "When, as it came."),
    Column("event_timestamp", Type.TIMESTAMP, "When, UTC."),
    EVENT_TYPE,
    Column("product_id", Type.BIGINT, "Product."),
    Column("category_id", Type.BIGINT, "Category of the product.", nullable=True),
    Column("category_code", Type.STRING, "Path of the category, as a.b.c.", nullable=True),
    Column("brand", Type.STRING, "Brand, as it came.", nullable=True),
    Column("price", Type.DOUBLE, "Price of the product.", low=0, high=HIGHEST_PRICE),
    USER_ID,
    USER_SESSION,
)
"""The nine columns of an event, and its time."""

DATE = Column("date", Type.DATE, "UTC day of the event.")
WINDOW_DATE = Column("date", Type.DATE, "UTC day on which the window starts.")
WINDOW_START = Column("window_start", Type.TIMESTAMP, "First instant of the window, UTC.")
WINDOW_END = Column("window_end", Type.TIMESTAMP, "Instant after its last one, UTC.")
IS_FINAL = Column(
    "is_final", Type.BOOLEAN, "Whether the watermark has passed the window, so that it stays as is."
)
EVENT_COUNT = Column("event_count", Type.BIGINT, "Events.", low=1)
TOTAL_VALUE = Column("total_value", Type.DOUBLE, "Sum of their prices.", low=0)
AVG_PRICE = Column("avg_price", Type.DOUBLE, "total_value / event_count.", low=0)
VIEWS = Column("views", Type.BIGINT, "Events of type view.", low=0)
CARTS = Column("carts", Type.BIGINT, "Events of type cart.", low=0)
PURCHASES = Column("purchases", Type.BIGINT, "Events of type purchase.", low=0)
EVENTS = Column("events", Type.BIGINT, "Events of any type.", low=1)
REVENUE = Column("revenue", Type.DOUBLE, "Sum of the prices of purchases.", low=0)
BRAND = Column("brand", Type.STRING, "Brand; NULL where none was told.", nullable=True)
TOP_CATEGORY = Column(
    "top_category",
    Type.STRING,
    "First part of the category's path; NULL where none was told.",
    nullable=True,
)
WATERMARK = Column(
    "watermark",
    Type.TIMESTAMP,
    "Watermark when the message came, UTC: 10 s behind the newest event of its partition before "
    "it, or where windows were final by then, if that is later. NULL for the first.",
    nullable=True,
)

RAW_EVENTS = Table(
    domain=DOMAIN,
    name="raw_events",
    meaning="Every good event of the topic, exactly once; late ones too.",
    columns=(
        *EVENT,
        Column("is_late", Type.BOOLEAN, "Whether it came behind the watermark."),
        WATERMARK,
        Column("cycle", Type.INT, "Which repetition of the producer's file.", nullable=True),
        kafka.TOPIC,
        kafka.TOPIC_ID,
        kafka.PARTITION,
        kafka.OFFSET,
        kafka.PRODUCED_AT,
        Column("ingested_at", Type.TIMESTAMP, "When it was read, UTC."),
        DATE,
    ),
    key=("topic", "topic_id", "partition", "offset"),
    partition_by=("date",),
)
FILE_EVENTS = Table(
    domain=DOMAIN,
    name="file_events",
    meaning="Every good event of the files that were ingested; of rows that are equal in all nine "
    "columns, in one file or in several, the first to land.",
    columns=(
        *EVENT,
        Column(
            "source", SOURCE.type, "files, or the simulated sample.", allowed=SOURCE.allowed[:2]
        ),
        Column("file_id", Type.STRING, "The file, by its content."),
        Column("line", Type.BIGINT, "Line of the file.", low=1),
        Column("ingested_at", Type.TIMESTAMP, "When it landed, UTC."),
        DATE,
    ),
    key=("file_id", "line"),
    partition_by=("file_id", "date"),
)
LANDED_FILES = Table(
    domain=DOMAIN,
    name="landed_files",
    meaning="What became of each file: rows = good + duplicates + rejected.",
    columns=(
        Column("file_id", Type.STRING, "The file, by its content."),
        Column("file", Type.STRING, "Its name."),
        Column(
            "source", SOURCE.type, "files, or the simulated sample.", allowed=SOURCE.allowed[:2]
        ),
        Column("rows", Type.BIGINT, "Rows, without the header.", low=0),
        Column("good", Type.BIGINT, "Rows that went in.", low=0),
        Column(
            "duplicates",
            Type.BIGINT,
            "Rows equal to one before them, in the file or in one before it.",
            low=0,
        ),
        Column("rejected", Type.BIGINT, "Rows in rejected_rows.", low=0),
        Column("first_at", Type.TIMESTAMP, "First event that went in, UTC.", nullable=True),
        Column("last_at", Type.TIMESTAMP, "Last event that went in, UTC.", nullable=True),
        Column("landed_at", Type.TIMESTAMP, "When, UTC."),
    ),
    key=("file_id",),
    rules={"rows = good + duplicates + rejected": '"rows" = good + duplicates + rejected'},
)
REJECTED_ROWS = Table(
    domain=DOMAIN,
    name="rejected_rows",
    meaning="Rows of files that could not be used, as they came, with the reason.",
    columns=(
        Column("file_id", Type.STRING, "The file, by its content."),
        Column("file", Type.STRING, "Its name."),
        Column("line", Type.BIGINT, "Line of the file.", low=1),
        Column("reason", Type.STRING, "What was expected and what was found.", is_personal=True),
        Column(
            "raw",
            Type.STRING,
            "The line; NULL where it was erased.",
            nullable=True,
            is_personal=True,
        ),
        Column("rejected_at", Type.TIMESTAMP, "When, UTC."),
    ),
    key=("file_id", "line"),
)
CONSUMED_SPANS = kafka.consumed_spans(DOMAIN)
DEAD_LETTERS = kafka.dead_letters(DOMAIN, is_personal=True)
LATE_EVENTS = Table(
    domain=DOMAIN,
    name="late_events",
    meaning="The events of the topic that came behind the watermark; they are in raw_events too.",
    columns=(
        *EVENT,
        Column("watermark", Type.TIMESTAMP, "Watermark when the message came, UTC."),
        Column("late_ms", Type.BIGINT, "How far it was behind.", unit="ms", low=0),
        Column(
            "is_counted",
            Type.BOOLEAN,
            "Whether the watermark had not passed its window of 2 s, so that it is in "
            "event_counts, brand_metrics and category_metrics; else they are without it.",
        ),
        kafka.TOPIC,
        kafka.TOPIC_ID,
        kafka.PARTITION,
        kafka.OFFSET,
        DATE,
    ),
    key=("topic", "topic_id", "partition", "offset"),
    partition_by=("date",),
)

_WINDOW = (WINDOW_START, WINDOW_END)
_BY_WINDOW = ("date", "is_final")
"""Final windows are only ever added; the others are replaced with each batch."""

EVENT_COUNTS = Table(
    domain=DOMAIN,
    name="event_counts",
    meaning="Events of the topic in windows of 2 s, by type.",
    columns=(
        *_WINDOW,
        EVENT_TYPE,
        EVENT_COUNT,
        TOTAL_VALUE,
        AVG_PRICE,
        IS_FINAL,
        WINDOW_DATE,
    ),
    key=("window_start", "event_type"),
    partition_by=_BY_WINDOW,
)
BRAND_METRICS = Table(
    domain=DOMAIN,
    name="brand_metrics",
    meaning="Events of the topic in windows of 2 s, by brand and type.",
    columns=(
        *_WINDOW,
        BRAND,
        EVENT_TYPE,
        EVENT_COUNT,
        TOTAL_VALUE,
        REVENUE,
        AVG_PRICE,
        IS_FINAL,
        WINDOW_DATE,
    ),
    key=("window_start", "brand", "event_type"),
    partition_by=_BY_WINDOW,
)
CATEGORY_METRICS = Table(
    domain=DOMAIN,
    name="category_metrics",
    meaning="Events of the topic in windows of 2 s, by top category.",
    columns=(
        *_WINDOW,
        TOP_CATEGORY,
        VIEWS,
        CARTS,
        PURCHASES,
        EVENTS,
        REVENUE,
        IS_FINAL,
        WINDOW_DATE,
    ),
    key=("window_start", "top_category"),
    partition_by=_BY_WINDOW,
)
EVENT_RATES = Table(
    domain=DOMAIN,
    name="event_rates",
    meaning="Events of the topic in windows of a minute that begin every 10 s, by type.",
    columns=(*_WINDOW, EVENT_TYPE, EVENT_COUNT, IS_FINAL, WINDOW_DATE),
    key=("window_start", "event_type"),
    partition_by=_BY_WINDOW,
)
VISITS = Table(
    domain=DOMAIN,
    name="visits",
    meaning="Events of a user with less than 30 minutes between one and the next.",
    columns=(
        SOURCE,
        Column("user_id", Type.BIGINT, "Who.", is_personal=True),
        Column("window_start", Type.TIMESTAMP, "First event, UTC."),
        Column("window_end", Type.TIMESTAMP, "30 minutes after the last event, UTC."),
        EVENTS,
        VIEWS,
        CARTS,
        PURCHASES,
        REVENUE,
        Column("duration_s", Type.DOUBLE, "From the first event to the last.", unit="s", low=0),
        Column(
            "is_final",
            Type.BOOLEAN,
            "Whether no event that is in time can join it: the topic's newest is an hour past its "
            "last one, or it is of files, which are taken as whole.",
        ),
        WINDOW_DATE,
    ),
    key=("source", "user_id", "window_start"),
    partition_by=_BY_WINDOW,
)

ERASURES = Table(
    domain=DOMAIN,
    name="erasures",
    meaning="Receipts of what was erased at a user's request: a row a table. Whose request it was "
    "is not told, not even as a hash, since users are so few that any hash could be told apart.",
    columns=(
        Column("receipt_id", Type.STRING, "The request."),
        Column("table_name", Type.STRING, "The table, or the folder of refused files."),
        Column(
            "action",
            Type.STRING,
            "erased: the user's values are gone, the rows stay, so that offsets, counts, revenue "
            "and windows still add up; made again: made from what was left.",
            allowed=("erased", "made again"),
        ),
        Column("rows", Type.BIGINT, "Rows, or lines, in which something was erased.", low=0),
        Column("version", Type.BIGINT, "Version from which on it is erased.", nullable=True),
        Column(
            "files_deleted",
            Type.BIGINT,
            "Files of older versions that were deleted at once; NULL where vacuum is to do it.",
            nullable=True,
            low=0,
        ),
        Column("requested_at", Type.TIMESTAMP, "When it began, UTC."),
        Column("done_at", Type.TIMESTAMP, "When the last table was done, UTC."),
        Column(
            "vacuum_due_at",
            Type.TIMESTAMP,
            "When vacuum may delete the older versions, which have the values still, UTC; NULL "
            "where they are gone.",
            nullable=True,
        ),
        Column(
            "topic_until",
            Type.TIMESTAMP,
            "When the last of the messages that Kafka holds is deleted, at the latest, UTC.",
        ),
    ),
    key=("receipt_id", "table_name"),
)

WINDOWS = (EVENT_COUNTS, BRAND_METRICS, CATEGORY_METRICS, EVENT_RATES)
"""The tables that follow the topic."""

TABLES = (
    RAW_EVENTS,
    FILE_EVENTS,
    LANDED_FILES,
    REJECTED_ROWS,
    CONSUMED_SPANS,
    DEAD_LETTERS,
    LATE_EVENTS,
    *WINDOWS,
    VISITS,
    ERASURES,
)
