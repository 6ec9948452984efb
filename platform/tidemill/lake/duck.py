"""One DuckDB in memory a process, for small work: to open one takes some 30 ms each time."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_opened: "dict[int, duckdb.DuckDBPyConnection]" = {}


@contextmanager
def cursor() -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection of its own to that DuckDB, in UTC; what is registered in it goes with it."""
    import duckdb

    process = os.getpid()  # a fork must not use its parent's, whose threads it does not have
    if process not in _opened:
        _opened[process] = duckdb.connect()
        atexit.register(_close, process)
    con = _opened[process].cursor()
    try:
        con.execute("set timezone = 'UTC'")
        yield con
    finally:
        con.close()


def _close(process: int) -> None:
    """Close before the interpreter ends: the binding complains of what is open after that."""
    if process == os.getpid() and process in _opened:
        _opened.pop(process).close()
