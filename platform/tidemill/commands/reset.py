"""``tidemill reset``: clear a domain."""

import shutil

from tidemill import compose, instance
from tidemill.commands import show
from tidemill.settings import Settings


def reset(settings: Settings) -> None:
    """Delete the crypto tables, landed files and symbols; other domains and all runs stay."""
    from assets import materialize

    for folder in (settings.lake / "crypto", settings.landing / "crypto"):
        shutil.rmtree(folder, ignore_errors=True)
    instance.prepare(settings)
    with materialize.opened(settings.dagster) as dagster:
        materialize.forget_symbols(dagster)
    compose.lake(settings).publish()
    show.out.print(f"crypto is empty in {settings.home}")
