"""What the control socket answers: HTTP, JSON in and out.

    POST /v1/coverage     {"path", "verify"}              how much of a path is in the cache
    POST /v1/prefetch     {"path", "pin", "partial"}      fetch it
    POST /v1/evict        {"path", "unpin"}               let go of it
    POST /v1/pins         {"pins": [question]}            examine pins of a work tree (`fsd.pins.findings`)
    POST /v1/record       {"path"}                        the order of reads, as they happen
    POST /v1/replay?path  JSON strings, one a line        fetch files in this order
    POST /v1/chunk        {"id", "length"}                a chunk, if it is in the cache
    POST /v1/object       {"id", "kind"}                  an object as the store held it, if it is in the cache

and what `control_daemon` has. Paths count from the mountpoint, with no symlink in them. Everything that takes long
answers with lines of JSON: any number of {"progress": …}, at least one a second, for `record` {"path": …}, and at the
end {"result": …} or {"error": {"message", "hint", "exit_code"}}. Who goes away cancels what he asked for. A chunk or
object, named in hex, is answered with its bytes, or with 404; nothing is fetched for it.

The only module that imports hypercorn. To be loaded when it is needed: that takes a tenth of a second.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import hypercorn.config
import hypercorn.trio
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from fsd.daemon.control_daemon import metrics_route, routes
from fsd.daemon.control_request import body_of
from fsd.daemon.examining import examine_mounted
from fsd.errors import FsdError, UsageError
from fsd.format.keys import ObjectKind
from fsd.format.limits import MAX_CHUNK_BYTES
from fsd.ids import Buffer, parse_id
from fsd.limits import MIB
from fsd.pins.findings import Question
from fsd.vfs.vfs import Vfs

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 16
"""Of an order."""

MAX_BODY_BYTES = 64 * MIB
"""Of an order that is not used yet, packed: some millions of paths."""

PROGRESS_INTERVAL_S = 0.2
SIGN_OF_LIFE_S = 1.0
"""Without news, the last progress is sent again after this long."""

_MEMBERS = {"path": str, "verify": bool, "pin": bool, "partial": bool, "unpin": bool, "pins": list}
_MEMBERS |= {"id": str, "length": int, "kind": str}


async def serve(listener: socket.socket, vfs: Vfs, *, only_metrics: bool = False) -> None:
    """Answer on a listening socket until cancelled. The socket stays the caller's.

    `only_metrics`: for a socket that anybody may reach.
    """
    config = hypercorn.config.Config()
    # Closed by hypercorn, which takes a number.
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.accesslog = None
    config.errorlog = _quiet_logger()
    application = Starlette(routes=[metrics_route(vfs)]) if only_metrics else _application(vfs)
    await hypercorn.trio.serve(application, config, mode="asgi")  # type: ignore[arg-type]  # is ASGI


def _quiet_logger() -> logging.Logger:
    """That it listens, and where, is no news."""
    logger = logging.getLogger("fsd.control")
    logger.setLevel(logging.WARNING)
    return logger


class Body:
    """What comes with a question, taken in at once and packed until it is used: an order may have millions of paths,
    and last as long as the training that reads in it. (Who left it to the connection to wait would not see its end.)"""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._packed_bytes = 0
        self._more = trio.Event()
        self._is_over = False

    def add(self, part: bytes) -> None:
        """A part has come. Beyond the bound they are dropped, which who uses them is told."""
        if self._packed_bytes <= MAX_BODY_BYTES:
            self._parts.append(zlib.compress(part, 1))
            self._packed_bytes += len(self._parts[-1])
        self._more.set()

    def end(self) -> None:
        """There is no more to come."""
        self._is_over = True
        self._more.set()

    async def receive(self) -> bytes:
        """The next part; b'' after the last. Raises UsageError if it is too long."""
        while not self._parts and not self._is_over:
            self._more = trio.Event()
            await self._more.wait()
        if self._packed_bytes > MAX_BODY_BYTES:
            raise UsageError("the order is too long", hint="replay it in parts")
        if not self._parts:
            return b""
        part = self._parts.popleft()
        self._packed_bytes -= len(part)
        return zlib.decompress(part)


@dataclass(slots=True)
class Answer:
    """The lines of one answer, and the lines that came with the question."""

    progress: dict[str, Any] = field(default_factory=dict)
    changed: bool = True
    lines_send: trio.MemorySendChannel[dict[str, Any]] = field(init=False)
    lines: trio.MemoryReceiveChannel[dict[str, Any]] = field(init=False)
    body: Body = field(init=False)

    def __post_init__(self) -> None:
        self.lines_send, self.lines = trio.open_memory_channel[dict[str, Any]](1)
        self.body = Body()

    def report(self, progress: dict[str, Any]) -> None:
        """Say how far it is: the last word is sent when it is time."""
        self.progress = progress
        self.changed = True

    async def emit(self, line: dict[str, Any]) -> None:
        """Send a line now."""
        await self.lines_send.send(line)


Operation = Callable[[Answer], Awaitable[dict[str, Any]]]


class Lines(Response):
    """Runs an operation while its answer is sent, and cancels it when the client goes away."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(media_type="application/jsonl")
        self._operation = operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        answer = Answer()
        last: dict[str, Any] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, receive, answer, nursery.cancel_scope)
            nursery.start_soon(_send_lines, answer, send)
            nursery.start_soon(_send_progress, answer)
            last = await self._run(answer)
            nursery.cancel_scope.cancel()
        if last is not None:
            await send(_body(last, more=False))

    async def _run(self, answer: Answer) -> dict[str, Any]:
        try:
            return {"result": await self._operation(answer)}
        except FsdError as error:
            return {"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}}


_HEADERS = [(b"content-type", b"application/jsonl")]


async def _listen(receive: Receive, answer: Answer, scope: trio.CancelScope) -> None:
    """Take in the body, and notice the end of the connection."""
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            scope.cancel()
            return
        if message.get("body"):
            answer.body.add(message["body"])
        if not message.get("more_body", False):
            answer.body.end()


async def _send_lines(answer: Answer, send: Send) -> None:
    async for line in answer.lines:
        await send(_body(line, more=True))


async def _send_progress(answer: Answer) -> None:
    sent_s = trio.current_time()
    while True:
        await trio.sleep(PROGRESS_INTERVAL_S)
        if answer.changed or trio.current_time() - sent_s >= SIGN_OF_LIFE_S:
            answer.changed, sent_s = False, trio.current_time()
            await answer.emit({"progress": answer.progress})


def _body(line: dict[str, Any], *, more: bool) -> Message:
    return {"type": "http.response.body", "body": json.dumps(line).encode() + b"\n", "more_body": more}


# --- what can be asked


def _application(vfs: Vfs) -> Starlette:
    holdings = vfs.holdings

    async def coverage(request: Request) -> Response:
        asked = await _asked(request, "path", "verify")
        return Lines(lambda answer: holdings.coverage(_path(asked), answer.report, verify=asked.get("verify", False)))

    async def prefetch(request: Request) -> Response:
        asked = await _asked(request, "path", "pin", "partial")
        pin, partial = asked.get("pin", False), asked.get("partial", False)
        return Lines(lambda answer: holdings.prefetch(_path(asked), answer.report, pin=pin, partial=partial))

    async def evict(request: Request) -> Response:
        asked = await _asked(request, "path", "unpin")
        return Lines(lambda answer: holdings.evict(_path(asked), answer.report, unpin=asked.get("unpin", False)))

    async def pins(request: Request) -> Response:
        asked = await _asked(request, "pins")
        questions = [Question.from_json(value) for value in asked["pins"]]
        return Lines(lambda _: examine_mounted(vfs, questions))

    async def record(request: Request) -> Response:
        asked = await _asked(request, "path")

        async def run(answer: Answer) -> dict[str, Any]:
            async def emit(path: bytes) -> None:
                await answer.emit({"path": path.decode(errors="surrogateescape")})

            await holdings.record(_path(asked), answer.report, emit)
            return {}

        return Lines(run)

    async def replay(request: Request) -> Response:
        path = request.query_params.get("path", "").encode(errors="surrogateescape")
        return Lines(lambda answer: holdings.replay(path, Order(answer.body), answer.report))

    async def chunk(request: Request) -> Response:
        asked = await _asked(request, "id", "length")
        length = asked.get("length", 0)
        if not 0 < length <= MAX_CHUNK_BYTES:
            raise UsageError(f"no chunk has {length} bytes")
        return _bytes(await holdings.chunk(_id(asked), length))

    async def stored_object(request: Request) -> Response:
        asked = await _asked(request, "id", "kind")
        try:
            kind = ObjectKind[str(asked.get("kind")).upper()]
        except KeyError:
            raise UsageError(f"{asked.get('kind')!r} is no kind of object") from None
        return _bytes(await holdings.stored_object(kind, _id(asked)))

    of_paths = [Route("/v1/object", stored_object, methods=["POST"])]
    of_paths += [
        Route(f"/v1/{endpoint.__name__}", endpoint, methods=["POST"])
        for endpoint in (coverage, prefetch, evict, pins, record, replay, chunk)
    ]
    return Starlette(routes=[*routes(vfs), *of_paths], exception_handlers={FsdError: _refuse})


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, FsdError)
    status = 400 if isinstance(error, UsageError) else 502
    told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return JSONResponse({"error": told}, status_code=status)


async def _asked(request: Request, *members: str) -> dict[str, Any]:
    """The members of the JSON object that the request holds; it has to have the first. Raises UsageError."""
    try:
        asked = json.loads(await body_of(request))
    except ValueError as error:
        raise UsageError(f"the request is not JSON: {error}") from None
    if not isinstance(asked, dict) or members[0] not in asked:
        raise UsageError(f"the request is no JSON object with a {members[0]!r}")
    for name, value in asked.items():
        if name not in members or type(value) is not _MEMBERS[name]:
            raise UsageError(f"the request's member {name!r} is not known here, or of the wrong type")
    return asked


def _path(asked: dict[str, Any]) -> bytes:
    return str(asked["path"]).encode(errors="surrogateescape")


def _id(asked: dict[str, Any]) -> bytes:
    try:
        return parse_id(asked["id"])
    except ValueError as error:
        raise UsageError(str(error)) from None


def _bytes(found: Buffer | None) -> Response:
    if found is None:
        return Response(status_code=404)
    return Response(bytes(found), media_type="application/octet-stream")


class Order:
    """An async iterator over the paths in the lines of a body, as they come. Raises UsageError for what is none."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._is_over = False

    def __aiter__(self) -> Order:
        return self

    async def __anext__(self) -> bytes:
        while not self._lines and not self._is_over:
            await self._receive()
        if not self._lines:
            raise StopAsyncIteration
        try:
            path = json.loads(self._lines.popleft())
        except ValueError:
            path = None
        if not isinstance(path, str):
            raise UsageError("a line of the order is no JSON string")
        return path.encode(errors="surrogateescape")

    async def _receive(self) -> None:
        part = await self._body.receive()
        if part:
            *lines, self._rest = (self._rest + part).split(b"\n")
        else:
            lines, self._rest, self._is_over = [self._rest], b"", True
        if len(self._rest) > MAX_LINE_BYTES:
            raise UsageError("a line of the order is too long")
        self._lines.extend(line for line in lines if line.strip())
