"""Claims about what ``tidemill doctor`` finds on machines other than this one."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_java import fake_java
from tidemill.commands import doctor
from tidemill.commands.doctor import Finding
from tidemill.processes import free_port
from tidemill.settings import Settings


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], Finding]:
    """What is found of one thing."""
    return lambda name: next(
        f for f in doctor.examine(Settings.current(tmp_path)) if f.name == name
    )


def test_java_home_goes_before_the_path_as_it_does_for_spark(
    found: Callable[[str], Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", "21.0.1") / "bin"))
    for home in (fake_java(tmp_path / "old", "11.0.2"), tmp_path / "nowhere"):
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert found("Java").found == f"none in JAVA_HOME, {home}, that is 17 or newer"
        assert "unset" in found("Java").fix
    monkeypatch.delenv("JAVA_HOME")
    assert found("Java") == Finding("Java", f"21 in {tmp_path / 'path'}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "fetched once it is needed" in found("Java").found


@pytest.mark.parametrize(
    ("name", "version", "asked"),
    [("pyspark", "3.5.1", "==4.0.5"), ("dagster", "1.14.0", "<1.14,>=1.13")],
)
def test_a_version_that_the_project_does_not_ask_for_is_told_with_the_fix(
    found: Callable[[str], Finding],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    version: str,
    asked: str,
) -> None:
    assert not found(name).fix
    monkeypatch.setattr(doctor, "version", lambda _: version)
    assert found(name) == Finding(
        name, f"{version}, but {asked} is needed", "make -B install", is_broken=True
    )


def test_ports_that_another_holds_are_told_before_kafka_needs_them(
    found: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("TIDEMILL_KAFKA_PORT", str(port))
    assert found("Kafka") == Finding("Kafka", f"ports {port} and {port + 1} are free")
    with socket.socket() as held:
        held.bind(("127.0.0.1", port + 1))
        held.listen()
        assert found("Kafka").found == f"port {port + 1} in use"
    monkeypatch.setenv("TIDEMILL_KAFKA_SERVERS", "broker:9092")
    assert found("Kafka").found == "another one, at broker:9092"
