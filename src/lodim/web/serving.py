"""Running the server: a port, an address to open, an end by Ctrl-C."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import uvicorn

from lodim.web.app import create_app
from lodim.web.settings import Settings

__all__ = ["serve"]

GRACE = 3


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens."""
    family, kind, proto, _, address = socket.getaddrinfo(
        settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {settings.port} of {settings.host} is taken by another program; choose another with --port, or "
                "--port 0 for any that is free"
            ) from error
        raise OSError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    return listener


def serve(
    settings: Settings,
    *,
    tell: Callable[[str], None] = print,
    open_browser: bool = False,
    started: Callable[[Any], None] | None = None,
) -> None:
    """Serve the pages until stopped with Ctrl-C or a signal to end; needs the extra ``web``.

    With port 0 any free one is taken; one that is taken is an OSError.

    Parameters
    ----------
    tell : callable
        Is given the address, once.
    started : callable, optional
        Is given the server, an object with ``should_exit``.
    """
    listener = _listen(settings)
    with listener:
        settings = replace(settings, port=listener.getsockname()[1])
        app = create_app(settings)
        _log_to_stderr()
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        if started is not None:
            started(server)
        tell(settings.address)
        if open_browser:
            threading.Timer(0.8, webbrowser.open, (settings.address,)).start()
        with suppress(KeyboardInterrupt):  # uvicorn has closed everything and hands the signal on
            server.run(sockets=[listener])


def _log_to_stderr() -> None:
    """Write the log's lines to standard error, unless the program has its own way."""
    log = logging.getLogger("lodim.web")
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
