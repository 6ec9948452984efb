"""The crypto tables, each declared once."""

from tidemill.kafka import contracts as kafka
from tidemill.lake.contracts import Column, Table, Type

SYMBOL = Column("symbol", Type.STRING, "Trading pair, upper case without separators, as BTCUSDT.")
DATE = Column("date", Type.DATE, "UTC calendar day.")
TIMESTAMP = Column("timestamp", Type.BIGINT, "Start of the bar, Unix time.", unit="s", low=0)
DATETIME = Column("datetime", Type.TIMESTAMP, "Start of the bar, UTC.")
QUOTE = "quote asset"
BASE = "base asset"


def _price(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, Type.DOUBLE, meaning, unit=QUOTE, nullable=nullable, low=0.0)


OHLC = (
    _price("open", "First price."),
    _price("high", "Highest price."),
    _price("low", "Lowest price."),
    _price("close", "Last price."),
)
VOLUME = Column("volume", Type.DOUBLE, "Traded.", unit=BASE, low=0.0)
OHLC_RULES = {
    "low <= open, close <= high": "low <= least(open, close) and high >= greatest(open, close)"
}

LANDED_FILES = Table(
    domain="crypto",
    name="landed_files",
    meaning="What each landed file brought, a row a file and symbol: "
    "rows = good + exact_duplicates + conflicting_duplicates + rejected.",
    columns=(
        Column("file", Type.STRING, "Name of the file, or where the rows came from."),
        Column("sha256", Type.STRING, "Hash of the content, by which a file is known again."),
        Column("symbol", Type.STRING, "Trading pair; empty for rejected rows that name none."),
        Column("interval_s", Type.BIGINT, "Length of its bars.", unit="s"),
        Column("position", Type.BIGINT, "Order of landing: of two rows for a minute, the earlier."),
        Column("rows", Type.BIGINT, "Data rows in the file.", low=0),
        Column("good", Type.BIGINT, "Rows that went in.", low=0),
        Column("exact_duplicates", Type.BIGINT, "Rows equal to one already in.", low=0),
        Column(
            "conflicting_duplicates", Type.BIGINT, "Rows that differ from one already in.", low=0
        ),
        Column("rejected", Type.BIGINT, "Rows in rejected_rows.", low=0),
        Column("empty_prices", Type.BIGINT, "Good rows whose prices are to be filled.", low=0),
        Column("first_at", Type.TIMESTAMP, "Start of the first good bar, UTC.", nullable=True),
        Column("last_at", Type.TIMESTAMP, "Start of the last good bar, UTC.", nullable=True),
        Column("path", Type.STRING, "Normalised rows, in the landing folder.", nullable=True),
        Column("landed_at", Type.TIMESTAMP, "When it landed, UTC."),
    ),
    key=("sha256", "symbol"),
    rules={
        "rows = good + duplicates + rejected": "rows = good + exact_duplicates "
        "+ conflicting_duplicates + rejected"
    },
)

REJECTED_ROWS = Table(
    domain="crypto",
    name="rejected_rows",
    meaning="Rows that could not go in, with the reason and the text as it stood.",
    columns=(
        Column("file", Type.STRING, "Name of the file, or where the row came from."),
        Column("sha256", Type.STRING, "Hash of that file's content."),
        Column("line", Type.BIGINT, "Line in the file, from 1, its header included.", low=1),
        Column("reason", Type.STRING, "What was expected and what was found."),
        Column("raw", Type.STRING, "The line."),
        Column("rejected_at", Type.TIMESTAMP, "When, UTC."),
    ),
    key=("sha256", "line"),
)

RAW_CANDLES = Table(
    domain="crypto",
    name="raw_candles",
    meaning="One-minute bars, one a symbol and minute, the first to land; "
    "empty prices take the last close before them.",
    columns=(
        TIMESTAMP,
        DATETIME,
        *OHLC,
        VOLUME,
        Column("is_filled", Type.BOOLEAN, "Whether prices were empty in the source."),
        SYMBOL,
        Column("year", Type.INT, "UTC year."),
        Column("month", Type.INT, "UTC month.", low=1, high=12),
    ),
    key=("symbol", "timestamp"),
    # Not sorted: a month is one row group, so order would skip nothing, at a tenth of the time.
    partition_by=("symbol", "year", "month"),
    rules=OHLC_RULES,
)

RAW_BARS = Table(
    domain="crypto",
    name="raw_bars",
    meaning="Bars longer than a minute, at their own interval, the first to land.",
    columns=(
        TIMESTAMP,
        DATETIME,
        Column("interval_s", Type.BIGINT, "Length of the bar.", unit="s", low=61),
        *OHLC,
        VOLUME,
        Column("source", Type.STRING, "File or place that the bar came from."),
        SYMBOL,
    ),
    key=("symbol", "interval_s", "timestamp"),
    partition_by=("symbol",),
    sort_by=("interval_s", "timestamp"),
    rules=OHLC_RULES,
)

CANDLE_GAPS = Table(
    domain="crypto",
    name="candle_gaps",
    meaning="Each run of minutes missing between two bars.",
    columns=(
        Column("start", Type.TIMESTAMP, "First missing minute, UTC."),
        Column("end", Type.TIMESTAMP, "Last missing minute, UTC."),
        Column("minutes", Type.BIGINT, "Missing minutes.", unit="min", low=1),
        Column("class", Type.STRING, "Length class.", allowed=("1 min", "2-60 min", "over 1 h")),
        SYMBOL,
    ),
    key=("symbol", "start"),
    partition_by=("symbol",),
    sort_by=("start",),
)

PRICE_JUMPS = Table(
    domain="crypto",
    name="price_jumps",
    meaning="Bars whose high, low or close is over 20 % away from the close before; kept in the "
    "data, as flash crashes are real.",
    columns=(
        TIMESTAMP,
        DATETIME,
        _price("previous_close", "Close of the bar before."),
        _price("price", "The price of the bar farthest from it."),
        Column("move_pct", Type.DOUBLE, "From the previous close to that price.", unit="%"),
        Column("minutes_since", Type.BIGINT, "Since the bar before.", unit="min", low=1),
        Column("is_over_50", Type.BOOLEAN, "Whether the move is over 50 %."),
        SYMBOL,
    ),
    key=("symbol", "timestamp"),
    partition_by=("symbol",),
    sort_by=("timestamp",),
)

DAILY_OHLC = Table(
    domain="crypto",
    name="daily_ohlc",
    meaning="One bar a symbol and UTC day that has data: from minutes, else from the finest longer "
    "bars.",
    columns=(
        DATE,
        _price("daily_open", "First price of the day."),
        _price("daily_high", "Highest price of the day."),
        _price("daily_low", "Lowest price of the day."),
        _price("daily_close", "Last price of the day."),
        Column("daily_volume", Type.DOUBLE, "Traded in the day.", unit=BASE, low=0.0),
        Column(
            "cnt",
            Type.BIGINT,
            "Minutes that landed, those with filled prices too; NULL where none are known.",
            unit="min",
            nullable=True,
            low=1,
            high=1440,
        ),
        Column("source", Type.STRING, "'1m', or the interval and the file of a longer bar."),
        SYMBOL,
        Column("year", Type.INT, "UTC year."),
        Column("month", Type.INT, "UTC month.", low=1, high=12),
    ),
    key=("symbol", "date"),
    partition_by=("symbol", "year", "month"),
    sort_by=("date",),
    rules={
        "low <= open, close <= high": "daily_low <= least(daily_open, daily_close) "
        "and daily_high >= greatest(daily_open, daily_close)"
    },
)

CONSUMED_SPANS = kafka.consumed_spans("crypto")
DEAD_LETTERS = kafka.dead_letters("crypto")

LIVE_PRICES = Table(
    domain="crypto",
    name="live_prices",
    meaning="Every tick from Kafka once; a second message of a tick and what is no tick are "
    "counted in consumed_spans.",
    columns=(
        SYMBOL,
        _price("price", "Last price."),
        Column("event_time", Type.TIMESTAMP, "When the price was told, UTC."),
        Column("is_late", Type.BOOLEAN, "Whether it came behind its partition's watermark."),
        kafka.TOPIC,
        kafka.TOPIC_ID,
        kafka.PARTITION,
        kafka.OFFSET,
        kafka.PRODUCED_AT,
        Column("date", Type.DATE, "UTC calendar day of the event."),
    ),
    key=("topic", "topic_id", "partition", "offset"),
    partition_by=("date",),
)

LIVE_DAILY_OHLC = Table(
    domain="crypto",
    name="live_daily_ohlc",
    meaning="One bar a symbol and UTC day that has live ticks, late ones too; open and close are "
    "the first and the last tick by (event time, offset), of a symbol in several partitions by "
    "(event time, topic, topic id, partition, offset).",
    columns=(
        SYMBOL,
        _price("daily_open", "First price of the day."),
        _price("daily_high", "Highest price of the day."),
        _price("daily_low", "Lowest price of the day."),
        _price("daily_close", "Last price of the day."),
        Column("ticks", Type.BIGINT, "Ticks of the day.", low=1),
        Column("late_ticks", Type.BIGINT, "Those that came behind the watermark.", low=0),
        Column("cnt", Type.BIGINT, "Minutes that have a tick.", unit="min", low=1, high=1440),
        Column("first_at", Type.TIMESTAMP, "Event time of the first tick, UTC."),
        Column("first_offset", Type.BIGINT, "Its offset.", low=0),
        Column("last_at", Type.TIMESTAMP, "Event time of the last tick, UTC."),
        Column("last_offset", Type.BIGINT, "Its offset.", low=0),
        Column(
            "is_closed",
            Type.BOOLEAN,
            "Whether the watermarks of its partitions have passed the day; a later tick still "
            "counts, as a late one.",
        ),
        DATE,
    ),
    key=("symbol", "date"),
    partition_by=("date",),
    sort_by=("symbol",),
    rules={
        "low <= open, close <= high": "daily_low <= least(daily_open, daily_close) "
        "and daily_high >= greatest(daily_open, daily_close)",
        "late_ticks <= ticks": "late_ticks <= ticks",
        "first_at <= last_at": "first_at <= last_at",
        "cnt <= ticks": "cnt <= ticks",
    },
)

MERGED_DAILY_OHLC = Table(
    domain="crypto",
    name="merged_daily_ohlc",
    meaning="One bar a symbol and UTC day, from daily_ohlc where it has the day, else from "
    "live_daily_ohlc.",
    columns=(
        DATE,
        _price("daily_open", "First price of the day."),
        _price("daily_high", "Highest price of the day."),
        _price("daily_low", "Lowest price of the day."),
        _price("daily_close", "Last price of the day."),
        Column(
            "daily_volume",
            Type.DOUBLE,
            "Traded in the day; NULL on a live one, as ticks tell none.",
            unit=BASE,
            nullable=True,
            low=0.0,
        ),
        Column(
            "cnt",
            Type.BIGINT,
            "Minutes that landed, or that have a tick; NULL where none are known.",
            unit="min",
            nullable=True,
            low=1,
            high=1440,
        ),
        Column("source", Type.STRING, "'live', or the source that daily_ohlc tells."),
        SYMBOL,
    ),
    key=("symbol", "date"),
    partition_by=("symbol",),
    sort_by=("date",),
    rules={
        "low <= open, close <= high": "daily_low <= least(daily_open, daily_close) "
        "and daily_high >= greatest(daily_open, daily_close)"
    },
)

FILLED_SERIES = Table(
    domain="crypto",
    name="filled_series",
    meaning="The complete calendar from the first day to the last; a missing day repeats the last "
    "close.",
    columns=(
        DATE,
        *OHLC,
        Column(
            "volume",
            Type.DOUBLE,
            "Traded; 0 on a filled day, NULL on a live one, as ticks tell none.",
            unit=BASE,
            nullable=True,
            low=0.0,
        ),
        Column(
            "cnt",
            Type.BIGINT,
            "Minutes that landed or have a tick; 0 on a filled day, NULL where unknown.",
            unit="min",
            nullable=True,
            low=0,
            high=1440,
        ),
        Column("is_filled", Type.BOOLEAN, "Whether the day had no data."),
        _price("ma7", "Mean of the last 7 closes; NULL before the 7th day.", nullable=True),
        _price("ma30", "Mean of the last 30 closes; NULL before the 30th day.", nullable=True),
        SYMBOL,
    ),
    key=("symbol", "date"),
    partition_by=("symbol",),
    sort_by=("date",),
    rules=OHLC_RULES,
)

PROPHET_INPUT = Table(
    domain="crypto",
    name="prophet_input",
    meaning="What a forecast learns from: the days that have data, none filled in.",
    columns=(
        Column("ds", Type.DATE, "UTC calendar day."),
        _price("y", "Last price of the day."),
        SYMBOL,
    ),
    key=("symbol", "ds"),
    partition_by=("symbol",),
    sort_by=("ds",),
)

SIGNALS = Table(
    domain="crypto",
    name="signals",
    meaning="Days on which ma7 crosses ma30.",
    columns=(
        DATE,
        Column("signal", Type.STRING, "What the rule says.", allowed=("BUY", "SELL")),
        Column(
            "cross",
            Type.STRING,
            "golden: ma7 rises above ma30; death: it falls below.",
            allowed=("golden", "death"),
        ),
        _price("close", "Last price of the day."),
        _price("ma7", "Mean of the last 7 closes."),
        _price("ma30", "Mean of the last 30 closes."),
        SYMBOL,
    ),
    key=("symbol", "date"),
    partition_by=("symbol",),
    sort_by=("date",),
)

BACKTESTS = Table(
    domain="crypto",
    name="backtests",
    meaning="What following the signals would have made, beside holding; filled at the next open.",
    columns=(
        Column("strategy", Type.STRING, "Rule that was followed."),
        Column("first_date", Type.DATE, "First day of the series."),
        Column("last_date", Type.DATE, "Last day of the series."),
        Column("days", Type.BIGINT, "Days in the series.", unit="d", low=1),
        Column("trades", Type.BIGINT, "Round trips completed.", low=0),
        Column("open_trades", Type.BIGINT, "Positions open at the end.", low=0, high=1),
        Column(
            "win_rate",
            Type.DOUBLE,
            "Share of completed trades that gained.",
            nullable=True,
            low=0,
            high=1,
        ),
        Column("total_return_pct", Type.DOUBLE, "Of the strategy, after costs.", unit="%"),
        Column(
            "hold_return_pct",
            Type.DOUBLE,
            "Of buying at the first open and holding.",
            unit="%",
            nullable=True,
        ),
        Column("max_drawdown_pct", Type.DOUBLE, "Deepest fall from a peak.", unit="%", high=0),
        Column(
            "sharpe",
            Type.DOUBLE,
            "Mean over deviation of daily returns, times sqrt(365).",
            nullable=True,
        ),
        Column("fee_pct", Type.DOUBLE, "Fee a fill.", unit="%", low=0),
        Column(
            "slippage_pct", Type.DOUBLE, "Slippage a fill, against the trader.", unit="%", low=0
        ),
        Column(
            "excess_mean_daily_pct",
            Type.DOUBLE,
            "Mean daily return over holding's.",
            unit="%",
            nullable=True,
        ),
        Column(
            "ci_low",
            Type.DOUBLE,
            "Lower end of its 95 % block bootstrap interval.",
            unit="%",
            nullable=True,
        ),
        Column("ci_high", Type.DOUBLE, "Upper end of that interval.", unit="%", nullable=True),
        Column("n_resamples", Type.BIGINT, "Bootstrap resamples.", low=0),
        SYMBOL,
    ),
    key=("symbol", "strategy"),
    partition_by=("symbol",),
)

VOLATILITY = Table(
    domain="crypto",
    name="volatility",
    meaning="Standard deviation of daily returns by half-year, over days that have data.",
    columns=(
        Column("half", Type.STRING, "Half-year, as 2024H1."),
        Column("first_date", Type.DATE, "First day of the series in it."),
        Column("last_date", Type.DATE, "Last day of the series in it."),
        Column(
            "volatility_pct",
            Type.DOUBLE,
            "Sample standard deviation of daily returns.",
            unit="%",
            nullable=True,
            low=0,
        ),
        Column("n", Type.BIGINT, "Returns.", low=0),
        SYMBOL,
    ),
    key=("symbol", "half"),
    partition_by=("symbol",),
    sort_by=("half",),
)

MONTHLY_RETURNS = Table(
    domain="crypto",
    name="monthly_returns",
    meaning="Mean return by calendar month over the years, from last close to last close.",
    columns=(
        Column("month", Type.INT, "Calendar month.", low=1, high=12),
        Column("mean_return_pct", Type.DOUBLE, "Mean over the years.", unit="%"),
        Column("n", Type.BIGINT, "Years.", low=1),
        SYMBOL,
    ),
    key=("symbol", "month"),
    partition_by=("symbol",),
    sort_by=("month",),
)

TABLES = (
    LANDED_FILES,
    REJECTED_ROWS,
    RAW_CANDLES,
    RAW_BARS,
    CANDLE_GAPS,
    PRICE_JUMPS,
    DAILY_OHLC,
    CONSUMED_SPANS,
    DEAD_LETTERS,
    LIVE_PRICES,
    LIVE_DAILY_OHLC,
    MERGED_DAILY_OHLC,
    FILLED_SERIES,
    PROPHET_INPUT,
    SIGNALS,
    BACKTESTS,
    VOLATILITY,
    MONTHLY_RETURNS,
)
LIVE = (CONSUMED_SPANS, DEAD_LETTERS, LIVE_PRICES, LIVE_DAILY_OHLC)
"""Those that stay empty as long as nothing is streamed."""
