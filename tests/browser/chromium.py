"""Drives headless Chromium over its debugging pipe: no driver, no port, and no network for it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
PATIENCE_S = 60


@dataclass
class Page:
    """One tab.

    Attributes:
        events: What the browser told without being asked, in order.
    """

    to: int
    back: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _told: bytes = b""
    _asked: int = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command of the DevTools protocol."""
        self._asked += 1
        command = {"id": self._asked, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.to, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._asked:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def open(self, path: Path, width: int, height: int, is_phone: bool) -> None:
        """Open a file in a window of that size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Network.emulateNetworkConditions", **OFFLINE)
        self.ask("Page.navigate", url=path.as_uri())

    def value(self, script: str) -> Any:
        """What an expression is on the page; a promise is waited for."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.ask("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true on the page."""
        stop = time.monotonic() + PATIENCE_S
        while not self.value(script):
            assert time.monotonic() < stop, f"never true: {script}"
            time.sleep(0.05)

    def picture(self) -> bytes:
        """What is seen, as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._told:
            more = os.read(self.back, 1 << 16)
            assert more, "Chromium ended"
            self._told += more
        message, _, self._told = self._told.partition(b"\0")
        return dict(json.loads(message))


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A new browser with an empty profile in a folder, ended afterwards."""
    assert PROGRAM is not None
    theirs, to = os.pipe()
    back, from_them = os.pipe()
    # the pipe's ends must be 3 and 4, which a shell can say after the fork
    shell = f'exec "$@" 3<&{theirs} 4>&{from_them}'
    command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        pass_fds=(theirs, from_them),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(from_them)
    try:
        page = Page(to, back)
        target = page.ask("Target.createTarget", url="about:blank")["targetId"]
        session = page.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page.session = session
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.ask(f"{domain}.enable")
        yield page
    finally:
        os.close(to)  # it ends with its pipe
        os.close(back)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
