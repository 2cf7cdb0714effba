"""Asking a mount's daemon through its control socket (see `control_api` for what can be asked).

For the command line: plain blocking calls, cheap to import. To go away (an exception, Ctrl-C) cancels what was asked.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsd.daemon import mounts
from fsd.daemon.mounts import Mount
from fsd.daemon.sockets import address
from fsd.errors import FsdError

ANSWER_TIMEOUT_S = 30.0
"""A daemon that works says so every second."""

_BATCH_BYTES = 1 << 16


class ControlError(FsdError):
    """The daemon answered with an error; it ends `fsd` with the code that the daemon gave."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def socket_of(mount: Mount) -> Path:
    """Where the control socket of a mount is. Raises NotAnsweringError, FsdError if it has none."""
    path = mounts.status_of(mount, timeout_s=mounts.STATUS_TIMEOUT_S).get("control")
    if not isinstance(path, str):
        raise FsdError(f"the daemon of {mount.mountpoint} has no control socket", hint="its log says why")
    return Path(path)


@contextmanager
def asking(mount: Mount, what: str, asked: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """POST /v1/`what`: the lines of the answer, up to the one with the result. Raises ControlError, FsdError."""
    with _connected(mount) as connection:
        _post(connection, f"/v1/{what}", asked)
        yield _lines(mount, connection)


def ask(mount: Mount, path: str, asked: dict[str, Any] | None = None) -> bytes:
    """GET `path`, or POST `asked` to it, where that takes no time: the answer. Raises ControlError, FsdError."""
    with _connected(mount) as connection:
        try:
            if asked is None:
                connection.request("GET", path)
            else:
                _post(connection, path, asked)
            response = connection.getresponse()
            answer = response.read()
            if response.status != HTTPStatus.OK:
                told = json.loads(answer)["error"]
                raise ControlError(told["message"], told["hint"], told["exit_code"])
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _broken_off(mount, error) from error
        return answer


@contextmanager
def replaying(mount: Mount, path: str, order: Iterable[str]) -> Iterator[Iterator[dict[str, Any]]]:
    """POST /v1/replay: the same, while `order` is sent as fast as the daemon takes it."""
    with _connected(mount) as connection:
        connection.putrequest("POST", f"/v1/replay?path={quote(path, errors='surrogateescape')}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        # Both ways at once: the daemon takes no more of the order than it is about to fetch.
        sender = threading.Thread(target=_send, args=(connection.sock, order), daemon=True, name="sends an order")
        sender.start()
        yield _lines(mount, connection)


class Fetching:
    """One connection, over which bytes are asked for. For one thread at a time."""

    def __init__(self, mount: Mount, connection: http.client.HTTPConnection) -> None:
        """Made by `fetching`."""
        self._mount = mount
        self._connection = connection

    def fetch(self, what: str, asked: dict[str, Any]) -> bytes | None:
        """POST /v1/`what`: the bytes of the answer; None if there are none. Raises FsdError."""
        try:
            _post(self._connection, f"/v1/{what}", asked)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _broken_off(self._mount, error) from error
        # A daemon of an older version knows no such question.
        return data if response.status == http.client.OK else None


@contextmanager
def fetching(mount: Mount) -> Iterator[Fetching]:
    """Ask a mount's daemon for what is in its cache. Raises FsdError."""
    with _connected(mount) as connection:
        yield Fetching(mount, connection)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        with address(self._path) as connected:
            self.sock.connect(connected)


@contextmanager
def _connected(mount: Mount) -> Iterator[_UnixConnection]:
    connection = _UnixConnection(socket_of(mount))
    try:
        connection.connect()
    except PermissionError as error:
        connection.close()
        raise FsdError(
            f"the mount at {mount.mountpoint} is somebody else's", hint="who mounted it may do this, and root"
        ) from error
    except OSError as error:
        connection.close()
        raise FsdError(f"the daemon of {mount.mountpoint} does not answer: {error.strerror}") from error
    try:
        yield connection
    finally:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes who sends
        connection.close()


def _post(connection: http.client.HTTPConnection, path: str, asked: dict[str, Any]) -> None:
    """Send a question. Raises OSError."""
    # A daemon that needs no more to answer closes while the rest is being sent: what it says can still be read.
    with suppress(BrokenPipeError):
        connection.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})


def _lines(mount: Mount, connection: _UnixConnection) -> Iterator[dict[str, Any]]:
    try:
        response = connection.getresponse()
        for line in response:
            answer = json.loads(line)
            if "error" in answer:
                told = answer["error"]
                raise ControlError(told["message"], told["hint"], told["exit_code"])
            yield answer
            if "result" in answer:
                return
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _broken_off(mount, error) from error
    raise FsdError(f"the daemon of {mount.mountpoint} has broken off", hint="see its log")


def _broken_off(mount: Mount, error: Exception) -> FsdError:
    return FsdError(f"the daemon of {mount.mountpoint} has broken off: {error}", hint="see its log")


def _send(channel: socket.socket, order: Iterable[str]) -> None:
    # Whoever reads the answer is told what went wrong.
    with suppress(OSError):
        batch = b""
        for path in order:
            batch += json.dumps(path).encode() + b"\n"
            if len(batch) >= _BATCH_BYTES:
                _send_all(channel, b"%x\r\n%s\r\n" % (len(batch), batch))
                batch = b""
        if batch:
            _send_all(channel, b"%x\r\n%s\r\n" % (len(batch), batch))
        _send_all(channel, b"0\r\n\r\n")


def _send_all(channel: socket.socket, data: bytes) -> None:
    """However long it takes: the daemon may have to wait for a reader. Raises OSError when the channel is closed."""
    rest = memoryview(data)
    while rest:
        with suppress(TimeoutError):
            rest = rest[channel.send(rest) :]
