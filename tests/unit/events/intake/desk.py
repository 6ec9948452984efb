"""A landing of clickstream files, questions to it, and rows to land; for the tests beside it."""

from pathlib import Path
from typing import Any

from tidemill.events.contracts import FILE_EVENTS, LANDED_FILES, REJECTED_ROWS, TABLES
from tidemill.events.intake.accounts import COUNTS, Landed
from tidemill.events.intake.landing import LOCK, EventLanding
from tidemill.lake import duck
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)


def click(n: int = 0, /, **other: str) -> str:
    """A good row, ``n`` seconds after the start, with some fields written otherwise."""
    fields = {
        "event_time": f"2020-09-24 11:{n // 60:02}:{n % 60:02} UTC",
        "event_type": "view",
        "product_id": "1996170",
        "category_id": "2144415922528452715",
        "category_code": "electronics.telephone",
        "brand": "apple",
        "price": "31.90",
        "user_id": "1515915625519388267",
        "user_session": "LJuJVLEjPT",
    }
    return ",".join((fields | other).values()) + "\n"


def asked(sql: str) -> list[tuple[Any, ...]]:
    with duck.cursor() as con:
        return con.execute(sql).fetchall()


class Desk:
    """A landing in a folder of its own, and questions to it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first file."""
        self.outside = folder / "outside"
        self.outside.mkdir(parents=True)
        self.lake = Lake(folder / "lake", None, TABLES)
        self.landing = EventLanding(self.lake, folder / "landing")

    def save(self, content: str | bytes, name: str = "events.csv") -> Path:
        path = self.outside / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, content: str | bytes, name: str = "events.csv", **more: Any) -> Landed:
        return self.landing.land_file(self.save(content, name), **more)

    def counts(self, content: str | bytes, name: str = "events.csv") -> tuple[int, ...]:
        """Rows, good, duplicates, rejected."""
        report = self.land(content, name)
        return tuple(getattr(report, count) for count in COUNTS)

    def kept(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """Some columns of the good rows, by line."""
        return asked(f"select {columns} from {self.scan(FILE_EVENTS)} order by file_id, line")

    def rejected(self) -> list[tuple[Any, ...]]:
        """Line, reason and raw text of all rejected rows."""
        return asked(f"select line, reason, raw from {self.scan(REJECTED_ROWS)} order by 1")

    def scan(self, table: Table) -> str:
        return self.lake.snapshot(table).scan()

    def audit(self) -> None:
        """See that the tables tell one story, and keep their contracts."""
        ledger = {row["file_id"]: row for row in self.landing.ledger()}
        for table, count in ((FILE_EVENTS, "good"), (REJECTED_ROWS, "rejected")):
            found = dict(asked(f"select file_id, count(*) from {self.scan(table)} group by 1"))
            assert found == {file: row[count] for file, row in ledger.items() if row[count]}
        for row in ledger.values():
            assert row["rows"] == row["good"] + row["duplicates"] + row["rejected"]
        for table in (LANDED_FILES, REJECTED_ROWS):
            assert self.lake.inspect(table, [{}], 1)[0] == {}
        parts = [file.partition for file in self.lake.snapshot(FILE_EVENTS).files]
        assert self.lake.inspect(FILE_EVENTS, parts, 1)[0] == {}

    def is_untouched(self) -> bool:
        """Whether no table has a row, and the landing folder no file but the lock."""
        rows = sum(self.lake.snapshot(t).rows for t in (FILE_EVENTS, LANDED_FILES, REJECTED_ROWS))
        folder = self.landing.folder
        return rows == 0 and [p for p in folder.rglob("*") if p.name != LOCK] == []
