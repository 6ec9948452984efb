"""A clickstream file lands whole and once, whatever interrupts it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.events.intake.desk import HEADER, Desk, click
from tidemill.errors import InputError, TidemillError
from tidemill.events.contracts import FILE_EVENTS, LANDED_FILES, REJECTED_ROWS
from tidemill.events.intake import landing as module
from tidemill.events.intake.landing import EventLanding
from tidemill.intake import inbox
from tidemill.lake import stream

NEXT_DAY = click(event_time="2020-09-25 00:00:00 UTC")
ROWS = HEADER + click(1) + click(1) + click(2, price="-1") + NEXT_DAY
"""A good row, one like it, one that is no good, and one of another day."""


def test_the_ledger_says_what_the_report_says(desk: Desk) -> None:
    report = desk.land(ROWS)
    (row,) = desk.landing.ledger()
    names = ("file", "file_id", "rows", "good", "duplicates", "rejected", "first_at", "last_at")
    assert [row[name] for name in names] == [getattr(report, name) for name in names]
    assert row["source"] == "files"
    assert (f"{report.first_at}", f"{report.last_at}") == (
        "2020-09-24 11:00:01",
        "2020-09-25 00:00:00",
    )
    assert {f.partition["date"] for f in desk.lake.snapshot(FILE_EVENTS).files} == {
        "2020-09-24",
        "2020-09-25",
    }
    desk.audit()


def test_the_same_content_again_changes_nothing_and_says_so(desk: Desk) -> None:
    first = desk.land(ROWS)
    before = [desk.lake.snapshot(t).version for t in (FILE_EVENTS, LANDED_FILES, REJECTED_ROWS)]
    again = desk.land(ROWS, "other.csv", source="sample")
    after = [desk.lake.snapshot(t).version for t in (FILE_EVENTS, LANDED_FILES, REJECTED_ROWS)]
    assert after == before
    assert (again.rows, again.good, again.rejected) == (first.rows, 0, first.rejected)
    assert again.duplicates == first.good + first.duplicates
    (note,) = again.notes
    assert note.startswith("landed before as events.csv, on ")
    assert note.endswith(" UTC, into source files: nothing to do")


def test_a_row_that_landed_before_in_another_file_is_a_duplicate(desk: Desk) -> None:
    old = [click(), click(1, brand="", user_session=""), click(2)]
    desk.land(HEADER + "".join(old))
    new = [click(1, brand="x"), click(event_time="2020-09-25 00:00:00 UTC")]
    more = desk.land(HEADER + new[0] + "".join(old[1:]) + new[1], "more.csv")
    assert (more.rows, more.good, more.duplicates, more.rejected) == (4, 2, 2, 0)
    assert "first to land stays" in more.notes[0]
    assert len(desk.kept()) == 5
    desk.audit()
    all_known = desk.land(HEADER + old[2] + new[1], "known.csv")
    assert (all_known.good, all_known.duplicates, all_known.first_at) == (0, 2, None)
    assert len(desk.kept()) == 5
    desk.audit()


def test_a_row_of_the_sample_is_none_of_a_file(desk: Desk) -> None:
    desk.land(HEADER + click(), source="sample")
    assert desk.land(HEADER + click() + click(1), "more.csv").duplicates == 0
    assert len(desk.kept()) == 3
    desk.audit()


def test_a_simulated_file_is_told_from_the_others(desk: Desk) -> None:
    desk.land(HEADER + click(), source="sample")
    assert desk.kept("source") == [("sample",)]
    with pytest.raises(InputError, match="expected files or sample, found 'topic'"):
        desk.land(HEADER + click(1), source="topic")


@pytest.mark.parametrize("step", ["_write_rejected", "_write_events", "_write_ledger"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_landing_that_dies_leaves_nothing_and_its_next_try_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str, is_after: bool
) -> None:
    desk.land(HEADER + click(7) + click(8, price="x"), "first.csv")
    done: Callable[..., None] = getattr(EventLanding, step)

    def dies(*told: Any) -> None:
        if is_after:
            done(*told)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EventLanding, step, dies)
        patch.setattr(EventLanding, "_undo_unfinished", lambda landing: None)  # as if killed
        with pytest.raises(KeyboardInterrupt):
            desk.land(ROWS)
    is_landed = is_after and step == "_write_ledger"
    with desk.landing.held():
        desk.audit()
        assert len(desk.landing.ledger()) == 1 + is_landed
        assert not (desk.landing.folder / module.UNFINISHED).exists()
    assert desk.land(ROWS).good == (0 if is_landed else 2)
    assert len(desk.kept()) == 3
    assert [line for line, *_ in desk.rejected()] == [3, 4]
    desk.audit()


def test_a_landing_that_fails_takes_out_what_it_wrote(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*told: Any) -> None:
        raise TidemillError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(EventLanding, "_write_ledger", fails)
        with pytest.raises(TidemillError, match="the disk is full"):
            desk.land(ROWS)
    assert desk.is_untouched()
    assert desk.counts(ROWS) == (4, 2, 1, 1)
    desk.audit()


def test_rejected_rows_that_cannot_be_committed_leave_no_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*told: Any) -> None:
        raise TidemillError("a rival was faster")

    monkeypatch.setattr(stream, "add", fails)
    with pytest.raises(TidemillError):
        desk.land(ROWS)
    assert not list(desk.lake.folder(REJECTED_ROWS).rglob("*.parquet"))


def test_one_file_landed_twice_at_once_lands_once(desk: Desk) -> None:
    path = desk.save(ROWS)
    reports = []

    def land() -> None:
        reports.append(EventLanding(desk.lake, desk.landing.folder).land_file(path))

    threads = [threading.Thread(target=land) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.good for report in reports) == [0, 0, 2]
    desk.audit()


def test_memory_that_is_too_little_is_told(desk: Desk) -> None:
    landing = EventLanding(desk.lake, desk.landing.folder, memory_limit_mb=1)
    with pytest.raises(TidemillError, match=r"1 MiB are too few .*TIDEMILL_MEMORY_MB"):
        landing.land_file(desk.save(HEADER + "".join(click(n % 3600) for n in range(50_000))))


def test_a_file_of_the_inbox_lands_and_a_refused_one_is_kept_beside_its_reason(desk: Desk) -> None:
    folder = inbox.folder(desk.landing)
    (folder / "good.csv").write_text(ROWS)
    (folder / "bad.csv").write_text("nothing\n")
    assert inbox.take(desk.landing, "good.csv") == (
        "good.csv: 4 rows, 2 good, 1 duplicates, 1 rejected; rows that are equal in all nine "
        "columns count once, in one file or in several; the first to land stays"
    )
    assert inbox.take(desk.landing, "bad.csv").startswith("refused: ")
    assert list(folder.iterdir()) == []
    assert {p.name for p in (desk.landing.folder / "refused").iterdir()} == {
        "bad.csv",
        "bad.csv.txt",
    }


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.parametrize("text", [None, HEADER])
def test_what_has_the_name_of_a_file_that_another_run_took_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_refused: bool, text: str | None
) -> None:
    path = inbox.folder(desk.landing) / "good.csv"
    path.write_text(ROWS)

    def taken(_: Path) -> str:
        path.unlink()
        if text is not None:
            path.write_text(text)
        if is_refused:
            raise InputError("there is no such file")
        return "landed"

    monkeypatch.setattr(desk.landing, "told", taken)
    said = "good.csv: no longer in the inbox" if is_refused else "landed"
    assert inbox.take(desk.landing, "good.csv") == said
    assert path.exists() == (text is not None)
    assert not (desk.landing.folder / "refused").exists()
