"""How object_store's HTTP clients behave: the deadline of a request, and whether it is tried again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fsd.limits import Limits

CONNECT_TIMEOUT_S = 10.0
"""Shorter than a request's deadline, so that a host that is not there is told from one that is slow."""

NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(0)}
"""`RetryingStore` and the cache's fetcher try again; twice over would multiply their bounds."""


def client_options(limits: Limits) -> Any:
    """Plain http where an endpoint's URL says so; the deadline counts from connecting to the last byte of a body."""
    return {
        "allow_http": True,
        "timeout": timedelta(seconds=limits.store_timeout_s),
        "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, limits.store_timeout_s)),
        "pool_max_idle_per_host": str(limits.store_connections),
    }


def part_retries(limits: Limits) -> Any:
    """For parts of uploads, whose bytes nobody else has."""
    return {
        "max_retries": limits.store_attempts - 1,
        "retry_timeout": timedelta(seconds=limits.store_retry_s),
        "backoff": {
            "init_backoff": timedelta(seconds=limits.retry_min_s),
            "max_backoff": timedelta(seconds=limits.retry_max_s),
            "base": 2,
        },
    }
