"""A forecast's page as a person opens it: without a network, on a phone and on a desk."""

import io
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.browser.chromium import PROGRAM, chromium
from tidemill.crypto.forecasting.interactive import forecast_html

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]
FIRST = date(2022, 1, 1)
COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
READY = "!!document.querySelector('#chart .js-line') && !!document.querySelector('[aria-pressed]')"


def written(folder: Path, days: int) -> Path:
    """A page of some days of a wave and 30 days ahead, by two models."""
    past = [(FIRST + timedelta(i), 100 + i / 10 + 9 * float(np.sin(i / 20))) for i in range(days)]
    history = pl.DataFrame(past, schema={"ds": pl.Date, "y": pl.Float64}, orient="row")
    ahead = history.tail(30).with_columns(pl.col("ds").dt.offset_by("30d"), yhat="y")
    forecasts = (
        pl.concat(
            ahead.with_columns(
                yhat=pl.col("yhat") + up,
                yhat_lower=pl.col("yhat") + up - 5,
                yhat_upper=pl.col("yhat") + up + 5,
                model=pl.lit(model),
                is_champion=pl.lit(model == "theta"),
                cutoff=pl.lit(FIRST + timedelta(days - 1)),
                is_ahead=pl.lit(True),
                **{part: pl.lit(None) for part in ("trend", "weekly", "yearly", "holidays")},
            )
            for model, up in (("theta", 0), ("prophet_recursive_ma7_ma30_log", 9))
        )
        if days
        else pl.DataFrame()
    )
    path = folder / "forecast.html"
    path.write_bytes(forecast_html(history, forecasts, pl.DataFrame(), "BTCUSDT"))
    return path


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_page_draws_its_plot_without_a_network(tmp_path: Path, width: int, height: int) -> None:
    path = written(tmp_path, 900)
    with chromium(tmp_path / "profile") as page:
        page.open(path, width, height, is_phone=width < 500)
        page.wait(READY)
        assert page.value("navigator.onLine") is False
        assert page.value("document.querySelectorAll('#chart .js-line').length") == 5
        assert page.value("document.documentElement.scrollWidth") == width
        box = page.value("chart.getBoundingClientRect().toJSON()")
        plot = page.value("document.querySelector('.main-svg').getBoundingClientRect().toJSON()")
        assert (plot["width"], plot["height"]) == pytest.approx(
            (box["width"], box["height"]), abs=1
        )
        assert box["bottom"] <= height
        pixels = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)
        assert pixels.shape == (height, width, 3)
        blue = np.abs(pixels[int(box["top"]) :] - (0, 0x72, 0xB2)).max(axis=2) < 40
        assert blue.sum() > 20

        page.value("document.querySelector('[data-scale=log]').click()")
        page.wait("chart.layout.yaxis.type === 'log'")
        page.value("document.querySelector('[data-days=all]').click()")
        page.wait(f"chart.layout.xaxis.range[0] < '{FIRST}'")
        page.value("document.querySelector('input[value=theta]').click()")
        page.wait("document.querySelectorAll('#chart .js-line').length === 3")

        told = [event for event in page.events if event["method"] in COMPLAINTS]
        assert told == []
        sent = [e for e in page.events if e["method"] == "Network.requestWillBeSent"]
        urls = {event["params"]["request"]["url"] for event in sent}
        assert not [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]


def test_a_page_without_data_says_so(tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as page:
        page.open(written(tmp_path, 0), 390, 844, is_phone=True)
        page.wait("document.body?.innerText.includes('no data')")
        assert page.value("getComputedStyle(document.querySelector('nav')).display") == "none"
