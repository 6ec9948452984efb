"""What a user may set, each from one environment variable, read when asked and never on import."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidemill.errors import InputError

ENGINES = ("duckdb", "spark")


@dataclass(frozen=True)
class Settings:
    """Where state lives and what runs it.

    Attributes:
        home: Folder of all state (``TIDEMILL_HOME``, default ``.tidemill`` in the current folder).
        lake: Folder of the Delta tables (``TIDEMILL_LAKE``, default ``<home>/lake``).
        engine: ``duckdb`` or ``spark`` (``TIDEMILL_ENGINE``).
        spark_master: Spark master URL (``TIDEMILL_SPARK_MASTER``, default ``local[*]``).
        exchange_url: Base of the exchange's REST API (``TIDEMILL_EXCHANGE_URL``).
        memory_limit_mb: What DuckDB may hold before it spills (``TIDEMILL_MEMORY_MB``).
        kafka_servers: Another broker's ``host:port,...`` instead of the embedded one
            (``TIDEMILL_KAFKA_SERVERS``).
        kafka_port: Port of the embedded broker, which takes the next one too
            (``TIDEMILL_KAFKA_PORT``).
        kafka_options: What else clients need, SASL and TLS say, in librdkafka's names
            (``TIDEMILL_KAFKA_OPTIONS``, as ``name=value`` separated by ``;``).
        max_symbols: How many trading pairs live prices may bring; a message of another one is a
            dead letter (``TIDEMILL_MAX_SYMBOLS``).
        batch_rows: New messages for which a sensor asks for a run at once
            (``TIDEMILL_BATCH_ROWS``).
        batch_age_s: How long fewer than that wait for a run (``TIDEMILL_BATCH_AGE_S``).
    """

    home: Path
    lake: Path
    engine: str = "duckdb"
    spark_master: str = "local[*]"
    exchange_url: str = "https://api.binance.com"
    memory_limit_mb: int = 1024
    kafka_servers: str = ""
    kafka_port: int = 19092
    kafka_options: Mapping[str, str] = field(default_factory=dict)
    max_symbols: int = 1000
    batch_rows: int = 1000
    batch_age_s: int = 2

    def __post_init__(self) -> None:
        """Refuse an engine that there is not, before anything is done with it."""
        if self.engine not in ENGINES:
            raise InputError(f"there is no engine {self.engine!r}: use 'duckdb' or 'spark'")

    @classmethod
    def current(cls, home: Path | None = None) -> "Settings":
        """The settings of this process's environment, with another ``home`` where one is given.

        Raises:
            InputError: A variable holds what it cannot.
        """
        home = (home or Path(os.environ.get("TIDEMILL_HOME", ".tidemill"))).absolute()
        lake = Path(os.environ.get("TIDEMILL_LAKE", home / "lake")).absolute()
        for variable, folder in (("TIDEMILL_HOME", home), ("TIDEMILL_LAKE", lake)):
            _refuse_file(variable, folder)
        return cls(
            home=home,
            lake=lake,
            engine=os.environ.get("TIDEMILL_ENGINE", cls.engine),
            spark_master=os.environ.get("TIDEMILL_SPARK_MASTER", cls.spark_master),
            exchange_url=os.environ.get("TIDEMILL_EXCHANGE_URL", cls.exchange_url),
            memory_limit_mb=_whole("TIDEMILL_MEMORY_MB", cls.memory_limit_mb, 1, 1 << 30),
            kafka_servers=os.environ.get("TIDEMILL_KAFKA_SERVERS", cls.kafka_servers),
            kafka_port=_whole("TIDEMILL_KAFKA_PORT", cls.kafka_port, 1, 65_534),
            kafka_options=_options(os.environ.get("TIDEMILL_KAFKA_OPTIONS", "")),
            max_symbols=_whole("TIDEMILL_MAX_SYMBOLS", cls.max_symbols, 1, 1_000_000),
            batch_rows=_whole("TIDEMILL_BATCH_ROWS", cls.batch_rows, 1, 1 << 30),
            batch_age_s=_whole("TIDEMILL_BATCH_AGE_S", cls.batch_age_s, 0, 86_400),
        )

    @property
    def catalogue(self) -> Path:
        """The DuckDB file that shows every table."""
        return self.home / "tidemill.duckdb"

    @property
    def landing(self) -> Path:
        """Where files of each domain come in."""
        return self.home / "landing"

    @property
    def dagster(self) -> Path:
        """Dagster's runs, events and schedules."""
        return self.home / "dagster"


def _refuse_file(variable: str, folder: Path) -> None:
    """See that a folder is there, or can be made.

    Raises:
        InputError: A file is in its place or on the way to it, or it cannot be looked at.
    """
    try:
        there = next(path for path in (folder, *folder.parents) if _is_there(path))
    except OSError as error:
        raise InputError(f"{variable}: {folder}: cannot be used ({error.strerror})") from error
    if not there.is_dir():
        found = "the link to nothing" if there.is_symlink() else "the file"
        raise InputError(f"{variable}: expected a folder, found {found} {there}")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _whole(variable: str, default: int, low: int, high: int) -> int:
    """A whole number out of the environment.

    Raises:
        InputError: It is none, or out of bounds.
    """
    text = os.environ.get(variable, str(default)).strip()
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InputError(
            f"{variable}: expected a whole number from {low} to {high}, found {text!r}"
        )
    return int(text)


def _options(text: str) -> dict[str, str]:
    """Names and values out of ``name=value;name=value``.

    Raises:
        InputError: A part has no equals sign.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    wrong = [part for part in parts if "=" not in part]
    if wrong:
        raise InputError(
            f"TIDEMILL_KAFKA_OPTIONS: expected name=value;name=value, found {wrong[0]!r}"
        )
    return {name.strip(): value.strip() for name, _, value in (p.partition("=") for p in parts)}
