"""Random files with random faults land as a plain account of the rules says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.crypto.intake.desk import COUNTS, HEADER, START, database, queried
from tidemill.crypto.intake import duplicates, files, source
from tidemill.crypto.intake import rows as reading


@dataclass(frozen=True)
class Row:
    """A line of a file: a minute and its values, or a fault."""

    minute: int
    values: tuple[float | None, ...]
    fault: str | None = None

    def line(self) -> str:
        if self.fault is not None:
            return self.fault.format(at=START + 60 * self.minute)
        return ",".join(
            ["" if v is None else repr(v) for v in (START + 60 * self.minute, *self.values)]
        )


class Oracle:
    """The rules of landing, once more and in the plainest way."""

    def __init__(self) -> None:
        """Nothing has landed."""
        self.landed: dict[int, tuple[float | None, ...]] = {}

    def land(self, content: Sequence[Row]) -> tuple[int, ...]:
        """The counts of a file, as in ``COUNTS``."""
        new: dict[int, tuple[float | None, ...]] = {}
        exact = conflicting = rejected = 0
        known = [m for m, values in self.landed.items() if values[3] is not None]
        for row in content:
            priced = [r.minute for r in content if r.fault is None and r.values[3] is not None]
            is_empty = row.fault is None and row.values[0] is None and row.values[3] is None
            is_lost = not any(m < row.minute for m in priced) and not any(
                m <= row.minute for m in known
            )
            if row.fault is not None or (is_empty and is_lost):
                rejected += 1
                continue
            taken = self.landed.get(row.minute, new.get(row.minute))
            if taken is None:
                new[row.minute] = row.values
            elif taken == row.values:
                exact += 1
            else:
                conflicting += 1
        self.landed |= new
        return len(content), len(new), exact, conflicting, rejected


PRICES = st.sampled_from([(10.0, 12.0, 9.0, 11.0, 1.5), (10.0, 12.0, 9.0, 11.5, 1.5)])
PARTIAL = st.sampled_from(
    [(None, None, None, None, None), (None, None, None, 11.0, 2.0), (10.0, None, None, None, None)]
)
FAULT_LINES = st.sampled_from(
    ["oops", "{at},1,2", "{at},1,x,1,1,1", "{at},5,4,3,-2,1", "0,1,1,1,1,1", "{at},1,2,3,1,1",
     ",,,,,", '"{at},1,1,1,1,1', "{at},inf,1,1,1,1", "{at},1,1,1,1,1,1", "{at}.5,1,1,1,1,1"]
)  # fmt: skip
ROWS = st.builds(
    Row,
    st.integers(0, 12),
    st.one_of(PRICES, PRICES, PARTIAL),
    st.one_of(st.none(), st.none(), st.none(), FAULT_LINES),
)
FILES = st.lists(ROWS, min_size=1, max_size=14)


# Each file ends in minutes without a gap, so that it is a minute file whatever comes before them.
ANCHORS = [Row(100 + n, (10.0, 12.0, 9.0, 11.0, 1.5)) for n in range(12)]


def sorted_out(folder: Path, number: int, content: Sequence[Row]) -> tuple[int, ...]:
    """The counts of a file that lands after those of the same folder with smaller numbers."""
    text = HEADER + "\n".join(row.line() for row in content)
    path = folder / f"BTCUSDT {number}.csv"
    path.write_text(text.replace("\n", "\n\n" if number % 2 else "\n"), newline="")
    con, _ = database()
    with source.plain(path) as plain:
        parsed = reading.parse(con, plain, files.layout(plain), "BTCUSDT", True, 1_800_000_000)
        always = datetime.min, datetime.max
        earlier = dict.fromkeys(sorted(folder.glob("*.parquet")), always)
        target = folder / f"{number}.parquet"
        found = duplicates.classify(con, "BTCUSDT", 60, earlier, target)
        lines = [line for line, _, _ in reading.rejected(con, parsed)]
    assert found["rejected"] == len(lines) - len(parsed.broken)
    assert len(set(lines)) == len(lines)
    return parsed.rows, *(found[name] for name in COUNTS[1:4]), len(lines)


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(content=st.lists(FILES, min_size=1, max_size=3))
def test_random_files_with_random_faults_land_as_the_oracle_says(content: list[list[Row]]) -> None:
    oracle = Oracle()
    with TemporaryDirectory() as folder:
        for number, lines in enumerate([*file, *ANCHORS] for file in content):
            counts = sorted_out(Path(folder), number, lines)
            assert counts == oracle.land(lines)
            assert counts[0] == sum(counts[1:])
        kept = queried(f"select * from read_parquet('{folder}/*.parquet')")
    assert {(at - START) // 60: tuple(values) for at, *values in kept} == oracle.landed


# Crashes, rivals, and files that do not hold still
