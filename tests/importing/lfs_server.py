"""A server of Git LFS on a port of this machine: its batch API, and the objects."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POLL_S = 0.02
"""How often the server looks whether it is to end."""

_RANGE = re.compile(r"bytes=(\d+)-\Z")


class ObjectServer:
    """Serves these objects. The knobs may be turned at any time."""

    def __init__(self, contents: Iterable[bytes]) -> None:
        self.objects = {hashlib.sha256(data).hexdigest(): data for data in contents}
        self.batches: list[tuple[str, list[str]]] = []
        """Path and objects of each question."""
        self.sent: list[str] = []
        self.ranges: list[str] = []
        self.wants: tuple[str, str] | None = None
        """The user and password that are asked for."""
        self.breaks_after: int | None = None
        """Bytes after which the next connection breaks, once."""
        handler = type("Handler", (_Handler,), {"server_": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ObjectServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: ObjectServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        server = self.server_
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if server.wants is not None:
            word = base64.b64encode(":".join(server.wants).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {word}":
                self._answer(401, b"{}")
                return
        oids = [each["oid"] for each in asked["objects"]]
        server.batches.append((self.path, oids))
        assert len(oids) <= 100, "more than servers take"
        objects: list[dict[str, object]] = []
        for oid in oids:
            if oid in server.objects:
                href = f"{server.url}/objects/{oid}"
                actions = {"download": {"href": href, "header": {"X-Token": oid[:8]}, "expires_in": 600}}
                objects.append({"oid": oid, "size": 1, "authenticated": True, "actions": actions})
            else:
                objects.append({"oid": oid, "size": 1, "error": {"code": 404, "message": "no such object"}})
        self._answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())

    def do_GET(self) -> None:
        server, oid = self.server_, self.path.rpartition("/")[2]
        assert self.headers["X-Token"] == oid[:8]
        data = server.objects[oid]
        found = _RANGE.match(self.headers.get("Range", ""))
        if found is not None:
            server.ranges.append(self.headers["Range"])
            self._answer(206, data[int(found[1]) :])
            return
        server.sent.append(oid)
        self._answer(200, data)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        broken = self.server_.breaks_after
        if broken is not None and len(body) > broken:
            self.server_.breaks_after = None
            self.wfile.write(body[:broken])
            self.close_connection = True
            return
        self.wfile.write(body)
