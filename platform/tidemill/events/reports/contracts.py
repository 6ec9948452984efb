"""The tables of the batch reports; in each, sources stand side by side and are never added."""

from dataclasses import replace
from itertools import pairwise

from tidemill.events import contracts as c
from tidemill.lake.contracts import Column, Table, Type

COUNT = Column("count", Type.BIGINT, "Events.", low=1)
SHARE = Column("share", Type.DOUBLE, "Of all events beside it, 0 to 1.", low=0, high=1)
KIND = Column(
    "event_type",
    Type.STRING,
    "Type of the events: one of the three that are counted by name, other for any that is not, or "
    "all.",
    allowed=("view", "cart", "purchase", "other", "all"),
)
RANK = Column("rank", Type.BIGINT, "Place by revenue in its source, from 1; ties by name.", low=1)
OUTCOMES = ("purchase", "cart", "view", "other")

DIMENSIONS = ("event_type", "hour", "weekday", "top_category", "brand")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOP_BRANDS = 20
LOW, MEDIUM = 20, 1000
"""Most different values of a column whose cardinality is low, and medium."""
EDGES = (0, 50, 100, 200, 500, 1000)
"""Where the price bands begin; the last one has no end."""
BANDS = (*(f"{low}-{high}" for low, high in pairwise(EDGES)), f"{EDGES[-1]}+")

HISTORY = 60
"""Windows that one is held against: those right before it."""
LEAST_HISTORY = 20
THRESHOLD = 6.0
"""Score from which a window is an anomaly.

The score of a Poisson count is at most about two thirds of its distance in standard deviations, so
this is some nine of them: a week of minutes at any rate gives next to none.
"""


def _rate(name: str, over: str) -> Column:
    meaning = f"{over}; NULL where there is nothing to divide by."
    return Column(name, Type.DOUBLE, meaning, nullable=True, low=0)


_MEASURES = (
    c.VIEWS,
    c.CARTS,
    c.PURCHASES,
    c.EVENTS,
    c.REVENUE,
    _rate("view_to_cart_rate", "carts / views"),
    _rate("view_to_purchase_rate", "purchases / views"),
    RANK,
)

BRAND_REPORT = Table(
    domain=c.DOMAIN,
    name="brand_report",
    meaning="Events and revenue of each brand, of all time; the best seller first.",
    columns=(c.SOURCE, c.BRAND, *_MEASURES),
    key=("source", "brand"),
    sort_by=("rank", "source"),
)
CATEGORY_REPORT = Table(
    domain=c.DOMAIN,
    name="category_report",
    meaning="Events and revenue of each category, of all time; the best seller first.",
    columns=(
        c.SOURCE,
        Column(
            "category_code",
            Type.STRING,
            "Path of the category, as a.b.c; NULL where none was told.",
            nullable=True,
        ),
        c.TOP_CATEGORY,
        *_MEASURES,
    ),
    key=("source", "category_code"),
    sort_by=("rank", "source"),
)
FUNNEL = Table(
    domain=c.DOMAIN,
    name="funnel",
    meaning="How many views become carts and purchases, by events and by sessions.",
    columns=(
        c.SOURCE,
        Column(
            "level",
            Type.STRING,
            "What is counted: events, or sessions that have at least one such event.",
            allowed=("events", "sessions"),
        ),
        replace(c.VIEWS, meaning="Those of type view."),
        replace(c.CARTS, meaning="Those of type cart."),
        replace(c.PURCHASES, meaning="Those of type purchase."),
        _rate("cart_per_view", "carts / views"),
        _rate("purchase_per_view", "purchases / views"),
        _rate("purchase_per_cart", "purchases / carts"),
    ),
    key=("source", "level"),
    sort_by=("source", "level"),
)
SESSIONS = Table(
    domain=c.DOMAIN,
    name="sessions",
    meaning="What happened in each session that the shop tells; events without one are in none.",
    columns=(
        c.SOURCE,
        replace(c.USER_SESSION, nullable=False, meaning="Session, as the shop tells it."),
        replace(c.USER_ID, meaning="Who; the smallest where several share it, NULL if none."),
        Column("users", Type.BIGINT, "Different users in it.", low=0),
        c.EVENTS,
        c.VIEWS,
        c.CARTS,
        c.PURCHASES,
        c.REVENUE,
        Column("started_at", Type.TIMESTAMP, "First event, UTC."),
        Column("ended_at", Type.TIMESTAMP, "Last event, UTC."),
        Column("duration_s", Type.DOUBLE, "From the first event to the last.", unit="s", low=0),
        Column("first_view_at", Type.TIMESTAMP, "First view, UTC.", nullable=True),
        Column("first_purchase_at", Type.TIMESTAMP, "First purchase, UTC.", nullable=True),
        Column(
            "view_to_purchase_s",
            Type.DOUBLE,
            "From the first view to the first purchase that is not before it; NULL where there is "
            "none.",
            unit="s",
            nullable=True,
            low=0,
        ),
        Column("outcome", Type.STRING, "The furthest that it came.", allowed=OUTCOMES),
    ),
    key=("source", "user_session"),
    sort_by=("source", "started_at"),
)
COHORTS = Table(
    domain=c.DOMAIN,
    name="cohorts",
    meaning="Of the users first seen in a week, how many were there in each week after.",
    columns=(
        c.SOURCE,
        Column("cohort_week", Type.DATE, "Monday (UTC) of the week of the first event."),
        Column("week_number", Type.BIGINT, "Weeks since then.", low=0),
        Column("users", Type.BIGINT, "Users first seen in the cohort's week.", low=1),
        Column("active", Type.BIGINT, "Those of them with an event in this week.", low=0),
        Column("retention", Type.DOUBLE, "active / users.", low=0, high=1),
    ),
    key=("source", "cohort_week", "week_number"),
    sort_by=("source", "cohort_week", "week_number"),
)
ANOMALIES = Table(
    domain=c.DOMAIN,
    name="anomalies",
    meaning="Minutes with far more or fewer events of a type than the hour before them.",
    columns=(
        c.SOURCE,
        c.EVENT_TYPE,
        c.WINDOW_START,
        c.WINDOW_END,
        Column("direction", Type.STRING, "More than before or fewer.", allowed=("high", "low")),
        Column("count", Type.BIGINT, "Events in the window.", low=0),
        Column("median", Type.DOUBLE, "Median of the windows before it.", low=0),
        Column("mad", Type.DOUBLE, "Median absolute deviation of them.", low=0),
        Column(
            "history",
            Type.BIGINT,
            "How many windows before it were looked at.",
            low=LEAST_HISTORY,
            high=HISTORY,
        ),
        Column("score", Type.DOUBLE, "0.6745 * (count - median) / max(mad, sqrt(median), 1)."),
        Column(
            "top_brand",
            Type.STRING,
            "Brand with most events in the window; NULL where most have none, or there are none.",
            nullable=True,
        ),
        Column("top_brand_count", Type.BIGINT, "Its events in the window.", low=0),
    ),
    key=("source", "event_type", "window_start"),
    sort_by=("source", "window_start", "event_type"),
    rules={"|score| >= 6": f"abs(score) >= {THRESHOLD}"},
)
PROFILE_COLUMNS = Table(
    domain=c.DOMAIN,
    name="profile_columns",
    meaning="How full each of the nine columns is, and how many values it has.",
    columns=(
        c.SOURCE,
        Column("position", Type.BIGINT, "Place of the column in a file, from 1.", low=1, high=9),
        Column("column", Type.STRING, "Name."),
        Column("type", Type.STRING, "Type, as in SQL."),
        Column("rows", Type.BIGINT, "Rows.", low=1),
        Column("missing", Type.BIGINT, "Rows without a value.", low=0),
        Column("completeness", Type.DOUBLE, "Rows with a value / rows.", low=0, high=1),
        Column("distinct", Type.BIGINT, "Different values, exact.", low=0),
        Column(
            "cardinality",
            Type.STRING,
            f"constant: at most one value; unique: none twice; low: at most {LOW}; medium: at most "
            f"{MEDIUM}; else high.",
            allowed=("constant", "unique", "low", "medium", "high"),
        ),
        Column(
            "min",
            Type.STRING,
            "Smallest value, prices with six decimals; NULL where personal.",
            nullable=True,
        ),
        Column("max", Type.STRING, "Largest value, likewise.", nullable=True),
    ),
    key=("source", "column"),
    sort_by=("source", "position"),
)
PROFILE_OVERALL = Table(
    domain=c.DOMAIN,
    name="profile_overall",
    meaning="How full the nine columns are together, and what the events span.",
    columns=(
        c.SOURCE,
        Column("rows", Type.BIGINT, "Rows.", low=1),
        Column("cells", Type.BIGINT, "Rows times nine.", low=9),
        Column("missing", Type.BIGINT, "Cells without a value.", low=0),
        Column("completeness", Type.DOUBLE, "Cells with a value / cells.", low=0, high=1),
        Column("worst_column", Type.STRING, "The least complete column, the first of several."),
        Column("worst_completeness", Type.DOUBLE, "Its completeness.", low=0, high=1),
        Column("first_at", Type.TIMESTAMP, "First event, UTC."),
        Column("last_at", Type.TIMESTAMP, "Last event, UTC."),
        Column("users", Type.BIGINT, "Different users.", low=0),
        Column("sessions", Type.BIGINT, "Different sessions.", low=0),
        Column("no_session", Type.BIGINT, "Events without a session.", low=0),
    ),
    key=("source",),
    sort_by=("source",),
)


def _price(name: str, meaning: str) -> Column:
    return Column(name, Type.DOUBLE, meaning, low=0)


PROFILE_NUMBERS = Table(
    domain=c.DOMAIN,
    name="profile_numbers",
    meaning="Prices by type of event: how many, mean, spread, quartiles.",
    columns=(
        c.SOURCE,
        KIND,
        COUNT,
        _price("mean", "Sum of the prices / count."),
        Column(
            "stddev",
            Type.DOUBLE,
            "Standard deviation of a sample; NULL for one event.",
            nullable=True,
            low=0,
        ),
        _price("min", "Lowest price."),
        _price("q1", "First quartile, between two prices in proportion."),
        _price("median", "Second quartile, likewise."),
        _price("q3", "Third quartile, likewise."),
        _price("max", "Highest price."),
    ),
    key=("source", "event_type"),
    sort_by=("source", "event_type"),
)
PROFILE_PRICES = Table(
    domain=c.DOMAIN,
    name="profile_prices",
    meaning="Events by band of price; each band, also one without events.",
    columns=(
        c.SOURCE,
        KIND,
        Column("band", Type.STRING, "Name of the band.", allowed=BANDS),
        _price("low", "Lowest price in it."),
        Column("high", Type.DOUBLE, "Where the next begins; NULL for the last.", nullable=True),
        replace(COUNT, low=0),
        SHARE,
    ),
    key=("source", "event_type", "band"),
    sort_by=("source", "event_type", "low"),
)
PROFILE_VALUES = Table(
    domain=c.DOMAIN,
    name="profile_values",
    meaning="How events spread over types, hours, weekdays, top categories and the top brands.",
    columns=(
        c.SOURCE,
        Column("dimension", Type.STRING, "What the value is of.", allowed=DIMENSIONS),
        Column(
            "value",
            Type.STRING,
            "Value; hours and weekdays in UTC; NULL where none was told.",
            nullable=True,
        ),
        COUNT,
        replace(SHARE, meaning="Of all events of the source, 0 to 1."),
    ),
    key=("source", "dimension", "value"),
    sort_by=("source", "dimension", "count"),
)

TABLES = (
    BRAND_REPORT,
    CATEGORY_REPORT,
    FUNNEL,
    SESSIONS,
    COHORTS,
    ANOMALIES,
    PROFILE_COLUMNS,
    PROFILE_OVERALL,
    PROFILE_NUMBERS,
    PROFILE_PRICES,
    PROFILE_VALUES,
)
"""All but ``visits``, which is among the tables of events themselves."""
