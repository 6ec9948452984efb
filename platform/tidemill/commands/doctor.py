"""``tidemill doctor``: what this machine has, and the fix for what it lacks."""

import os
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tidemill import compose, instance, java
from tidemill.commands import show
from tidemill.processes import is_free
from tidemill.settings import Settings

PACKAGES = ("dagster", "duckdb", "polars", "deltalake", "ibis-framework", "pyspark", "prophet")
LEAST_FREE_GIB = 2
REINSTALL = "make -B install"  # without -B, make sees that it installed once and does nothing


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: What.
        found: What is there.
        fix: What to do, empty when all is well.
        is_broken: Whether Tidemill cannot work without the fix.
    """

    name: str
    found: str
    fix: str = ""
    is_broken: bool = False


def examine(settings: Settings, port: int = 3000) -> list[Finding]:
    """Look at Python, packages, Java, the ports of the UI and of Kafka, disk and home."""
    asked = _asked(instance.SOURCE / "pyproject.toml")
    return [
        _python(),
        *[_package(name, asked[name]) for name in PACKAGES],
        _java(),
        _port(port),
        _kafka(settings),
        _disk(settings),
    ]


def _python() -> Finding:
    return Finding("Python", ".".join(str(part) for part in sys.version_info[:3]))


def _asked(project: Path) -> Mapping[str, SpecifierSet]:
    """The versions that the project asks for, package by package."""
    wanted = tomllib.loads(project.read_text())["project"]["dependencies"]
    return {r.name: r.specifier for r in map(Requirement, wanted)}


def _package(name: str, asked: SpecifierSet) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "missing", REINSTALL, is_broken=True)
    if not asked.contains(found, prereleases=True):
        return Finding(name, f"{found}, but {asked} is needed", REINSTALL, is_broken=True)
    return Finding(name, found)


def _java() -> Finding:
    """The Java that Spark and Kafka would start with."""
    given = os.environ.get("JAVA_HOME")
    found = Path(given) if given else java.on_path()
    if found is None:
        return Finding("Java", "none, it is fetched once it is needed (some 200 MB)")
    if java.version(found) < java.NEEDED:
        told = f"none in JAVA_HOME, {given}, that is {java.NEEDED} or newer"
        return Finding("Java", told, "correct or unset it")
    return Finding("Java", f"{java.version(found)} in {found}")


def _port(port: int) -> Finding:
    if is_free(port):
        return Finding(f"port {port}", "free")
    return Finding(f"port {port}", "in use", "stop what holds it, or tidemill up --port 3001")


def _kafka(settings: Settings) -> Finding:
    """The broker that is used, or the ports that the embedded one would take."""
    if settings.kafka_servers:
        return Finding("Kafka", f"another one, at {settings.kafka_servers}")
    broker = compose.broker(settings)
    if (running := broker.status()) is not None:
        return Finding("Kafka", f"runs at {broker.servers} (process {running.pid})")
    taken = [port for port in (broker.port, broker.controller_port) if not is_free(port)]
    if taken:
        found = f"port {' and '.join(map(str, taken))} in use"
        return Finding("Kafka", found, "stop what holds it, or set TIDEMILL_KAFKA_PORT to another")
    return Finding("Kafka", f"ports {broker.port} and {broker.controller_port} are free")


def _disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    found = f"{free:.1f} GiB free for {settings.home}"
    if free < LEAST_FREE_GIB:
        return Finding("disk", found, "free some, or set TIDEMILL_HOME elsewhere", is_broken=True)
    return Finding("disk", found)


def print_report(found: Sequence[Finding]) -> None:
    """The findings, with a mark each."""
    for finding in found:
        mark, style = ("✗", "red") if finding.is_broken else ("!", "yellow")
        if not finding.fix:
            mark, style = "✓", ""
        fix = f"  → {finding.fix}" if finding.fix else ""
        show.marked(show.out, mark, f"{finding.name}: {finding.found}{fix}", style)
