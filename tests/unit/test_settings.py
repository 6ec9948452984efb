"""What a variable cannot hold is told by its name, not by a traceback."""

from pathlib import Path

import pytest

from tidemill.errors import InputError
from tidemill.settings import Settings


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TIDEMILL_MEMORY_MB", "lots", "from 1 to 1073741824, found 'lots'"),
        ("TIDEMILL_MEMORY_MB", "0", "found '0'"),
        ("TIDEMILL_KAFKA_PORT", "70000", "from 1 to 65534, found '70000'"),
        ("TIDEMILL_KAFKA_PORT", "-1", "found '-1'"),
        ("TIDEMILL_KAFKA_OPTIONS", "sasl", "expected name=value;name=value, found 'sasl'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"{variable}: .*{expected}"):
        Settings.current()


@pytest.mark.parametrize("variable", ["TIDEMILL_HOME", "TIDEMILL_LAKE"])
def test_a_file_where_a_folder_should_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "home"):
        monkeypatch.setenv(variable, str(folder))
        with pytest.raises(
            InputError, match=f"{variable}: expected a folder, found the file {file}"
        ):
            Settings.current()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv(variable, str(link / "home"))
    with pytest.raises(InputError, match=f"{variable}: .* found the link to nothing {link}"):
        Settings.current()
    monkeypatch.setenv(variable, str(tmp_path / ("x" * 300)))
    with pytest.raises(InputError, match=f"{variable}: .*: cannot be used \\(File name too long"):
        Settings.current()
    link.unlink()
    link.symlink_to(tmp_path)
    monkeypatch.setenv(variable, str(link / "home"))
    Settings.current()
    monkeypatch.setenv(variable, str(tmp_path / "a" / "b"))
    Settings.current()


def test_values_are_read_as_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_MEMORY_MB", " 512 ")
    monkeypatch.setenv("TIDEMILL_KAFKA_PORT", "9092")
    monkeypatch.setenv("TIDEMILL_KAFKA_OPTIONS", "sasl.username=a; sasl.password=b=c;")
    found = Settings.current()
    assert (found.memory_limit_mb, found.kafka_port) == (512, 9092)
    assert found.kafka_options == {"sasl.username": "a", "sasl.password": "b=c"}
