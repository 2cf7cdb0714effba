"""A trio loop in a thread of its own, for callers that know no trio.

Owns the thread. Any thread may call; each call waits for its result, and Ctrl-C in the main thread cancels what it
waits for. After a fork the child has no such thread: whoever holds a portal asks `is_ours` before using it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Generic, TypeVar

import trio

Service = TypeVar("Service")
Result = TypeVar("Result")


class _Outcome(Generic[Service]):
    """What the thread made: a service, or an error."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.error: BaseException | None = None


class Portal(Generic[Service]):
    """Runs an async context manager in its thread, and calls inside of it."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Service]]) -> None:
        """Returns when the service is open. Raises what opening it raises."""
        self._opening = opening
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._outcome: _Outcome[Service] = _Outcome()
        self._token: trio.lowlevel.TrioToken | None = None
        self._closing: trio.Event | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), name="fsd", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._outcome.error is not None:
            self._thread.join()
            raise self._outcome.error

    @property
    def is_ours(self) -> bool:
        """False in a process that was forked since: there the thread does not run."""
        return self._pid == os.getpid()

    def call(self, function: Callable[[Service], Awaitable[Result]]) -> Result:
        """What `function` returns for the service. Raises what it raises, ValueError after `close`."""
        service, token = self._outcome.service, self._token
        if service is None or token is None:
            raise ValueError("the store is closed")
        scope = trio.CancelScope()
        try:
            return trio.from_thread.run(_call, function, service, scope, trio_token=token)
        except trio.RunFinishedError:
            raise ValueError("the store is closed") from None
        except KeyboardInterrupt:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)
            raise

    def close(self) -> None:
        """Close the service and end the thread. Idempotent; nothing happens in a forked process."""
        closing, self._outcome.service = self._closing, None
        if closing is None or self._token is None or not self.is_ours or not self._thread.is_alive():
            return
        self._token.run_sync_soon(closing.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._closing = trio.Event()
        try:
            async with self._opening() as service:
                self._outcome.service = service
                self._ready.set()
                await self._closing.wait()
        except BaseException as error:
            if self._ready.is_set():
                raise
            self._outcome.error = error
            self._ready.set()


async def _call(function: Callable[[Service], Awaitable[Result]], service: Service, scope: trio.CancelScope) -> Result:
    with scope:
        return await function(service)
    raise KeyboardInterrupt  # nobody waits for it
