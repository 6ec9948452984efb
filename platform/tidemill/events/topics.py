"""The topics of e-commerce events."""

from tidemill.lake.contracts import Column, Type

TYPES = ("view", "cart", "purchase")
"""The event types that are counted by name; any other is kept, and counted apart."""

HIGHEST_PRICE = 1e9

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
