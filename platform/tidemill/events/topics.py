"""The topics of e-commerce events."""

from tidemill.events.times import FORMS, event_ms_sql
from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Column, Type

TYPES = ("view", "cart", "purchase")
"""The event types that are counted by name; any other is kept, and counted apart."""

HIGHEST_PRICE = 1e8
"""So many thousand of it in one window still add up exactly."""

TEXTS = ("event_time", "event_type", "category_code", "brand", "user_session")
LONGEST_BYTES = 10_000
"""Of each text: a window tells its keys twice, in a message that a broker must take."""

FIELDS = (
    Column("event_time", Type.STRING, "When, as it came: text, or Unix time in s or ms."),
    Column("event_type", Type.STRING, "view, cart, purchase, or another one."),
    Column("product_id", Type.BIGINT, "Product."),
    Column("category_id", Type.BIGINT, "Category of the product.", nullable=True),
    Column("category_code", Type.STRING, "Path of the category, as a.b.c.", nullable=True),
    Column("brand", Type.STRING, "Brand, as it came.", nullable=True),
    Column("price", Type.DOUBLE, "Price of the product.", low=0, high=HIGHEST_PRICE),
    Column("user_id", Type.BIGINT, "Who."),
    Column("user_session", Type.STRING, "Session, as the shop tells it.", nullable=True),
)
"""The nine columns of a clickstream file, and the fields of a message."""

GRACE_MS = 10_000
IDLE_MS = 30_000
AHEAD_MS = 60_000
"""Each event ahead of the others closes their windows too early, so it cannot be far ahead."""

EVENTS = Topic(
    name="ecommerce-events",
    meaning="What somebody did in the shop: a view, a cart, a purchase, or another event.",
    value=(
        *FIELDS,
        Column("cycle", Type.INT, "Which repetition of the producer's file.", nullable=True),
    ),
    key="event_type",
    event_key=(),
    event_time="event_time",
    event_ms=event_ms_sql("event_time"),
    times=FORMS,
    loose=("event_time",),
    rules={
        "event_type is not empty": "trim(event_type) <> ''",
        f"at most {LONGEST_BYTES} bytes in each text": " and ".join(
            f"coalesce(strlen({name}), 0) <= {LONGEST_BYTES}" for name in TEXTS
        ),
    },
    grace_ms=GRACE_MS,
    idle_ms=IDLE_MS,
    ahead_ms=AHEAD_MS,
)
ANALYTICS = Topic(
    name="ecommerce-analytics",
    meaning="Every final window of 2 s, once: by type, by brand and by top category.",
    value=(
        Column("table", Type.STRING, "event_counts, brand_metrics or category_metrics."),
        Column("window_start", Type.BIGINT, "First instant of the window.", unit="ms"),
        Column("window_end", Type.BIGINT, "Instant after its last one.", unit="ms"),
    ),
    key="table",
    event_key=(),
    event_time="window_end",
    partitions=1,  # they are in one order, by which a publisher knows which ones are there
)
TOPICS = (EVENTS, ANALYTICS)
