"""Apache Kafka's jars, fetched once from Maven by the Ivy inside pyspark."""

import shutil
import subprocess
import uuid
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from tidemill import java
from tidemill.errors import TidemillError

VERSION = "4.3.1"
LOG4J = "2.25.4"
CACHE = Path.home() / ".cache" / "tidemill" / "kafka"

_IVY = f"""<ivy-module version="2.0">
  <info organisation="tidemill" module="broker"/>
  <dependencies>
    <dependency org="org.apache.kafka" name="kafka_2.13" rev="{VERSION}" conf="default->default"/>
    <dependency org="org.apache.logging.log4j" name="log4j-slf4j-impl" rev="{LOG4J}"
      conf="default->default"/>
  </dependencies>
</ivy-module>
"""


def found() -> Path | None:
    """The folder of the jars, where they were fetched."""
    folder = CACHE / VERSION
    return folder if folder.is_dir() else None


def fetched() -> Path:
    """The folder of the jars, fetched where they are not there yet (some 45 MB).

    Raises:
        TidemillError: They could not be fetched.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / ".lock"):
        if (there := found()) is not None:
            return there
        beside = CACHE / f".{uuid.uuid4().hex}"
        beside.mkdir()
        try:
            _retrieve(beside)
            (beside / "jars").replace(CACHE / VERSION)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return CACHE / VERSION


def _retrieve(folder: Path) -> None:
    module = folder / "ivy.xml"
    module.write_text(_IVY)
    done = subprocess.run(
        [
            *(str(java.home() / "bin" / "java"), "-jar", str(_ivy())),
            *("-cache", str(folder / "cache"), "-ivy", str(module), "-warn"),
            *("-retrieve", f"{folder}/jars/[artifact]-[revision](-[classifier]).[ext]"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not list((folder / "jars").glob("kafka_2.13-*.jar")):
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        faults = [line for line in lines if "not found" in line or "ERROR" in line] or lines[-1:]
        raise TidemillError(
            f"Apache Kafka {VERSION} could not be fetched from Maven ({' '.join(faults[:1])}); "
            "with TIDEMILL_KAFKA_SERVERS another broker is used and nothing is fetched"
        )


def _ivy() -> Path:
    spec = find_spec("pyspark")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "jars").glob("ivy-*.jar"))
