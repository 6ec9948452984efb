"""``tidemill serve``: the REST endpoint for predictions, on this machine alone."""

import signal
import socket
from types import FrameType

from tidemill import compose
from tidemill.commands import show
from tidemill.errors import TidemillError
from tidemill.settings import Settings

HOST = "127.0.0.1"
GRACE_S = 5
"""How long answers under way may take once the end is asked for."""


def serve(settings: Settings, port: int) -> None:
    """Answer until Ctrl-C.

    Raises:
        TidemillError: The port cannot be listened on.
    """
    try:
        # Set for Ctrl-C too: a shell starts a background job with that signal ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        with _listener(port) as listener:
            _answer(settings, listener)
    except KeyboardInterrupt:
        show.err.print("Stopped.")


def _answer(settings: Settings, listener: socket.socket) -> None:
    import uvicorn

    from tidemill import api

    config = uvicorn.Config(
        api.app(compose.lake(settings)),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    base = f"http://{HOST}:{listener.getsockname()[1]}"
    for route in api.ROUTES:
        show.out.print(f"{base}{route}", soft_wrap=True)
    show.out.print("Ctrl-C stops it.")
    uvicorn.Server(config).run(sockets=[listener])


def _listener(port: int) -> socket.socket:
    """A loopback socket that listens: a look whether the port is free could be out of date."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except PermissionError as error:
        listener.close()
        raise TidemillError(
            f"port {port} is not for everyone to listen on: choose one above 1023 with --port"
        ) from error
    except OSError as error:
        listener.close()
        raise TidemillError(
            f"port {port} is in use: stop what holds it, or choose another with --port"
        ) from error
    return listener


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
