"""``tidemill reset``: clear a domain."""

import shutil
from contextlib import AbstractContextManager

from tidemill import compose, instance
from tidemill.commands import show, up
from tidemill.errors import InputError, TidemillError
from tidemill.events.erase import NOTE as ERASING
from tidemill.events.topics import ANALYTICS
from tidemill.settings import Settings
from tidemill.windows import publish


def reset(settings: Settings, domain: str) -> None:
    """Delete the tables and reports of a domain and what landed; other domains and all runs stay.

    So do the files in the inbox and those refused, which exist nowhere else, and the topics, but
    for that of final windows, which is made anew with the windows.

    Args:
        settings: Whose home.
        domain: ``crypto``, whose symbols go too, or ``events``.

    Raises:
        InputError: ``tidemill up`` runs, whose sensors would make tables meanwhile.
        TidemillError: Something could not be deleted.
    """
    refuse_while_up(settings)
    made = (settings.lake / domain, settings.home / "reports" / domain)
    try:
        with _held(settings, domain):
            if domain == "events":
                publish.forget(compose.lake(settings), ANALYTICS)
            for folder in made:
                if folder.exists():
                    shutil.rmtree(folder)
            (settings.landing / domain / ERASING).unlink(missing_ok=True)
    except OSError as error:
        raise TidemillError(
            f"{domain} is not empty: {error}; see that nothing else runs here, and reset it again"
        ) from error
    if domain == "crypto":
        _forget_symbols(settings)
    compose.lake(settings).publish()
    show.out.print(f"{domain} is empty in {settings.home}; its inbox and refused files stay")


def refuse_while_up(settings: Settings) -> None:
    """See that no sensor makes tables meanwhile.

    Raises:
        InputError: ``tidemill up`` runs.
    """
    if (running := up.process(settings)) is not None:
        raise InputError(
            f"tidemill is up for {settings.home} (process {running}); stop it before a reset"
        )


def _held(settings: Settings, domain: str) -> AbstractContextManager[None]:
    """Nothing lands while the block runs."""
    if domain == "crypto":
        return compose.crypto(settings).landing.cleared()
    return compose.event_landing(settings).held()


def _forget_symbols(settings: Settings) -> None:
    from assets import materialize

    instance.prepare(settings)
    with materialize.opened(settings.dagster) as dagster:
        materialize.forget_symbols(dagster)
