"""What the control API says of the daemon itself. As `control_api`, to be loaded when it is needed.

GET  /v1/status       as `.fsd/status`
GET  /v1/mounts       the mounts that this daemon serves: one
GET  /v1/errors       what somebody got an error for, the last one at the end
GET  /v1/files        files of several chunks that are being read
POST /v1/refresh      ask the store now for what is new
GET  /v1/log-level    {"level"}
POST /v1/log-level    {"level"}: log what is at least so important, until the daemon ends or is reloaded
GET  /metrics         for Prometheus; the only thing that a listener for metrics answers
"""

from __future__ import annotations

import importlib
import json
import logging

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fsd.config import LOG_LEVELS
from fsd.daemon import logs
from fsd.daemon.control_request import body_of
from fsd.errors import UsageError
from fsd.vfs.vfs import Vfs


def routes(vfs: Vfs) -> list[Route]:
    """Everything here."""

    async def status(_: Request) -> Response:
        return JSONResponse(vfs.status())

    async def mounts(_: Request) -> Response:
        about = {name: vfs.about.get(name) for name in ("mountpoint", "pid", "started_us")}
        return JSONResponse([about | {"store": vfs.repositories.store.url}])

    async def errors(_: Request) -> Response:
        return JSONResponse(vfs.errors.recent())

    async def files(_: Request) -> Response:
        return JSONResponse(vfs.files_being_read())

    async def refresh(request: Request) -> Response:
        await body_of(request)
        await vfs.refresh()
        return JSONResponse({})

    async def log_level(request: Request) -> Response:
        if request.method == "POST":
            logs.set_level(await _level(request))
        return JSONResponse({"level": logging.getLevelName(logging.getLogger().level).lower()})

    return [
        Route("/v1/status", status),
        Route("/v1/mounts", mounts),
        Route("/v1/errors", errors),
        Route("/v1/files", files),
        Route("/v1/refresh", refresh, methods=["POST"]),
        Route("/v1/log-level", log_level, methods=["GET", "POST"]),
        metrics_route(vfs),
    ]


def metrics_route(vfs: Vfs) -> Route:
    """`/metrics` alone."""

    async def metrics(_: Request) -> Response:
        # Loaded for who asks: 20 ms and 1.2 MiB.
        module = await trio.to_thread.run_sync(importlib.import_module, "fsd.daemon.metrics")
        return Response(module.exposition(vfs), media_type=module.CONTENT_TYPE)

    return Route("/metrics", metrics)


async def _level(request: Request) -> str:
    """What was asked for. Raises UsageError."""
    expected = f"a level is one of {', '.join(LOG_LEVELS)}"
    try:
        level = json.loads(await body_of(request))["level"]
    except (ValueError, KeyError, TypeError):
        raise UsageError('the request is no JSON object with a "level"', hint=expected) from None
    if level not in LOG_LEVELS:
        raise UsageError(f"there is no level {level!r}", hint=expected)
    return str(level)
