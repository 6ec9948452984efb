"""Java is the machine's own where there is one that will do, else fetched once."""

import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import cjdk
import pytest

from tidemill import java
from tidemill.errors import TidemillError


def fake_java(home: Path, version: str) -> Path:
    """A home whose Java says that it is some version."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return home


class Recording(SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    asked: list[str]

    def log_message(self, *_: Any) -> None:
        self.asked.append(self.path)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server with an index of one JDK, which the fetching is pointed at; what it was asked."""
    served = tmp_path / "served"
    served.mkdir()
    made = fake_java(tmp_path / "jdk-17.0.9", "17.0.9")
    with tarfile.open(served / "jdk.tgz", "w:gz") as archive:
        archive.add(made, "jdk-17.0.9")
    asked: list[str] = []
    handler = type("Handler", (Recording,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), partial(handler, directory=str(served))) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        versions = {"jdk@temurin": {"1.17.0.9": f"tgz+{url}/jdk.tgz"}}
        every = dict.fromkeys(("amd64", "arm64"), versions)
        index = dict.fromkeys(("linux", "darwin"), every)
        (served / "index.json").write_text(json.dumps(index))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CJDK_INDEX_URL", f"{url}/index.json")
        monkeypatch.setattr(java, "CACHE", tmp_path / "cache")
        allowed = partial(cjdk.java_home, _allow_insecure_for_testing=True, progress=False)
        monkeypatch.setattr(cjdk, "java_home", allowed)
        monkeypatch.setenv("PATH", "/bin")  # has the shell that the made-up Java needs
        monkeypatch.setattr(java, "on_path", lambda: None)
        monkeypatch.delenv("JAVA_HOME", raising=False)
        yield asked
        server.shutdown()


def test_a_java_that_the_machine_has_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, found = fake_java(tmp_path / "a", "17"), fake_java(tmp_path / "b", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(given))
    monkeypatch.setenv("PATH", f"{found / 'bin'}:/bin")
    assert java.home() == given
    monkeypatch.delenv("JAVA_HOME")
    assert java.home() == found


def test_a_java_home_that_will_not_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", "1.8.0_312")))
    with pytest.raises(TidemillError, match="holds no Java 17 or newer: correct or unset it"):
        java.home()


def test_java_is_fetched_once_where_there_is_none(downloads: list[str]) -> None:
    home = java.home()
    assert java.version(home) == 17
    assert java.home() == home
    assert downloads.count("/jdk.tgz") == 1


def test_a_java_that_cannot_be_fetched_is_told_with_what_to_install(
    downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CJDK_INDEX_URL", "http://127.0.0.1:9/index.json")
    with pytest.raises(TidemillError, match="install Java 17 or newer") as told:
        java.home()
    assert "\n" not in str(told.value)
    assert downloads == []
