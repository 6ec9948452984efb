"""A landing with questions to it, and rows to land; for the tests beside it."""

from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from tidemill.crypto.contracts import (
    LANDED_FILES,
    REJECTED_ROWS,
    TABLES,
)
from tidemill.crypto.intake import landing as module
from tidemill.crypto.intake.landing import Landed, Landing
from tidemill.engines.duck import connection
from tidemill.lake.store import Lake

START = 1_704_067_200  # 2024-01-01 00:00 UTC
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "timestamp,open,high,low,close,volume\n"
COUNTS = ("rows", "good", "exact_duplicates", "conflicting_duplicates", "rejected")


def minute(n: int, price: str = "100") -> str:
    """A good row, ``n`` minutes after the start."""
    return f"{START + 60 * n},{price},{price},{price},{price},1\n"


def empty(n: int) -> str:
    """A row with nothing but its time."""
    return f"{START + 60 * n},,,,,\n"


@cache
def database() -> tuple[duckdb.DuckDBPyConnection, ExitStack]:
    """One for all tests, as opening it takes longer than reading a small file; open to the end."""
    stack = ExitStack()
    con = stack.enter_context(connection())
    con.execute("set preserve_insertion_order = true")
    return con, stack


def queried(sql: str) -> list[tuple[Any, ...]]:
    return database()[0].execute(sql).fetchall()


class Desk:
    """A landing in a folder of its own, and questions to it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first file."""
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True)
        self.lake = Lake(folder / "lake", None, TABLES)
        self.landing = Landing(self.lake, folder / "landing")

    def save(self, content: str | bytes, name: str = "BTCUSDT.csv") -> Path:
        path = self.inbox / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, content: str | bytes, name: str = "BTCUSDT.csv", **more: Any) -> list[Landed]:
        return self.landing.land_file(self.save(content, name), now=NOW, **more)

    def counts(self, content: str | bytes, name: str = "BTCUSDT.csv") -> tuple[int, ...]:
        """Rows, good, exact and conflicting duplicates, rejected."""
        (report,) = self.land(content, name)
        return tuple(getattr(report, name) for name in COUNTS)

    def rejected(self) -> list[tuple[Any, ...]]:
        """File, line, reason and raw text of all rejected rows."""
        scan = self.lake.snapshot(REJECTED_ROWS).scan()
        return queried(f"select file, line, reason, raw from {scan} order by 1, 2")

    def kept(self, symbol: str = "BTCUSDT", interval_s: int = 60) -> list[tuple[Any, ...]]:
        """The good rows: minute from the start, prices, volume; by time."""
        paths = [
            str(self.landing.folder / row["path"])
            for row in self.landing.ledger(symbol)
            if row["path"] and row["interval_s"] == interval_s
        ]
        found = queried(f"select * from read_parquet({paths}) order by 1")
        return [((at - START) // 60, *values) for at, *values in found]

    def audit(self) -> None:
        """See that ledger, rejected rows and landing folder tell one story, and keep contracts."""
        ledger = self.landing.ledger()
        for row in ledger:
            assert row["rows"] == sum(row[name] for name in COUNTS[1:])
            assert row["rows"] > 0
        scan = self.lake.snapshot(REJECTED_ROWS).scan()
        written = dict(queried(f"select sha256, count(*) from {scan} group by 1"))
        told: dict[str, int] = {}
        for row in ledger:
            told[row["sha256"]] = told.get(row["sha256"], 0) + row["rejected"]
        assert written == {digest: n for digest, n in told.items() if n}
        for table in (LANDED_FILES, REJECTED_ROWS):
            assert self.lake.inspect(table, [{}], 1)[0] == {}
        assert self.parquet() == {row["path"] for row in ledger if row["path"]}
        assert not (self.landing.folder / module.UNFINISHED).exists()

    def parquet(self) -> set[str]:
        folder = self.landing.folder
        return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet*")}

    def is_untouched(self) -> bool:
        """Whether neither table has a row, and the landing folder no file but the lock."""
        rows = sum(self.lake.snapshot(table).rows for table in (LANDED_FILES, REJECTED_ROWS))
        files = [p for p in self.landing.folder.rglob("*") if p.is_file() and p.name != ".lock"]
        return rows == 0 and files == []
