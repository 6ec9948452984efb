"""Messages for the tests of what reads them: frames as the reader gives them, and price ticks."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

NOON_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""


def frame(
    values: Sequence[bytes | None],
    partitions: Sequence[int] | None = None,
    produced_ms: int = NOON_MS,
) -> pl.DataFrame:
    """Messages as ``reader.chunks`` gives them, with offsets from 0 on in each partition."""
    parts = list(partitions or [0] * len(values))
    offsets = [parts[:n].count(part) for n, part in enumerate(parts)]
    n = len(values)
    return pl.DataFrame(
        {
            "partition": pl.Series(parts, dtype=pl.Int32),
            "offset": pl.Series(offsets, dtype=pl.Int64),
            "produced_ms": pl.Series([produced_ms] * n, dtype=pl.Int64),
            "key": pl.Series([None] * n, dtype=pl.Binary),
            "value": pl.Series(list(values), dtype=pl.Binary),
        }
    )


def tick(symbol: Any = "BTCUSDT", price: Any = 1.5, at: Any = NOON_MS, **more: Any) -> bytes:
    """A price message, right or wrong."""
    return json.dumps({"symbol": symbol, "price": price, "timestamp": at} | more).encode()
