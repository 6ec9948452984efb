"""Makes each report of events from the events that are in the lake."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.engines.base import Engine, TableSource
from tidemill.events import contracts as c
from tidemill.events.reports import anomalies, common, profile, transforms
from tidemill.events.reports import contracts as r
from tidemill.lake import duck
from tidemill.lake.commit import Overtaken
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.snapshot import Partition, Snapshot
from tidemill.lake.store import Lake, Written

if TYPE_CHECKING:
    import polars as pl

TRIES = 5
"""Of making a table that is made, or whose files change, meanwhile."""

INPUTS = (c.FILE_EVENTS, c.RAW_EVENTS)
BOOLEANS = ("true", "false")
"""As partitions are named."""


@dataclass(frozen=True)
class OfEvents:
    """A transform of all events, as one of the two tables that they are in."""

    transform: Callable[[Any], Any]

    def __call__(self, file_events: Any, raw_events: Any) -> Any:
        """The transform over the union."""
        return self.transform(common.events(file_events, raw_events))


class Events:
    """Makes the reports of events in a lake with an engine.

    Args:
        lake: Where the tables are.
        engine: What runs the transforms.
        reports: Folder of what is written for people.
    """

    def __init__(self, lake: Lake, engine: Engine, reports: Path) -> None:
        """Nothing is read before the first table is made."""
        self.lake = lake
        self.engine = engine
        self.reports = reports

    def brand_report(self) -> Written:
        """Counts, revenue and rates by brand."""
        return self._write(r.BRAND_REPORT, transforms.brand_report)

    def category_report(self) -> Written:
        """Counts, revenue and rates by category."""
        return self._write(r.CATEGORY_REPORT, transforms.category_report)

    def funnel(self) -> Written:
        """From views to purchases, by events and by sessions."""
        return self._write(r.FUNNEL, transforms.funnel)

    def sessions(self) -> Written:
        """Sessions as the shop tells them."""
        return self._write(r.SESSIONS, transforms.sessions)

    def visits(self) -> Written:
        """Sessions by 30 minutes of inactivity, of every day."""
        return self._write(c.VISITS, transforms.visits)

    def cohorts(self) -> Written:
        """Users by the week they came first, and the weeks they came back."""
        return self._write(r.COHORTS, transforms.cohorts)

    def anomalies(self) -> Written:
        """Minutes unlike the hour before them."""
        return self._write(r.ANOMALIES, anomalies.anomalies)

    def profile_columns(self) -> Written:
        """How full each column is."""
        return self._write(r.PROFILE_COLUMNS, profile.profile_columns)

    def profile_overall(self) -> Written:
        """How full all columns are together."""
        return self._write(r.PROFILE_OVERALL, profile.profile_overall)

    def profile_numbers(self) -> Written:
        """Prices: mean, spread, quartiles."""
        return self._write(r.PROFILE_NUMBERS, profile.profile_numbers)

    def profile_prices(self) -> Written:
        """Price bands."""
        return self._write(r.PROFILE_PRICES, profile.profile_prices)

    def profile_values(self) -> Written:
        """How events spread over the values of some columns."""
        return self._write(r.PROFILE_VALUES, profile.profile_values)

    def makers(self) -> dict[str, Callable[[], Written]]:
        """What makes each table, by its name."""
        return {table.name: getattr(self, table.name) for table in (*r.TABLES, c.VISITS)}

    def all(self) -> list[Written]:
        """Every report."""
        return [make() for make in self.makers().values()]

    def read(self, table: Table) -> "pl.DataFrame":
        """A table's rows in its order."""
        import polars as pl

        order = ", ".join(f'"{name}"' for name in dict.fromkeys((*table.sort_by, *table.key)))
        scan = self.lake.snapshot(table).scan()
        with duck.cursor() as con:
            found = con.sql(f"select * from {scan} order by {order}").to_arrow_table()
        return pl.DataFrame(found, schema=polars_schema(table))

    def inputs(self) -> list[Snapshot]:
        """The current version of each of ``INPUTS``."""
        return [self.lake.snapshot(table) for table in INPUTS]

    def union(self, inputs: Sequence[Snapshot] | None = None) -> str:
        """An SQL relation (DuckDB) of all events: the columns of ``EVENT`` and source.

        Args:
            inputs: A version of each of ``INPUTS``; None for the current ones.
        """
        names = ", ".join(f'"{column.name}"' for column in c.EVENT)
        files, topic = (each.scan() for each in inputs or self.inputs())
        return (
            f"(select {names}, source from {files} "
            f"union all select {names}, 'topic' as source from {topic})"
        )

    def partitions(self, table: Table) -> list[Partition]:
        """What is replaced of a table: all of it."""
        return self._partitions(table, self.inputs())

    def _partitions(self, table: Table, inputs: Sequence[Snapshot]) -> list[Partition]:
        """The same, where it is made from ``inputs``."""
        if not table.partition_by:
            return [{}]
        # Every day that has events, or has rows of the table still.
        read = (*inputs, self.lake.snapshot(table))
        days = sorted({day for snapshot in read for day in snapshot.values("date")})
        return [{"date": day, "is_final": told} for day in days for told in BOOLEANS]

    def _write(self, table: Table, transform: Callable[[Any], Any]) -> Written:
        """Replace a table by what a transform gives.

        It is made from one version of each input, which its commit says: see ``lake.origin``.
        Events of the topic that come meanwhile do not make it begin again, as they may never cease.
        A file does, and a rival's rows of the table do: they may be without what was erased.

        Args:
            table: What to write.
            transform: Of all events.
        """
        files, made = TableSource(self.lake, c.FILE_EVENTS), TableSource(self.lake, table)

        def state() -> Hashable:
            return files.state(), made.state()

        for left in reversed(range(TRIES)):
            read, inputs = state(), self.inputs()
            sources = {i.table.name: TableSource(self.lake, i.table, taken=i) for i in inputs}
            try:
                return self.engine.write(
                    self.lake,
                    table,
                    OfEvents(transform),
                    sources,
                    self._partitions(table, inputs),
                    lambda: state() == read,  # noqa: B023  it is asked in this round
                )
            except Overtaken:
                if not left:
                    raise
        raise AssertionError("unreachable")
