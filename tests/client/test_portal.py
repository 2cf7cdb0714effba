"""The thread that runs trio for callers that know no trio."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from fsd.client.portal import Portal


@asynccontextmanager
async def service() -> AsyncIterator[str]:
    yield "the service"


def test_an_interrupted_call_is_cancelled() -> None:
    """Ctrl-C reaches the caller, what it waited for ends, and the next call is answered."""
    ended = threading.Event()

    async def wait(_service: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def answer(it: str) -> str:
        return it

    portal = Portal(service)
    with pytest.raises(KeyboardInterrupt):
        portal.call(wait)
    assert ended.wait(timeout=30)
    assert portal.call(answer) == "the service"
    portal.close()
    with pytest.raises(ValueError, match="closed"):
        portal.call(answer)
