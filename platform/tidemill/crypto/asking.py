"""Asking an exchange that speaks Binance's API, patiently: tries, waits, and whose fault it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import httpx

from tidemill.errors import InputError, TidemillError

if TYPE_CHECKING:
    from tidemill.crypto.exchange import Exchange

URL_SETTING: Final = "TIDEMILL_EXCHANGE_URL"
Answer = TypeVar("Answer")

_FULL_SHARE: Final = 0.9
_EXCERPT: Final = 200
# Codes of the exchange that say "try again" whatever the HTTP status: unknown, disconnected, too
# many requests, unexpected response, time-out, busy, shutting down.
_PASSING_CODES: Final = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1016})
_UNKNOWN_SYMBOL: Final = -1121


class ExchangeError(TidemillError):
    """The exchange gave no usable answer within the tries and waits that were allowed."""


class UnknownSymbolError(InputError):
    """The exchange has no such trading pair."""


@dataclass(frozen=True)
class Miss:
    """A try that may succeed when repeated: what came, and the wait that the exchange named."""

    found: str
    wait_s: float | None = None


@dataclass(frozen=True)
class Question(Generic[Answer]):
    """One request, and how its answer is read.

    Attributes:
        path: Of the endpoint.
        params: The query string.
        named: The request, for a message.
        subject: What the exchange refuses, where it does.
        advice: What to do when it was given up.
        read: Makes the answer out of a JSON list; a ``Miss`` is another try.
    """

    path: str
    params: Mapping[str, str | int]
    named: str
    subject: str
    advice: str
    read: Callable[[list[object]], Answer | Miss]


@dataclass
class Line:
    """One connection to the exchange, and the weight it was last told that it has used.

    Tries are a loop of our own: stamina can take a wait from an answer, but sleeps and draws its
    jitter from globals, and here both are arguments.
    """

    exchange: "Exchange"
    client: httpx.Client
    used_weight: float = 0

    def ask(self, question: Question[Answer]) -> Answer:
        """What the exchange answers, as the question reads it.

        Raises:
            InputError: The exchange refuses, or the answer cannot be read.
            ExchangeError: The tries are used up, or it asks for too long a wait.
        """
        tries = 1
        while isinstance(got := self._try(question), Miss):
            if got.wait_s is not None and got.wait_s > self.exchange.longest_wait_s:
                raise ExchangeError(
                    f"{question.named}: told to wait {got.wait_s:.0f} s, longer than "
                    f"the {self.exchange.longest_wait_s:.0f} s allowed: {got.found}. "
                    f"{question.advice} Wait that long first: asking sooner makes a ban longer."
                )
            if tries > self.exchange.retries:
                noun = "try" if tries == 1 else "tries"
                raise ExchangeError(
                    f"{question.named}: gave up after {tries} {noun}, the last: "
                    f"{got.found}. {question.advice} If it goes on, look at {URL_SETTING} "
                    f"(now {self.exchange.base_url})."
                )
            self.exchange.wait(self._backoff_s(tries) if got.wait_s is None else got.wait_s)
            tries += 1
        return got

    def _backoff_s(self, number: int) -> float:
        ceiling = self.exchange.backoff_s * 2 ** (number - 1)
        return self.exchange.rng.uniform(0, min(self.exchange.backoff_cap_s, ceiling))

    def _try(self, question: Question[Answer]) -> Answer | Miss:
        self._spare_the_limit()
        try:
            response = self.client.get(question.path, params=dict(question.params))
        except (httpx.TransportError, httpx.DecodingError) as error:
            return Miss(f"no answer, {type(error).__name__}: {error}")
        weight = response.headers.get("x-mbx-used-weight-1m", "")
        if weight.isdecimal():
            self.used_weight = float(weight)
        if response.status_code in (418, 429):
            self.used_weight = 0  # Retry-After outlasts the minute that it counts in
            return Miss(_told(response), self._retry_after_s(response))
        rows = self._rows(response, question.subject)
        if isinstance(rows, Miss):
            return rows
        try:
            return question.read(rows)
        except InputError as error:
            raise InputError(f"{question.named}: {error}") from error

    def _spare_the_limit(self) -> None:
        if self.used_weight > _FULL_SHARE * self.exchange.weight_limit:
            self.exchange.wait(60 - self.exchange.clock() % 60)
            self.used_weight = 0

    def _retry_after_s(self, response: httpx.Response) -> float:
        told = response.headers.get("retry-after", "")
        return float(told) if told.isdecimal() else self.exchange.retry_after_s

    def _rows(self, response: httpx.Response, subject: str) -> list[object] | Miss:
        """The rows of an answer; raises InputError for a refusal that no repeat can change."""
        status = response.status_code
        if status in (403, 451):
            raise InputError(
                f"{self.exchange.base_url} refuses this address or country, {_told(response)}. "
                f"Set {URL_SETTING} to a host that serves you, "
                "such as https://data-api.binance.vision or https://api.binance.us"
            )
        try:
            payload: object = response.json()
        except ValueError:  # no JSON, half of one, or no text
            return Miss(_told(response))
        if status == 200 and isinstance(payload, list):
            return payload
        if 400 <= status < 500 and isinstance(payload, dict):
            code = payload.get("code")
            if isinstance(code, int) and code not in _PASSING_CODES:
                kind = UnknownSymbolError if code == _UNKNOWN_SYMBOL else InputError
                raise kind(
                    f"the exchange refuses {subject}: "
                    f"code {code}, {payload.get('msg')!r}. Pairs are written in upper case, as "
                    f"BTCUSDT; {self.exchange.base_url}/api/v3/exchangeInfo lists them"
                )
        return Miss(_told(response))


def _told(response: httpx.Response) -> str:
    """Status and the start of the body, for a message."""
    return f"HTTP {response.status_code}, answer {response.text[:_EXCERPT]!r}"
