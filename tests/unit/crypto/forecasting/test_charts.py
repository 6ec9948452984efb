"""Claims about ``forecasting.charts`` and ``forecasting.interactive``: what is drawn, and said."""

import io
import json
import re
from datetime import date, timedelta
from functools import cache
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tidemill import plot
from tidemill.crypto.forecasting import charts, interactive, shown

FIRST = date(2024, 1, 1)
CUTOFFS = (100, 115, 130, 160)
"""Days after FIRST; the last one's forecast is of days to come."""
EMPTY = pl.DataFrame()
CHAMPION, PROPHET = "theta", "prophet_frozen_ma7"


def day(number: int) -> date:
    return FIRST + timedelta(number)


def close(number: int) -> float:
    return 100 + number / 2 + 5 * float(np.sin(number / 9))


def rows(model: str, is_champion: bool, has_parts: bool) -> pl.DataFrame:
    """Forecasts of 30 days from each cutoff: the close there, and 10 on either side."""
    found = []
    for cutoff in CUTOFFS:
        for number in range(cutoff + 1, cutoff + 31):
            yhat = close(cutoff)
            parts = [yhat, number % 7 - 3.0, number / 10, 0.0] if has_parts else [None] * 4
            named = dict(zip(shown.PARTS, parts, strict=True))
            band = {"yhat_lower": yhat - 10, "yhat_upper": yhat + 10}
            who = {"model": model, "is_champion": is_champion, "cutoff": day(cutoff)}
            found.append(
                {"ds": day(number), "yhat": yhat, **band, **named, **who}
                | {"is_ahead": cutoff == CUTOFFS[-1]}
            )
    return pl.DataFrame(found, schema=shown.FORECAST)


HISTORY = pl.DataFrame({"ds": [day(i) for i in range(161)], "y": [close(i) for i in range(161)]})
THETA = rows(CHAMPION, True, False)
BEST_PROPHET = rows(PROPHET, False, True)
FORECASTS = pl.concat([THETA, BEST_PROPHET])
ACTUAL = (
    THETA.filter(~pl.col("is_ahead"))
    .select("model", "cutoff", "ds", "yhat")
    .join(HISTORY, on="ds")
    .with_columns(pct_error=100 * (pl.col("yhat") / pl.col("y") - 1).abs())
)
METRICS = pl.DataFrame(
    {
        "model": [CHAMPION, PROPHET],
        "skill": [-0.012, -0.3],
        "ci_low": [-0.03, -0.4],
        "ci_high": [0.012, -0.2],
        "baseline": ["naive", "naive"],
        "folds": [62, 62],
        "is_leaky": [False, True],
    }
)
NO_BAND = FORECASTS.with_columns(pl.lit(None, pl.Float64).alias("yhat_lower"))
NAMES = ("forecast", "test zoom", "components")


@cache
def drawn(name: str) -> bytes:
    return draw(name)


def draw(name: str, forecasts: pl.DataFrame = FORECASTS, past: pl.DataFrame | None = None) -> bytes:
    if name == "forecast":
        return charts.forecast_png(HISTORY if past is None else past, forecasts, METRICS, "A")
    if name == "test zoom":
        return charts.test_zoom_png(ACTUAL if past is None else past, forecasts, "A")
    return charts.components_png(forecasts, "A")


def shows(png: bytes, colour: str) -> bool:
    """Whether some pixels of the image have this colour, to a hair."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(pixels - wanted).max(axis=2) <= 3).sum() >= 5)


def page(forecasts: pl.DataFrame = FORECASTS, symbol: str = "A") -> str:
    return interactive.forecast_html(HISTORY, forecasts, METRICS, symbol).decode()


def traces(html: str) -> list[interactive.Trace]:
    found = re.search(r"var traces = (\[.*?\]);</script>", html)
    assert found
    return list(json.loads(found[1]))


class Elements(HTMLParser):
    """Collects a page's elements and texts outside of its scripts."""

    def __init__(self, html: str) -> None:
        """Read the page."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] and self.elements[-1][0] not in ("script", "style"):
            self.text += data


# pictures


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_a_small_png_and_equal_data_gives_equal_bytes(name: str) -> None:
    assert Image.open(io.BytesIO(drawn(name))).size == (900, 420)
    assert len(drawn(name)) < 80_000
    assert draw(name) == drawn(name)
    assert draw(name, FORECASTS.reverse()) == drawn(name)


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("forecast", "close and forecast"),
        ("test zoom", "forecasts of the test part"),
        ("components", "parts of the forecast"),
    ],
)
def test_nothing_is_no_data(name: str, about: str) -> None:
    assert draw(name, EMPTY, EMPTY) == plot.no_data("A", about)
    assert draw(name, FORECASTS.clear(), EMPTY) == plot.no_data("A", about)


def test_the_champion_is_drawn_and_other_models_are_not() -> None:
    assert draw("forecast", THETA) == drawn("forecast")
    moved = THETA.with_columns(pl.col("yhat") + 3)
    assert draw("forecast", moved) != drawn("forecast")
    assert shows(drawn("forecast"), plot.BLUE)
    assert not shows(draw("forecast", BEST_PROPHET), plot.BLUE)


def test_a_close_older_than_a_year_is_not_drawn() -> None:
    ancient = pl.DataFrame({"ds": [day(160 - 365)], "y": [1.0]})
    kept = pl.DataFrame({"ds": [day(160 - 364)], "y": [1.0]})
    assert draw("forecast", past=pl.concat([HISTORY, ancient])) == drawn("forecast")
    assert draw("forecast", past=pl.concat([HISTORY, kept])) != drawn("forecast")


def test_a_forecast_without_a_band_is_drawn_without_one() -> None:
    band = "#cce8f7"  # a light blue: the band's colour on white
    for name in ("forecast", "test zoom"):
        assert shows(drawn(name), plot.BLUE)
        assert shows(draw(name, NO_BAND), plot.BLUE)
        assert draw(name, NO_BAND) != drawn(name)
    ahead = shown.ahead(shown.forecasts_of(NO_BAND))
    assert ahead["yhat_upper"].is_null().all()
    assert not shows(draw("forecast", NO_BAND), band)


def test_a_score_is_told_with_interval_baseline_and_folds() -> None:
    told = shown.score(METRICS, CHAMPION)
    assert told == "theta: skill -0.01 [-0.03, 0.01] against naive, 62 folds"
    assert shown.score(METRICS, PROPHET).endswith(", LEAKY")


@pytest.mark.parametrize("skill", [None, float("nan")])
def test_a_model_without_a_number_has_no_score_yet(skill: float | None) -> None:
    unknown = METRICS.with_columns(pl.lit(skill, pl.Float64).alias("skill"))
    for metrics in (EMPTY, METRICS.clear(), METRICS.tail(1), unknown):
        assert shown.score(metrics, CHAMPION) == "theta: no score yet"


def test_a_loss_too_small_to_be_seen_has_no_sign() -> None:
    tiny = METRICS.with_columns(skill=-0.001)
    assert "skill 0.00 [" in shown.score(tiny, CHAMPION)


def test_lines_of_the_test_part_share_no_day() -> None:
    tested = THETA.filter(~pl.col("is_ahead"))
    kept = shown.apart(tested)
    assert kept["cutoff"].unique().sort().to_list() == [day(100), day(130)]
    assert not kept["ds"].is_duplicated().any()


def test_the_scores_of_the_test_part_are_of_all_its_folds() -> None:
    tested = charts._tested(ACTUAL, FORECASTS)
    told = charts._test_scores(tested, shown.apart(tested))
    joined = ACTUAL.join(THETA, on=["cutoff", "ds"])
    inside = joined.select((pl.col("y") - pl.col("yhat")).abs().le(10).mean()).item()
    mape = ACTUAL["pct_error"].to_numpy().mean()
    assert told == (
        f"MAPE {mape:.2f} %, 80 % band holds {100 * inside:.1f} % of the closes,"
        " over 3 folds; 2 drawn"
    )


@pytest.mark.parametrize("part", shown.PARTS)
def test_each_part_of_the_best_prophet_is_drawn(part: str) -> None:
    number = pl.int_range(pl.len())
    other = FORECASTS.with_columns(pl.col(part) + pl.when(number % 5 == 0).then(9).otherwise(0))
    assert draw("components", other) != drawn("components")
    without = FORECASTS.with_columns(pl.lit(None, pl.Float64).alias(part))
    assert draw("components", without) != drawn("components")


def test_a_week_begins_on_monday() -> None:
    monday = pl.DataFrame({"ds": [FIRST], "weekly": [2.0]})  # 2024-01-01 was one
    assert charts._means(monday, pl.col("ds").dt.weekday(), "weekly").rows() == [(1, 2.0)]
    assert charts.WEEKDAYS[0] == "Mon"


def test_without_a_prophet_model_the_parts_say_why() -> None:
    said = draw("components", THETA)
    assert said != plot.no_data("A", "parts of the forecast")
    renamed = THETA.with_columns(model=pl.lit("naive"))
    assert draw("components", renamed) != said


# the page


def test_the_page_names_nothing_to_load() -> None:
    elements = Elements(page()).elements
    names = ("src", "href", "srcset", "data", "action", "poster")
    assert not [(tag, name) for tag, attrs in elements for name in names if name in attrs]
    assert "link" not in dict(elements)
    (policy,) = [attrs["content"] for _, attrs in elements if "http-equiv" in attrs]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_page_has_a_language_a_title_and_fits_a_phone() -> None:
    found = Elements(page())
    assert dict(found.elements)["html"] == {"lang": "en"}
    views = [attrs["content"] for _, attrs in found.elements if attrs.get("name") == "viewport"]
    assert views == ["width=device-width, initial-scale=1"]
    assert "A: close and forecast" in found.text


def test_the_page_holds_the_whole_close_and_both_models() -> None:
    found = {trace["name"]: trace for trace in traces(page())}
    assert next(iter(found)) == "close"
    assert found["close"]["y"] == HISTORY["y"].to_list()
    assert found["close"]["x"][0] == "2024-01-01"
    for name in (f"{CHAMPION} (champion)", PROPHET):
        assert found[name]["x"] == [str(day(i)) for i in range(161, 191)]
    assert len(found[f"80 % band, {CHAMPION}"]["x"]) == 60


def test_the_page_tells_each_score_and_a_missing_band() -> None:
    told = Elements(page()).text
    assert f"champion {shown.score(METRICS, CHAMPION)}" in told
    assert shown.score(METRICS, PROPHET) in told
    assert "no 80 % band" not in told
    assert Elements(page(NO_BAND)).text.count("no 80 % band") == 2
    assert not [one for one in traces(page(NO_BAND)) if "band" in one["name"]]


def test_a_name_is_text_on_the_page_and_never_a_script() -> None:
    bad = "</script><img src=x>"
    html = page(FORECASTS.with_columns(model=pl.lit(bad)), bad)
    assert "img" not in dict(Elements(html).elements)
    assert traces(html)[-1]["name"].startswith(bad)


def test_a_page_without_data_has_no_traces() -> None:
    html = interactive.forecast_html(EMPTY, EMPTY, EMPTY, "A").decode()
    assert traces(html) == []
    assert "no forecast yet" in Elements(html).text
