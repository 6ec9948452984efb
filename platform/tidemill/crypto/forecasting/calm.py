"""How a model runs here: on one thread, and without telling everyone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def calm() -> Iterator[None]:
    """One thread for linear algebra, as the order of its sums differs by threads; no chatter."""
    from threadpoolctl import threadpool_limits

    loggers = [logging.getLogger(name) for name in ("cmdstanpy", "prophet")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with threadpool_limits(1):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
