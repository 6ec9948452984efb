"""The topics of live prices."""

from tidemill.kafka.topics import Topic
from tidemill.lake.contracts import Type

PRICES = Topic(
    name="crypto_prices",
    meaning="The last price of a trading pair, as an exchange tells it each second.",
    key="symbol",
    value={"symbol": Type.STRING, "price": Type.DOUBLE, "timestamp": Type.BIGINT},
)
TOPICS = (PRICES,)
