"""The stores behind obstore, by URL. Importing this imports obstore, which is an extra."""

from __future__ import annotations

from fsd.limits import Limits
from fsd.stores.base import Store
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_clients import azure_clients, s3_clients
from fsd.stores.obstore_clouds import AZURE, S3
from fsd.stores.obstore_http import HttpStore
from fsd.stores.obstore_urls import parse_place, parse_web
from fsd.stores.retry import RetryingStore


def open_url(url: str, limits: Limits) -> Store:
    """The store at an s3://, az://, http:// or https:// URL; its calls are tried again. Asks nobody. Raises
    UsageError."""
    return RetryingStore(_open(url, limits), limits)


def _open(url: str, limits: Limits) -> Store:
    match url.partition(":")[0].lower():
        case "s3":
            place = parse_place(url)
            return ObstoreStore(S3, place.bucket, place.prefix, limits, s3_clients)
        case "az":
            place = parse_place(url)
            return ObstoreStore(AZURE, place.bucket, place.prefix, limits, azure_clients)
        case _:
            return HttpStore(parse_web(url), limits)
