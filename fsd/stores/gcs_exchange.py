"""HTTP exchanges that another thread can break off.

A request is made by a thread that blocks in the socket. No timeout of the socket bounds it: a server that sends one
byte a second keeps it alive for ever. So each connection knows whose exchange it serves at the moment, and whoever gave
up the exchange shuts its socket down: the thread gets an error, ends, and is free for others.

Hooks into requests and urllib3 where they are meant to be: an adapter, pools of its own, connection classes.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_T = TypeVar("_T")

_serving = threading.local()
"""`exchange`: whose requests this thread makes just now."""


class BrokenOffError(OSError):
    """Nobody waits for this exchange any more."""


class Exchange:
    """One call's requests, one after the other, in one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._is_broken_off = False

    def run(self, action: Callable[[], _T]) -> _T:
        """`action`, whose requests belong to this exchange. In the thread that makes them."""
        _serving.exchange = self
        try:
            return action()
        finally:
            _serving.exchange = None
            with self._lock:
                self._connection = None

    def take(self, connection: Any) -> None:
        """`connection` serves this exchange from now on. Raises BrokenOffError if it is too late."""
        with self._lock:
            if self._is_broken_off:
                raise BrokenOffError("broken off")
            self._connection = connection
            connection.exchange = self

    def break_off(self) -> None:
        """End what is under way. From any thread; nothing happens if it has ended by itself."""
        with self._lock:
            self._is_broken_off = True
            connection = self._connection
            # It may have gone back to the pool a moment ago, and serve another exchange.
            if connection is None or connection.exchange is not self or connection.sock is None:
                return
            with suppress(OSError):  # it may be connected no longer, or not yet
                # Not the method of an SSLSocket, which would change its state under the thread that reads.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _take(connection: Any) -> None:
    exchange = getattr(_serving, "exchange", None)
    if exchange is not None:
        exchange.take(connection)


class _Connection(HTTPConnection):
    exchange: Exchange | None = None

    def connect(self) -> None:
        _take(self)
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        _take(self)
        super().request(*args, **kwargs)


class _SecureConnection(HTTPSConnection):
    exchange: Exchange | None = None

    def connect(self) -> None:
        _take(self)
        super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        _take(self)
        super().request(*args, **kwargs)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}


class _NoUploads(logging.Filter):
    """The URL of a resumable upload is a secret, and urllib3 logs all URLs when it is asked for details."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "upload_id=" not in record.getMessage()


_NO_UPLOADS = _NoUploads()


class BreakableAdapter(HTTPAdapter):
    """Up to `connections` kept open for each host; no retries."""

    def __init__(self, connections: int) -> None:
        super().__init__(pool_maxsize=connections, max_retries=0)
        logging.getLogger("urllib3.connectionpool").addFilter(_NO_UPLOADS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """The pools for hosts that are asked directly."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:
        """The pools for hosts behind a proxy."""
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
