"""Claims about ``crypto.charts``: what is drawn, what is left out, and that it is a small PNG."""

import io
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tidemill import plot
from tidemill.crypto import charts

FIRST = date(2024, 1, 1)
CLASSES = ("1 min", "2-60 min", "over 1 h")


def daily(*closes: float | None, spread: float = 2.0) -> pl.DataFrame:
    """Daily bars that open at 100 and reach ``spread`` over and under open and close."""
    close = pl.Series(closes, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "date": [FIRST + timedelta(i) for i in range(len(closes))],
            "daily_open": [100.0] * len(closes),
            "daily_high": close.clip(lower_bound=100) + spread,
            "daily_low": close.clip(upper_bound=100) - spread,
            "daily_close": close,
            "daily_volume": [5000.0 + i for i in range(len(closes))],
        }
    )


def series(days: int) -> pl.DataFrame:
    """A wave of closes around 100 with its averages."""
    close = pl.Series(100 + 20 * np.sin(np.arange(days) / 12))
    return pl.DataFrame(
        {
            "date": [FIRST + timedelta(i) for i in range(days)],
            "close": close,
            "ma7": close.rolling_mean(7),
            "ma30": close.rolling_mean(30),
        }
    )


def crosses(**by_cross: date) -> pl.DataFrame:
    """Signals at a height of 100."""
    rows = [(day, cross, 100.0) for cross, day in by_cross.items()]
    schema = {"date": pl.Date, "cross": pl.String, "ma30": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def missing(*gaps: tuple[datetime, int]) -> pl.DataFrame:
    """Gaps from start and minutes, with their end and class."""
    rows = [
        (start, start + timedelta(minutes=n - 1), n, CLASSES[(n > 1) + (n > 60)])
        for start, n in gaps
    ]
    columns = [pl.Datetime("us"), pl.Datetime("us"), pl.Int64(), pl.String()]
    schema = pl.Schema(zip(("start", "end", "minutes", "class"), columns, strict=True))
    return pl.DataFrame(rows, schema=schema, orient="row")


def at(month: int, day: int = 1, hour: int = 0, minute: int = 0) -> datetime:
    """An instant of 2024."""
    return datetime(2024, month, day, hour, minute)


def size(png: bytes) -> tuple[int, int]:
    """Width and height in the PNG's own header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def shows(png: bytes, colour: str) -> bool:
    """Whether some pixels of the image have this colour, to a hair."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(pixels - wanted).max(axis=2) <= 3).sum() >= 5)


SERIES = series(60)
SIGNALS = crosses(golden=date(2024, 2, 5), death=date(2024, 2, 15))
GAPS = missing((at(1, 5), 1), (at(2, 5), 30), (at(3, 5), 3000))
NO_SIGNALS = SIGNALS.clear()
NAMES = ("candles", "gaps", "averages")


@cache
def drawn(name: str, symbol: str = "A") -> bytes:
    """A chart of that name of plain data; drawing takes a while, so each is drawn once."""
    draw: dict[str, Callable[[], bytes]] = {
        "candles": lambda: charts.candles(daily(101, 99, 104), symbol),
        "gaps": lambda: charts.gaps(GAPS, symbol),
        "averages": lambda: charts.averages(SERIES, SIGNALS, symbol),
        "averages, no cross": lambda: charts.averages(SERIES, NO_SIGNALS, symbol),
    }
    return draw[name]()


@cache
def empty(name: str, symbol: str = "A") -> bytes:
    """A chart of that name without data."""
    draw: dict[str, Callable[[], bytes]] = {
        "candles": lambda: charts.candles(daily(101).clear(), symbol),
        "gaps": lambda: charts.gaps(GAPS.clear(), symbol),
        "averages": lambda: charts.averages(SERIES.clear(), NO_SIGNALS, symbol),
    }
    return draw[name]()


# all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_a_small_png_of_900_by_420(name: str) -> None:
    for png in (drawn(name), empty(name)):
        assert size(png) == (900, 420)
        assert len(png) < 80_000
        Image.open(io.BytesIO(png)).verify()


@pytest.mark.parametrize("name", NAMES)
def test_equal_data_gives_equal_bytes_and_another_symbol_another_title(name: str) -> None:
    assert drawn.__wrapped__(name) == drawn(name)
    assert empty(name) != drawn(name)
    assert empty(name, "B") != empty(name)


def test_years_of_noise_still_make_a_small_file() -> None:
    noise = np.random.default_rng(1).normal(size=(2, 4000))
    close = pl.Series(100 * np.exp(np.cumsum(noise[0]) / 20))
    means = {"ma7": close.rolling_mean(7), "ma30": close.rolling_mean(30)}
    dates = [FIRST + timedelta(i) for i in range(4000)]
    rough = pl.DataFrame({"date": dates, "close": close, **means})
    marks = rough[30::20].with_columns(cross=pl.lit("golden"))
    assert len(charts.averages(rough, marks, "BTCUSDT", last_days=None)) < 80_000
    many = missing(*[(at(1) + timedelta(hours=7 * i), 1 + i * i % 997) for i in range(4000)])
    assert len(charts.gaps(many, "BTCUSDT")) < 80_000


@given(st.text(max_size=60))
@example("$x_{$")
@example(r"\$a$b")
@example("x" * 500)
@settings(deadline=None, max_examples=10)
def test_any_symbol_can_be_a_title(symbol: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size(empty("gaps", symbol)) == (900, 420)


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_drawn_whatever_its_symbol(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size(drawn(name, "$x_{$\n\u4e2d\U0001f600\x00" + "W" * 50)) == (900, 420)


def test_symbols_that_the_font_lacks_stay_apart() -> None:
    assert empty("gaps", "\u4e2d") != empty("gaps", "\u4e2e")


def test_only_drawing_loads_matplotlib_and_never_pyplot() -> None:
    code = """if True:
        import sys
        import polars as pl
        from tidemill.crypto import charts
        assert not [name for name in sys.modules if name.startswith("matplotlib")]
        charts.gaps(pl.DataFrame(), "A")
        assert "matplotlib.figure" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# candles


def test_a_rise_is_blue_and_a_fall_is_red() -> None:
    rise, fall = (charts.candles(daily(close), "A") for close in (110, 90))
    assert [shows(png, plot.BLUE) for png in (rise, fall)] == [True, False]
    assert [shows(png, plot.RED) for png in (rise, fall)] == [False, True]


def test_only_the_last_180_days_are_drawn() -> None:
    bars = daily(*[110.0] * 200)[[10, 19, 20, 21, 199]]
    last = charts.candles(bars, "A")
    assert last == charts.candles(bars.tail(3), "A")
    assert last != charts.candles(bars.tail(2), "A")


def test_the_order_of_the_days_does_not_matter() -> None:
    assert charts.candles(daily(101, 99, 104)[[2, 0, 1]], "A") == drawn("candles")


@pytest.mark.parametrize("column", daily(1).columns[1:])
def test_each_number_of_a_bar_is_drawn(column: str) -> None:
    bars = daily(101, 99, 104)
    other = bars.with_columns(pl.col(column) * pl.when(pl.int_range(3) == 1).then(1.3).otherwise(1))
    assert charts.candles(other, "A") != drawn("candles")


def test_a_day_without_a_close_is_left_out() -> None:
    holed = charts.candles(daily(101, None, 104), "A")
    assert holed == charts.candles(daily(101, 99, 104)[[0, 2]], "A")


@pytest.mark.parametrize(
    ("column", "nothing"),
    [
        ("daily_high", None),
        ("daily_low", float("nan")),
        ("daily_volume", float("inf")),
    ],
)
def test_a_column_without_numbers_still_leaves_candles(column: str, nothing: float | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = charts.candles(daily(110, 112).with_columns(pl.lit(nothing).alias(column)), "A")
    assert shows(png, plot.BLUE)
    assert png != empty("candles")


@pytest.mark.parametrize("column", ["daily_open", "daily_close", "date"])
def test_candles_without_a_day_or_body_are_no_data(column: str) -> None:
    bars = daily(110, 112).with_columns(pl.lit(None).alias(column))
    assert charts.candles(bars, "A") == empty("candles")


# gaps


def test_a_gap_over_the_end_of_a_month_counts_in_each_by_its_part() -> None:
    # 60 minutes to the end of January, all of leap February, 90 minutes of March
    gap = (at(1, 31, 23), 60 + 29 * 1440 + 90)
    assert charts.missing_by_month(missing(gap, (at(3, 9), 100))).rows() == [
        (at(1), "over 1 h", 60),
        (at(2), "over 1 h", 29 * 1440),
        (at(3), "over 1 h", 190),
    ]


def test_a_gap_that_ends_with_the_month_is_not_in_the_next() -> None:
    found = charts.missing_by_month(missing((at(1, 31, 23, 30), 30)))
    assert found.rows() == [(at(1), "2-60 min", 30)]


@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(2012, 1, 1), datetime(2024, 1, 1)), st.integers(1, 200_000)
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=25)
def test_no_minute_is_lost_between_months(gaps: list[tuple[datetime, int]]) -> None:
    months = charts.missing_by_month(missing(*gaps))
    assert months["minutes"].sum() == sum(minutes for _, minutes in gaps)
    assert months.filter(pl.col("minutes") <= 0).is_empty()
    assert not months.select("month", "class").is_duplicated().any()


def test_each_class_has_its_colour() -> None:
    colours = {name: colour for name, (colour, _) in charts.GAP_STYLES.items()}
    assert tuple(colours) == CLASSES
    assert all(shows(drawn("gaps"), colour) for colour in colours.values())
    only = charts.gaps(GAPS.filter(pl.col("class") == "2-60 min"), "A")
    assert [name for name in CLASSES if shows(only, colours[name])] == ["2-60 min"]


@pytest.mark.parametrize("name", ["$odd_{", None])
def test_a_class_that_is_not_known_is_drawn_too(name: str | None) -> None:
    unknown = charts.gaps(GAPS.with_columns(pl.lit(name, pl.String).alias("class")), "A")
    assert shows(unknown, plot.PURPLE)


def test_the_three_longest_gaps_are_named_and_the_fourth_is_not() -> None:
    def chart(third: int, fourth: int) -> bytes:
        months = (at(1), 900), (at(2), 800)
        march = (at(3), third), (at(3, 9), 750 - third)  # the marks stay where they are
        april = (at(4), fourth), (at(4, 9), 600 - fourth)
        return charts.gaps(missing(*months, *march, *april), "A")

    before = chart(650, 500)
    assert chart(650, 400) == before
    assert chart(651, 500) != before


def test_an_instant_with_a_time_zone_is_drawn_in_utc() -> None:
    zoned = pl.col("start").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    assert charts.gaps(GAPS.with_columns(zoned), "A") == drawn("gaps")


@pytest.mark.parametrize("column", ["start", "minutes"])
def test_gaps_without_a_start_or_length_are_no_data(column: str) -> None:
    assert charts.gaps(GAPS.with_columns(pl.lit(None).alias(column)), "A") == empty("gaps")


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(1, "1 min"), (60, "1 h"), (185, "3 h 5 min"), (1440, "1 d"), (2045, "1 d 10 h")],
)
def test_a_length_is_told_in_its_two_greatest_units(minutes: int, text: str) -> None:
    assert charts._duration(minutes) == text


# averages


def test_a_golden_cross_is_green_and_a_death_cross_is_red() -> None:
    for cross, colour, other in (
        ("golden", plot.GREEN, plot.RED),
        ("death", plot.RED, plot.GREEN),
    ):
        png = charts.averages(SERIES, crosses(**{cross: date(2024, 2, 5)}), "A")
        assert shows(png, colour)
        assert not shows(png, other)


def test_a_series_too_short_for_averages_shows_its_close() -> None:
    png = charts.averages(series(5), NO_SIGNALS, "A")
    found = [shows(png, colour) for colour in (plot.GREY, plot.BLUE, plot.ORANGE)]
    assert found == [True, False, False]
    assert charts.averages(series(1), NO_SIGNALS, "A") != empty("averages")


@pytest.mark.parametrize("column", ["close", "ma7", "ma30"])
def test_each_line_is_drawn(column: str) -> None:
    moved = SERIES.with_columns(
        pl.col(column) + pl.when(pl.int_range(60) > 40).then(5).otherwise(0)
    )
    assert charts.averages(moved, SIGNALS, "A") != drawn("averages")


def test_only_the_last_days_are_drawn_unless_all_are_asked_for() -> None:
    long = series(400)
    old = crosses(golden=FIRST + timedelta(31))
    recent = charts.averages(long.reverse(), old, "A")
    assert recent == charts.averages(long.tail(365), NO_SIGNALS, "A")
    everything = charts.averages(long, old, "A", last_days=None)
    assert (shows(recent, plot.GREEN), shows(everything, plot.GREEN)) == (False, True)


def test_days_after_the_last_close_are_not_drawn() -> None:
    dates = [date(2025, 6, 1)]
    later = pl.concat([SERIES, pl.DataFrame({"date": dates})], how="diagonal")
    assert charts.averages(later, SIGNALS, "A") == drawn("averages")


@pytest.mark.parametrize("column", ["date", "close"])
def test_a_series_without_days_or_closes_is_no_data(column: str) -> None:
    nothing = SERIES.with_columns(pl.lit(None).alias(column))
    assert charts.averages(nothing, SIGNALS, "A") == empty("averages")


@pytest.mark.parametrize("column", ["cross", "ma30"])
def test_a_signal_without_a_place_is_no_mark(column: str) -> None:
    nowhere = SIGNALS.with_columns(pl.lit(None).alias(column))
    assert charts.averages(SERIES, nowhere, "A") == drawn("averages, no cross")


def test_signals_may_be_a_frame_without_columns() -> None:
    assert charts.averages(SERIES, pl.DataFrame(), "A") == drawn("averages, no cross")
