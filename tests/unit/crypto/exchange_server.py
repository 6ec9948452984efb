"""An exchange on the loopback: it answers klines and tickers as given, misbehaving on cue.

A script holds one fault for each request, in order; ``None`` and all that follows the script is a
clean answer. A fault makes an answer from the rows that were asked for and the pages sent so far.
"""

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

Rows = list[list[Any]]
Recorded = dict[str, Rows]

START = 1_700_000_040  # a whole minute
SIX = range(START, START + 360, 60)


@dataclass(frozen=True)
class Answer:
    """What goes over the wire; ``is_stalled`` sends nothing until the server stops."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kept_back: int = 0
    is_stalled: bool = False


Fault = Callable[[Rows, list[Rows]], Answer]


def rows_as_json(rows: Rows) -> Answer:
    """A clean answer."""
    return Answer(json.dumps(rows).encode())


def refusal(
    status: int, code: int | None = None, text: str = "", retry_after: str | None = None
) -> Fault:
    """A status with the exchange's error JSON, or with ``text`` when there is no code."""
    body = text if code is None else json.dumps({"code": code, "msg": text})
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda rows, sent: Answer(body.encode(), status, headers)


UNKNOWN = refusal(400, -1121, "Invalid symbol.")


def half_a_page(rows: Rows, sent: list[Rows]) -> Answer:
    """A body that ends in the middle of what its Content-Length told."""
    whole = rows_as_json(rows)
    return replace(whole, kept_back=len(whole.body) // 2)


def half_a_text(rows: Rows, sent: list[Rows]) -> Answer:
    """JSON that ends in the middle, with a Content-Length that fits."""
    whole = rows_as_json(rows)
    return Answer(whole.body[: len(whole.body) // 2])


def silence(rows: Rows, sent: list[Rows]) -> Answer:
    """Nothing, longer than any client waits."""
    return Answer(b"", is_stalled=True)


def the_last_page_again(rows: Rows, sent: list[Rows]) -> Answer:
    """The page before this one, as a cache would give it."""
    return rows_as_json(sent[-1])


def changed(change: Callable[[Rows], object]) -> Fault:
    """The clean rows after ``change``; an answer of status 200."""
    return lambda rows, sent: Answer(json.dumps(change(rows)).encode())


def weighing(used: int) -> Fault:
    """A clean answer that tells the weight used in this minute."""
    return lambda rows, sent: replace(
        rows_as_json(rows), headers={"X-MBX-USED-WEIGHT-1M": str(used)}
    )


HTML = "<html><body>Service unavailable</body></html>"
PASSING: dict[str, Fault] = {
    "429": refusal(429, -1003, "Too much request weight used", retry_after="7"),
    "418": refusal(418, -1003, "Way too much request weight used", retry_after="130"),
    "HTML with 200": refusal(200, text=HTML),
    "HTML with 502": refusal(502, text=HTML),
    "error JSON with 503": refusal(503, -1008, "Server is currently overloaded"),
    "refusal with 500": refusal(500, -1121, "Invalid symbol."),
    "empty list with 502": refusal(502, text="[]"),
    "busy with 400": refusal(400, -1001, "Internal error; unable to process your request."),
    "half a page": half_a_page,
    "half a text": half_a_text,
    "no text": refusal(200),
    "no gzip": lambda rows, sent: Answer(b"[]", headers={"Content-Encoding": "gzip"}),
    "an object with 200": refusal(200, -1121, "Invalid symbol."),
}
TOLD_WAIT = {"429": 7.0, "418": 130.0}


def row(at: int, price: float = 2.0, seconds: int = 60) -> list[Any]:
    """A row as the exchange sends it: a bar of ``seconds`` that opens at ``at`` (epoch s)."""
    text = f"{price:.8f}"
    close_ms = (at + seconds) * 1000 - 1
    return [at * 1000, text, text, text, text, "5.00000000", close_ms, "0", 1, "0", "0", "0"]


def minutes(*opens: int) -> Recorded:
    """Bars of BTCUSDT that open at ``opens`` (epoch s), priced 1, 2, 3 and so on."""
    return {"BTCUSDT 1m": [row(at, price=1.0 + number) for number, at in enumerate(opens)]}


@dataclass
class Waits:
    """Records waits instead of sleeping; its clock goes on by as much."""

    slept: list[float]
    now: float = START + 3600.0

    def __call__(self, seconds: float) -> None:
        """Wait, in name only."""
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        """Now, epoch s."""
        return self.now


class Market(ThreadingHTTPServer):
    """The server.

    Attributes:
        rows: The rows that there are, by "SYMBOL interval", in order of time.
        script: A fault for each request to come.
        most: Rows in an answer, whatever limit is asked for.
        prices: The answer of ``/api/v3/ticker/price``; of the pairs asked for, where some are.
        asked: The query of each request so far.
        sent: The rows of each clean answer so far.
    """

    daemon_threads = True

    def __init__(self, rows: Recorded, script: Sequence[Fault | None], most: int = 1000) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows = rows
        self.script = script
        self.most = most
        self.prices: list[Any] = []
        self.asked: list[dict[str, str]] = []
        self.sent: list[Rows] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, query: dict[str, str]) -> Answer:
        """The answer to the next request, by the script."""
        number = len(self.asked)
        self.asked.append(query)
        fault = self.script[number] if number < len(self.script) else None
        if f"{query['symbol']} {query['interval']}" not in self.rows:
            return UNKNOWN([], [])
        rows = self._rows(query)
        if fault is not None:
            return fault(rows, self.sent)
        self.sent.append(rows)
        return rows_as_json(rows)

    def ticker(self, query: dict[str, str]) -> Answer:
        """The answer to the next request of prices, by the script."""
        number = len(self.asked)
        self.asked.append(query)
        fault = self.script[number] if number < len(self.script) else None
        wanted = json.loads(query.get("symbols", "[]"))
        if not set(wanted) <= {entry["symbol"] for entry in self.prices if "symbol" in entry}:
            return UNKNOWN([], [])
        prices = [e for e in self.prices if not wanted or e.get("symbol") in wanted]
        return rows_as_json(prices) if fault is None else fault(prices, self.sent)

    def _rows(self, query: dict[str, str]) -> Rows:
        start, end = int(query["startTime"]), int(query["endTime"])
        rows = self.rows[f"{query['symbol']} {query['interval']}"]
        return [row for row in rows if start <= row[0] <= end][
            : min(int(query["limit"]), self.most)
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Market
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together, or each answer waits for an acknowledgement

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        routes = {"/api/v3/klines": self.server.answer, "/api/v3/ticker/price": self.server.ticker}
        if url.path not in routes:
            self.send_error(404)
            return
        answer = routes[url.path](dict(parse_qsl(url.query)))
        if answer.is_stalled:
            self.server.stopping.wait(10)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) - answer.kept_back])
        self.close_connection = self.close_connection or answer.kept_back > 0

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing; ``asked`` has it."""


@contextmanager
def market(
    rows: Recorded, script: Sequence[Fault | None] = (), most: int = 1000
) -> Iterator[Market]:
    """A running server, stopped at the end."""
    server = Market(rows, script, most)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


@cache
def read_recording(path: Path) -> Recorded:
    """All recorded klines by "SYMBOL interval", each bar once, in order of time."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        answers = json.load(file)["routes"]["/api/v3/klines"]["GET"]
    found: dict[str, dict[int, list[Any]]] = {}
    for answer in answers:
        query = parse_qs(answer["queryString"])
        bars = found.setdefault(f"{query['symbol'][0]} {query['interval'][0]}", {})
        bars.update((row[0], row) for row in answer["data"])
    return {key: [bars[at] for at in sorted(bars)] for key, bars in found.items()}


def read_answer(path: Path, **query: str) -> Rows:
    """The rows of the one recorded answer whose query holds all of ``query``."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        answers = json.load(file)["routes"]["/api/v3/klines"]["GET"]
    (rows,) = [
        answer["data"]
        for answer in answers
        if query.items() <= dict(parse_qsl(answer["queryString"])).items()
    ]
    return list(rows)
