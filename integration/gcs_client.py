"""The unmodified google-cloud-storage client, talking to the test server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from integration.gcs_server.server import GcsServer


@contextmanager
def client_of(url: str) -> Iterator[storage.Client]:
    client = storage.Client(project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})
    # It would look up buckets in a thread of its own, and be counted.
    client._bucket_metadata_cache = None
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with GcsServer() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
def bucket(server: GcsServer) -> Iterator[storage.Bucket]:
    with client_of(server.url) as client:
        yield client.bucket("bucket")


@contextmanager
def refused(error: type[api.GoogleAPICallError], match: str | None = None) -> Iterator[None]:
    with pytest.raises(error, match=match) as caught:
        yield
    # The client leaves the connection of a download that failed to the garbage collector.
    caught.value.response.close()


def put(bucket: storage.Bucket, name: str, data: bytes = b"", **settings: Any) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, retry=None, **settings)
    return blob


def get(server: GcsServer, **settings: Any) -> requests.Response:
    return requests.get(f"{server.url}/download/storage/v1/b/bucket/o/key?alt=media", timeout=0.5, **settings)
