"""The test server, as the unmodified google-cloud-storage client sees it."""

# Fixtures are imported, and then used as arguments of the same name:
# ruff: noqa: F401, F811

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import requests
from google.api_core import exceptions as api
from google.cloud import storage

from integration.gcs_client import bucket, client_of, get, put, refused, server
from integration.gcs_server.contents import Content
from integration.gcs_server.faults import Cut
from integration.gcs_server.server import GcsServer

REPOSITORY = Path(__file__).parents[1]
MIB = 1 << 20


# --- objects


def test_what_is_uploaded_is_downloaded(bucket: storage.Bucket) -> None:
    before_us = time.time_ns() // 1000
    blob = put(bucket, "a/b c?#%ü", b"hello", content_type="text/plain")
    assert before_us <= blob.generation <= time.time_ns() // 1000
    assert blob.metageneration == 1
    assert blob.md5_hash == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert base64.b64decode(blob.crc32c) == google_crc32c.Checksum(b"hello").digest()
    again = bucket.get_blob("a/b c?#%ü")
    assert (again.size, again.content_type, again.generation) == (5, "text/plain", blob.generation)
    assert again.time_created == again.updated == blob.time_created
    assert again.download_as_bytes() == b"hello"
    assert again.etag


def test_ranges(bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", bytes(range(100)))
    for start, end in [(0, 0), (0, 99), (10, 19), (90, 1000), (99, 99), (5, None)]:
        expected = bytes(range(100))[start : None if end is None else end + 1]
        assert blob.download_as_bytes(start=start, end=end) == expected
    assert blob.download_as_bytes(start=-7) == bytes(range(93, 100))
    assert blob.download_as_bytes(start=-700) == bytes(range(100))
    for name, start in [("key", 100), ("empty", 0)]:
        put(bucket, "empty")
        with refused(api.RequestRangeNotSatisfiable):
            bucket.blob(name).download_as_bytes(start=start, end=start + 1)
    assert bucket.blob("empty").download_as_bytes() == b""


@pytest.mark.parametrize("tells", [False, True])
def test_headers_of_media(server: GcsServer, bucket: storage.Bucket, tells: bool) -> None:
    generation = str(put(bucket, "key", b"0123456789").generation)
    server.api.tells_sizes = tells
    url = f"{server.url}/download/storage/v1/b/bucket/o/key?alt=media"
    answer = requests.get(url, headers={"Range": "bytes=2-4"}, timeout=10)
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["Content-Range"] == "bytes 2-4/10"
    assert answer.headers["X-Goog-Generation"] == generation
    assert answer.headers["X-Goog-Stored-Content-Length"] == "10"
    assert answer.headers["X-Goog-Hash"].startswith("crc32c=")
    answer = requests.get(url, headers={"Range": "bytes=10-"}, timeout=10)
    assert answer.status_code == 416
    assert answer.headers.get("Content-Range") == ("bytes */10" if tells else None)
    assert answer.headers.get("X-Goog-Generation") == (generation if tells else None)


def test_what_is_missing(bucket: storage.Bucket) -> None:
    assert bucket.get_blob("key") is None
    with refused(api.NotFound, match="No such object: bucket/key"):
        bucket.blob("key").download_as_bytes()
    with refused(api.NotFound, match="No such object"):
        bucket.blob("key").delete()
    other = bucket.client.bucket("other")
    for call in (other.blob("key").download_as_bytes, lambda: list(other.list_blobs()), other.reload):
        with refused(api.NotFound, match="The specified bucket does not exist"):
            call()


def test_checksums_of_uploads_are_checked(server: GcsServer) -> None:
    body = b'--x\r\n\r\n{"name": "key", "crc32c": "AAAAAA=="}\r\n--x\r\n\r\nhello\r\n--x--'
    answer = requests.post(
        f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=multipart",
        data=body,
        headers={"Content-Type": 'multipart/related; boundary="x"'},
        timeout=10,
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == "invalid"


def test_patches_change_the_metageneration(bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", b"x")
    blob.metadata = {"a": "b"}
    blob.patch(if_metageneration_match=1)
    again = bucket.get_blob("key")
    assert (again.metageneration, again.generation, again.metadata) == (2, blob.generation, {"a": "b"})
    with refused(api.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    again.delete(if_metageneration_match=2)


# --- preconditions


def test_generations(bucket: storage.Bucket) -> None:
    first = put(bucket, "key", b"1", if_generation_match=0).generation
    with refused(api.PreconditionFailed):
        put(bucket, "key", b"2", if_generation_match=0)
    second = put(bucket, "key", b"2", if_generation_match=first).generation
    assert second > first
    for generation in (first, second + 1):
        with refused(api.PreconditionFailed):
            put(bucket, "key", b"3", if_generation_match=generation)
        with refused(api.PreconditionFailed):
            bucket.blob("key").delete(if_generation_match=generation)
        with refused(api.PreconditionFailed):
            bucket.blob("key").download_as_bytes(if_generation_match=generation)
    assert bucket.blob("key").download_as_bytes(if_generation_match=second, if_generation_not_match=first) == b"2"
    with refused(api.PreconditionFailed):
        put(bucket, "key", b"3", if_generation_not_match=second)
    with refused(api.NotFound):
        bucket.blob("key", generation=first).download_as_bytes()
    bucket.blob("key").delete(if_generation_match=second)
    with refused(api.PreconditionFailed):
        put(bucket, "key", b"3", if_generation_match=second)
    assert put(bucket, "key", b"3").generation > second


def test_generations_never_repeat(bucket: storage.Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        blobs = list(pool.map(lambda number: put(bucket, f"k{number % 3}", b"x"), range(60)))
    assert len({blob.generation for blob in blobs}) == 60


# --- resumable uploads


def start_upload(server: GcsServer, name: str, query: str = "") -> str:
    answer = requests.post(
        f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=resumable{query}", json={"name": name}, timeout=10
    )
    assert answer.status_code == 200
    return str(answer.headers["Location"])


def send(url: str, data: bytes, content_range: str) -> requests.Response:
    return requests.put(url, data=data, headers={"Content-Range": content_range}, timeout=10)


def test_the_clients_resumable_upload(server: GcsServer, bucket: storage.Bucket) -> None:
    data = os.urandom(3 * MIB + 5)
    blob = bucket.blob("key", chunk_size=MIB)
    blob.upload_from_file(io.BytesIO(data), if_generation_match=0)
    assert blob.size == len(data)
    assert bucket.blob("key").download_as_bytes() == data
    assert server.counters.requests["resumable.part"] == 4


def test_a_resumable_upload_step_by_step(server: GcsServer, bucket: storage.Bucket) -> None:
    data = os.urandom(MIB)
    url = start_upload(server, "key")
    answer = send(url, b"", "bytes */*")
    assert (answer.status_code, answer.headers.get("Range")) == (308, None)
    # What does not fill a grain is not kept.
    answer = send(url, data[:300_000], "bytes 0-299999/*")
    assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{262_144 - 1}")
    assert send(url, data[300_000:], f"bytes 300000-{MIB - 1}/{MIB}").status_code == 503
    # What is there already is skipped.
    answer = send(url, data[: 2 * 262_144], f"bytes 0-{2 * 262_144 - 1}/*")
    assert answer.headers["Range"] == f"bytes=0-{2 * 262_144 - 1}"
    assert bucket.get_blob("key") is None
    answer = send(url, data[2 * 262_144 :], f"bytes {2 * 262_144}-{MIB - 1}/{MIB}")
    assert (answer.status_code, answer.json()["size"]) == (200, str(MIB))
    # Asked again, it says what it has done.
    for question in ("bytes */*", f"bytes */{MIB}"):
        assert send(url, b"", question).json()["generation"] == answer.json()["generation"]
    assert bucket.blob("key").download_as_bytes() == data
    assert len(server.sessions) == 0


def test_a_question_with_the_total_ends_an_upload(server: GcsServer, bucket: storage.Bucket) -> None:
    url = start_upload(server, "key")
    send(url, bytes(262_144), "bytes 0-262143/*")
    assert send(url, b"", "bytes */262144").status_code == 200
    assert bucket.get_blob("key").size == 262_144
    assert send(start_upload(server, "empty"), b"", "bytes */0").status_code == 200


def test_an_upload_that_breaks_off_keeps_what_arrived(server: GcsServer) -> None:
    url = start_upload(server, "key")
    server.faults.add(Cut(700_000), operations=["resumable.part"], times=1)
    with pytest.raises(requests.ConnectionError):
        send(url, bytes(4 * MIB), f"bytes 0-{4 * MIB - 1}/{4 * MIB}")
    assert send(url, b"", "bytes */*").headers["Range"] == f"bytes=0-{2 * 262_144 - 1}"
    server.faults.assert_all_exercised()


def test_preconditions_of_resumable_uploads(server: GcsServer, bucket: storage.Bucket) -> None:
    url = start_upload(server, "key", "&ifGenerationMatch=0")
    put(bucket, "key", b"first")
    assert send(url, b"x", "bytes 0-0/1").status_code == 412
    answer = requests.post(
        f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=resumable&ifGenerationMatch=0",
        json={"name": "key"},
        timeout=10,
    )
    assert answer.status_code == 412
    assert bucket.blob("key").download_as_bytes() == b"first"


def test_a_cancelled_upload_is_gone(server: GcsServer) -> None:
    url = start_upload(server, "key")
    assert requests.delete(url, timeout=10).status_code == 499
    assert send(url, b"x", "bytes 0-0/1").status_code == 404
    url = start_upload(server, "key")
    server.sessions.drop_unfinished()
    assert send(url, b"", "bytes */*").status_code == 404


def test_a_body_of_unknown_length(server: GcsServer, bucket: storage.Bucket) -> None:
    pieces = [b"a" * 100_000, b"b" * 5, b"c" * 70_000]
    requests.post(f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=media&name=key", data=iter(pieces), timeout=10)
    assert bucket.blob("key").download_as_bytes() == b"".join(pieces)


# --- listing, composing, buckets


def test_listings(bucket: storage.Bucket) -> None:
    names = sorted(["a", "a/1", "a/2", "a/b/1", "a0", "b/1", "c"])
    for name in reversed(names):
        put(bucket, name, b"x")

    def listed(**settings: Any) -> list[str]:
        return [blob.name for blob in bucket.list_blobs(**settings)]

    assert listed() == names
    assert listed(prefix="a/") == ["a/1", "a/2", "a/b/1"]
    assert listed(page_size=2) == names
    assert listed(start_offset="a/2") == names[names.index("a/2") :]
    assert listed(start_offset="a/15", end_offset="c") == ["a/2", "a/b/1", "a0", "b/1"]
    assert listed(prefix="a", max_results=3, page_size=2) == ["a", "a/1", "a/2"]
    for page_size in (1, 2, 1000):
        iterator = bucket.list_blobs(delimiter="/", page_size=page_size)
        assert [blob.name for blob in iterator] == ["a", "a0", "c"]
        assert iterator.prefixes == {"a/", "b/"}
        iterator = bucket.list_blobs(prefix="a/", delimiter="/", page_size=page_size)
        assert [blob.name for blob in iterator] == ["a/1", "a/2"]
        assert iterator.prefixes == {"a/b/"}


def test_composing(bucket: storage.Bucket) -> None:
    parts = [put(bucket, f"part{number}", bytes([number]) * 1000) for number in range(3)]
    whole = bucket.blob("whole")
    whole.compose(parts, if_generation_match=0)
    assert (whole.component_count, whole.size, whole.md5_hash) == (3, 3000, None)
    assert whole.download_as_bytes() == b"".join(bytes([number]) * 1000 for number in range(3))
    with refused(api.PreconditionFailed):
        bucket.blob("whole").compose(parts, if_generation_match=0)
    with refused(api.NotFound):
        bucket.blob("other").compose([bucket.blob("missing")])
    with refused(api.BadRequest):
        bucket.blob("other").compose(parts * 11)


def test_buckets(server: GcsServer) -> None:
    with client_of(server.url) as client:
        created = client.create_bucket("new")
        assert client.get_bucket("new").name == "new"
        assert {bucket.name for bucket in client.list_buckets()} == {"bucket", "new"}
        with refused(api.Conflict):
            client.create_bucket("new")
        put(created, "key")
        with refused(api.Conflict):
            created.delete()
        created.blob("key").delete()
        created.delete()
        assert client.lookup_bucket("new") is None
        server.api.creates_buckets = True
        put(client.bucket("another"), "key")


class Zeros:
    """A million objects that nobody stored."""

    def find(self, bucket: str, name: str) -> Content | None:  # noqa: ARG002
        return _Zeros() if name.startswith("made/") and name[5:].isdecimal() and int(name[5:]) < 1_000_000 else None

    def names(self, bucket: str, prefix: str, start: str) -> Iterable[str]:  # noqa: ARG002
        if "made/".startswith(prefix) or prefix.startswith("made/"):
            names = (f"made/{number:06}" for number in range(1_000_000))
            yield from (name for name in names if name.startswith(prefix) and name >= start)


class _Zeros:
    size = 1 << 40

    def read(self, start: int, length: int) -> bytes:
        return bytes(min(length, self.size - start))

    def discard(self) -> None:
        pass


def test_generated_objects(server: GcsServer, bucket: storage.Bucket) -> None:
    server.add_generator("bucket", Zeros())
    put(bucket, "made/000001x", b"own")
    assert [blob.name for blob in bucket.list_blobs(max_results=3)] == ["made/000000", "made/000001", "made/000001x"]
    blob = bucket.get_blob("made/000007")
    assert blob.size == 1 << 40
    assert blob.download_as_bytes(start=(1 << 40) - 5) == bytes(5)
    put(bucket, "made/000007", b"own")
    assert bucket.blob("made/000007").download_as_bytes() == b"own"
    assert [blob.size for blob in bucket.list_blobs(prefix="made/000007")] == [3]


# --- starting and stopping


def test_it_comes_back_with_what_it_had(server: GcsServer, bucket: storage.Bucket) -> None:
    blob = put(bucket, "key", b"x")
    url = server.url
    server.stop()
    server.stop()
    with pytest.raises(requests.ConnectionError):
        blob.download_as_bytes(retry=None)
    server.start()
    assert server.url == url
    assert blob.download_as_bytes(retry=None) == b"x"


def test_a_folder_keeps_objects(tmp_path: Path) -> None:
    with GcsServer(folder=tmp_path) as server, client_of(server.url) as client:
        bucket = client.create_bucket("bucket")
        old = put(bucket, "kept", b"old").generation
        kept = put(bucket, "kept", b"new", if_generation_match=old).generation
        put(bucket, "deleted", b"x").delete()
        bucket.blob("big", chunk_size=MIB).upload_from_file(io.BytesIO(bytes(2 * MIB)))
    with GcsServer(folder=tmp_path) as server, client_of(server.url) as client:
        bucket = client.bucket("bucket")
        assert [(blob.name, blob.size) for blob in bucket.list_blobs()] == [("big", 2 * MIB), ("kept", 3)]
        assert bucket.get_blob("kept").generation == kept
        assert bucket.blob("kept").download_as_bytes(start=1) == b"ew"
        assert put(bucket, "kept", b"newer").generation > kept
    assert len(list((tmp_path / "contents").iterdir())) == 2


def test_as_a_program() -> None:
    command = [sys.executable, "-m", "integration.gcs_server", "--bucket", "bucket", "--rtt-ms", "20", "--until-eof"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def control(method: str, path: str, body: Any = None) -> Any:
            request = urllib.request.Request(f"{url}/_control/{path}", json.dumps(body).encode(), method=method)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)

        with client_of(url) as client:
            blob = put(client.bucket("bucket"), "key", b"x" * 1000)
            control("POST", "link", {"rtt_ms": 0, "mbit": 1000})
            control("POST", "faults", {"kind": "status", "arguments": {"status": 503}, "times": 1})
            with refused(api.ServiceUnavailable):
                blob.download_as_bytes(retry=None)
            assert control("GET", "faults") == [{"kind": "status", "met": 1, "status": 503, "retry_after_s": None}]
            control("DELETE", "faults")
            assert blob.download_as_bytes(retry=None) == b"x" * 1000
            counters, records = control("GET", "counters"), control("GET", "records")
            inserted, refusal = records[0][4], records[1][4]  # bytes of what the server says in JSON
            assert [record[:5] for record in records] == [
                ["insert", "key", "", 200, inserted],
                ["media", "key", "", 503, refusal],
                ["media", "key", "", 200, 1000],
            ]
            times_s = [time_s for record in records for time_s in record[5:]]
            assert len(times_s) == 6
            assert times_s == sorted(times_s), "one after the other"
            assert counters.pop("bytes_in") > 1000, "what was stored, and its name"
            assert counters == {
                "requests": {"insert": 1, "media": 2},
                "statuses": {"200": 2, "503": 1},
                "bytes_out": {"insert": inserted, "media": refusal + 1000},
                "connections": 1 + 5,  # the client's, and one for each time that the server itself was asked
                "in_flight": 0,
                "most_in_flight": 1,
            }
            assert inserted > 0 < refusal
            control("DELETE", "counters")
            assert control("GET", "counters")["requests"] == {}
            control("POST", "access", {"forbids": "storage.objects"})
            with refused(api.Forbidden):
                blob.download_as_bytes(retry=None)
            with pytest.raises(urllib.error.HTTPError, match="400"):
                control("POST", "faults", {"kind": "nonsense"})
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
