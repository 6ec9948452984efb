"""``tidemill reset``: clear a domain."""

import shutil

from tidemill import compose, instance
from tidemill.commands import show, up
from tidemill.errors import InputError, TidemillError
from tidemill.settings import Settings


def reset(settings: Settings) -> None:
    """Delete the crypto tables, what landed and the symbols; other domains and all runs stay.

    So do the files in the inbox and those refused, which exist nowhere else.

    Raises:
        InputError: ``tidemill up`` runs, whose sensors would make tables meanwhile.
        TidemillError: Something could not be deleted.
    """
    from assets import materialize

    if (running := up.process(settings)) is not None:
        raise InputError(
            f"tidemill is up for {settings.home} (process {running}); stop it before a reset"
        )
    tables = settings.lake / "crypto"
    try:
        with compose.crypto(settings).landing.cleared():
            if tables.exists():
                shutil.rmtree(tables)
    except OSError as error:
        raise TidemillError(
            f"crypto is not empty: {error}; see that nothing else runs here, and reset it again"
        ) from error
    instance.prepare(settings)
    with materialize.opened(settings.dagster) as dagster:
        materialize.forget_symbols(dagster)
    compose.lake(settings).publish()
    show.out.print(f"crypto is empty in {settings.home}; its inbox and refused files stay")
