"""Real candle files land whole: each is held against a reading of it that shares no code with ours.

The files are not part of this repository. ``TIDEMILL_REAL_DATA`` names the folder that has them
under ``crypto/``; its default is ``shared/data`` beside the repository.
"""

import csv
import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tidemill.crypto.build import Crypto
from tidemill.crypto.contracts import DAILY_OHLC, REJECTED_ROWS, TABLES
from tidemill.crypto.intake.landing import Landed, Landing
from tidemill.engines.duck import DuckEngine
from tidemill.errors import InputError
from tidemill.lake.store import Lake

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data")) / "crypto"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BITFINEX = ("time", "open", "close", "high", "low", "volume")

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there: set TIDEMILL_REAL_DATA"),
]


@dataclass(frozen=True)
class Real:
    """A real file, and how to read it without our code.

    Attributes:
        name: Of the file.
        symbol: Trading pair that its name tells.
        interval_s: Length of its bars.
        rows: Data rows, as counted when the file was chosen.
        fields: Columns of the time, open, high, low, close and volume: names, or places.
        header: Names to give; None where the file has a header.
        shift_s: From its times to the starts of its bars.
    """

    name: str
    symbol: str
    interval_s: int
    rows: int
    fields: tuple[str | int, ...] = ("open_time", "open", "high", "low", "close", "volume")
    header: tuple[str, ...] | None = None
    shift_s: int = 0


PLACES = (0, 1, 3, 4, 2, 5)  # in the Bitfinex files, where the close comes before high and low
YAHOO = ("Date", "Open", "High", "Low", "Close", "Volume")
REAL = [
    Real("bitfinex_BTCUSD_1m_2014.csv.gz", "BTCUSD", 60, 283_787, PLACES, BITFINEX),
    Real("bitfinex_BTCUSD_1m_2015.csv.gz", "BTCUSD", 60, 366_710, PLACES, BITFINEX),
    Real("bitfinex_ETHUSD_1m_2016.csv.gz", "ETHUSD", 60, 85_818, PLACES, BITFINEX),
    Real(
        "btcusd_1-min_data.head.csv.gz",
        "BTCUSD",
        60,
        9_999,
        ("Timestamp", "Open", "High", "Low", "Close", "Volume"),
    ),
    Real("LTCUSDT-1m-2026-02.csv.gz", "LTCUSDT", 60, 40_320),
    Real("NEARUSDT-1m-2025-11.csv.gz", "NEARUSDT", 60, 43_200),
    Real("BTC-USD.csv", "BTCUSD", 86_400, 3_484, YAHOO),
    Real("ETH-USD.csv", "ETHUSD", 86_400, 965, YAHOO),
    Real(
        "BTCUSD_1d_candles_full.csv.gz",
        "BTCUSD",
        86_400,
        5_152,
        ("unix_timestamp", "open", "high", "low", "close", "volume"),
    ),
    Real(
        "Coinbase-ETH-USD-PT1D-20160517_20260310.json.gz",
        "ETHUSD",
        86_400,
        3_582,
        ("endTime", "openPrice", "highPrice", "lowPrice", "closePrice", "volume"),
        shift_s=-86_400,
    ),
]


def records(real: Real) -> Iterator[Sequence[Any] | dict[str, Any]]:
    """The file's records, read by Python's own modules."""
    opened = gzip.open if real.name.endswith(".gz") else open
    with opened(DATA / real.name, "rt", encoding="utf-8", newline="") as text:
        if ".json" in real.name:
            yield from json.load(text)["ohlc"]
        elif real.header:
            yield from csv.reader(text)
        else:
            yield from csv.DictReader(text)


def seconds(value: Any) -> int:
    """Epoch seconds of a date, or of a number in s or ms."""
    if isinstance(value, str) and "-" in value:
        return int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    number = float(value)
    return int(number / 1000 if number > 1e11 else number)


def bars(real: Real) -> list[tuple[Any, ...]]:
    """Start (s), prices and volume of each record, in the file's order."""
    time, *values = real.fields
    return [
        (seconds(r[time]) + real.shift_s, *(float(r[v]) for v in values))  # type: ignore[index]
        for r in records(real)
    ]


def opened(folder: Path) -> Landing:
    return Landing(Lake(folder / "lake", None, TABLES), folder / "landing")


def landed(landing: Landing, real: Real) -> Landed:
    (report,) = landing.land_file(DATA / real.name, columns=real.header, now=NOW)
    return report


def kept(landing: Landing, real: Real) -> list[tuple[Any, ...]]:
    """The rows that landed, by time."""
    paths = [
        str(landing.folder / row["path"])
        for row in landing.ledger(real.symbol)
        if row["path"] and row["interval_s"] == real.interval_s
    ]
    with duckdb.connect() as con:
        return con.execute(f"select * from read_parquet({paths}) order by 1").fetchall()


def of(name: str) -> Real:
    return next(real for real in REAL if real.name.startswith(name))


@pytest.mark.parametrize("real", REAL, ids=lambda real: str(real.name))
def test_a_real_file_lands_row_by_row(tmp_path: Path, real: Real) -> None:
    landing = opened(tmp_path)
    expected = bars(real)
    firsts: dict[int, tuple[Any, ...]] = {}
    for bar in expected:
        firsts.setdefault(bar[0], bar)
    again = len(expected) - len(firsts)
    exact = sum(bar == firsts[bar[0]] for bar in expected) - len(firsts)

    report = landed(landing, real)

    assert (report.symbol, report.interval_s) == (real.symbol, real.interval_s)
    assert report.rows == len(expected) == real.rows
    assert (report.good, report.rejected) == (len(firsts), 0)
    assert (report.exact_duplicates, report.conflicting_duplicates) == (exact, again - exact)
    assert (report.first_s, report.last_s) == (min(firsts), max(firsts))
    assert kept(landing, real) == sorted(firsts.values())
    assert landing.lake.snapshot(REJECTED_ROWS).rows == 0


@pytest.mark.parametrize("real", [r for r in REAL if r.header], ids=lambda real: str(real.name))
def test_a_real_file_without_a_header_is_refused_until_its_columns_are_named(
    tmp_path: Path, real: Real
) -> None:
    with pytest.raises(
        InputError, match=r"no header, .* Say it with --columns of .*, one name a field"
    ):
        opened(tmp_path).land_file(DATA / real.name, now=NOW)


def test_recorded_answers_of_many_kinds_are_no_candle_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no list of bars in this JSON"):
        opened(tmp_path).land_file(DATA / "binance_rest_recorded_http.json.gz", now=NOW)


def test_two_real_years_land_beside_each_other(tmp_path: Path) -> None:
    landing = opened(tmp_path)
    years = [of("bitfinex_BTCUSD_1m_2015"), of("bitfinex_BTCUSD_1m_2014")]
    assert [landed(landing, year).good for year in years] == [366_710, 283_787]
    assert len(kept(landing, years[0])) == 650_497


def test_two_real_sources_of_the_same_days_keep_the_first_and_count_the_rest(
    tmp_path: Path,
) -> None:
    landing = opened(tmp_path)
    yahoo, exchange = of("BTC-USD"), of("BTCUSD_1d")
    first = {bar[0]: bar for bar in bars(yahoo)}
    second = {bar[0]: bar for bar in bars(exchange)}
    assert landed(landing, yahoo).good == len(first)

    report = landed(landing, exchange)

    shared = first.keys() & second.keys()
    same = sum(first[at] == second[at] for at in shared)
    assert (report.good, report.rejected) == (len(second) - len(shared), 0)
    assert (report.exact_duplicates, report.conflicting_duplicates) == (same, len(shared) - same)
    assert kept(landing, yahoo) == sorted((second | first).values())


DAILY = """
select (make_timestamp(t * 1000))::DATE, first(open order by t), max(high), min(low),
       last(close order by t), sum(volume order by t), count(*)
from (select {time} as t, open, high, low, close, volume
      from read_csv({path!r}, {options}, types={{'volume': 'DOUBLE'}}))
group by 1 order by 1
"""


@pytest.mark.parametrize(
    ("name", "time", "options"),
    [
        ("LTCUSDT", "open_time", "header=true"),
        (
            "bitfinex_ETHUSD",
            "time",
            "header=false, names=['time', 'open', 'close', 'high', 'low', 'volume']",
        ),
    ],
)
def test_days_of_a_real_minute_file_equal_a_plain_query_over_it(
    tmp_path: Path, name: str, time: str, options: str
) -> None:
    real = of(name)
    landing = opened(tmp_path)
    landed(landing, real)
    with duckdb.connect() as con:
        query = DAILY.format(time=time, path=str(DATA / real.name), options=options)
        expected = con.execute(query).fetchall()

    engine = DuckEngine()
    crypto = Crypto(landing.lake, engine, landing)
    crypto.all()
    engine.close()

    daily = crypto.read(DAILY_OHLC, real.symbol)
    of_file = (
        "date",
        "daily_open",
        "daily_high",
        "daily_low",
        "daily_close",
        "daily_volume",
        "cnt",
    )
    assert daily.select(of_file).rows() == expected
    assert set(daily["source"]) == {"1m"}
    assert daily["cnt"].sum() == real.rows
    assert landing.lake.inspect(DAILY_OHLC, [{"symbol": real.symbol}], 1)[0] == {}
