"""The server: a thread of its own that runs an event loop over connections. For tests in the same process, and for
`python -m integration.gcs_server`.

    with GcsServer(rtt_s=0.03) as server:
        server.create_bucket("bucket")
        os.environ["STORAGE_EMULATOR_HOST"] = server.url

Everything public may be used from any thread. Stopping breaks all connections; what is stored stays, and starting again
listens on the same port.
"""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import trio

from integration.gcs_server.access import Access
from integration.gcs_server.api import Api, Operation, classify, error_response
from integration.gcs_server.contents import Generator
from integration.gcs_server.counters import Counters, Record
from integration.gcs_server.faults import (
    Action,
    Cut,
    Drip,
    Faults,
    FlipBit,
    Hold,
    Lengthen,
    Reset,
    Slow,
    Stall,
    Status,
    Truncate,
    parse_action,
)
from integration.gcs_server.http import Connection, DisconnectedError, Request, Response
from integration.gcs_server.link import Link
from integration.gcs_server.objects import Bucket, Buckets, GcsError
from integration.gcs_server.uploads import Sessions, bad_request

START_TIMEOUT_S = 10.0
BACKLOG = 512
CONTROL = "_control"

_REASONS = {429: "rateLimitExceeded", 401: "authError", 403: "forbidden", 404: "notFound", 412: "conditionNotMet"}


class GcsServer:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        rtt_s: float = 0.0,
        bytes_per_s: float | None = None,
        folder: Path | None = None,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.link = Link(rtt_s=rtt_s, bytes_per_s=bytes_per_s)
        self.faults = Faults(seed)
        self.access = Access()
        self.counters = Counters()
        self.buckets = Buckets(folder)
        self.sessions = Sessions()
        self.api = Api(self.buckets, self.access, self.sessions)
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stopped = trio.Event()

    # --- from other threads

    @property
    def url(self) -> str:
        """As STORAGE_EMULATOR_HOST takes it."""
        return f"http://{self._host}:{self._port}"

    def create_bucket(self, name: str) -> Bucket:
        """A bucket, made if it is not there."""
        return self.buckets[name] if name in self.buckets else self.buckets.create(name)

    def add_generator(self, bucket: str, generator: Generator) -> None:
        """Objects that nobody stored."""
        self.create_bucket(bucket).generators.append(generator)

    def start(self) -> None:
        """Listen; returns when it does."""
        listener = socket.create_server((self._host, self._port), backlog=BACKLOG)
        self._port = listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main, listener, started), daemon=True)
        self._thread.start()
        assert started.wait(START_TIMEOUT_S), "the server did not start"

    def stop(self) -> None:
        """Break all connections and stop listening. Idempotent."""
        if self._thread is None:
            return
        assert self._token is not None
        self._token.run_sync_soon(self._stopped.set)
        self._thread.join(START_TIMEOUT_S)
        self._thread = None

    def __enter__(self) -> GcsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- in the server's thread

    async def _main(self, listener: socket.socket, started: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stopped = trio.Event()
        self.link.restart()
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            started.set()
            await self._stopped.wait()
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counters.connections += 1
        connection = Connection(stream, self.link)
        is_new = True
        try:
            async with stream:
                while (request := await connection.next_request()) is not None:
                    if request.segments[0] == CONTROL:
                        await self._send(connection, await self._control(request), None)
                    else:
                        await self._answer(connection, request, is_new=is_new)
                    is_new = False
                    if request.headers.get("connection", "").lower() == "close":
                        return
        except DisconnectedError:
            pass

    async def _answer(self, connection: Connection, request: Request, *, is_new: bool) -> None:
        operation = await self.api.name_upload(request, classify(request, self.sessions))
        action = self.faults.meet(operation.kind, operation.name)
        began_s = trio.current_time()
        self.counters.begin()
        status = sent = 0
        try:
            if isinstance(action, Cut):
                self._cut(connection, operation, action.after_bytes)
            if isinstance(action, Hold):
                await trio.to_thread.run_sync(action.release.wait, abandon_on_cancel=True)
            response = await self._respond(request, operation, action)
            self.counters.bytes_in += await _drain(request)
            connection.cut_after = None
            ready_s = await self.link.round_trip(new_connection=is_new)
            if isinstance(action, Slow):
                await trio.sleep(action.seconds)
                ready_s += action.seconds
            status = response.status
            sent = await self._send(connection, response, action, ready_s)
        finally:
            asked = request.headers.get("range", request.headers.get("content-range", ""))
            ended_s = trio.current_time()
            self.counters.end(Record(operation.kind, operation.name, asked, status, sent, began_s, ended_s))

    async def _respond(self, request: Request, operation: Operation, action: Action | None) -> Response:
        if isinstance(action, Status):
            reason = _REASONS.get(action.status, "backendError")
            response = error_response(GcsError(action.status, reason, "injected"), operation)
            if action.retry_after_s is not None:
                response.headers["Retry-After"] = str(action.retry_after_s)
            return response
        try:
            return await self.api.respond(request, operation)
        except GcsError as error:
            return error_response(error, operation)

    def _cut(self, connection: Connection, operation: Operation, after_bytes: int) -> None:
        """Only sessions see what comes before the cut."""
        if operation.kind == "resumable.part":
            connection.cut_after = after_bytes
            return
        connection.abort()
        raise DisconnectedError

    async def _send(
        self, connection: Connection, response: Response, action: Action | None, ready_s: float | None = None
    ) -> int:
        """The answer, spoilt as told, flowing from `ready_s` on. Returns how many bytes of a body went out."""
        size = response.body_bytes
        match action:
            case Reset(after) | Stall(after):
                if after >= 0:
                    await connection.send_head(response)
                    await connection.send_body(response, 0, min(after, size))
                if isinstance(action, Reset):
                    connection.abort()
                else:
                    await connection.wait_closed()
                raise DisconnectedError
            case Truncate(count, honest):
                kept = max(0, size - count)
                await connection.send_head(response, content_length=kept if honest else None)
                sent = await connection.send_body(response, 0, kept)
                if not honest:
                    raise DisconnectedError
                return sent
            case Lengthen(count, honest):
                await connection.send_head(response, content_length=size + count if honest else None)
                sent = await connection.send_body(response, 0, size)
                await connection.send(bytes(count))
                return sent + count
            case FlipBit(at, bit) if size:
                response = _flipped(response, min(int(size * at), size - 1), bit)
            case Drip(interval_s, head):
                await self._drip(connection, response, interval_s, head=head)
                return size
        await connection.send_head(response)
        return await connection.send_body(response, 0, size, ready_s=ready_s)

    async def _drip(self, connection: Connection, response: Response, interval_s: float, *, head: bool) -> None:
        if head:
            for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 60_000:
                await connection.send(bytes([byte]))
                await trio.sleep(interval_s)
        await connection.send_head(response)
        for position in range(response.body_bytes):
            await connection.send_body(response, position, position + 1)
            await trio.sleep(interval_s)

    async def _control(self, request: Request) -> Response:
        """What tests in other processes ask of this server itself. See README.md beside this."""
        body = json.loads(await request.body() or b"null")
        try:
            answer = self._obey(request.method, request.segments[1:], body)
        except (GcsError, KeyError, TypeError, ValueError) as error:
            return error_response(bad_request(str(error)), Operation("other"))
        return Response(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _obey(self, method: str, path: list[str], body: Any) -> Any:
        match method, path:
            case "GET", ["counters"]:
                return self.counters.as_json()
            case "GET", ["records"]:
                return self.counters.records
            case "DELETE", ["counters"]:
                self.counters.reset()
            case "GET", ["faults"]:
                return self.faults.as_json()
            case "POST", ["faults"]:
                action = parse_action(body.pop("kind"), body.pop("arguments", {}))
                self.faults.add(action, **body)
            case "DELETE", ["faults"]:
                self.faults.clear()
            case "POST", ["link"]:
                self.link.rtt_s = body.get("rtt_ms", self.link.rtt_s * 1000) / 1000
                if "mbit" in body:
                    self.link.bytes_per_s = body["mbit"] * 125_000 if body["mbit"] else None
            case "POST", ["access"]:
                self.access.demands_token = body.get("demands_token", self.access.demands_token)
                self.access.grants_tokens = body.get("grants_tokens", self.access.grants_tokens)
                self.access.forbids = body.get("forbids", self.access.forbids)
                if body.get("revoke"):
                    self.access.revoke()
            case _:
                raise ValueError(f"no control {method} /{'/'.join(path)}")
        return {}


async def _drain(request: Request) -> int:
    """Read what an early answer left of a body. Returns the length of the whole body, as it was announced."""
    async for _ in request.pieces():
        pass
    return int(request.headers.get("content-length", "0"))


def _flipped(response: Response, position: int, bit: int) -> Response:
    original = response.piece

    def source(start: int, length: int) -> bytes:
        piece = bytearray(original(start, length))
        if start <= position < start + len(piece):
            piece[position - start] ^= 1 << bit
        return bytes(piece)

    return Response(response.status, response.headers, source=source, length=response.body_bytes)
