"""Claims about writes to the lake: exactly the partitions asked, exactly once, or not at all."""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidemill.errors import ContractError, TidemillError
from tidemill.lake import commit, stream
from tidemill.lake.compaction import compact
from tidemill.lake.contracts import Column, Table, Type, polars_schema
from tidemill.lake.purge import vacuum
from tidemill.lake.snapshot import Partition
from tidemill.lake.store import Lake, utc

PRICES = Table(
    "d",
    "prices",
    "Prices.",
    (
        Column("id", Type.BIGINT, "Number."),
        Column("price", Type.DOUBLE, "What was paid.", low=0, high=1000),
        Column("side", Type.STRING, "Who asked.", nullable=True, allowed=("buy", "sell")),
        Column("symbol", Type.STRING, "Trading pair."),
        Column("month", Type.INT, "UTC month.", low=1, high=12),
    ),
    key=("symbol", "month", "id"),
    partition_by=("symbol", "month"),
    sort_by=("id",),
    rules={"a sale is not free": "side is distinct from 'sell' or price > 0"},
)
NOTES = Table("d", "notes", "Notes.", (Column("id", Type.BIGINT, "Number."),), key=("id",))
EVERY = Table(
    "d",
    "every",
    "One column of each type.",
    (
        Column("id", Type.BIGINT, "Number."),
        Column("i", Type.INT, "A small number.", nullable=True),
        Column("x", Type.DOUBLE, "A number.", nullable=True),
        Column("s", Type.STRING, "A text.", nullable=True),
        Column("b", Type.BOOLEAN, "Yes or no.", nullable=True),
        Column("d", Type.DATE, "A day.", nullable=True),
        Column("t", Type.TIMESTAMP, "An instant.", nullable=True),
        Column("part", Type.STRING, "Any text."),
    ),
    key=("part", "id"),
    partition_by=("part",),
    sort_by=("id",),
)
JAN: Partition = {"symbol": "A", "month": 1}
FEB: Partition = {"symbol": "A", "month": 2}

Cell = float | str | None


def prices(*cells: tuple[Cell, ...]) -> pl.DataFrame:
    """Rows from symbol, month, id, price and side; the last two are 1.0 and None if left out."""
    rows = [(c[2], *(*c[3:], *(1.0, None)[len(c) - 3 :]), c[0], c[1]) for c in cells]
    return pl.DataFrame(rows, schema=polars_schema(PRICES), orient="row")


def notes(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


def read(lake: Lake, table: Table, columns: str = "symbol, month, id") -> list[tuple[Any, ...]]:
    """The rows of the current version, by a lake that has seen nothing before."""
    relation = Lake(lake.root).snapshot(table).scan()
    return sorted(duckdb.execute(f"select {columns} from {relation}").fetchall())


def on_disk(lake: Lake, table: Table) -> set[str]:
    folder = lake.folder(table)
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if "parquet" in p.name}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_replace_leaves_other_partitions_as_they_were(lake: Lake) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1), ("A", 2, 2)), [JAN, FEB])
    lake.replace_frame(PRICES, prices(("B", 1, 3)), [{"symbol": "B", "month": 1}])
    written = lake.replace_frame(PRICES, prices(("A", 1, 4), ("A", 1, 5)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 4), ("A", 1, 5), ("A", 2, 2), ("B", 1, 3)]
    assert (written.rows, written.version) == (2, lake.snapshot(PRICES).version)


def test_a_partition_without_rows_is_emptied(lake: Lake) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1), ("A", 2, 2)), [JAN, FEB])
    assert lake.replace_frame(PRICES, prices(("A", 2, 3)), [JAN, FEB]).rows == 1
    assert read(lake, PRICES) == [("A", 2, 3)]
    lake.replace_frame(PRICES, prices(), [JAN, FEB])
    assert read(lake, PRICES) == []


def test_writing_twice_leaves_the_same_rows_once(lake: Lake) -> None:
    for _ in range(2):
        lake.replace_frame(PRICES, prices(("A", 1, 1), ("A", 1, 2)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 1), ("A", 1, 2)]


def test_a_table_without_partitions_is_replaced_whole(lake: Lake) -> None:
    lake.replace_frame(NOTES, notes(1, 2), [{}])
    lake.replace_frame(NOTES, notes(3), [{}])
    assert read(lake, NOTES, "id") == [(3,)]
    lake.replace_frame(NOTES, notes(), [{}])
    assert read(lake, NOTES, "id") == []


def test_rows_outside_the_partitions_are_refused_and_leave_nothing(lake: Lake) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1)), [JAN])
    before = on_disk(lake, PRICES)
    with pytest.raises(ContractError, match=r"rows for \('A', '2'\), which was not asked for"):
        lake.replace_frame(PRICES, prices(("A", 1, 2), ("A", 2, 3)), [JAN])
    assert on_disk(lake, PRICES) == before
    assert lake.snapshot(PRICES).version == 1
    assert read(lake, PRICES) == [("A", 1, 1)]


@pytest.mark.parametrize(
    "partition",
    [{}, {"symbol": "A"}, {"symbol": "A", "moon": 1}, {"symbol": "A", "month": 1, "year": 1}],
)
def test_a_partition_that_is_not_fully_named_is_refused_before_anything_is_written(
    lake: Lake, partition: dict[str, Any]
) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1)), [JAN])
    with pytest.raises(ContractError, match="is named by symbol, month, not"):
        lake.replace_frame(PRICES, prices(("A", 1, 2)), [JAN, partition])
    assert read(lake, PRICES) == [("A", 1, 1)]


BROKEN = {
    "null": (("A", 1, None), "1 rows break 'id is not null'"),
    "low": (("A", 1, 2, -0.5), "rows break 'price >= 0'"),
    "high": (("A", 1, 2, 1000.5), "rows break 'price <= 1000'"),
    "nan": (("A", 1, 2, float("nan")), "rows break 'price is finite'"),
    "infinity": (("A", 1, 2, float("inf")), "rows break 'price is finite'"),
    "minus infinity": (("A", 1, 2, float("-inf")), "rows break 'price is finite'"),
    "not allowed": (("A", 1, 2, 1.0, "wait"), "rows break 'side in"),
    "no partition": ((None, 1, 2), "1 rows break 'symbol is not null'"),
    "empty partition": (("", 1, 2), "1 rows break 'symbol is not (null|empty)'"),
    "partition too high": (("A", 13, 2), "rows break 'month <= 12'"),
}


@pytest.mark.parametrize(("row", "told"), BROKEN.values(), ids=BROKEN)
def test_a_replace_that_breaks_the_contract_changes_nothing(
    lake: Lake, row: tuple[Cell, ...], told: str
) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1)), [JAN])
    before = on_disk(lake, PRICES)
    asked: list[Partition] = [{"symbol": s, "month": m} for s in ("A", "None", "") for m in (1, 13)]
    with pytest.raises(ContractError, match=told):
        lake.replace_frame(PRICES, prices(("A", 1, 3), row), asked)
    assert on_disk(lake, PRICES) == before
    assert lake.snapshot(PRICES).version == 1


@pytest.mark.parametrize(("row", "told"), BROKEN.values(), ids=BROKEN)
def test_an_append_that_breaks_the_contract_changes_nothing(
    lake: Lake, row: tuple[Cell, ...], told: str
) -> None:
    lake.append(PRICES, prices(("A", 1, 1)), "topic/0", 1)
    with pytest.raises(ContractError, match=told):
        lake.append(PRICES, prices(("A", 1, 3), row), "topic/0", 2)
    assert lake.reached(PRICES, "topic/0") == 1
    assert read(lake, PRICES) == [("A", 1, 1)]


def test_an_append_also_keeps_the_rules_on_a_whole_row(lake: Lake) -> None:
    with pytest.raises(ContractError, match="1 rows break 'a sale is not free'"):
        lake.append(PRICES, prices(("A", 1, 1, 0.0, "sell"), ("A", 1, 2, 0.0, "buy")), "t/0", 1)


def test_a_value_that_cannot_have_its_type_leaves_no_file(lake: Lake) -> None:
    query = (
        "select i as id, case i when 299999 then 'dear' else '1' end as price, null as side, "
        "'A' as symbol, 1 + i % 2 as month from range(300000) t(i)"
    )
    with duckdb.connect() as con, pytest.raises(ContractError, match="dear"):
        lake.replace(PRICES, con, query, [JAN, FEB])
    assert on_disk(lake, PRICES) == set()
    with pytest.raises(ContractError, match="dear"):
        lake.append(PRICES, prices(("A", 1, 1)).with_columns(price=pl.lit("dear")), "t/0", 1)


@pytest.mark.parametrize("table", [PRICES, NOTES], ids=["partitioned", "one file"])
def test_a_copy_that_is_stopped_leaves_no_file(lake: Lake, table: Table) -> None:
    query = (
        "select i as id, 1.0 as price, null as side, 'A' as symbol, 1 + i % 2 as month "
        "from range(10) t(i)"
    )
    with duckdb.connect() as con:

        class Stopped:
            """A connection that is interrupted once the files are there."""

            def execute(self, sql: str) -> Any:
                con.execute(sql).fetchall()
                assert on_disk(lake, table)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped: Any = Stopped()
            lake.replace(table, stopped, query, [JAN, FEB] if table.partition_by else [{}])
    assert on_disk(lake, table) == set()


@pytest.mark.parametrize("write", ["append", "replace"])
def test_a_frame_takes_the_contracts_columns_and_types(lake: Lake, write: str) -> None:
    loose = pl.DataFrame(
        {
            "extra": ["x"],
            "part": ["p"],
            "id": pl.Series([1], dtype=pl.Int8),
            "t": [datetime(2024, 1, 1, 12, tzinfo=UTC)],
            "d": ["2024-02-29"],
            "i": [7],
            "x": [1],
            "s": [None],
            "b": [True],
        }
    ).with_columns(pl.col("t").dt.convert_time_zone("Asia/Tokyo"), pl.col("d").str.to_date())
    if write == "append":
        lake.append(EVERY, loose, "t/0", 1)
    else:
        lake.replace_frame(EVERY, loose, [{"part": "p"}])
    expected = (1, 7, 1.0, None, True, date(2024, 2, 29), datetime(2024, 1, 1, 12), "p")
    assert read(lake, EVERY, "*") == [expected]


def test_a_frame_without_a_column_is_refused(lake: Lake) -> None:
    rows = prices(("A", 1, 1)).drop("price", "side")
    with pytest.raises(ContractError, match="no column price, side, only"):
        lake.append(PRICES, rows, "t/0", 1)
    with pytest.raises(ContractError, match="no column price, side, only"):
        lake.replace_frame(PRICES, rows, [JAN])


ODD = [
    *("A B", "50%", "%20", "%2520", "a/b", "..", "a=b", "c?*[1]", "it's", '"', "a\\b", "#a&b"),
    *(
        "日本",
        "é",
        "e\u0301",
        "ß ẞ",
        "😀",
        "x\ny",
        " lead",
        "None",
        "null",
        "-0",
        "01",
        "~t",
        "a:b",
    ),
    "__HIVE_DEFAULT_PARTITION_",
]


def test_odd_partition_values_stay_apart_and_come_back_the_same(lake: Lake) -> None:
    rows = pl.DataFrame({"id": range(len(ODD)), "part": ODD}).with_columns(
        *(pl.lit(None).alias(c.name) for c in EVERY.columns if c.name not in ("id", "part"))
    )
    lake.replace_frame(EVERY, rows, [{"part": part} for part in ODD])
    lake.append(EVERY, rows.with_columns(pl.col("id") + 100), "t/0", 1)
    lake.replace_frame(EVERY, rows.filter(part="%20"), [{"part": "%20"}])
    known = [(n + more, part) for n, part in enumerate(ODD) for more in (0, 100)]
    known.remove((100 + ODD.index("%20"), "%20"))
    assert read(lake, EVERY, "id, part") == sorted(known)
    assert lake.snapshot(EVERY).values("part") == sorted(ODD)
    one = lake.snapshot(EVERY).within([{"part": "%20"}])
    assert duckdb.execute(f"select distinct part from {one.scan()}").fetchall() == [("%20",)]


@st.composite
def values(draw: st.DrawFn) -> tuple[Any, ...]:
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    kinds: list[st.SearchStrategy[Any]] = [
        st.integers(-(2**31), 2**31 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        text,
        st.booleans(),
        st.dates(),
        st.datetimes().map(lambda t: t.replace(fold=0)),
    ]
    return tuple(draw(st.none() | kind) for kind in kinds)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(values(), min_size=1, max_size=6))
@example([(0, 1.0, "\U00020000", True, None, None)])
@example([(0, -0.0, "", True, date(1, 1, 1), datetime(1, 1, 1))])
@example([(0, 1.0, "a", True, None, None), (0, 1.0, "z" * 50, True, None, None)])
@example([(-1, -1.7976931348623157e308, "\u0301", None, date(1969, 12, 31), None)])
@example([(1, 5e-324, "it's", False, date.max, datetime(1969, 12, 31, 23, 59, 59, 999999))])
@example([(2, 0.0, "x" * 200, False, None, datetime(2024, 1, 1, 0, 0, 0, 1)), (None,) * 6])
def test_any_value_comes_back_the_same_and_within_the_files_statistics(
    lake: Lake, cells: list[tuple[Any, ...]]
) -> None:
    rows = [(number, *cell, "p") for number, cell in enumerate(cells)]
    frame = pl.DataFrame(rows, schema=polars_schema(EVERY), orient="row")
    lake.replace_frame(EVERY, frame, [{"part": "p"}])
    relation = lake.snapshot(EVERY).scan()
    assert repr(duckdb.execute(f"from {relation} order by id").fetchall()) == repr(rows)
    check_statistics(lake, EVERY, frame)
    lake.append(EVERY, frame, "t/0", (lake.reached(EVERY, "t/0") or 0) + 1)
    twice = duckdb.execute(f"from {lake.snapshot(EVERY).scan()} order by id").fetchall()
    assert repr(twice) == repr([row for row in rows for _ in range(2)])


def check_statistics(lake: Lake, table: Table, frame: pl.DataFrame) -> None:
    """The Delta log's statistics of the one file are those of the frame, or are left out."""
    from deltalake import DeltaTable

    actions = DeltaTable(str(lake.folder(table))).get_add_actions(flatten=True)
    (known,) = pl.DataFrame(actions).to_dicts()
    assert known["num_records"] == frame.height
    for column in table.data_columns:
        held = frame[column.name]
        assert known[f"null_count.{column.name}"] == held.null_count()
        texts = [held.min(), held.max()] if column.type is Type.STRING else []
        short = all(isinstance(text, str) and len(text) <= 32 for text in texts)
        if column.type is Type.BOOLEAN or held.drop_nulls().is_empty() or not short:
            assert known.get(f"min.{column.name}") is known.get(f"max.{column.name}") is None
        else:
            ends = known[f"min.{column.name}"], known[f"max.{column.name}"]
            assert ends == (held.min(), held.max()), column.name


def test_statistics_let_a_delta_reader_skip_files_and_miss_no_row(lake: Lake) -> None:
    from deltalake import DeltaTable
    from pyarrow import compute as pc

    for month in range(1, 7):
        cells: list[tuple[Cell, ...]] = [("A", month, n, month * 10.0 + n, "buy") for n in range(5)]
        lake.replace_frame(PRICES, prices(*cells), [{"symbol": "A", "month": month}])
    dataset = DeltaTable(str(lake.folder(PRICES))).to_pyarrow_dataset()
    dear = pc.field("price") >= 52.0
    assert dataset.to_table(filter=dear).num_rows == 8
    assert len(list(dataset.get_fragments(filter=dear))) == 2


def test_a_file_of_negative_zeros_is_not_skipped_by_who_asks_for_zero(lake: Lake) -> None:
    from deltalake import DeltaTable

    for cell in (-0.0, 0.0):
        lake.replace_frame(PRICES, prices(("A", 1, 1, cell)), [JAN])
        actions = DeltaTable(str(lake.folder(PRICES))).get_add_actions(flatten=True)
        (known,) = pl.DataFrame(actions).to_dicts()
        assert (str(known["min.price"]), str(known["max.price"])) == ("-0.0", "0.0")


def test_a_range_committed_twice_writes_once(lake: Lake) -> None:
    first = lake.append(NOTES, notes(1, 2), "topic/0", 2)
    assert first is not None and first.rows == 2
    assert lake.append(NOTES, notes(1, 2), "topic/0", 2) is None
    assert Lake(lake.root).append(NOTES, notes(1, 2), "topic/0", 2) is None
    assert read(lake, NOTES, "id") == [(1,), (2,)]


def test_an_older_range_after_a_newer_one_writes_nothing(lake: Lake) -> None:
    lake.append(NOTES, notes(1, 2, 3), "topic/0", 3)
    assert lake.append(NOTES, notes(1), "topic/0", 1) is None
    assert lake.append(NOTES, notes(9), "topic/1", 1) is not None
    assert read(lake, NOTES, "id") == [(1,), (2,), (3,), (9,)]
    assert (lake.reached(NOTES, "topic/0"), lake.reached(NOTES, "topic/1")) == (3, 1)
    assert lake.reached(NOTES, "topic/2") is None


def test_a_range_without_rows_still_moves_the_offset(lake: Lake) -> None:
    assert lake.append(NOTES, notes(), "topic/0", 5) is not None
    assert lake.reached(NOTES, "topic/0") == 5
    assert read(lake, NOTES, "id") == []


def test_the_offset_outlives_the_log_of_its_commit(lake: Lake) -> None:
    lake.append(NOTES, notes(1), "topic/0", 5)
    lake.append(NOTES, notes(2), "topic/1", 1)
    _keep_only_a_checkpoint(lake, NOTES)
    assert lake.reached(NOTES, "topic/0") == 5
    assert lake.append(NOTES, notes(1), "topic/0", 5) is None
    assert read(lake, NOTES, "id") == [(1,), (2,)]


def _keep_only_a_checkpoint(lake: Lake, table: Table) -> None:
    from deltalake import DeltaTable

    delta = DeltaTable(str(lake.folder(table)))
    delta.create_checkpoint()
    for log in (lake.folder(table) / "_delta_log").glob("*.json"):
        if int(log.stem) < delta.version():
            log.unlink()


def test_a_version_and_an_instant_show_what_was_there_then(lake: Lake) -> None:
    for number in (1, 2, 3):
        lake.replace_frame(NOTES, notes(number), [{}])
    at = {c["version"]: c["timestamp"] for c in lake.history(NOTES)}
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for version in (1, 2, 3):
        instant = epoch + timedelta(milliseconds=at[version])
        for asked in (version, instant, instant.replace(tzinfo=None)):
            shown = lake.snapshot(NOTES, asked)
            if at[version] != at.get(version + 1):
                assert shown.version == version
                assert duckdb.execute(f"from {shown.scan()}").fetchall() == [(version,)]
    assert lake.snapshot(NOTES, datetime.now(UTC) + timedelta(days=1)).version == 3
    assert lake.snapshot(NOTES).version == 3


def test_an_instant_means_the_same_in_a_copied_lake(lake: Lake, tmp_path: Path) -> None:
    lake.replace_frame(NOTES, notes(1), [{}])
    noon = datetime.now(UTC)
    while lake.replace_frame(NOTES, notes(2), [{}]) and _millis(lake) <= noon:
        pass
    last = lake.snapshot(NOTES).version
    shutil.copytree(lake.root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert Lake(tmp_path / "copy").snapshot(NOTES, noon).version < last


def _millis(lake: Lake) -> datetime:
    return datetime.fromtimestamp(lake.history(NOTES)[0]["timestamp"] / 1000, UTC)


@pytest.mark.parametrize("at", [-1, 2, 10**30, datetime(2000, 1, 1), datetime(2000, 1, 1, 0, 1)])
def test_a_version_that_never_was_is_told_clearly(lake: Lake, at: int | datetime) -> None:
    with pytest.raises(TidemillError, match=r"d\.notes has no version at .*nothing was written"):
        lake.snapshot(NOTES, at)
    lake.replace_frame(NOTES, notes(1), [{}])
    with pytest.raises(TidemillError, match=r"d\.notes has no version at .*: it has 0 to 1"):
        lake.snapshot(NOTES, at)
    assert lake.snapshot(NOTES).version == 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("0", 0),
        ("12", 12),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_version_or_a_time_is_understood(text: str, at: int | datetime) -> None:
    assert utc(text) == at


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "1.5", "²", "2026-13-01"])
def test_what_is_neither_a_version_nor_a_time_is_told(text: str) -> None:
    with pytest.raises(TidemillError, match="neither a version number nor a time"):
        utc(text)


def test_an_unchanged_table_is_not_read_again(lake: Lake) -> None:
    lake.replace_frame(NOTES, notes(1), [{}])
    assert lake.snapshot(NOTES) is lake.snapshot(NOTES)


def test_a_snapshot_is_never_older_than_another_writers_commit(lake: Lake) -> None:
    rival = Lake(lake.root)
    for number in range(5):
        rival.replace_frame(NOTES, notes(number), [{}])
        assert duckdb.execute(f"from {lake.snapshot(NOTES).scan()}").fetchall() == [(number,)]
    rival.rollback(NOTES, 2)
    assert duckdb.execute(f"from {lake.snapshot(NOTES).scan()}").fetchall() == [(1,)]


def test_offsets_are_never_older_than_another_writers_commit(lake: Lake) -> None:
    rival = Lake(lake.root)
    for number in (1, 2):
        rival.append(NOTES, notes(number), "t/0", 10 * number)
        assert stream.reached(lake, NOTES, ["t/0", "t/1"]) == {"t/0": 10 * number}
    before = lake.snapshot(NOTES).version
    shutil.rmtree(lake.folder(NOTES))
    assert stream.reached(lake, NOTES, ["t/0"]) == {}
    for number in (3, 4):
        Lake(lake.root).append(NOTES, notes(number), "t/0", number)
    snapshot, at = stream.standing(lake, NOTES, ["t/0"])
    assert (snapshot.version, at) == (before, {"t/0": 4})


def test_a_table_begun_again_at_the_same_version_is_seen(lake: Lake) -> None:
    lake.replace_frame(NOTES, notes(1), [{}])
    before = lake.snapshot(NOTES)
    shutil.rmtree(lake.folder(NOTES))
    assert lake.snapshot(NOTES).version == -1
    lake.snapshot(NOTES)
    lake.replace_frame(NOTES, notes(1), [{}])
    lake.snapshot(NOTES)
    shutil.rmtree(lake.folder(NOTES))
    Lake(lake.root).replace_frame(NOTES, notes(2), [{}])
    after = lake.snapshot(NOTES)
    assert after.version == before.version
    assert duckdb.execute(f"from {after.scan()}").fetchall() == [(2,)]


Rival = Callable[[Lake], Any]
RIVALS: dict[str, Rival] = {
    "replaces it too": lambda rival: rival.replace_frame(PRICES, prices(("A", 1, 9)), [JAN]),
    "appends and keeps no counter": lambda rival: write_deltalake(
        str(rival.folder(PRICES)), prices(("A", 1, 9)).to_arrow(), mode="append"
    ),
    "compacts": lambda rival: compact(rival, PRICES, ["id"]),
    "rolls back": lambda rival: rival.rollback(PRICES, 1),
    "replaces it and more": lambda rival: rival.replace_frame(
        PRICES, prices(("A", 1, 9), ("A", 2, 9)), [JAN, FEB]
    ),
    "empties it": lambda rival: rival.replace_frame(PRICES, prices(), [JAN]),
    "vacuums": lambda rival: vacuum(rival, PRICES, 1),
}


@pytest.mark.parametrize("is_empty", [True, False], ids=["empty before", "filled before"])
@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_a_rival_between_reading_and_commit_leaves_exactly_the_last_writers_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, rival: Rival, is_empty: bool
) -> None:
    lake.open(PRICES, create=True)
    lake.append(PRICES, prices(("A", 2, 1)), "t/0", 1)
    if not is_empty:
        lake.append(PRICES, prices(("A", 1, 2)), "t/0", 2)
        lake.append(PRICES, prices(("A", 1, 3)), "t/0", 3)
    between(monkeypatch, lambda: rival(Lake(lake.root)))
    lake.replace_frame(PRICES, prices(("A", 1, 7), ("A", 1, 8)), [JAN])
    january = [row for row in read(lake, PRICES) if row[1] == 1]
    assert january == [("A", 1, 7), ("A", 1, 8)]


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Do something once, after the next commit has been computed and before it is tried."""
    real = commit.commit_files
    done: list[bool] = []

    def after(*args: Any) -> None:
        if not done:
            done.append(True)
            act()
        real(*args)

    monkeypatch.setattr(commit, "commit_files", after)


def test_a_rival_in_other_partitions_keeps_its_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = Lake(lake.root)
    between(monkeypatch, lambda: rival.replace_frame(PRICES, prices(("A", 2, 9)), [FEB]))
    lake.replace_frame(PRICES, prices(("A", 1, 7)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 7), ("A", 2, 9)]


def test_a_writer_that_is_always_beaten_says_so_and_leaves_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = Lake(lake.root)
    real = commit.commit_files
    monkeypatch.setattr(commit, "RIVAL_RETRIES", 3)

    def beaten(delta: Any, table: Table, *args: Any) -> None:
        rival.append(PRICES, prices(), "t/0", (rival.reached(PRICES, "t/0") or 0) + 1)
        real(delta, table, *args)

    monkeypatch.setattr(commit, "commit_files", beaten)
    with pytest.raises(TidemillError, match=r"d\.prices: other writers were first 3 times"):
        lake.replace_frame(PRICES, prices(("A", 1, 7)), [JAN])
    assert on_disk(lake, PRICES) == set()


def test_an_error_after_the_commit_does_not_take_its_files_away(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = commit.commit_files

    def commits_and_fails(*args: Any) -> None:
        real(*args)
        raise OSError("disk full while writing a checkpoint")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(commit, "commit_files", commits_and_fails)
        lake.replace_frame(PRICES, prices(("A", 1, 7)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 7)]


def test_a_crash_between_copy_and_commit_leaves_the_old_rows_and_the_next_write_works(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.replace_frame(PRICES, prices(("A", 1, 1)), [JAN])

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(commit, "commit_files", crash)
        lake.replace_frame(PRICES, prices(("A", 1, 7)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 1)]
    lake.replace_frame(PRICES, prices(("A", 1, 8)), [JAN])
    assert read(lake, PRICES) == [("A", 1, 8)]


@pytest.mark.parametrize("name", ["a[1]", "100%", "symbol=B", "a*", "a?"])
def test_a_folder_whose_name_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TidemillError, match="the lake cannot be at"):
        Lake(tmp_path / name / "lake")


def test_inspect_counts_the_rows_that_break_each_rule(lake: Lake) -> None:
    cells = [("A", 1, 1, 0.0, "sell"), ("A", 1, 1, 2.0, "buy"), ("A", 1, 1, 3.0, "sell")]
    lake.replace_frame(PRICES, prices(*cells), [JAN])
    lake.replace_frame(PRICES, prices(("A", 2, 1)), [FEB])
    violations, preview = lake.inspect(PRICES, [JAN], 2)
    assert violations == {"a sale is not free": 1, "unique (symbol, month, id)": 2}
    assert preview.splitlines()[0] == "| id | price | side | symbol | month |"
    assert len(preview.splitlines()) == 4
    assert lake.inspect(PRICES, [FEB], 2)[0] == {}


def test_a_preview_shows_no_personal_column_and_no_markup(tmp_path: Path) -> None:
    people = Table(
        "d",
        "people",
        "Who.",
        (
            Column("id", Type.BIGINT, "Row."),
            Column("name", Type.STRING, "Text."),
            Column("user_id", Type.BIGINT, "Who.", is_personal=True),
        ),
        key=("id",),
    )
    lake = Lake(tmp_path)
    rows = pl.DataFrame({"id": [1], "name": ["a|b\n<script> [x](y)"], "user_id": [541312140]})
    lake.replace_frame(people, rows, [{}])
    _, preview = lake.inspect(people, [{}], 5)
    shown = r"| 1 | a\|b &lt;script&gt; \[x\]\(y\) |"
    assert preview.splitlines() == ["| id | name |", "| --- | --- |", shown]
    log = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert '"maxValues"' in log.replace("\\", "") and "541312140" not in log


def test_a_key_that_an_earlier_file_has_is_seen_where_the_new_file_alone_is_looked_at(
    lake: Lake,
) -> None:
    lake.append(PRICES, prices(("A", 1, 1), ("A", 1, 2)), "t/0", 1)
    first = {file.relative for file in lake.snapshot(PRICES).files}
    lake.append(PRICES, prices(("A", 1, 2), ("A", 1, 3)), "t/0", 2)
    second = {file.relative for file in lake.snapshot(PRICES).files} - first
    violations, preview = lake.inspect(PRICES, [JAN], 5, second)
    assert violations == {"unique (symbol, month, id)": 1}
    assert len(preview.splitlines()) == 4
