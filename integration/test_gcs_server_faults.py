"""What the test server does wrong when it is told to, its link, and whom it refuses."""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption

from integration.gcs_client import bucket, client_of, get, put, refused, server
from integration.gcs_server.faults import Cut, Drip, FlipBit, Lengthen, Reset, Slow, Stall, Status, Truncate
from integration.gcs_server.server import GcsServer

# --- faults


def test_statuses(server: GcsServer, bucket: storage.Bucket) -> None:
    put(bucket, "key", b"x")
    for status, error in [(429, api.TooManyRequests), (500, api.InternalServerError), (503, api.ServiceUnavailable)]:
        fault = server.faults.add(Status(status, retry_after_s=1), operations=["stat"], match="k*", times=1)
        with refused(error):
            bucket.blob("key").reload(retry=None)
        assert bucket.blob("key").download_as_bytes(retry=None) == b"x"
        assert bucket.get_blob("key", retry=None).size == 1
        assert fault.exercised
    # The client's own retries work as they do with the real one.
    server.faults.add(Status(503), times=1)
    assert bucket.get_blob("key").size == 1


def test_faults_come_after_others_and_by_chance(server: GcsServer, bucket: storage.Bucket) -> None:
    put(bucket, "key", b"x")

    def fails() -> bool:
        return get(server).status_code == 503

    server.faults.add(Status(503), after=2, times=1)
    assert [fails() for _ in range(4)] == [False, False, True, False]
    fault = server.faults.add(Status(503), probability=0.5)
    assert 20 <= sum(fails() for _ in range(80)) <= 60
    fault.remove()
    server.faults.assert_all_exercised()
    server.faults.add(Status(503), match="other")
    with pytest.raises(AssertionError, match="never"):
        server.faults.assert_all_exercised()
    server.faults.clear()
    server.faults.assert_all_exercised()


@pytest.mark.parametrize("action", [Reset(), Reset(0), Reset(1000), Truncate(1), Truncate(1000), Stall(), Stall(500)])
def test_broken_answers(server: GcsServer, bucket: storage.Bucket, action: Any) -> None:
    put(bucket, "key", os.urandom(100_000))
    server.faults.add(action, operations=["media"], times=1)
    with pytest.raises((requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)):
        _ = get(server).content
    assert len(get(server).content) == 100_000
    server.faults.assert_all_exercised()


def test_spoilt_bodies(server: GcsServer, bucket: storage.Bucket) -> None:
    data = os.urandom(100_000)
    blob = put(bucket, "key", data)
    server.faults.add(Truncate(5, honest=True), operations=["media"], times=1)
    assert get(server).content == data[:-5]
    server.faults.add(Lengthen(5), operations=["media"], times=1)
    assert get(server).content == data + bytes(5)
    server.faults.add(Lengthen(5, honest=False), operations=["media"], times=1)
    assert get(server).content == data
    server.faults.add(FlipBit(0.5, 3), operations=["media"], times=1)
    spoilt = get(server).content
    assert [at for at in range(100_000) if spoilt[at] != data[at]] == [50_000]
    assert spoilt[50_000] ^ data[50_000] == 8
    server.faults.add(FlipBit(), operations=["media"], times=1)
    with pytest.raises(DataCorruption):
        blob.download_as_bytes(retry=None)
    server.faults.assert_all_exercised()


def test_drips(server: GcsServer, bucket: storage.Bucket) -> None:
    put(bucket, "key", bytes(20))
    server.faults.add(Drip(0.01), operations=["media"], times=1)
    started_s = time.monotonic()
    assert get(server).content == bytes(20)
    assert time.monotonic() - started_s >= 0.19


def test_a_reset_answer_was_done_and_a_cut_request_was_not(server: GcsServer, bucket: storage.Bucket) -> None:
    server.faults.add(Cut(), operations=["insert"], match="cut", times=1)
    server.faults.add(Reset(), operations=["insert"], match="reset", times=1)
    for name in ("cut", "reset"):
        with pytest.raises(requests.ConnectionError):
            put(bucket, name, b"x")
    assert [blob.name for blob in bucket.list_blobs()] == ["reset"]


def test_the_stalled_delay_nobody(server: GcsServer, bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", b"x")
    stall = server.faults.add(Stall(), operations=["media"], times=64)
    with ThreadPoolExecutor(64) as pool:
        stalled = [pool.submit(get, server) for _ in range(64)]
        stall.wait_met(64)
        assert blob.download_as_bytes() == b"x"
        assert server.counters.in_flight >= 1
        for future in stalled:
            with pytest.raises(requests.Timeout):
                future.result()


# --- the link


def test_round_trips(server: GcsServer, bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", b"x")
    server.link.rtt_s = 0.05
    started_s = time.monotonic()
    for _ in range(3):
        blob.download_as_bytes()
    assert 0.15 <= time.monotonic() - started_s < 1
    server.faults.add(Slow(0.1), operations=["media"], times=1)
    started_s = time.monotonic()
    get(server)
    # A connection of its own, and slow besides.
    assert time.monotonic() - started_s >= 0.2


def test_all_connections_share_the_bandwidth(server: GcsServer, bucket: storage.Bucket) -> None:
    put(bucket, "key", bytes(1_000_000))
    server.link.bytes_per_s = 10_000_000
    started_s = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bucket.blob("key").download_as_bytes(), range(4)))
    assert 0.38 <= time.monotonic() - started_s < 2
    started_s = time.monotonic()
    put(bucket, "other", bytes(3_000_000))
    assert 0.28 <= time.monotonic() - started_s < 2


# --- access


def test_access(server: GcsServer, bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", b"x")
    server.access.forbids = "storage.objects.create"
    with refused(api.Forbidden, match=r"storage\.objects\.create"):
        put(bucket, "other")
    assert blob.download_as_bytes() == b"x"
    server.access.demands_token = True
    answer = get(server)
    assert answer.status_code == 401
    token = requests.post(f"{server.url}/token", timeout=10).json()["access_token"]
    signed = {"Authorization": f"Bearer {token}"}
    assert get(server, headers=signed).content == b"x"
    server.access.revoke()
    assert get(server, headers=signed).json()["error"]["code"] == 401
    server.access.grants_tokens = False
    assert requests.post(f"{server.url}/token", timeout=10).json()["error"] == "invalid_grant"
