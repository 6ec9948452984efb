"""``tidemill erase``: take one person's data out of a domain's tables."""

import re
from dataclasses import asdict
from typing import Any

from tidemill import compose
from tidemill.commands import show
from tidemill.errors import InputError
from tidemill.settings import Settings

LAST = 2**63 - 1
COLUMNS = ("table_name", "action", "rows", "version", "files_deleted")


def erase(settings: Settings, user_id: str, is_purged: bool, as_json: bool) -> dict[str, Any]:
    """Erase a user from the tables of events, and show the receipt.

    Returns:
        receipt_id (None where nothing of the user was found), tables (a mapping each), left (where
        values may be still), as shown.

    Raises:
        InputError: The id is no whole number of 64 bits.
        TidemillError: Others wrote or read all the time; the next call goes on.
    """
    from tidemill.events.erase import Eraser

    eraser = Eraser(
        compose.events(settings), compose.clicks(settings).feed, compose.event_landing(settings)
    )
    done = eraser.erase(_whole(user_id), is_purged)
    report = {
        "receipt_id": done.receipts[0].receipt_id if done.receipts else None,
        "tables": [asdict(receipt) for receipt in done.receipts],
        "left": list(done.left),
    }
    if as_json:
        show.as_json(report)
    else:
        _print(report)
    return report


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()) or abs(number := int(text)) > LAST:
        raise InputError(f"--user: expected a whole number of 64 bits, found {text[:60]!r}")
    return number


def _print(report: dict[str, Any]) -> None:
    if report["receipt_id"] is None:
        show.out.print("no table and no file has anything of that user: nothing to do, no receipt")
    else:
        show.out.print(f"receipt {report['receipt_id']}, in events.erasures")
        rows = [[told[name] for name in COLUMNS] for told in report["tables"]]
        show.table(COLUMNS, rows)
    for told in report["left"]:
        show.out.print(f"left: {told}")
