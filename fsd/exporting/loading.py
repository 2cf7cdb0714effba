"""Loads what writes to buckets when it is needed: not every installation has fsspec."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import cast

from fsd.errors import UsageError
from fsd.exporting.exported import Exported


def bucket_exporter() -> Callable[..., Awaitable[Exported]]:
    """`fsd.exporting.bucket.export_bucket`. Raises UsageError where its library is not installed."""
    try:
        module = importlib.import_module("fsd.exporting.bucket")
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] == "fsd":
            raise
        raise UsageError("buckets need a library that is not installed", hint="pip install 'fsd[import]'") from None
    return cast("Callable[..., Awaitable[Exported]]", module.export_bucket)
