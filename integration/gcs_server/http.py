"""HTTP/1.1 on a trio stream: reads requests, writes answers. Knows nothing of what is asked for.

Bodies are streamed both ways: a request's is read by whoever answers it, an answer's is fetched from its source while
it is sent. Every byte of a body passes the link, which makes it wait for its turn.

Benchmarks share the processor with this. So bodies go between the socket and where they lie with plain system calls on
the stream's descriptor: what is in a file never comes into this process at all.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import trio

from integration.gcs_server.link import Flow, Link

MAX_HEAD_BYTES = 64 * 1024
RECEIVE_BYTES = 1024 * 1024
"""Of a body, at once."""

MIN_FILE_BYTES = 64 * 1024
"""From here on a body goes from its file to the socket without coming into this process."""

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


class DisconnectedError(Exception):
    """The client is gone, or what it sent is no HTTP; there is nobody to answer."""


Source = Callable[[int, int], bytes | memoryview]
"""Gives some bytes from `start` of a body, `length` at most."""


@dataclass
class Response:
    """An answer. `length` bytes of `source`, where it has a body that is not worth holding; else `body`."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    source: Source | None = None
    length: int = -1
    file: tuple[int, int] | None = None
    """Where the source's bytes are from position 0 on, if in a file: its descriptor, which the source keeps open, and
    the place in it."""

    @property
    def body_bytes(self) -> int:
        """The length of its body."""
        return len(self.body) if self.source is None else self.length

    def piece(self, start: int, length: int) -> bytes | memoryview:
        """Some of its body."""
        return memoryview(self.body)[start : start + length] if self.source is None else self.source(start, length)


class Request:
    """What a client asks. Its body can be streamed once; one that was read as a whole is kept."""

    def __init__(self, connection: Connection, method: str, target: str, headers: dict[str, str]) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.raw_path = path
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.headers = headers
        self._connection = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = int(headers.get("content-length", "0"))
        self._body: bytes | None = None
        self._flow = connection.link.up()

    @property
    def segments(self) -> list[str]:
        """The path, cut at its slashes; a slash that was quoted stands in its segment."""
        return [unquote(segment) for segment in self.raw_path.strip("/").split("/")]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises DisconnectedError."""
        if self._chunked:
            while size := await self._connection.receive_chunk_size():
                while size:
                    piece = await self._connection.receive_body(size, self._flow)
                    size -= len(piece)
                    yield piece
                await self._connection.receive_line()
            await self._connection.receive_line()
            self._chunked = False
            return
        while self._left:
            piece = await self._connection.receive_body(self._left, self._flow)
            self._left -= len(piece)
            yield piece

    async def body(self) -> bytes:
        """All of it."""
        if self._body is None:
            self._body = b"".join([piece async for piece in self.pieces()])
        return self._body


class Connection:
    """One client's connection. Reads and writes alternate: nothing is answered before it was asked."""

    def __init__(self, stream: trio.SocketStream, link: Link) -> None:
        self.link = link
        self._stream = stream
        self._descriptor = stream.socket.fileno()
        self._buffer = bytearray()
        self.cut_after: int | None = None
        """Body bytes of a request after which the connection breaks; None: it does not."""

    async def next_request(self) -> Request | None:
        """The next request, without its body; None when the client has closed. Raises DisconnectedError."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise DisconnectedError
            if not await self._fill() and not self._buffer:
                return None
        head = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 4]
        first, *lines = head.split("\r\n")
        try:
            method, target, _ = first.split(" ")
            pairs = [line.split(":", 1) for line in lines]
            headers = {name.strip().lower(): value.strip() for name, value in pairs}
            return Request(self, method, target, headers)
        except ValueError:
            raise DisconnectedError from None

    async def _fill(self) -> bool:
        try:
            data = await self._stream.receive_some(MAX_HEAD_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise DisconnectedError from None
        self._buffer += data
        if not data and self._buffer:
            raise DisconnectedError
        return bool(data)

    async def receive_body(self, most: int, flow: Flow) -> bytes:
        """Some bytes of a request's body, at most `most`. Breaks the connection where that was asked for."""
        if self.cut_after is not None:
            if not self.cut_after:
                self.abort()
                raise DisconnectedError
            most = min(most, self.cut_after)
        if self._buffer:
            piece = bytes(self._buffer[:most])
            del self._buffer[: len(piece)]
        else:
            piece = await self._read(min(most, RECEIVE_BYTES), flow)
        if self.cut_after is not None:
            self.cut_after -= len(piece)
        await flow.wait_turn(len(piece))
        return piece

    async def _read(self, most: int, flow: Flow) -> bytes:
        while True:
            try:
                piece = os.read(self._descriptor, most)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._descriptor)
                flow.was_held_up()
                continue
            except OSError:
                raise DisconnectedError from None
            if not piece:
                raise DisconnectedError
            return piece

    async def receive_line(self) -> bytes:
        """Up to the end of a line, which is not part of the result."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not await self._fill():
                raise DisconnectedError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def receive_chunk_size(self) -> int:
        """The head of a chunk of a chunked body."""
        match = _CHUNK_SIZE.match(await self.receive_line() + b"\r\n")
        if match is None:
            raise DisconnectedError
        return int(match[1], 16)

    async def send_head(self, response: Response, *, content_length: int | None = None) -> None:
        """The head of an answer; `content_length` is what it claims, by default the truth."""
        claimed = response.body_bytes if content_length is None else content_length
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.status not in (204, 304):
            lines.append(f"Content-Length: {claimed}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send_body(self, response: Response, start: int, end: int, *, ready_s: float | None = None) -> int:
        """A part of an answer's body, at the link's pace, from `ready_s` on. Returns its bytes."""
        flow = self.link.down(ready_s)
        position = start
        while position < end:
            count = min(self.link.slice_bytes, end - position)
            if response.file is not None and end - start >= MIN_FILE_BYTES:
                await flow.wait_turn(count)
                await self._send_file(response.file[0], response.file[1] + position, count, flow)
            else:
                piece = response.piece(position, count)
                count = len(piece)
                await flow.wait_turn(count)
                await self._send_piece(memoryview(piece), flow)
            position += count
        return end - start

    async def _send_piece(self, piece: memoryview, flow: Flow) -> None:
        while piece:
            try:
                piece = piece[os.write(self._descriptor, piece) :]
            except BlockingIOError:
                await self._wait_writable(flow)
            except OSError:
                raise DisconnectedError from None

    async def _send_file(self, descriptor: int, position: int, count: int, flow: Flow) -> None:
        while count:
            try:
                sent = os.sendfile(self._descriptor, descriptor, position, count)
            except BlockingIOError:
                await self._wait_writable(flow)
                continue
            except OSError:
                raise DisconnectedError from None
            if not sent:
                raise RuntimeError("the file of an object is shorter than the object")
            position += sent
            count -= sent
        # The kernel may keep the last bytes back for 200 ms, in case that more come; this pushes them out.
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def _wait_writable(self, flow: Flow) -> None:
        try:
            await trio.lowlevel.wait_writable(self._descriptor)
        except trio.ClosedResourceError:
            raise DisconnectedError from None
        flow.was_held_up()

    async def send(self, data: bytes | memoryview) -> None:
        """Bytes as they are. Raises DisconnectedError."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise DisconnectedError from None

    def abort(self) -> None:
        """Reset the connection: the client sees an error and not an end."""
        try:
            self._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except OSError:
            return
        self._stream.socket.close()

    async def wait_closed(self) -> None:
        """Wait, for ever if need be, until the client goes away."""
        while await self._fill():
            self._buffer.clear()
