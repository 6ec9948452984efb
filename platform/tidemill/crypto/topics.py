"""The topics of live prices."""

from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Column, Type

FIRST_MS = 1_230_768_000_000
"""2009-01-01, when the first coin was made; a time in seconds is long before it."""

PRICES = Topic(
    name="crypto_prices",
    meaning="The last price of a trading pair, as an exchange tells it each second.",
    value=(
        Column("symbol", Type.STRING, "Trading pair, upper case without separators, as BTCUSDT."),
        Column("price", Type.DOUBLE, "Last price.", unit="quote asset"),
        Column("timestamp", Type.BIGINT, "When, Unix time.", unit="ms", low=FIRST_MS),
    ),
    key="symbol",
    event_key=("symbol", "timestamp"),
    event_time="timestamp",
    rules={
        "price > 0": "price > 0",
        "symbol is 2 to 30 letters and digits": "regexp_full_match(symbol, '[A-Z0-9]{2,30}')",
    },
)
TOPICS = (PRICES,)
