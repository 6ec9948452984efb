"""The real clickstream file lands whole, held against a reading that shares no code with ours.

The file is not part of this repository. ``TIDEMILL_REAL_DATA`` names the folder that has it under
``events/``; its default is ``shared/data`` beside the repository.
"""

import gzip
import json
import os
from pathlib import Path

import duckdb
import pytest

from tidemill.commands import ingest_events
from tidemill.settings import Settings

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data")) / "events"
FILE = DATA / "2019-Oct_first17k.csv.gz"
NINE = (
    "event_time, event_type, product_id, category_id, category_code, brand, price, user_id, "
    "user_session"
)

pytestmark = [
    pytest.mark.skipif(not FILE.is_file(), reason=f"{FILE} is not there: set TIDEMILL_REAL_DATA"),
]


def test_the_real_file_lands_whole_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.current(tmp_path)
    assert ingest_events.ingest(settings, [FILE], as_json=True) == []
    (report,) = json.loads(capsys.readouterr().out)["landed"]
    counts = [report[name] for name in ("rows", "good", "duplicates", "rejected")]
    assert counts == [17_435, 17_429, 5, 1]

    lines = gzip.decompress(FILE.read_bytes()).decode().split("\r\n")
    whole = tmp_path / "whole.csv"  # without the last line, which is cut
    whole.write_text("\n".join(lines[:-1]) + "\n")
    with duckdb.connect(str(settings.catalogue), read_only=True) as con:
        con.execute("set timezone = 'UTC'")
        theirs = f"(select distinct * from read_csv('{whole}', all_varchar = true))"
        assert con.sql(f"select count(*) from {theirs}").fetchall() == [(counts[1],)]
        typed = (
            "event_time, event_type, product_id::bigint, category_id::bigint, category_code, "
            "brand, price::double, user_id::bigint, user_session"
        )
        for one, other in (("ours", "theirs"), ("theirs", "ours")):
            lacking = con.execute(
                f"with ours as (select {NINE} from events.file_events), "
                f"theirs as (select {typed} from {theirs}) "
                f"from {one} except all from {other}"
            ).fetchall()
            assert lacking == []
        told = con.execute("select line, event_time, price, user_session from events.file_events")
        for line, time, price, session in told.fetchall():
            fields = lines[line - 1].split(",")
            assert (fields[0], float(fields[6]), fields[8]) == (time, price, session)
        times = "strptime(event_time, '%Y-%m-%d %H:%M:%S UTC')"
        off = f"{times} <> event_timestamp or event_timestamp::date <> date"
        assert con.execute(f"select 1 from events.file_events where {off}").fetchall() == []
        assert con.execute("select line, reason, raw from events.rejected_rows").fetchall() == [
            (17_436, "expected 9 fields, found 8", lines[-1])
        ]


def test_what_came_of_files_is_shown_with_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.current(tmp_path)
    refused = ingest_events.ingest(settings, [FILE, tmp_path / "none.csv"], as_json=False)
    shown = capsys.readouterr()
    assert refused == [f"{tmp_path / 'none.csv'}: there is no such file"]
    assert "Refused:" in shown.err
    for part in ("17,435", "17,429", "2019-10-01 02:50:00", "Next: tidemill run events"):
        assert part in shown.out
    assert "from events.rejected_rows" in shown.out
    ingest_events.ingest(settings, [FILE], as_json=False)
    assert "into source files: nothing to do" in capsys.readouterr().out
