"""Files land and are sent again alike: the same rows are good, and the same files are refused."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.events.intake.desk import HEADER, Desk, click
from tidemill.engines.duck import connection
from tidemill.errors import InputError
from tidemill.events.replay import Plan, Replay, read
from tidemill.events.topics import FIELDS

NAMES = [column.name for column in FIELDS]
ODD = {
    "event_time": [
        *("1600948626.9999", "1600948626000", "2020-09-24T13:57:06.99999+02:00", " 1600948627 "),
        *("9999-12-31 23:59:59.9999", "9999-12-31 23:59:59 -05:00", "9999.9999", "soon", ""),
    ],
    "event_type": [" view ", "remove_from_cart", " ", '"a\tb"', ""],
    "product_id": ["12.0", "1.5", "1e3", "1_0", "+7", "007", "9" * 30, ""],
    "category_id": ["12.0", "12.5", "1_2", " 12 ", "shoes", ""],
    "category_code": ["  ", " a.b ", ""],
    "brand": [
        *(" acme ", '"two\nlines"', '"a,b;c"', '"the ""best"""', '5" nail', '"open', '"a"b'),
        *("<b>\N{SNOWMAN}</b>\\n|\x1en", "", "NULL", "   "),
    ],
    "price": ["1_000", "-0.0", "1e8", "1e10", "nan", "inf", "-1", ".5", " 7.25 ", "0x10", ""],
    "user_id": ["541312140.0", "me", "-3", ""],
    "user_session": ["   ", " s ", "", '"s, with; more"'],
}
LINES = ["", "  ", "nonsense", "2020-09-24 11:57:06 UTC,view,1996170", click().strip() + ",more"]


def nasty(seed: int = 0) -> str:
    """Each odd value in a row of its own, rows with two, and lines that are no rows; in any order.

    The first and the last row are good ones, by which a file without a header is known.
    """
    rng = random.Random(seed)
    rows = [click(n, **{name: odd}) for name, many in ODD.items() for n, odd in enumerate(many)]
    for n in range(100):
        told = {name: rng.choice(ODD[name]) for name in rng.sample(NAMES, 2)}
        rows.append(click(n, **told))
    rows += [click(n) for n in range(200)] + [line + "\n" for line in LINES]
    rng.shuffle(rows)
    return click(1) + "".join(rows) + click(2)


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", content)
    return packed.getvalue()


def semicolons(text: str) -> bytes:
    return text.replace(",", ";").encode()


FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: (HEADER + text).encode(),
    "no header": str.encode,
    "byte order mark": lambda text: (HEADER + text).encode("utf-8-sig"),
    "CRLF": lambda text: (HEADER + text).replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: (HEADER + text).encode("utf-16"),
    "semicolons": lambda text: semicolons(HEADER + text),
    "semicolons, no header": semicolons,
    "cut": lambda text: (HEADER + text)[:-14].encode(),
    "gzip": lambda text: gzip.compress((HEADER + text).encode()),
    "zip": lambda text: zipped((HEADER + text).encode()),
    "broken bytes": lambda text: (HEADER + text).encode().replace(b"acme", b"caf\xe9\x00"),
}


def sent(path: Path) -> tuple[list[tuple[Any, ...]], int]:
    """The nine columns and the instant, epoch ms, of each message, and how many rows are left out.

    The instant is the one that the replay says.
    """
    found, skipped = [], 0
    with connection(256) as con:
        for batch in Replay(con, read(con, [path]), Plan("event_type", 3)).batches():
            for at_ms, body in zip(batch.times_ms, batch.bodies, strict=True):
                event = json.loads(body + b"}")
                found.append((*(event[name] for name in NAMES), at_ms))
            skipped += len(batch.skipped)
    return found, skipped


def hold_together(desk: Desk, content: bytes) -> int:
    """See that a file lands and is sent alike; returns how many of its rows are good."""
    report = desk.land(content)
    events, skipped = sent(desk.outside / "events.csv")
    assert (len(events), skipped) == (report.good + report.duplicates, report.rejected)
    once = list(dict.fromkeys(events))  # equal rows are sent each, and the first of them lands
    assert once == desk.kept(f"{', '.join(NAMES)}, epoch_ms(event_timestamp)")
    return report.good


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_are_good_for_ingest_are_those_that_are_sent_in_their_order(
    desk: Desk, form: str
) -> None:
    good = hold_together(desk, FORMS[form](nasty()))
    assert 200 < good < 400


@pytest.mark.parametrize("seed", range(1, 4))
def test_that_holds_too_where_each_line_is_a_row(desk: Desk, seed: int) -> None:
    broken = ('"', "\x1e")
    rows = nasty(seed).splitlines(keepends=True)
    sound = [row for row in rows if row.count(",") == 8 and not any(mark in row for mark in broken)]
    good = hold_together(desk, (HEADER + "".join(sound)).encode())
    assert 200 < good < len(sound) < len(rows)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n\n",
        HEADER.encode(),
        (HEADER + click(price="1_000")).encode(),
        (HEADER + click(price='"1\r\n2\x1b[0m"')).encode(),
        (HEADER + click(event_time="9999-12-31 23:59:59 -05:00") + "cut,short").encode(),
        (HEADER.replace("price", "cost") + click()).encode(),
        (HEADER.replace("brand", "price") + click()).encode(),
        b"a,b\n1,2\n",
        b'[{"event_time": 1600948626}]',
        b"PAR1" + bytes(50),
        gzip.compress((HEADER + click()).encode())[:-12],
        gzip.compress((HEADER + nasty()).encode())[:500],
        zipped((HEADER + nasty()).encode())[:-40],
        zipped((HEADER + nasty()).encode())[:500],
        zipped((HEADER + nasty()).encode()).replace(b"inside", b"in/ide"),
    ],
)
def test_a_file_that_ingest_refuses_is_refused_in_the_same_line(desk: Desk, content: bytes) -> None:
    path = desk.save(content)
    with pytest.raises(InputError) as landing:
        desk.landing.land_file(path)
    with pytest.raises(InputError) as sending:
        sent(path)
    told = str(sending.value)
    assert told == str(landing.value)
    assert told.startswith(f"{path}: ") and len(told.splitlines()) == 1


def test_a_folder_and_a_download_under_way_are_refused_alike(desk: Desk) -> None:
    for path in (desk.outside, desk.save(HEADER + click(), "events.csv.part")):
        with pytest.raises(InputError) as landing:
            desk.landing.land_file(path)
        with pytest.raises(InputError) as sending:
            sent(path)
        assert str(sending.value) == str(landing.value)
