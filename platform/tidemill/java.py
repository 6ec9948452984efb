"""Java, which Spark and Kafka need: the machine's own, or one that is fetched once."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tidemill.errors import TidemillError

NEEDED = 17
CACHE = Path.home() / ".cache" / "tidemill" / "jdk"
INSTALL = "install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"


def home() -> Path:
    """The ``JAVA_HOME`` to start Java programs with.

    That of the environment, else the one on the path, else one fetched into the user's cache.

    Raises:
        TidemillError: ``JAVA_HOME`` has no Java that is new enough, or none could be fetched.
    """
    given = os.environ.get("JAVA_HOME")
    if given:
        if version(Path(given)) < NEEDED:
            raise TidemillError(
                f"JAVA_HOME is {given}, which holds no Java {NEEDED} or newer: correct or unset it"
            )
        return Path(given)
    return on_path() or _fetched()


def on_path() -> Path | None:
    """Home of the Java on the path, if it is new enough."""
    java = shutil.which("java")
    if java is None:
        return None
    folder = Path(java).resolve().parent.parent
    return folder if version(folder) >= NEEDED else None


def version(folder: Path) -> int:
    """The feature release of the Java in a home, 17 say; 0 where there is none."""
    java = shutil.which(folder / "bin" / "java")
    if java is None:
        return 0
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0


def _fetched() -> Path:
    """A Temurin JDK in the user's cache, fetched with a progress bar where it is not there yet."""
    import cjdk
    import requests

    try:
        return cjdk.java_home(vendor="temurin", version=str(NEEDED), cache_dir=CACHE)
    except (cjdk.CjdkError, requests.RequestException, OSError) as error:
        told = str(error).partition("\n")[0]
        raise TidemillError(
            f"Java is needed, none was found, and none could be fetched ({told}): {INSTALL}"
        ) from error
