"""What the events look like: how full, how many values, prices, distributions.

A column is folded to its values first, so that what is asked of it, exact quartiles too, is asked
of few rows, and in an order that both engines share.
"""

from functools import reduce
from typing import Any

from tidemill.events.contracts import EVENT
from tidemill.events.money import DECIMALS, PARTS_OF_ONE, fixed, money
from tidemill.events.reports import common
from tidemill.events.reports import contracts as r
from tidemill.events.reports.transforms import MONDAY
from tidemill.events.topics import FIELDS, TYPES
from tidemill.events.windows import top_category
from tidemill.lake.contracts import Column, Type

PERSONAL = {column.name for column in EVENT if column.is_personal}
QUARTILES = {"q1": 1, "median": 2, "q3": 3}


def profile_columns(events: Any) -> Any:
    """Missing and different values of each of the nine columns; rows of ``PROFILE_COLUMNS``."""
    return _stacked([_column(events, n, column) for n, column in enumerate(FIELDS, start=1)])


def profile_overall(events: Any) -> Any:
    """How full all cells are together, and what the events span; rows of ``PROFILE_OVERALL``."""
    import ibis

    columns = profile_columns(events)
    order = [columns.completeness, columns.position]
    nth = ibis.row_number().over(group_by="source", order_by=order)
    worst = columns.mutate(nth=nth)
    worst = worst.filter(worst.nth == 0)
    worst = worst.select("source", worst_column="column", worst_completeness="completeness")

    def distinct(name: str) -> Any:
        return columns["distinct"].max(where=columns["column"] == name)

    cells = columns.group_by("source").agg(
        rows=columns.rows.max(),
        cells=columns.rows.sum().cast("int64"),
        missing=columns.missing.sum().cast("int64"),
        users=distinct("user_id"),
        sessions=distinct("user_session"),
        no_session=columns.missing.max(where=columns["column"] == "user_session"),
    )
    at = events.event_timestamp
    span = events.group_by("source").agg(first_at=at.min(), last_at=at.max())
    found = cells.join(worst, "source").join(span, "source")
    return found.select(
        "source",
        "rows",
        "cells",
        "missing",
        completeness=common.ratio(found.cells - found.missing, found.cells),
        worst_column=found.worst_column,
        worst_completeness=found.worst_completeness,
        first_at=found.first_at,
        last_at=found.last_at,
        users=found.users,
        sessions=found.sessions,
        no_session=found.no_session,
    )


def profile_numbers(events: Any) -> Any:
    """Prices of each type and of all: mean, spread and exact quartiles; ``PROFILE_NUMBERS``."""
    import ibis

    by = ["source", "event_type"]
    prices = _prices(events)
    total = prices.fixed * prices.n
    sums = prices.group_by(*by).agg(
        count=prices.n.sum().cast("int64"),
        total=total.sum(),
        min=prices.price.min(),
        max=prices.price.max(),
    )
    sums = sums.mutate(mean=money(sums.total) / sums["count"])
    so_far = ibis.cumulative_window(group_by=by, order_by="fixed")
    ranked = prices.mutate(upto=prices.n.sum().over(so_far))
    held = ranked.join(sums.select(*by, "count", "mean"), by)
    off = held.price - held["mean"]
    held = held.mutate(squares=off * off * held.n)
    spread = held.group_by(*by).agg(
        squares=common.builtin("sum_in_order")(held.squares, held.fixed),
        **{
            f"{name}_{side}": _nth(held, quarter, side)
            for name, quarter in QUARTILES.items()
            for side in ("below", "above")
        },
    )
    found = sums.join(spread, by)
    return found.select(
        *by,
        count=found["count"],
        mean=found["mean"],
        stddev=(found.squares / (found["count"] - 1).nullif(0)).sqrt(),
        min=found["min"],
        max=found["max"],
        **{name: _between(found, name, quarter) for name, quarter in QUARTILES.items()},
    )


def profile_prices(events: Any) -> Any:
    """Events of each type and of all by band of price; rows of ``PROFILE_PRICES``."""
    import ibis

    prices = _prices(events)
    ends = [*r.EDGES[1:], None]
    within = []
    for low, high in zip(r.EDGES, ends, strict=True):
        is_in = prices.price >= float(low)
        within.append(is_in if high is None else is_in & (prices.price < float(high)))
    counts = {f"n{i}": prices.n.sum(where=is_in).coalesce(0) for i, is_in in enumerate(within)}
    wide = prices.group_by("source", "event_type").agg(total=prices.n.sum(), **counts)
    return _stacked(
        [
            wide.select(
                "source",
                "event_type",
                band=ibis.literal(band),
                low=ibis.literal(float(low)),
                high=ibis.null("float64") if high is None else ibis.literal(float(high)),
                count=wide[f"n{i}"].cast("int64"),
                share=common.ratio(wide[f"n{i}"], wide.total),
            )
            for i, (band, low, high) in enumerate(zip(r.BANDS, r.EDGES, ends, strict=True))
        ]
    )


def profile_values(events: Any) -> Any:
    """How events spread over types, hours, weekdays, categories and brands; ``PROFILE_VALUES``."""
    import ibis

    at = events.event_timestamp
    hours = events.group_by("source", day=common.day(at), hour=at.hour().cast("int64")).agg(
        n=events.count()
    )
    weekday = ((hours.day + MONDAY) % 7 + 7) % 7
    named = ibis.cases(*[(weekday == n, name) for n, name in enumerate(r.WEEKDAYS)])
    categories = events.group_by("source", "category_code").agg(n=events.count())
    brands = events.group_by("source", "brand").agg(n=events.count())
    order = [ibis.desc(brands.n), brands.brand.isnull(), brands.brand]
    brands = brands.mutate(nth=ibis.row_number().over(group_by="source", order_by=order))
    types = events.group_by("source", "event_type").agg(n=events.count())
    top = brands.filter(brands.nth < r.TOP_BRANDS)
    found = _stacked(
        [
            _spread("event_type", types, types.event_type),
            _spread("hour", hours, hours.hour.cast("string").lpad(2, "0")),
            _spread("weekday", hours, named),
            _spread("top_category", categories, top_category(categories.category_code)),
            _spread("brand", top, top.brand),
        ]
    )
    rows = types.group_by("source").agg(rows=types.n.sum())
    found = found.join(rows, "source")
    return found.select(
        "source",
        "dimension",
        "value",
        count=found.n.cast("int64"),
        share=common.ratio(found.n, found.rows),
    )


def _column(events: Any, position: int, column: Column) -> Any:
    import ibis

    values = events.group_by("source", value=events[column.name]).agg(n=events.count())
    found = values.group_by("source").agg(
        rows=values.n.sum().cast("int64"),
        missing=values.n.sum(where=values.value.isnull()).coalesce(0).cast("int64"),
        distinct=values.value.count(),
        low=values.value.min(),
        high=values.value.max(),
    )
    is_told = column.name not in PERSONAL
    return found.select(
        "source",
        position=ibis.literal(position, "int64"),
        column=ibis.literal(column.name),
        type=ibis.literal(column.type.value),
        rows=found.rows,
        missing=found.missing,
        completeness=common.ratio(found.rows - found.missing, found.rows),
        distinct=found["distinct"],
        cardinality=ibis.cases(
            (found["distinct"] <= 1, "constant"),
            (found["distinct"] == found.rows - found.missing, "unique"),
            (found["distinct"] <= r.LOW, "low"),
            (found["distinct"] <= r.MEDIUM, "medium"),
            else_="high",
        ),
        min=_text(found.low, column.type) if is_told else ibis.null("string"),
        max=_text(found.high, column.type) if is_told else ibis.null("string"),
    )


def _text(value: Any, type_: Type) -> Any:
    """A value as text; of a price in ten-thousandths, as the engines write a double differently."""
    if type_ is not Type.DOUBLE:
        return value.cast("string")
    parts = fixed(value)
    whole = (parts // PARTS_OF_ONE).cast("int64").cast("string")
    return whole + "." + (parts % PARTS_OF_ONE).cast("string").lpad(DECIMALS, "0")


def _prices(events: Any) -> Any:
    """Each price of each type and of all types: source, event_type, fixed, price, n."""
    import ibis

    named = ibis.ifelse(events.event_type.isin(list(TYPES)), events.event_type, "other")
    by_type = events.group_by("source", event_type=named, fixed=fixed(events.price)).agg(
        n=events.count(), price=events.price.min()
    )
    both = by_type.group_by("source", "fixed").agg(
        n=by_type.n.sum().cast("int64"), price=by_type.price.min()
    )
    columns = ("source", "event_type", "fixed", "price", "n")
    both = both.mutate(event_type=ibis.literal("all"))
    return by_type.select(*columns).union(both.select(*columns))


def _nth(held: Any, quarter: int, side: str) -> Any:
    """The price at the whole place at or below, or above, a quartile, places counted from 0."""
    place = _place(held["count"], quarter) + (1 if side == "above" else 0)
    return held.price.min(where=held.upto > place)


def _place(count: Any, quarter: int) -> Any:
    return ((count - 1) * quarter // 4).cast("int64")


def _between(found: Any, name: str, quarter: int) -> Any:
    """A quartile: from the price below it towards the one above, in proportion."""
    below = found[f"{name}_below"]
    above = found[f"{name}_above"].coalesce(below)
    part = ((found["count"] - 1) * quarter % 4).cast("float64") / 4.0
    return below + (above - below) * part


def _spread(dimension: str, counts: Any, value: Any) -> Any:
    import ibis

    found = counts.group_by("source", value=value).agg(n=counts.n.sum())
    return found.select("source", "value", "n", dimension=ibis.literal(dimension))


def _stacked(parts: list[Any]) -> Any:
    return reduce(lambda one, other: one.union(other), parts)
