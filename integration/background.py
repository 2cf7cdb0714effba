"""What answers in a thread of its own while a test runs: one of the standard library's servers, or werkzeug's."""

from __future__ import annotations

import threading
from socketserver import BaseServer
from typing import Self

POLL_S = 0.02
"""How often a server looks whether it is to end."""


class BackgroundServer:
    """A server on a port of this machine, until the end of a `with` block."""

    def __init__(self, server: BaseServer) -> None:
        """`server` is bound already, and not yet serving."""
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
        host, port = server.server_address[:2]
        self.url = f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
