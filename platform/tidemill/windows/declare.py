"""What windows are: their size, their keys, what is added up, and how that becomes a table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidemill.errors import ContractError
from tidemill.lake.contracts import Table, Type


@dataclass(frozen=True)
class Tumbling:
    """Windows one after another, from the epoch on.

    Attributes:
        size_ms: How long one is.
    """

    size_ms: int

    @property
    def slide_ms(self) -> int:
        """One begins where the one before ends."""
        return self.size_ms


@dataclass(frozen=True)
class Sliding:
    """Windows that overlap.

    Attributes:
        size_ms: How long one is.
        slide_ms: From the beginning of one to that of the next; ``size_ms`` is a multiple of it.
    """

    size_ms: int
    slide_ms: int

    def __post_init__(self) -> None:
        """Refuse windows that do not consist of whole steps."""
        if self.slide_ms <= 0 or self.size_ms % self.slide_ms:
            raise ContractError(
                f"a window of {self.size_ms} ms does not consist of steps of {self.slide_ms} ms"
            )


@dataclass(frozen=True)
class Session:
    """Windows of events of a key with less than a gap between one and the next.

    Such a window begins with its first event and ends a gap after its last.

    Attributes:
        gap_ms: From so long without an event on, the next one begins another window.
    """

    gap_ms: int


@dataclass(frozen=True, eq=False)
class Windows:
    """A table of windows over the rows of another one.

    A window is made of parts, which add up: sums over some of its rows. It is provisional until
    nothing that would still count can touch it, and then final for good. A row counts as long as
    the window that it would be in on its own ends after the watermark that it came with.

    Attributes:
        table: The windows: window_start, window_end, is_final, date, the keys and what is shown.
        kind: Their extent.
        keys: Columns that, with the extent, name a window; each may be NULL.
        sums: What is added up: columns of ``units``, whole numbers.
        units: From the rows (Ibis): at (TIMESTAMP), watermark (TIMESTAMP, NULL where there is
            none), the keys and, of each row alone, the sums.
        shown: The table's own columns (Ibis) from windows with keys and sums.
        parts: The sums again (Ibis) from the table's rows, which get them as further columns.
    """

    table: Table
    kind: Tumbling | Sliding | Session
    keys: tuple[str, ...]
    sums: tuple[str, ...]
    units: Callable[[Any], Any]
    shown: Callable[[Any], Any]
    parts: Callable[[Any], Any]

    @property
    def hold_ms(self) -> int:
        """How long after its end a window may still grow: a session's, by joining another one."""
        return self.kind.gap_ms if isinstance(self.kind, Session) else 0

    def part_columns(self) -> dict[str, Type]:
        """Name and type of the columns of parts."""
        keys = {name: self.table.column(name).type for name in self.keys}
        ends = dict.fromkeys(("start_ms", "end_ms"), Type.BIGINT)
        return keys | ends | dict.fromkeys(self.sums, Type.BIGINT)
