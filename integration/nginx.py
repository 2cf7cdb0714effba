"""nginx before a folder, as anybody would set it up to share a store."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

START_TIMEOUT_S = 20.0

_CONFIGURATION = """
daemon off;
master_process off;  # as whoever runs the tests, who alone may read their folders
pid {own}/pid;
error_log {own}/error.log;
events {{}}
http {{
    access_log {own}/access.log;
    client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;
    fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            root {folder};
            autoindex {autoindex};
        }}
    }}
}}
"""


def is_installed() -> bool:
    """Debian's nginx-light will do."""
    return _program() is not None


def _program() -> str | None:
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


class Nginx:
    """Serves `folder`, with pages that list what is in it if `lists`; `own` is a folder for itself."""

    def __init__(self, folder: Path, own: Path, *, lists: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        own.mkdir(parents=True, exist_ok=True)
        self._configuration = own / "nginx.conf"
        text = _CONFIGURATION.format(own=own, folder=folder, port=port, autoindex="on" if lists else "off")
        self._configuration.write_text(text)
        self._own = own
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Nginx:
        program = _program()
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-p", str(self._own), "-e", str(self._own / "error.log"), "-c", str(self._configuration)]
        )
        self._wait_for_port()
        return self

    def _wait_for_port(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1):
                    return
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self._own / "error.log").read_text()
                time.sleep(0.02)
        raise AssertionError("nginx does not answer")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(START_TIMEOUT_S)
