"""Claims about who holds which version, and what a process that ends or is killed still holds."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidemill.lake import lease
from tidemill.lake.contracts import Column, Table, Type

TABLE = Table("d", "t", "A table.", (Column("id", Type.BIGINT, "Number."),), key=("id",))
OTHER = Table("d", "u", "Another.", (Column("id", Type.BIGINT, "Number."),), key=("id",))

HOLDER = """
import sys
from pathlib import Path
from tidemill.lake import lease
from tidemill.lake.contracts import Column, Table, Type
table = Table("d", "t", "A table.", (Column("id", Type.BIGINT, "Number."),), key=("id",))
root = Path(sys.argv[1])
with lease.reading(root, [(table, 7)]), lease.writing(root, table):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(root: Path) -> "Iterator[subprocess.Popen[str]]":
    """One that holds version 7 and writes, until its input ends or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def versions(root: Path) -> set[int]:
    with lease.held(root, TABLE) as found:
        return set(found)


def test_a_version_is_held_while_it_is_read_and_not_after(tmp_path: Path) -> None:
    with lease.reading(tmp_path, [(TABLE, 3), (TABLE, 12), (OTHER, 5)]):
        assert versions(tmp_path) == {3, 12}
    assert versions(tmp_path) == set()


def test_two_readers_of_a_version_hold_it_until_the_second_ends(tmp_path: Path) -> None:
    with lease.reading(tmp_path, [(TABLE, 3)]):
        with lease.reading(tmp_path, [(TABLE, 3)]):
            assert versions(tmp_path) == {3}
        assert versions(tmp_path) == {3}


def test_a_reader_that_fails_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lease.reading(tmp_path, [(TABLE, 3)]):
        raise KeyError
    assert versions(tmp_path) == set()


def test_nothing_is_held_where_nobody_ever_read(tmp_path: Path) -> None:
    assert versions(tmp_path) == set()
    assert not lease.is_written(tmp_path, TABLE)


def test_who_may_not_write_reads_without_a_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with lease.reading(tmp_path, [(TABLE, 3)]):
            pass
    assert versions(tmp_path) == set()


def test_another_process_holds_until_it_is_killed(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        assert versions(tmp_path) == {7}
        assert lease.is_written(tmp_path, TABLE)
        process.kill()
        process.wait()
        assert versions(tmp_path) == set()
        assert not lease.is_written(tmp_path, TABLE)


def test_a_reader_that_ends_while_it_is_looked_for_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.glob

    def gone_by_then(self: Path, pattern: str) -> Iterator[Path]:
        for path in list(real(self, pattern)):
            path.unlink()
            yield path

    with lease.reading(tmp_path, [(TABLE, 3)]):
        monkeypatch.setattr(Path, "glob", gone_by_then)
        assert versions(tmp_path) == set()


def test_no_lease_is_given_while_vacuum_looks(tmp_path: Path) -> None:
    given = threading.Event()

    def read() -> None:
        with lease.reading(tmp_path, [(TABLE, 3)]):
            given.set()

    reader = threading.Thread(target=read)
    with lease.held(tmp_path, TABLE):
        reader.start()
        assert not given.wait(0.2)
    assert given.wait(10)
    reader.join()


def test_a_table_is_being_written_as_long_as_one_of_its_writers_is(tmp_path: Path) -> None:
    with lease.writing(tmp_path, TABLE):
        with lease.writing(tmp_path, TABLE):
            assert lease.is_written(tmp_path, TABLE)
        assert lease.is_written(tmp_path, TABLE)
        assert not lease.is_written(tmp_path, OTHER)
    assert not lease.is_written(tmp_path, TABLE)
