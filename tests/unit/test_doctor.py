"""Claims about what ``tidemill doctor`` finds on machines other than this one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.commands import doctor
from tidemill.commands.doctor import Finding
from tidemill.settings import Settings


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], Finding]:
    """What is found of one thing."""
    settings = Settings.current(tmp_path)
    return lambda name: next(f for f in doctor.examine(settings) if f.name == name)


def java(home: Path, version: str) -> Path:
    """A folder for JAVA_HOME whose Java says that it is some version."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return home


def test_java_home_goes_before_the_path_as_it_does_for_spark(
    found: Callable[[str], Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(java(tmp_path / "path", "21.0.1") / "bin"))
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path / "old", "11.0.2")))
    assert '"11.0.2"' in found("Java").found and "Java 17 or newer" in found("Java").fix
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert "none in JAVA_HOME" in found("Java").found and "unset" in found("Java").fix
    monkeypatch.delenv("JAVA_HOME")
    assert '"21.0.1"' in found("Java").found and not found("Java").fix


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
