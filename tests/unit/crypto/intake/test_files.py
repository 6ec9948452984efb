"""Candle files of every known shape give the same bars; what cannot be told is refused."""

import gzip
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import duckdb
import pytest

from tidemill.crypto.intake import files, rows, source
from tidemill.crypto.intake.files import Layout, symbol_from, symbol_in
from tidemill.engines.duck import connection
from tidemill.errors import InputError

Bar = tuple[int, float, float, float, float, float]

START = 1_704_067_200  # 2024-01-01 00:00 UTC
LIMIT = 1_800_000_000
HEADER = "timestamp,open,high,low,close,volume"
MINUTES: list[Bar] = [
    (START + 60 * n, 100.5 + n, 109.5 + n, 99.5 + n, 100.25 + n, 1.5) for n in range(4)
]
DAYS: list[Bar] = [(START + 86_400 * n, *bar[1:]) for n, bar in enumerate(MINUTES * 5)]


@dataclass(frozen=True)
class Read:
    """What is found in a file: its layout, its good bars, its symbols with their intervals."""

    layout: Layout
    bars: list[Bar]
    intervals: dict[str, int]
    notes: tuple[str, ...]


@contextmanager
def laid_out(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[source.Text, Layout]]:
    with source.plain(path) as text:
        yield text, files.layout(text, columns)


@cache
def database() -> tuple[duckdb.DuckDBPyConnection, ExitStack]:
    """One for all tests, as opening it takes longer than reading a small file; open to the end."""
    stack = ExitStack()
    con = stack.enter_context(connection())
    con.execute("set preserve_insertion_order = true")
    return con, stack


def read(path: Path, columns: Sequence[str] | None = None) -> Read:
    con, _ = database()
    with laid_out(path, columns) as (text, layout):
        named = next((s for hint in text.hints if (s := symbol_in(hint))), None)
        parsed = rows.parse(con, text, layout, named, False, LIMIT)
        bars = con.execute(
            "select ts, open, high, low, close, volume from parsed where reason is null order by ts"
        ).fetchall()
    return Read(layout, bars, dict(parsed.intervals), parsed.notes[named or ""])


def saved(folder: Path, content: str | bytes, name: str = "BTCUSDT.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(form: str) -> Callable[[int], str]:
    """A writer of times."""
    return lambda at: datetime.fromtimestamp(at, UTC).strftime(form)


def csv(
    time: Callable[[int], str] = str,
    bars: Sequence[Bar] = MINUTES,
    header: str = HEADER,
    row: str = "{t},{o},{h},{l},{c},{v}",
) -> str:
    """A file with ``row`` for each bar."""
    lines = [
        row.format(t=time(at), o=o, h=h, l=low, c=c, v=v, n=n, end=at + 59)
        for n, (at, o, h, low, c, v) in enumerate(bars)
    ]
    return "\n".join([header, *lines] if header else lines) + "\n"


def comma(text: str) -> str:
    return text.replace(",", ";").replace(".", ",")


TWELVE = "{t},{o},{h},{l},{c},{v},{end}999,1000.5,7,0.5,500.25,0"
TWELVE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
CDD = (
    "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD"
)
JOINED = csv().splitlines()[:2] + csv(lambda at: f"{at}000").splitlines()[2:]

MINUTE_SHAPES: dict[str, str | bytes] = {
    "Kaggle ETH: seconds": csv(),
    "Kaggle BTC: float seconds": csv(
        lambda at: f"{at}.0", header="Timestamp,Open,High,Low,Close,Volume"
    ),
    "Kaggle BTC of 2021: volume in two units": csv(
        header="Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price",
        row="{t},{o},{h},{l},{c},{v},1000,100.0",
    ),
    "milliseconds": csv(lambda at: f"{at}000"),
    "microseconds": csv(lambda at: f"{at}000000"),
    "nanoseconds": csv(lambda at: f"{at}000000000"),
    "scientific notation": csv(lambda at: f"{at:.9E}"),
    "units mixed row by row": "\n".join(JOINED),
    "Binance, header, milliseconds": csv(lambda at: f"{at}000", header=TWELVE_HEADER, row=TWELVE),
    "Binance, header, microseconds": csv(
        lambda at: f"{at}000000", header=TWELVE_HEADER, row=TWELVE.replace("999", "999999")
    ),
    "Binance, no header, milliseconds": csv(lambda at: f"{at}000", header="", row=TWELVE),
    "Binance, no header, microseconds": csv(
        lambda at: f"{at}000000", header="", row=TWELVE.replace("999", "999999")
    ),
    "Binance, no header, BOM": "\ufeff" + csv(lambda at: f"{at}000", header="", row=TWELVE),
    "CryptoDataDownload, newest first": csv(
        bars=MINUTES[::-1], header=CDD, row="{t},2024-01-01,BTC/USDT,{o},{h},{l},{c},{v},100000"
    ),
    "CryptoDataDownload, the quote's volume first": csv(
        header=CDD.replace("Volume BTC,Volume USD", "Volume USD,Volume BTC"),
        row="{t},2024-01-01,BTC/USDT,{o},{h},{l},{c},100000,{v}",
    ),
    "written times": csv(told("%Y-%m-%d %H:%M:%S")),
    "written times without seconds": csv(told("%Y-%m-%d %H:%M")),
    "ISO with T and Z": csv(told("%Y-%m-%dT%H:%M:%SZ")),
    "ISO with milliseconds": csv(told("%Y-%m-%dT%H:%M:%S.000Z")),
    "ISO with an offset": csv(lambda at: told("%Y-%m-%dT%H:%M:%S+05:30")(at + 19_800)),
    "ISO with a short offset": csv(lambda at: told("%Y-%m-%d %H:%M:%S-05")(at - 18_000)),
    "UTC in words": csv(told("%Y-%m-%d %H:%M:%S UTC")),
    "slashes, year first": csv(told("%Y/%m/%d %H:%M")),
    "points, day first": csv(told("%d.%m.%Y %H:%M:%S")),
    "Dukascopy": csv(told("%d.%m.%Y %H:%M:%S.000"), header="Gmt time,Open,High,Low,Close,Volume"),
    "12 digits": csv(told("%Y%m%d%H%M")),
    "14 digits": csv(told("%Y%m%d%H%M%S")),
    "MetaTrader: date and time apart, tabs": csv(
        told("%Y.%m.%d\t%H:%M:%S"),
        header="<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>\t<SPREAD>",
        row="{t}\t{o}\t{h}\t{l}\t{c}\t{v}\t2",
    ),
    "Finam: date and time apart, digits": csv(
        told("%Y%m%d;%H%M%S"),
        header="<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>",
        row="BTCUSDT;1;{t};{o};{h};{l};{c};{v}",
    ),
    "NSE: code first, date and time apart, blanks": csv(
        told("%Y-%m-%d, %H:%M"),
        header="Code,Date,Time,Open,High,Low,Close,Volume",
        row="BTCUSDT,{t}, {o}, {h}, {l}, {c}, {v}",
    ),
    "semicolons": csv().replace(",", ";"),
    "semicolons and decimal commas": comma(csv()),
    "tabs": csv().replace(",", "\t"),
    "pipes": csv().replace(",", "|"),
    "quoted": csv(row='"{t}","{o}","{h}","{l}","{c}","{v}"'),
    "quoted header too": csv().replace(HEADER, '"' + HEADER.replace(",", '","') + '"'),
    "blanks around values": csv(row=" {t} , {o} ,{h} , {l} ,{c} , {v} "),
    "blanks and capitals in names": csv(header=" Timestamp , OPEN, High ,lOw,Close Price, Volume "),
    "units in names": csv(
        lambda at: f"{at}000",
        header="Timestamp (ms),Open (USD),High_USD,Low [USD],Close (USD),Volume (BTC)",
    ),
    "columns in another order": csv(
        header="volume,close,low,high,open,time", row="{v},{c},{l},{h},{o},{t}"
    ),
    "short names": csv(header="t,o,h,l,c,v"),
    "repeated and unknown columns": csv(
        header="time,open,high,low,close,volume,EMA,EMA,RSI", row="{t},{o},{h},{l},{c},{v},1,,NaN"
    ),
    "a row number first": csv(header=f",{HEADER}", row="{n},{t},{o},{h},{l},{c},{v}"),
    "a numeric time beside a written one": csv(
        header="date,unix,open,high,low,close,volume", row="2024-01-01,{t},{o},{h},{l},{c},{v}"
    ),
    "start and end written": csv(
        told("%Y-%m-%dT%H:%M:%S.000Z"),
        header="timeOpen;timeClose;open;high;low;close;volume;timestamp",
        row="{t};2024-01-01T23:59:59.999Z;{o};{h};{l};{c};{v};2024-01-01T23:59:59.999Z",
    ),
    "a delimiter at each line's end": csv(row="{t},{o},{h},{l},{c},{v},"),
    "a delimiter at each line's end, header too": csv(
        header=f"{HEADER},", row="{t},{o},{h},{l},{c},{v},"
    ),
    "comments and blanks before the header": f"# candles\n\n{csv()}",
    "blank lines among the rows": csv().replace("\n", "\n\n") + "   \n\t\n\n",
    "no last line end": csv().rstrip("\n"),
    "BOM": "\ufeff" + csv(),
    "CRLF": csv().replace("\n", "\r\n"),
    "CRLF and blank lines": csv().replace("\n", "\r\n\r\n"),
    "CR alone": csv().replace("\n", "\r"),
    "CR CR LF": csv().replace("\n", "\r\r\n"),
    "UTF-16": csv().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + csv().replace("\n", "\r\n").encode("utf-16-be"),
    "gzip": gzip.compress(csv().encode()),
    "gzip in name alone": csv(),
    "gzip in gzip": gzip.compress(gzip.compress(csv().encode())),
    "ends of bars, close_time": csv(
        lambda at: f"{at + 60}000", header="close_time,open,high,low,close,volume"
    ),
    "ends of bars, a millisecond before": csv(
        lambda at: f"{at + 59}999", header="close_time,open,high,low,close,volume"
    ),
    "stamped at second 59": csv(lambda at: str(at + 59)),
    "stamped at second 59, written": csv(lambda at: told("%Y-%m-%d %H:%M:%S")(at + 59)),
}
DAY_SHAPES: dict[str, str] = {
    "Yahoo": csv(
        told("%Y-%m-%d"),
        DAYS,
        "Date,Open,High,Low,Close,Adj Close,Volume",
        "{t},{o},{h},{l},{c},99.0,{v}",
    ),
    "8 digits": csv(told("%Y%m%d"), DAYS),
    "month first": csv(told("%m/%d/%Y"), DAYS),
    "day first": csv(told("%d/%m/%Y"), DAYS),
    "day first, two-digit year and a clock": csv(told("%d-%m-%y %H:%M"), DAYS),
    "month first, afternoons": csv(told("%m/%d/%Y %I:%M:%S %p"), DAYS),
    "month in words": csv(told("%b %d; %Y"), DAYS).replace(",", "|").replace(";", ","),
    "day, month in words": csv(told("%d-%b-%Y"), DAYS),
    "CoinMarketCap: only the last millisecond": csv(
        told("%Y-%m-%dT23:59:59.999Z"),
        DAYS,
        "timestamp;open;high;low;close;volume",
        "{t};{o};{h};{l};{c};{v}",
    ),
    "investing.com": csv(
        told("%m/%d/%Y"),
        DAYS[::-1],
        '"Date","Price","Open","High","Low","Vol.","Change %"',
        '"{t}","{c}","{o}","{h}","{l}","0.0015K","0.5%"',
    ),
}


@pytest.mark.parametrize("shape", MINUTE_SHAPES)
def test_a_minute_file_of_any_shape_gives_its_bars(tmp_path: Path, shape: str) -> None:
    name = "BTCUSDT.csv.gz" if "gzip" in shape else "BTCUSDT.csv"
    found = read(saved(tmp_path, MINUTE_SHAPES[shape], name))
    assert found.bars == MINUTES
    assert found.intervals == {"BTCUSDT": 60}


@pytest.mark.parametrize("shape", DAY_SHAPES)
def test_a_daily_file_of_any_shape_gives_its_bars_and_says_so(tmp_path: Path, shape: str) -> None:
    found = read(saved(tmp_path, DAY_SHAPES[shape]))
    assert found.bars == DAYS
    assert found.intervals == {"BTCUSDT": 86_400}
    assert "bars of 86400 s, kept at that interval in crypto.raw_bars" in found.notes


def grouped(value: float, sep: str, point: str) -> str:
    return f"{value:,.2f}".translate({ord(","): sep, ord("."): point})


@pytest.mark.parametrize(
    ("delimiter", "sep", "point", "quote"),
    [(",", ",", ".", '"'), (";", ",", ".", ""), (";", ".", ",", ""), (",", ".", ",", '"')],
)
def test_groups_of_thousands_are_read_by_the_fraction_beside_them(
    tmp_path: Path, delimiter: str, sep: str, point: str, quote: str
) -> None:
    bars: list[Bar] = [
        (START + 60 * n, 42_000.5, 1_042_283.75, 950.0, 42_000.25, 1_500.0) for n in range(3)
    ]
    lines = [HEADER.replace(",", delimiter)]
    for at, *values in bars:
        fields = [str(at), *(grouped(value, sep, point) for value in values)]
        lines.append(delimiter.join(f"{quote}{field}{quote}" for field in fields))
    assert read(saved(tmp_path, "\n".join(lines))).bars == bars


def test_a_comma_before_three_digits_alone_is_refused_as_it_may_be_either(tmp_path: Path) -> None:
    row = f"{START};42,283;42,300;42,000;42,100;1,500"
    with pytest.raises(
        InputError, match=r"BTCUSDT.csv: '42,283' may be over a thousand or have a "
    ):
        read(saved(tmp_path, f"{HEADER.replace(',', ';')}\n{row}\n"))


def test_a_date_that_may_be_either_is_refused_and_told_how_to_write(tmp_path: Path) -> None:
    first_days = csv(told("%m/%d/%Y %H:%M"), MINUTES)
    with pytest.raises(
        InputError, match=r"01/01/2024 00:00'.*no date in it has a day over 12; write"
    ):
        read(saved(tmp_path, first_days))
    both = csv(told("%m/%d/%Y"), DAYS) + csv(told("%d/%m/%Y"), DAYS * 2, header="")
    with pytest.raises(InputError, match="both ways of writing are in it; write dates as 2024-01"):
        read(saved(tmp_path, both))


def test_one_odd_date_does_not_turn_a_file_around(tmp_path: Path) -> None:
    days: list[Bar] = [(START + 86_400 * n, *MINUTES[0][1:]) for n in range(400)]
    found = read(saved(tmp_path, csv(told("%m/%d/%Y"), days) + "31/12/2025,1,1,1,1,1\n"))
    assert found.bars == days


def test_a_file_without_a_header_is_refused_with_the_way_to_name_its_columns(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, csv(lambda at: f"{at}000", header="", row="{t},{o},{c},{h},{l},{v}"))
    with pytest.raises(InputError) as refusal:
        read(path)
    assert str(refusal.value) == (
        f"{path}: line 1 has 6 fields and no header, so which is which cannot be told: "
        "'1704067200000,100.5,100.25,109.5,99.5,1.5'. Say it with --columns of "
        "'tidemill ingest crypto', one name a field, "
        "for example --columns time,open,high,low,close,volume"
    )
    assert read(path, ["time", "open", "close", "high", "low", "volume"]).bars == MINUTES


@pytest.mark.parametrize(
    "content",
    [
        csv(header=""),
        csv(header="a,b,c,d,e,f"),
        "\n\n" + csv(header="a,b,c,d,e,f"),
        csv(header="", row="{t},{o},{h},{l},{c},{v},"),
        "\ufeff" + csv(header=""),
        csv(header="").replace(",", ";"),
    ],
    ids=["bare", "strange header", "blank lines first", "trailing comma", "BOM", "semicolons"],
)
def test_given_columns_stand_for_a_header_that_is_missing_or_strange(
    tmp_path: Path, content: str
) -> None:
    assert read(saved(tmp_path, content), HEADER.split(",")).bars == MINUTES


def test_given_columns_take_a_first_row_without_prices_for_a_row(tmp_path: Path) -> None:
    row = "{t};{o};{h};{l};{c};{v}"
    content = csv(told("%b %d, %Y"), DAYS, "Dec 31, 2023;NaN;NaN;NaN;NaN;NaN", row)
    found = read(saved(tmp_path, content), HEADER.split(","))
    assert found.layout.skip == 0
    assert [bar[0] for bar in found.bars] == [START - 86_400, *(bar[0] for bar in DAYS)]


def test_too_few_given_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--columns names 2 columns \(time,open\), line 1 has 6:"):
        read(saved(tmp_path, csv(header="")), ["time", "open"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEADER, r"a header \(timestamp, open, high, low, close, volume\) and no rows under it"),
        (f"{HEADER}\n\n \n", "no rows under it"),
        (csv(header="timestamp,open,high,low,close,turnover"), "no column for volume; it has time"),
        (csv(header="day no,open,high,low,close,volume"), "no column for time; it has day no"),
        ("symbol,side,price,size,id\nBTCUSDT,buy,1,2,3\n", "expected a header naming time, open"),
        (
            "to be or not to be",
            "expected a header naming time, open, .* found 'to be or not to be'",
        ),
    ],
)
def test_a_file_without_a_column_or_a_row_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(InputError, match=words) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}: ")


RECORDS = [
    {"openTime": at * 1000, "open": str(o), "high": h, "low": low, "close": c, "volume": v}
    for at, o, h, low, c, v in MINUTES
]
LISTS = [[at * 1000, o, h, low, c, v] for at, o, h, low, c, v in MINUTES]
COLUMNS = {name: [bar[n] for bar in MINUTES] for n, name in enumerate("tohlcv")}
JSON_SHAPES: dict[str, str] = {
    "objects": json.dumps(RECORDS, indent=1),
    "objects in an object": json.dumps({"code": 0, "data": {"bars": RECORDS, "next": []}}),
    "objects beside a symbol": json.dumps({"symbol": "BTC-USDT", "candles": RECORDS}),
    "another key in one": json.dumps([*RECORDS[:3], {**RECORDS[3], "trades": 5}]),
    "JSON Lines": "\n".join(json.dumps(record) for record in RECORDS),
    "JSON Lines, blank ones too": "\n\n".join(json.dumps(record) for record in RECORDS) + "\n",
    "columns, as chart servers send them": json.dumps({"s": "ok", **COLUMNS}),
    "columns, as pandas writes them": json.dumps(
        {name: dict(enumerate(values)) for name, values in COLUMNS.items()}
    ),
    "columns under their times, as pandas writes them": json.dumps(
        {
            name: dict(zip(COLUMNS["t"], COLUMNS[name], strict=True))
            for name in COLUMNS
            if name != "t"
        }
    ),
    "Binance's REST answer": json.dumps(
        [
            [a, str(o), str(h), str(lo), str(c), str(v), a + 59_999, "1", 2, "3", "4", "0"]
            for a, o, h, lo, c, v in LISTS
        ]
    ),
    "ends of bars": json.dumps(
        {
            "name": "BTC-USDT",
            "ohlc": [
                {
                    "endTime": (at + 60) * 1000,
                    "openPrice": o,
                    "highPrice": h,
                    "lowPrice": low,
                    "closePrice": c,
                    "volume": v,
                    "amount": 0,
                }
                for at, o, h, low, c, v in MINUTES
            ],
        }
    ),
}


@pytest.mark.parametrize("shape", JSON_SHAPES)
def test_json_of_any_shape_gives_its_bars(tmp_path: Path, shape: str) -> None:
    found = read(saved(tmp_path, JSON_SHAPES[shape], "BTCUSDT.json"))
    assert found.bars == MINUTES
    assert found.intervals == {"BTCUSDT": 60}


def test_a_key_that_the_first_record_lacks_is_a_column_all_the_same(tmp_path: Path) -> None:
    first = {name: value for name, value in RECORDS[0].items() if name != "volume"}
    found = read(saved(tmp_path, json.dumps([first, *RECORDS[1:]]), "BTCUSDT.json"))
    assert [bar[5] for bar in found.bars] == [None, 1.5, 1.5, 1.5]


def test_one_bar_alone_is_json_too(tmp_path: Path) -> None:
    assert read(saved(tmp_path, json.dumps(RECORDS[0]), "BTCUSDT.json")).bars == MINUTES[:1]


def test_json_lists_without_names_need_them(tmp_path: Path) -> None:
    path = saved(tmp_path, json.dumps({"result": {"XXBTZUSD": LISTS, "last": 5}}), "BTCUSDT.json")
    with pytest.raises(InputError, match="Say it with --columns"):
        read(path)
    found = read(path, HEADER.split(","))
    assert (found.bars, found.intervals) == (MINUTES, {"BTCUSDT": 60})


def test_the_symbol_in_a_json_document_is_surer_than_the_file_s_name(tmp_path: Path) -> None:
    content = json.dumps({"symbol": "ETH-USD", "candles": RECORDS})
    assert read(saved(tmp_path, content)).intervals == {"ETHUSD": 60}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "found no list of bars in this JSON"),
        ("{}", "found no list of bars in this JSON"),
        ('{"error": "no such symbol"}', "found no list of bars in this JSON"),
        ('[{"price": 5}]', "found no list of bars in this JSON"),
        (json.dumps({"a": RECORDS, "b": RECORDS}), r"found 2 lists of bars in this JSON \(a, b\)"),
        (json.dumps(RECORDS)[:-20], "this is no JSON, or it is cut short: "),
        ("[" * 100_000, "this (is no JSON|JSON is nested too deeply)"),
        (b'[{"open": "\xff"}]', "this JSON is not UTF-8"),
    ],
    ids=["list", "object", "error", "no bars", "two lists", "cut short", "deep", "bytes"],
)
def test_json_without_one_list_of_bars_is_refused(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    with pytest.raises(InputError, match=rf"BTCUSDT\.json: .*{words}"):
        read(saved(tmp_path, content, "BTCUSDT.json"))


@pytest.mark.parametrize(
    ("times", "interval_s"),
    [
        ([0], 60),
        ([0, 60], 60),
        ([0, 120, 240, 300], 60),  # a minute file with gaps
        ([0, 120, 300], 60),
        ([0, 86_400, 169_200], 86_400),  # a day of 23 hours
        ([0, 60, 660, 1260, 1860, 2460, 3060], 600),  # the first is off
        ([0, 300, 600, 900, 3600], 300),
        ([0, 3600, 7200, 10_800], 3600),
        ([3600, 0, 10_800, 7200], 3600),
        ([0, 3600, 7200, 90_000, 93_600], 3600),
        ([86_400 * n for n in (0, 31, 60, 91, 121, 152, 182)], 86_400 * 31),
        ([604_800 * n for n in range(4)], 604_800),
    ],
)
def test_bars_are_as_long_as_the_commonest_step(
    tmp_path: Path, times: list[int], interval_s: int
) -> None:
    bars: list[Bar] = [(START + at, *MINUTES[0][1:]) for at in times]
    assert read(saved(tmp_path, csv(bars=bars))).intervals == {"BTCUSDT": interval_s}


@pytest.mark.parametrize("step_s", [1, 30, 90])
def test_bars_that_are_no_number_of_minutes_long_are_refused(tmp_path: Path, step_s: int) -> None:
    bars: list[Bar] = [(START + step_s * n, *MINUTES[0][1:]) for n in range(8)]
    with pytest.raises(InputError, match=rf"its bars are {step_s} s apart; bars of whole minutes"):
        read(saved(tmp_path, csv(bars=bars)))


def test_one_bar_is_as_long_as_its_columns_say(tmp_path: Path) -> None:
    day = csv(told("%Y-%m-%d"), DAYS[:1])
    assert read(saved(tmp_path, day)).intervals == {"BTCUSDT": 86_400}
    hour = f"{START}000,1,1,1,1,1,{START + 3599}999,1,1,1,1,0\n"
    assert read(saved(tmp_path, hour)).intervals == {"BTCUSDT": 3600}
    wrong = csv(lambda at: f"{at}000", header="", row=TWELVE.replace("{end}999", "1800000000000"))
    assert read(saved(tmp_path, wrong)).intervals == {"BTCUSDT": 60}
    second = f"{START}000,1,1,1,1,1,{START}999,1,1,1,1,0\n"
    with pytest.raises(InputError, match="its bars are 1 s apart"):
        read(saved(tmp_path, second))


def test_each_symbol_of_a_file_has_its_own_interval(tmp_path: Path) -> None:
    header = f"symbol,{HEADER}"
    minutes = csv(header=header, row="ETH/USDT,{t},{o},{h},{l},{c},{v}")
    days = csv(bars=DAYS, header="", row="btc-usdt,{t},{o},{h},{l},{c},{v}")
    found = read(saved(tmp_path, minutes + days, "all.csv"))
    assert found.intervals == {"ETHUSDT": 60, "BTCUSDT": 86_400}


def test_days_that_start_elsewhere_than_midnight_are_kept_and_told(tmp_path: Path) -> None:
    shifted: list[Bar] = [(at + 18_000, *values) for at, *values in DAYS]  # type: ignore[misc]
    found = read(saved(tmp_path, csv(bars=shifted)))
    assert found.bars == shifted
    assert "days start at 05:00 UTC; each counts for the UTC day that it starts in" in found.notes


def test_lines_that_are_no_rows_teach_nothing_of_the_others(tmp_path: Path) -> None:
    outages = "2024-01-01 12:00 outage of 1,5 hours\n" * 20
    found = read(saved(tmp_path, HEADER + "\n" + outages + csv(header="")))
    assert (found.bars, found.notes) == (MINUTES, ())
    ends = csv(row="{t},{o},{h},{l},{c},{v},")
    assert read(saved(tmp_path, ends)).notes == ()


def test_written_times_without_a_zone_are_said_to_be_taken_as_utc(tmp_path: Path) -> None:
    note = "times without a zone are taken as UTC"
    assert note in read(saved(tmp_path, csv(told("%Y-%m-%d %H:%M:%S")))).notes
    assert note not in read(saved(tmp_path, csv(told("%Y-%m-%dT%H:%M:%SZ")))).notes
    assert note not in read(saved(tmp_path, csv())).notes


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("btcusd_1-min_data.csv", "BTCUSD"),
        ("BTCUSDT-1m-2024-01.zip", "BTCUSDT"),
        ("Binance_ETHUSDT_minute.csv", "ETHUSDT"),
        ("Bitstamp_BTCUSD_2024_minute.csv", "BTCUSD"),
        ("bitfinex_BTCUSD_1m_2014.csv.gz", "BTCUSD"),
        ("gemini_BTC_USD_day.csv", "BTCUSD"),
        ("Coinbase-ETH-USD-PT1D-20160517.json.gz", "ETHUSD"),
        ("BTC-USD.csv", "BTCUSD"),
        ("ETHBTC-1m-2024-01.csv", "ETHBTC"),
        ("1INCHUSDT-1m.csv", "1INCHUSDT"),
        ("1000SHIBUSDT_1m.csv", "1000SHIBUSDT"),
        ("BINANCE_SOLUSDT, 1D.csv", "SOLUSDT"),
        ("sample_SOLUSDT_1m.csv", "SOLUSDT"),
        ("btc usd (1).csv", None),
        ("bitstampUSD_1-min_data_2012-01-01_to_2021-03-31.csv", None),
        ("candles.csv", None),
        ("data_USD.csv", None),
        ("2024-USD.csv", None),
        ("1m_BTC.csv", None),
        ("kaggle_btc.csv", None),
        ("my_ETH.csv", None),
        ("prices-EUR-2024.csv", None),
    ],
)
def test_a_name_tells_its_symbol_or_nothing_at_all(name: str, symbol: str | None) -> None:
    assert symbol_in(name) == symbol


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("btc-usdt", "BTCUSDT"), ("BTC/USD", "BTCUSD"), ("eth_usd", "ETHUSD"), ("BRK.B", "BRK.B")],
)
def test_a_given_symbol_loses_its_separators(text: str, symbol: str) -> None:
    assert symbol_from(text) == symbol


@pytest.mark.parametrize("text", ["", "B", "..", "../../etc", "B\u0410TC", "BTC USDT!", "A" * 25])
def test_a_given_symbol_that_could_not_name_a_folder_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected 2 to 24 letters and digits, as BTCUSDT"):
        symbol_from(text)


def zipped(folder: Path, members: dict[str, str], name: str = "archive.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / name


def test_a_zip_with_one_file_is_read_and_its_member_tells_the_symbol(tmp_path: Path) -> None:
    found = read(zipped(tmp_path, {"BTCUSDT-1m.csv": csv(), "__MACOSX/._BTCUSDT-1m.csv": "x"}))
    assert (found.bars, found.intervals) == (MINUTES, {"BTCUSDT": 60})


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "expected a zip with one file, found 0; unpack"),
        (
            {"a.csv": csv(), "b.csv": csv()},
            r"expected a zip with one file, found 2 \(a.csv, b.csv\)",
        ),
        ({"../../a.csv": csv()}, r"expected a plain file name in the zip, found '../../a.csv'"),
        ({"/etc/a.csv": csv()}, "expected a plain file name in the zip, found '/etc/a.csv'"),
        ({"data/a.csv": csv()}, "expected a plain file name in the zip, found 'data/a.csv'"),
        ({"C:a.csv": csv()}, "expected a plain file name in the zip, found 'C:a.csv'"),
        ({".hidden": csv()}, "expected a plain file name in the zip, found '.hidden'"),
        ({"a.csv": ""}, "the file is empty once unpacked"),
        ({"[Content_Types].xml": "<x/>", "xl/a.xml": "<x/>"}, "this is an Excel workbook; save it"),
    ],
    ids=["none", "two", "up", "root", "folder", "drive", "hidden", "empty", "Excel"],
)
def test_a_zip_with_anything_but_one_plain_file_is_refused(
    tmp_path: Path, members: dict[str, str], words: str
) -> None:
    folder = tmp_path / "inbox" / "today"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match=rf"archive\.zip: {words}"):
        read(zipped(folder, members))
    assert [path.name for path in tmp_path.glob("**/*") if path.is_file()] == ["archive.zip"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"\n\r\n \t\n", "the file is empty: nothing but blanks and line ends"),
        (gzip.compress(b""), "the file is empty once unpacked"),
        (b"PAR1\x00\x01", "this is a Parquet file; candles are taken from CSV or JSON text"),
        (b"%PDF-1.7", "this is a PDF"),
        (b"BZh91AY", "this is a bzip2 file; unpack it first"),
        (b"\x28\xb5\x2f\xfd\x00", "this is a zstd file; unpack it first"),
        (b"\xd0\xcf\x11\xe0\xa1", "this is an old Excel workbook; save it as CSV"),
        (b"<!DOCTYPE html><html>", "this is a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "this is a Git LFS pointer, not the"),
        (b"\x7fELF\x00\x00\x00\x01\x00\x00", "byte 4 and many more are NUL, so this is no text"),
        (csv().encode("utf-16-le"), "many more are NUL, so this is no text"),
    ],
    ids=["no bytes", "blanks", "empty gzip", "Parquet", "PDF", "bzip2", "zstd", "Excel", "page",
         "LFS", "program", "UTF-16 without its mark"],
)  # fmt: skip
def test_a_wrong_file_type_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(InputError, match=words) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_gzip_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    whole = gzip.compress(csv(bars=MINUTES * 500).encode(), compresslevel=1)
    path = saved(tmp_path, whole[: int(len(whole) * kept)], "BTCUSDT.csv.gz")
    with pytest.raises(
        InputError, match=r"gz: the gzip file is damaged or cut short after \d+ unp"
    ):
        read(path)


def test_a_gzip_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(csv().encode()))
    whole[-8] ^= 0xFF
    with pytest.raises(InputError, match="damaged or cut short"):
        read(saved(tmp_path, bytes(whole), "BTCUSDT.csv.gz"))


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    whole = zipped(tmp_path, {"a.csv": csv()}).read_bytes()
    with pytest.raises(InputError, match="the zip file is damaged"):
        read(saved(tmp_path, whole[:-30], "BTCUSDT.zip"))


def test_archives_in_archives_in_archives_are_refused(tmp_path: Path) -> None:
    content = csv().encode()
    for _ in range(4):
        content = gzip.compress(content)
    with pytest.raises(InputError, match="found archives in archives"):
        read(saved(tmp_path, content))


def test_what_is_no_file_is_refused_for_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"BTCUSDT\.csv: there is no such file"):
        read(tmp_path / "BTCUSDT.csv")
    with pytest.raises(InputError, match="this is a folder; name the files in it"):
        read(tmp_path)
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match=r"dangling\.csv: there is no such file"):
        read(tmp_path / "dangling.csv")


def test_a_path_that_no_message_could_show_is_refused(tmp_path: Path) -> None:
    for name in (os.fsdecode(b"BTCUSDT\xff.csv"), "BTCUSDT\n.csv"):
        with pytest.raises(InputError, match="rename it; its path has characters that cannot be"):
            read(saved(tmp_path, csv(), name))


def test_a_link_is_read_as_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT.csv").symlink_to(saved(tmp_path, csv(), "else.csv"))
    assert read(tmp_path / "BTCUSDT.csv").bars == MINUTES


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, csv())

    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match=r"BTCUSDT\.csv: cannot be read \(Permission denied\)"):
        read(path)


@pytest.mark.parametrize("ending", [".part", ".crdownload", ".download"])
def test_a_download_under_way_is_refused_by_its_ending(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match="is the ending of a download under way"):
        read(saved(tmp_path, csv(), f"BTCUSDT.csv{ending}"))


@pytest.mark.parametrize(
    "name",
    [
        "it's BTCUSDT.csv",
        "[1] BTCUSDT *.csv",
        "BTCUSDT?.csv",
        "BTCUSDT {a,b}.csv",
        "比特币\u202f\u3000BTCUSDT.csv",
    ],
)
def test_a_strange_path_is_a_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "c0=x" / "[ab] it's"
    folder.mkdir(parents=True)
    saved(folder, csv(bars=MINUTES[:1]), "a BTCUSDT b.csv")  # what a glob might take instead
    assert read(saved(folder, csv(), name)).bars == MINUTES
