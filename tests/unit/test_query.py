"""Claims about SQL given by a user: it reads the lake, as of when it is asked, and does no more."""

import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pytest

from tidemill.errors import InputError, TidemillError
from tidemill.lake import catalog, commit, lease
from tidemill.lake.contracts import Column, Table, Type
from tidemill.lake.purge import vacuum
from tidemill.lake.snapshot import Snapshot
from tidemill.lake.store import Lake
from tidemill.query import ask, save

SIGNALS = Table(
    "crypto",
    "signals",
    "Signals.",
    (
        Column("id", Type.BIGINT, "Number."),
        Column("symbol", Type.STRING, "Trading pair."),
    ),
    key=("symbol", "id"),
    partition_by=("symbol",),
)
SALES = Table("retail", "sales", "Sales.", (Column("id", Type.BIGINT, "Number."),), key=("id",))


def put(lake: Lake, *ids: int) -> int:
    rows = pl.DataFrame({"id": ids}, schema={"id": pl.Int64}).with_columns(symbol=pl.lit("A B"))
    return lake.replace_frame(SIGNALS, rows, [{"symbol": "A B"}]).version


def filled_lake(home: Path) -> Lake:
    lake = Lake(home / "lake", home / "tidemill.duckdb", [SIGNALS, SALES])
    put(lake, 1, 2)
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return filled_lake(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake for tests that do not change it."""
    return filled_lake(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def fill(still: Lake) -> Callable[[str], str]:
    """Puts paths into SQL: the lake, a file of its current version, a secret, a link to it."""
    lake = still
    tmp_path = lake.root.parent
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nxyzzy\n")
    duckdb.execute(f"copy (select 'xyzzy' as word) to '{tmp_path}/secret.parquet'")
    orphan = lake.folder(SIGNALS) / "symbol=A%20B" / "orphan.parquet"
    duckdb.execute(f"copy (select 'xyzzy' as word) to '{orphan}'")
    link = lake.folder(SIGNALS) / "link.csv"
    link.symlink_to(secret)
    (lake.folder(SIGNALS) / "link.parquet").symlink_to(tmp_path / "secret.parquet")
    (lake.root / "up").symlink_to(tmp_path)
    names = {
        "{lake}": lake.root,
        "{file}": lake.snapshot(SIGNALS).files[0].path,
        "{home}": tmp_path,
        "{link}": link,
        "{table}": lake.folder(SIGNALS),
        "{catalogue}": lake.catalogue,
    }

    def filled(sql: str) -> str:
        for name, path in names.items():
            sql = sql.replace(name, str(path))
        return sql

    return filled


READS = {
    "select id from crypto.signals order by id": [(1,), (2,)],
    "select id, symbol from crypto.signals where symbol = 'A B' and id = 1": [(1, "A B")],
    "from crypto.signals select count(*)": [(2,)],
    "with s as (from crypto.signals) select max(id) from s": [(2,)],
    "with recursive t(n) as (select 1 union all select n + 1 from t where n < 3) "
    "select max(n) from t": [(3,)],
    "select 1 union all select 2 order by 1": [(1,), (2,)],
    "values (1), (2)": [(1,), (2,)],
    "select * from query('select 3')": [(3,)],
    "select count(*) from query_table('crypto.signals')": [(2,)],
    "pivot crypto.signals on id in (1, 2) using count(*) group by symbol": [("A B", 1, 1)],
    "-- a comment\nselect 1 /* another */;": [(1,)],
    "select date '1969-12-31', timestamp '2024-01-01 12:00'": [
        (date(1969, 12, 31), datetime(2024, 1, 1, 12))
    ],
    "select current_setting('timezone')": [("UTC",)],
    "select version from versions() where \"table\" = 'retail.sales'": [(-1,)],
}


@pytest.mark.parametrize("sql", READS)
def test_a_select_is_answered(still: Lake, sql: str) -> None:
    assert list(ask(still, sql).rows) == READS[sql]


@pytest.mark.parametrize(
    "sql",
    [
        "describe crypto.signals",
        "show all tables",
        "summarize crypto.signals",
        "explain select * from crypto.signals",
        "explain analyze select * from crypto.signals",
        "EXPLAIN (FORMAT json) SELECT 1",
        "explain (select 1)",
        "explain (analyze, format json) select * from crypto.signals",
        "select * from duckdb_columns() where schema_name = 'crypto'",
    ],
)
def test_a_look_at_tables_and_plans_is_answered(still: Lake, sql: str) -> None:
    assert ask(still, sql).rows


def test_an_answer_names_its_columns_and_their_types(still: Lake) -> None:
    answer = ask(still, "select id, symbol as s, 1.5::double as x from crypto.signals limit 0")
    assert (answer.names, answer.types) == (["id", "s", "x"], ["BIGINT", "VARCHAR", "DOUBLE"])
    assert list(answer.rows) == []


NO_SELECT = [
    "insert into crypto.signals values (3, 'A')",
    "update crypto.signals set id = 3",
    "delete from crypto.signals",
    "truncate crypto.signals",
    "merge into crypto.signals using (select 1) s(id) using (id) when matched then delete",
    "drop view crypto.signals",
    "alter view crypto.signals rename to s",
    "create table t as select 1",
    "create or replace temp view v as select 1",
    "create macro m() as 1",
    "create secret (type s3)",
    "comment on view crypto.signals is 'x'",
    "copy crypto.signals to '{lake}/x.csv'",
    "copy (select 1) to '{file}' (format parquet)",
    "/* select */ copy (select 1) to '{lake}/x.csv'",
    "-- select\ncopy (select 1) to '{lake}/x.csv'",
    "export database '{lake}/x'",
    "import database '{home}'",
    "attach '{home}/x.db'",
    "attach '{catalogue}' as c",
    "detach memory",
    "use memory",
    "set memory_limit = '1GB'",
    "set lock_configuration = false",
    "set allowed_paths = ['{home}/secret.csv']",
    "reset memory_limit",
    "pragma database_list",
    "pragma enable_profiling",
    "call pragma_version()",
    "call enable_logging(storage = 'file', storage_config = {'path': '{home}/x'})",
    "install httpfs",
    "load httpfs",
    "prepare p as select 1",
    "execute p",
    "begin",
    "checkpoint",
    "vacuum",
    "select 1; select 2",
    "select 1; copy (select 1) to '{lake}/x.csv'",
    "explain select 1; copy (select 1) to '{lake}/x.csv'",
    "explain copy (select 1) to '{lake}/x.csv'",
    "explain analyze copy (select 1) to '{lake}/x.csv'",
    "EXPLAIN  ANALYZE\ncopy (select 1) to '{lake}/x.csv'",
    "/* c */ explain analyze copy (select 1) to '{lake}/x.csv'",
    "explain /* c */ analyze copy (select 1) to '{lake}/x.csv'",
    "explain analyze /* c */ copy (select 1) to '{lake}/x.csv'",
    "explain -- c\nanalyze copy (select 1) to '{lake}/x.csv'",
    "explain (analyze) copy (select 1) to '{lake}/x.csv'",
    "explain (analyze true, format json) copy (select 1) to '{lake}/x.csv'",
    "explain analyze create table t as select 1",
    "with x as (copy (select 1) to '{lake}/x.csv') select * from x",
    "with x as (copy (select 1) to '{file}' (format parquet, use_tmp_file false)) from x",
    "with a as (select 1), x as (copy (select 1) to '{lake}/x.csv') select * from a",
    "explain analyze with x as (copy (select 1) to '{lake}/x.csv') from x",
    "summarize with x as (copy (select 1) to '{lake}/x.csv') from x",
    "select (with x as (copy (select 1) to '{lake}/x.csv') select count(*) from x)",
    "select 1 union all (with x as (copy (select 1) to '{lake}/x.csv') select count(*) from x)",
    "with x as (insert into crypto.signals values (3, 'A') returning id) select * from x",
    "with x as (delete from crypto.signals returning id) select * from x",
    "with x as (update crypto.signals set id = 3 returning id) select * from x",
    "select * from query('copy (select 1) to ''{lake}/x.csv''')",
    "select * from query('with x as (copy (select 1) to ''{lake}/x.csv'') from x')",
    "select * from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "pivot crypto.signals on id using count(*)",
    "with x as (copy (select 1) to '{lake}/x.csv') pivot x on 1 using count(*)",
    "with x as (copy (select 1) to '{lake}/x.csv') pivot x on a in (1) using count(*)",
    "selec 1",
    "select",
    "select * from crypto.nope",
    "select nope from crypto.signals",
    "",
    ";",
    "-- nothing",
]


@pytest.mark.parametrize("sql", NO_SELECT)
def test_what_does_more_than_read_is_refused(
    still: Lake, fill: Callable[[str], str], sql: str
) -> None:
    before = snapshot_of_disk(still)
    with pytest.raises(InputError):
        ask(still, fill(sql))
    with pytest.raises(InputError):
        save(still, fill(sql), still.root.parent / "out.csv", "csv")
    assert snapshot_of_disk(still) == before


def snapshot_of_disk(lake: Lake) -> set[tuple[str, int, int]]:
    """Every file with its size and time, save the leases."""
    found = (p for p in lake.root.parent.rglob("*") if p.is_file() and ".leases" not in p.parts)
    return {(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in found}


OUTSIDE = [
    "select * from '{home}/secret.csv'",
    "from '{home}/secret.parquet'",
    "select * from read_csv('{home}/secret.csv')",
    "select * from read_csv_auto(['{home}/secret.csv'])",
    "select * from read_text('{home}/secret.csv')",
    "select * from read_blob('{home}/secret.csv')",
    "select * from read_json('{home}/secret.csv')",
    "select * from read_parquet('{home}/secret.parquet')",
    "select * from read_parquet('{lake}/../secret.parquet')",
    "select * from read_parquet('file://{home}/secret.parquet')",
    "select * from read_text('{lake}/crypto/../../secret.csv')",
    "select * from read_text('{link}')",
    "select * from read_text('{lake}/up/secret.csv')",
    "select * from read_parquet('{table}/link.parquet')",
    "select * from read_parquet('{table}/*.parquet')",
    "select * from read_text('{table}/_delta_log/00000000000000000000.json')",
    "select * from read_parquet('{table}/symbol=A%20B/orphan.parquet')",
    "select * from parquet_metadata('{home}/secret.parquet')",
    "select * from parquet_schema('{home}/secret.parquet')",
    "select * from sniff_csv('{home}/secret.csv')",
    "select * from read_duckdb('{catalogue}', table_name = 'x')",
    "select * from query('select * from read_text(''{home}/secret.csv'')')",
    "select * from query_table('{home}/secret.csv')",
    "with s as (select * from read_text('{home}/secret.csv')) select * from s",
    "select (select content from read_text('{home}/secret.csv'))",
    "explain analyze select * from read_text('{home}/secret.csv')",
    "describe select * from read_csv('{home}/secret.csv')",
    "select * from glob('{home}/*')",
    "select * from glob('{lake}/up/*')",
    "select * from read_text('/proc/self/environ')",
    "select * from read_csv('/dev/stdin')",
    "select * from 'https://127.0.0.1:9/x.csv'",
    "select * from read_parquet('s3://bucket/x.parquet')",
    "select * from sqlite_scan('{home}/x.db', 't')",
    "select getenv('HOME')",
    "select * from enable_logging(storage = 'file', storage_config = {'path': '{home}/x'})",
    "select * from enable_profiling(save_location = '{home}/x')",
]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_no_file_but_the_tables_own_is_read(
    still: Lake, fill: Callable[[str], str], sql: str
) -> None:
    with pytest.raises(InputError) as refused:
        ask(still, fill(sql))
    assert "xyzzy" not in str(refused.value)


def test_a_python_variable_is_no_table(still: Lake) -> None:
    secret_frame = pl.DataFrame({"word": ["xyzzy"]})
    with pytest.raises(InputError, match="secret_frame does not exist"):
        ask(still, "select * from secret_frame")
    assert secret_frame.height == 1


def test_nothing_is_left_in_the_current_folder(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    ask(lake, "select * from crypto.signals order by id")
    assert list(here.iterdir()) == []


def test_a_refusal_says_what_was_found_in_a_line(still: Lake) -> None:
    with pytest.raises(InputError, match="expected a SELECT, found DELETE"):
        ask(still, "delete from crypto.signals")
    with pytest.raises(InputError, match="expected a SELECT, found COPY in it"):
        ask(still, "with x as (copy (select 1) to 'x.csv') select 1")
    for pivot in ("pivot crypto.signals on id using count(*)", "from (PIVOT crypto.signals ON id)"):
        with pytest.raises(InputError, match=r"^PIVOT: name the values .* in \('a', 'b'\) using"):
            ask(still, pivot)
    with pytest.raises(InputError, match="expected one SELECT, found 2 statements"):
        ask(still, "select 1; select 2")
    with pytest.raises(InputError, match=r"^Catalog Error: Table with name signal does not exist"):
        ask(still, "select * from crypto.signal")


@pytest.mark.parametrize("name", ["crypto.signals", 'CRYPTO."SIGNALS"', "query_table('signals')"])
def test_as_of_shows_the_version_asked_for_however_the_table_is_named(
    lake: Lake, name: str
) -> None:
    put(lake, 7)
    sql = f"select id from {name} order by 1"
    if "query_table" in name:
        sql = "select id from query('select * from crypto.sig' || 'nals') order by 1"
    assert list(ask(lake, sql, 1).rows) == [(1,), (2,)]
    assert list(ask(lake, sql, 2).rows) == [(7,)]
    assert list(ask(lake, sql).rows) == [(7,)]


def test_as_of_an_instant_shows_what_was_there_then(lake: Lake) -> None:
    time.sleep(0.002)
    noon = datetime.now(UTC)
    time.sleep(0.002)
    put(lake, 7)
    sql = "select id from crypto.signals order by 1"
    assert list(ask(lake, sql, noon).rows) == [(1,), (2,)]
    assert list(ask(lake, sql, noon.replace(tzinfo=None)).rows) == [(1,), (2,)]
    assert list(ask(lake, sql, datetime.now(UTC)).rows) == [(7,)]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from crypto.signals",
        "select count(*) from crypto.signals",
        "select 1 from crypto.signals where id = 1",
        "select 1 where exists (from crypto.signals)",
        "select * from (select 1) t left join crypto.signals on true",
        "summarize crypto.signals",
    ],
)
@pytest.mark.parametrize("at", [9, datetime(2000, 1, 1)])
def test_a_version_that_a_table_lacks_is_told_and_never_taken_for_empty(
    still: Lake, sql: str, at: int | datetime
) -> None:
    with pytest.raises(
        TidemillError, match=r"^crypto\.signals has no version at .*: it has 0 to 1"
    ):
        ask(still, sql, at)


def test_a_table_that_lacks_the_version_hinders_only_who_reads_it(lake: Lake) -> None:
    assert list(ask(lake, "select count(*) from crypto.signals", 1).rows) == [(2,)]
    with pytest.raises(TidemillError, match=r"retail\.sales has no version at 1: nothing was"):
        ask(lake, "select * from retail.sales", 1)
    assert ask(lake, "describe retail.sales", 1).rows


def test_a_version_whose_files_vacuum_took_is_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old_and_clean(lake, monkeypatch)
    with pytest.raises(TidemillError, match=r"crypto\.signals version 1 is gone: vacuum deleted"):
        ask(lake, "select * from crypto.signals", 1)


def make_old_and_clean(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with monkeypatch.context() as patched:
        clock = SimpleNamespace(time=lambda: time.time() - 7200, sleep=time.sleep)
        patched.setattr(commit, "time", clock)
        put(lake, 7)
    for path in lake.folder(SIGNALS).rglob("*.parquet"):
        os.utime(path, (time.time() - 7200,) * 2)
    return vacuum(lake, SIGNALS, 1)


def test_the_versions_read_are_held_from_before_their_files_are_opened(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = catalog.views
    seen: list[set[int]] = []

    def look(snapshots: list[Snapshot]) -> str:
        with lease.held(lake.root, SIGNALS) as versions:
            seen.append(set(versions))
        return real(snapshots)

    put(lake, 7)
    monkeypatch.setattr(catalog, "views", look)
    ask(lake, "from crypto.signals")
    ask(lake, "from crypto.signals", 1)
    assert seen == [{2}, {1}]


def test_a_version_that_vacuum_takes_just_before_it_is_held_is_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lease.reading

    def too_late(*args: Any) -> Any:
        make_old_and_clean(lake, monkeypatch)
        return real(*args)

    monkeypatch.setattr(lease, "reading", too_late)
    with pytest.raises(TidemillError, match=r"crypto\.signals version 1 is gone: vacuum deleted"):
        ask(lake, "from crypto.signals", 1)


def test_a_query_that_fails_holds_no_version(lake: Lake) -> None:
    with pytest.raises(InputError):
        ask(lake, "select 1 / nope from crypto.signals")
    with lease.held(lake.root, SIGNALS) as versions:
        assert versions == set()


def test_rows_are_saved_as_csv_json_and_parquet(lake: Lake, tmp_path: Path) -> None:
    sql = "select id, symbol from crypto.signals order by id"
    path = tmp_path / "it's here"
    assert save(lake, sql, path, "csv") == 2
    assert path.read_text() == "id,symbol\n1,A B\n2,A B\n"
    assert save(lake, sql, path, "json") == 2
    assert pl.read_json(path).rows() == [(1, "A B"), (2, "A B")]
    assert save(lake, sql, path, "parquet") == 2
    assert pl.read_parquet(path).rows() == [(1, "A B"), (2, "A B")]


def test_an_old_version_is_saved_too(lake: Lake, tmp_path: Path) -> None:
    put(lake, 7)
    path = tmp_path / "old.csv"
    assert save(lake, "select id from crypto.signals order by 1", path, "csv", 1) == 2
    assert path.read_text() == "id\n1\n2\n"
