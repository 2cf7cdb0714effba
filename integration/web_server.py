"""A web server for a folder: files, ranges, ETags of whole seconds as nginx makes them, and what servers get wrong."""

from __future__ import annotations

import re
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from integration.background import BackgroundServer

_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class WebServer(BackgroundServer):
    """Serves on a port of this machine. The knobs may be turned at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, str]] = []
        """Method, key and Cache-Control of each."""
        self.sends_ranges = True
        self.status: int | None = None
        """Answered to everything."""
        self.replaced: dict[str, bytes] = {}
        """What is sent instead of a file, by its key: a cache's stale or damaged copy."""
        self.truncates = 0
        """Bytes that the bodies of ranges lack, of which the headers know nothing."""
        handler = type("Handler", (_Handler,), {"server_": self})
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), handler))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: WebServer
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        server = self.server_
        key = unquote(self.path).lstrip("/")
        server.requests.append((self.command, key, self.headers.get("Cache-Control", "")))
        path = server.folder / key
        if server.status is not None or not path.is_file():
            self._answer(server.status or 404, b"", {})
            return
        data = server.replaced.get(key, path.read_bytes())
        modified_s = int(path.stat().st_mtime)
        headers = {"ETag": f'"{modified_s:x}-{len(data):x}"', "Last-Modified": formatdate(modified_s, usegmt=True)}
        found = _RANGE.match(self.headers.get("Range", ""))
        if found is None or not server.sends_ranges:
            self._answer(200, data, headers)
            return
        start = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
        end = min(int(found[2]) + 1 if found[1] and found[2] else len(data), len(data))
        if start >= len(data):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._answer(206, data[start:end], headers)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _handle  # noqa: N815

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        truncated = self.server_.truncates if status == 206 else 0
        self.wfile.write(body[: len(body) - truncated])
        if truncated:
            self.close_connection = True
