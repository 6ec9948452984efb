"""How long after it is produced a tick can be queried, where the sensors of ``up`` take it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tidemill.crypto.topics import PRICES
from tidemill.errors import TidemillError
from tidemill.kafka.producer import Sender
from tidemill.processes import free_port
from tidemill.settings import Settings

EVENTS = 90
EVERY_S = 0.7
START_S = 180
LATEST_S = 60
SYMBOL = b"PATHUSDT"


@dataclass(frozen=True)
class Measured:
    """What a run showed.

    Attributes:
        p50_s: Half of the ticks could be queried within it, from ``produce()`` on.
        max_s: All could.
        reading_s: The part of it that half of the runs took to read, judge and commit; what is left
            is the sensor's wait and Dagster starting a run.
        n: Ticks.
    """

    p50_s: float
    max_s: float
    reading_s: float
    n: int


def measured(settings: Settings, servers: str) -> Measured:
    """Start ``tidemill up`` in a home of its own, and look when each of its ticks is a row.

    Args:
        settings: With that home.
        servers: A broker that runs and has the topic of prices.

    Raises:
        TidemillError: ``up`` did not start, or ticks did not become rows.
    """
    port = free_port()
    environment = os.environ | {
        "TIDEMILL_HOME": str(settings.home),
        "TIDEMILL_LAKE": str(settings.home / "lake"),
        "TIDEMILL_KAFKA_SERVERS": servers,
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    out = settings.home / "up.out"
    with out.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemill", "up", "--no-sample", "--port", str(port)],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        _until(lambda: "Ctrl-C stops" in out.read_text(), process, START_S, "tidemill up start")
        sent = _sent(servers)
        seen = _watched(settings.catalogue, sent, process)
        lags = [seen[n] - at for n, at in sent.items()]
        return Measured(median(lags), max(lags), median(_reading(port)), len(lags))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _sent(servers: str) -> dict[int, float]:
    """Produce ticks at a steady rate in a thread; when each was, by its number, as it happens."""
    sent: dict[int, float] = {}

    def work() -> None:
        with Sender({"bootstrap.servers": servers}, PRICES.name) as sender:
            for n in range(EVENTS):
                now = time.time()
                tick = {"symbol": SYMBOL.decode(), "price": 1.0 + n, "timestamp": int(now * 1000)}
                sent[n] = now
                sender.send(SYMBOL, json.dumps(tick).encode())
                sender.wait(EVERY_S)

    threading.Thread(target=work, daemon=True).start()
    return sent


def _watched(
    catalogue: Path, sent: Mapping[int, float], process: "subprocess.Popen[bytes]"
) -> dict[int, float]:
    """When each tick could be queried first, by its number."""
    import duckdb

    seen: dict[int, float] = {}

    def look() -> bool:
        if catalogue.exists():
            with duckdb.connect(str(catalogue), read_only=True) as con:
                sql = f"select price from crypto.live_prices where symbol = '{SYMBOL.decode()}'"
                prices = con.execute(sql).fetchall()
            now = time.time()
            for (price,) in prices:
                seen.setdefault(int(price) - 1, now)
        return len(seen) == EVENTS

    _until(look, process, EVENTS * EVERY_S + LATEST_S, f"{EVENTS} ticks become rows")
    return seen


def _reading(port: int) -> Sequence[float]:
    """How long each run took to read, judge and commit, as its materialization says."""
    query = """{assetNodeOrError(assetKey: {path: ["crypto", "live_prices"]}) {... on AssetNode {
        assetMaterializations(limit: 100) {
        metadataEntries {label ... on FloatMetadataEntry {floatValue}}}}}}"""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: Any = json.load(answer)
    runs = found["data"]["assetNodeOrError"]["assetMaterializations"]
    entries = [entry for run in runs for entry in run["metadataEntries"]]
    return [entry["floatValue"] for entry in entries if entry["label"] == "seconds"]


def _until(holds: "Any", process: "subprocess.Popen[bytes]", seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TidemillError(f"in {seconds:.0f} s it did not happen: {what}")
        time.sleep(0.1)
