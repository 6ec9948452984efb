"""A candle file as it lies on disk, made plain UTF-8 text.

What is in the text is ``files``'s and ``rows``'s work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidemill.crypto.intake import json_bars
from tidemill.intake import source
from tidemill.intake.source import Text

__all__ = ["Text", "plain"]

TAKEN = "candles are taken from CSV or JSON text, as it is, in gzip or in zip"


@contextmanager
def plain(path: Path) -> Iterator[Text]:
    """The plain text of a file, unpacked and decoded where it must be; JSON as lines of CSV.

    Raises:
        InputError: It is missing, unreadable, empty, of another type, or cut short.
    """
    with source.plain(path, TAKEN, json_bars.as_csv) as text:
        yield text
