"""The Dagster instance of a home: the repository's ``dagster.yaml`` with that home's folder."""

import os
from pathlib import Path

from tidemill.settings import Settings

SOURCE = Path(__file__).parents[2]
"""Where ``dagster.yaml`` and ``workspace.yaml`` are."""


def prepare(settings: Settings) -> Path:
    """Write the instance's settings into its folder, and name it to the processes started here.

    Returns:
        The folder, which is also ``DAGSTER_HOME`` from now on.
    """
    folder = settings.dagster
    folder.mkdir(parents=True, exist_ok=True)
    text = (SOURCE / "dagster.yaml").read_text()
    beside = folder / f".dagster.yaml.{os.getpid()}"
    beside.write_text(text.replace(".tidemill/dagster", str(folder)))
    beside.replace(folder / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ["TIDEMILL_HOME"] = str(settings.home)
    return folder
