"""A user is erased from every table and every file, and nothing else changes."""

import gzip
import re
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tests.unit.events.intake.desk import HEADER, click
from tidemill import cli
from tidemill.commands import erase as command
from tidemill.engines.duck import DuckEngine
from tidemill.errors import InputError, TidemillError
from tidemill.events import contracts as c
from tidemill.events import erase as erasing
from tidemill.events.erase import MADE, TABLES, Eraser, by_text, by_user, personal
from tidemill.events.intake.landing import EventLanding
from tidemill.events.live import FEED
from tidemill.events.reports import checks
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.events.traces import Traces
from tidemill.lake import duck, lease
from tidemill.lake.contracts import Table, polars_schema
from tidemill.lake.rewrite import rewrite
from tidemill.lake.store import Lake
from tidemill.settings import Settings

USER, OTHER = 738_291_645, 5_550_001
REPORTS = ("brand_report", "sessions", "visits", "cohorts")
OWN, SHARED = "tr4ce-of-one", "tr4ce-of-two"
NOON = datetime(2026, 1, 1, 12)
DEAD = (
    b'{"user_id": %d, "price": -1}' % USER,
    b'{"user_session": "%s"' % OWN.encode(),
    b'{"user_id": 17382916450, "user_session": "%s"' % SHARED.encode(),
    b"\xff\x00%d" % USER,
)


class House:
    """A lake with a user in every table that can have one."""

    def __init__(self, home: Path) -> None:
        """Nothing is in it."""
        self.home = home
        self.lake = Lake(home / "lake", home / "catalogue.duckdb", TABLES)
        self.landing = EventLanding(self.lake, home / "landing")
        self.events = Events(self.lake, DuckEngine(), home / "reports")
        self.eraser = Eraser(self.events, FEED, self.landing, patience_s=0.2)

    def fill(self) -> "House":
        """Rows of two users: in files, on the topic, late, dead and rejected."""
        rows = [
            click(0, user_id=str(USER), user_session=OWN),
            click(1, user_id=str(USER), user_session=SHARED, event_type="purchase"),
            click(2, user_id=str(OTHER), user_session=SHARED),
            click(3, user_id=str(OTHER), price="free"),
            click(4, user_id=f"{USER}?"),
            click(5, user_session=OWN, price="free"),
        ]
        path = self.home / "outside.csv"
        path.write_text(HEADER + "".join(rows))
        self.landing.land_file(path)
        path.unlink()
        self.put(
            c.RAW_EVENTS,
            *[
                self.raw(0, USER, OWN),
                self.raw(1, OTHER, SHARED),
                self.raw(2, USER, SHARED, NOON.replace(day=2)),
                self.raw(3, OTHER, None, NOON.replace(day=3)),
            ],
        )
        late = {"watermark": NOON, "late_ms": 1, "is_counted": False}
        whose = ((0, USER, OWN), (9, OTHER, SHARED))
        self.put(c.LATE_EVENTS, *[self.raw(*who) | late for who in whose])
        dead = {"topic": "t", "topic_id": "i", "partition": 0, "produced_at": NOON}
        letters = [
            {"offset": n, "key": None, "value": value, "error": f"found {value!r}", **dead}
            for n, value in enumerate(DEAD)
        ]
        self.put(c.DEAD_LETTERS, *letters)
        for name in REPORTS:
            self.events.makers()[name]()
        return self

    def raw(
        self, offset: int, user: int, session: str | None, at: datetime = NOON
    ) -> dict[str, Any]:
        """A row of ``RAW_EVENTS``."""
        return {
            "event_time": str(at),
            "event_timestamp": at,
            "event_type": "view",
            "product_id": 1,
            "price": 9.5,
            "user_id": user,
            "user_session": session,
            "is_late": False,
            "topic": "t",
            "topic_id": "i",
            "partition": 0,
            "offset": offset,
            "produced_at": at,
            "ingested_at": at,
            "date": at.date(),
        }

    def put(self, table: Table, *rows: dict[str, Any]) -> None:
        schema = polars_schema(table)
        frame = pl.DataFrame([{n: row.get(n) for n in schema} for row in rows], schema=schema)
        days: list[date] = frame["date"].unique().to_list() if table.partition_by else []
        self.lake.replace_frame(table, frame, [{"date": str(day)} for day in days] or [{}])

    def query(self, sql: str, table: Table, at: int | None = None) -> list[Any]:
        with duck.cursor() as con:
            return con.execute(sql.format(self.lake.snapshot(table, at).scan())).fetchall()

    def texts(self) -> list[Path]:
        """Every file but Parquet and DuckDB's that holds the user's number or session."""
        found = [p for p in self.home.rglob("*") if p.is_file() and p.suffix != ".parquet"]
        return [p for p in found if speaks([(p.read_bytes(),)])]

    def parquets(self) -> list[Path]:
        """Every Parquet file, of any version, with a value that holds the number or the session."""
        found = []
        for path in self.home.rglob("*.parquet"):
            with duckdb.connect() as con:
                rows = con.execute(f"select * from read_parquet('{path}')").fetchall()
            found += [path] if speaks(rows) else []
        return found


def speaks(rows: list[tuple[Any, ...]]) -> bool:
    """Whether a value holds the number or the session."""
    told = re.compile(rb"(?<!\d)%d(?!\d)|%s" % (USER, OWN.encode()))
    values = (value for row in rows for value in row)
    return any(told.search(v if isinstance(v, bytes) else str(v).encode()) for v in values)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path).fill()


def test_a_user_is_gone_from_every_table_and_the_rows_stay(house: House) -> None:
    count = "select count(*) from {}"
    before = [house.query(count, t) for t in (*by_user(), *by_text())]
    whole = "select * from {} where user_id <> " + str(USER) + " order by all"
    others = [house.query(whole, t) for t in by_user()]
    revenue = house.query("select * from {} order by all", r.BRAND_REPORT)

    receipts = house.eraser.erase(USER).receipts

    for table in TABLES:
        with duck.cursor() as con:
            rows = con.execute(f"from {house.lake.snapshot(table).scan()}").fetchall()
        assert not speaks(rows), table.id
    assert [house.query(count, t) for t in (*by_user(), *by_text())] == before
    assert [house.query(whole, t) for t in by_user()] == others
    assert house.query("select * from {} order by all", r.BRAND_REPORT) == revenue
    gone = "select count(*) from {} where user_id is null and user_session is null"
    assert [house.query(gone, t) for t in by_user()] == [[(2,)], [(2,)], [(1,)]]
    told = {row.table_name: row.rows for row in receipts if row.action == "erased"}
    assert told == {
        "raw_events": 2,
        "file_events": 2,
        "late_events": 1,
        "dead_letters": 3,
        "rejected_rows": 2,
    }
    made = [row.table_name for row in receipts if row.action == "made again"]
    assert sorted(made) == sorted(REPORTS)
    sessions = house.query("select source, user_session from {} order by all", r.SESSIONS)
    assert sessions == [("files", SHARED), ("topic", SHARED)]
    names = [(row.table_name,) for row in receipts]
    assert house.query("select table_name from {} order by 1", c.ERASURES) == sorted(names)


def test_only_files_that_hold_the_user_are_written_again(house: House) -> None:
    def files(day: int) -> set[str]:
        found = house.lake.snapshot(c.RAW_EVENTS).within([{"date": f"2026-01-0{day}"}]).files
        return {file.relative for file in found}

    before = [files(day) for day in (1, 2, 3)]
    house.eraser.erase(USER)
    assert [files(day) == had for day, had in enumerate(before, 1)] == [False, False, True]


def test_what_could_not_be_used_keeps_its_place_and_loses_its_text(house: House) -> None:
    house.eraser.erase(USER)
    letters = house.query('select "offset", value, error from {} order by 1', c.DEAD_LETTERS)
    assert letters == [
        (0, None, "erased"),
        (1, None, "erased"),
        (2, DEAD[2], f"found {DEAD[2]!r}"),
        (3, None, "erased"),
    ]
    rejected = house.query("select line, raw, reason from {} order by 1", c.REJECTED_ROWS)
    assert [(line, raw is None, why == "erased") for line, raw, why in rejected] == [
        (5, False, False),
        (6, True, True),
        (7, True, True),
    ]


def test_before_and_after_only_rows_hold_the_user(house: House) -> None:
    assert house.texts() == []  # no log, no ledger, no catalogue
    house.eraser.erase(USER)
    assert house.texts() == []
    assert house.parquets()  # of older versions


def test_purged_the_user_is_in_no_file_and_older_versions_are_refused(house: House) -> None:
    had = house.lake.snapshot(c.RAW_EVENTS).version
    done = house.eraser.erase(USER, is_purged=True)
    assert house.parquets() == house.texts() == []
    assert all(row.files_deleted for row in done.receipts if row.table_name in {"raw_events"})
    with pytest.raises(TidemillError, match=rf"events\.raw_events version {had} is gone: vacuum"):
        house.lake.snapshot(c.RAW_EVENTS, had)
    with duckdb.connect(str(house.lake.catalogue), read_only=True) as con:
        assert con.execute("select count(*) from events.raw_events").fetchall() == [(4,)]


def test_purged_the_reports_are_held_against_what_is_left_of_the_events(house: House) -> None:
    house.events.all()
    house.eraser.erase(USER, is_purged=True)
    found = (checks.reports_add_up, checks.sessions_add_up)
    assert [check(house.events) for check in found] == [[], []]
    for table in (r.FUNNEL, r.SESSIONS):
        house.put(table)
    told = [{row["table"] for row in check(house.events)} for check in found]
    assert told == [{r.FUNNEL.id}, {r.FUNNEL.id, r.SESSIONS.id}]


def test_asked_again_it_does_nothing_and_gives_no_second_receipt(house: House) -> None:
    assert house.eraser.erase(USER).receipts
    versions = [house.lake.snapshot(table).version for table in TABLES]
    assert house.eraser.erase(USER).receipts == []
    assert house.eraser.erase(404).receipts == []
    assert [house.lake.snapshot(table).version for table in TABLES] == versions


def test_a_later_purge_deletes_what_an_erasure_left(house: House) -> None:
    house.eraser.erase(USER)
    done = house.eraser.erase(USER, is_purged=True)
    assert sum(row.files_deleted or 0 for row in done.receipts) > 0
    assert house.parquets() == []
    assert house.eraser.erase(USER, is_purged=True).receipts == []


@pytest.mark.parametrize(("nth", "asked"), [(0, USER), (2, USER), (3, USER), (4, OTHER)])
def test_after_a_crash_between_tables_the_next_call_finishes(
    house: House, monkeypatch: pytest.MonkeyPatch, nth: int, asked: int
) -> None:
    calls: list[Any] = []

    def crashing(*told: Any) -> int | None:
        calls.append(told)
        if len(calls) > nth:
            raise KeyboardInterrupt
        return rewrite(*told)

    monkeypatch.setattr(erasing, "rewrite", crashing)
    with pytest.raises(KeyboardInterrupt):
        house.eraser.erase(USER)
    assert house.lake.snapshot(c.ERASURES).rows == 0
    monkeypatch.undo()
    house.eraser.erase(asked, is_purged=True)
    assert house.parquets() == house.texts() == []
    counts = house.query("select sum(rows)::bigint from {} group by receipt_id", c.ERASURES)
    assert (10,) in counts
    for table in by_user():
        assert house.query(f"select * from {{}} where user_id = {asked}", table) == []


def test_a_crash_before_the_reports_are_made_again_leaves_no_user_in_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Eraser, "_made_again", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        house.eraser.erase(USER)
    monkeypatch.undo()
    house.eraser.erase(USER)
    assert house.query(f"select * from {{}} where user_id = {USER}", c.VISITS) == []


def test_a_report_that_has_a_user_whom_no_event_has_is_made_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.put(c.RAW_EVENTS, house.raw(0, USER, OWN))
    house.events.visits()
    house.put(c.RAW_EVENTS, house.raw(0, OTHER, SHARED))
    done = house.eraser.erase(USER)
    assert house.query("select user_id from {}", c.VISITS) == [(OTHER,)]
    assert [(row.table_name, row.action) for row in done.receipts][-1] == ("visits", "made again")


def test_a_table_that_a_rival_rewrites_meanwhile_is_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, rivals = house.lake.swap, [c.RAW_EVENTS]

    def late(table: Table, *told: Any, **more: Any) -> int:
        if table in rivals:
            rivals.remove(table)
            house.put(table, house.raw(0, USER, OWN), house.raw(7, USER, "x"))
        return swap(table, *told, **more)

    monkeypatch.setattr(house.lake, "swap", late)
    house.eraser.erase(USER)
    assert rivals == []
    kept = house.query('select "offset", user_id from {} order by 1', c.RAW_EVENTS)
    assert kept == [(0, None), (2, None), (3, OTHER), (7, None)]


def test_a_purge_waits_for_readers_of_older_versions_and_says_so(house: House) -> None:
    had = house.lake.snapshot(c.RAW_EVENTS).version
    with lease.reading(house.lake.root, [(c.RAW_EVENTS, had)]):
        with pytest.raises(TidemillError, match="raw_events: some process still reads an older"):
            house.eraser.erase(USER, is_purged=True)
        house.lake.snapshot(c.RAW_EVENTS, had)
    assert house.lake.snapshot(c.ERASURES).rows == 0
    house.eraser.erase(USER, is_purged=True)
    assert house.parquets() == []
    assert house.query("select count(distinct receipt_id) from {}", c.ERASURES) == [(1,)]


def test_a_purge_takes_no_file_from_a_writer(house: House) -> None:
    mine = house.lake.folder(c.RAW_EVENTS) / "p-new.parquet"
    with lease.writing(house.lake.root, c.RAW_EVENTS):
        mine.touch()
        with pytest.raises(TidemillError, match="raw_events: some process still writes to it"):
            house.eraser.erase(USER, is_purged=True)
        assert mine.exists()
    house.eraser.erase(USER, is_purged=True)
    assert not mine.exists()


def test_refused_files_lose_the_users_lines(house: House) -> None:
    folder = house.landing.folder / "refused"
    folder.mkdir()
    text = f"a,{USER},b\nb,{OTHER},c\n\xff\n".encode("latin-1")
    (folder / "plain.csv").write_bytes(text)
    (folder / "packed.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(folder / "packed.zip", "w") as packed:
        packed.writestr("in.csv", text)
    (folder / "cut.csv.gz").write_bytes(gzip.compress(text)[:12])
    (folder / "other.csv").write_bytes(b"1\n")
    done = house.eraser.erase(USER)
    left = f"b,{OTHER},c\n\xff\n".encode("latin-1")
    assert (folder / "plain.csv").read_bytes() == left
    assert gzip.decompress((folder / "packed.csv.gz").read_bytes()) == left
    assert zipfile.ZipFile(folder / "packed.zip").read("in.csv") == left
    assert [row.rows for row in done.receipts if row.table_name == "refused"] == [3]
    assert "refused files that cannot be read: cut.csv.gz" in done.left
    assert sorted(path.name for path in folder.iterdir()) == [
        "cut.csv.gz",
        "other.csv",
        "packed.csv.gz",
        "packed.zip",
        "plain.csv",
    ]


@pytest.mark.parametrize(
    ("text", "is_in"),
    [
        ("1,738291645,x", True),
        ("00738291645", True),
        ("738291645.0", True),
        ('"738291645x"', True),
        ("1738291645", False),
        ("7382916450", False),
        ("x,abc-1,y", True),
        ("x,abc-12,y", False),
        ('{"s": "a\\"b, \\u00fc"}', True),
        ('1,"a""b, ü"', True),
        ("a, b", False),
        ('{"user_id":738291645,"user_id":null}', True),
        ('{"738291645":1}', True),
        ('{"user_id":null,"brand":"738291645"}', True),
        ('{"user_id":738291645.0}', True),
        ('{"user_id":"\\u0037\\u0033\\u0038\\u0032\\u0039\\u0031\\u0036\\u0034\\u0035"}', True),
        (None, False),
    ],
)
def test_text_speaks_of_a_user_by_number_or_session(text: str | None, is_in: bool) -> None:
    assert Traces.of(USER, ["abc-1", 'a"b, ü']).are_in(text) is is_in


@pytest.mark.parametrize(
    ("text", "is_in"),
    [
        ("2019-10-01 00:00:00 UTC,view,7,1,,acme,27.0,27,s", True),
        ("2019-10-27 00:00:27 UTC,view,1,127,,acme,0.27,-27,27s", False),
        ("27", True),
        ('x;"027.0"', True),
        ('{"user_id": 27, "price": -1}', True),
        ('{"user_id": "27"}', True),
        ('{"user": {"ids": [3, 27]}}', True),
        ('{"by": {"27": 1}}', True),
        ('{"user_id": 5, "product_id": 27, "category_id": 27, "price": 27}', False),
        ('{"user_id": 5, "event_time": "nope", "brand": "27"}', False),
        ('{"user_id": 27', True),
        ('{"user_id":27,"price":', True),
        ('{"user_id":27}x', True),
        ('[{"user_id":27}]', True),
        ('\ufeff{"user_id":27}', True),
        ('{"a":"{\\"user_id\\":27}"}', True),
        ("user_id=27", True),
        ("27\x00", True),
        ('{"user_id":27,"user_id":null}', True),
        ('{"price":{"user_id":27}}', True),
        ('{"user_id":5,"n":27,"cycle":27,"produced_at":27}', False),
        ("at 10:27:27 and 2:27,x", False),
        ('{"user_id": ' + "[" * 5000, False),
    ],
)
def test_a_number_of_few_digits_is_not_found_in_dates_prices_or_other_fields(
    text: str, is_in: bool
) -> None:
    assert Traces.of(27, []).are_in(text) is is_in


def test_a_reason_that_names_what_would_be_right_speaks_of_nobody(house: House) -> None:
    def kept() -> list[Any]:
        return house.query("select line, raw, reason from {} order by 1", c.REJECTED_ROWS)

    before = kept()
    assert "expected a number from 0 to 100000000" in before[0][2]
    for user in (0, 100_000_000):
        house.eraser.erase(user)
    assert kept() == before


def test_every_personal_column_is_in_a_table_that_is_dealt_with() -> None:
    tables = {table.id for table in TABLES if personal(table)}
    assert tables == {t.id for t in (*by_user(), *by_text(), *MADE) if personal(t)}
    assert [t.name for t in by_user()] == ["raw_events", "file_events", "late_events"]
    assert [t.name for t in by_text()] == ["rejected_rows", "dead_letters"]
    for table in by_user():
        assert all(column.nullable for column in personal(table))
        assert {column.name for column in personal(table)} == {"user_id", "user_session"}


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "9223372036854775808", "1_0", "1;drop"])
def test_what_is_no_id_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="--user: expected a whole number of 64 bits, found"):
        command.erase(Settings.current(tmp_path), text, False, False)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_id_ends_with_2_and_nobodys_id_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEMILL_HOME", str(tmp_path))
    for words, code in ((("events", "--user", "x"), 2), (("events", "--user", "-3"), 0)):
        monkeypatch.setattr(sys, "argv", ["tidemill", "erase", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    assert "nothing to do, no receipt" in capsys.readouterr().out
