"""Errors meant for the person at the keyboard: each says what was found and what to do."""


class TidemillError(Exception):
    """A refusal with a reason; the command line prints it without a traceback and exits with 2."""


class InputError(TidemillError):
    """A file, an answer or an argument that cannot be used as it is."""


class UnfinishedError(InputError):
    """A file that someone still writes to; it may be usable later as it stands."""


class ContractError(TidemillError):
    """Rows that a table's contract does not allow; nothing was written."""
