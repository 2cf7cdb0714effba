"""obstore's client of Google Cloud Storage against the test server, as `script/benchmarks/clients.py` measures it."""

from __future__ import annotations

from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import GCSStore

from integration.gcs_server.server import GcsServer


def test_objects_are_written_and_read() -> None:
    with GcsServer() as server:
        server.create_bucket("bucket")
        config: Any = {"base_url": server.url, "bearer_token": "any"}
        store = GCSStore("bucket", prefix="some/prefix", config=config, client_options={"allow_http": True})
        first = obstore.put(store, "a/key", b"0123456789", mode="create")
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "a/key", b"other", mode="create")
        assert bytes(obstore.get_range(store, "a/key", start=2, end=5)) == b"234"
        assert first["version"] is not None
        at_first: Any = {"version": first["version"]}
        obstore.put(store, "a/key", b"second", mode=at_first)
        with pytest.raises(PreconditionError):
            obstore.put(store, "a/key", b"third", mode=at_first)
        answer = obstore.get(store, "a/key")
        assert bytes(answer.bytes()) == b"second"
        with pytest.raises(FileNotFoundError):
            obstore.get(store, "missing")
        assert {record.operation for record in server.counters.records} == {"media", "xml.put"}
