"""The server behind the simulated link, seen from its clients: its life, its counters, and what it truly delivers."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

RTT_S = 0.03
BYTES_PER_S = 250e6
"""2 Gbit/s."""

CLIENT_CONNECTIONS = 8
CLIENT_RANGE = 8 * 1024 * 1024

_TICKS = os.sysconf("SC_CLK_TCK")


class Asked(NamedTuple):
    """One request, as the server has it."""

    operation: str
    name: str
    range: str
    status: int
    bytes_out: int
    began_s: float
    ended_s: float

    @property
    def kind(self) -> str:
        """The top folder of the store that it is about: refs, commits, pages, recipes, packs."""
        return self.name.split("/")[1] if "/" in self.name else self.name


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the server counted, as differences."""

    requests: int
    bytes_out: int
    bytes_in: int
    asked: tuple[Asked, ...]
    """The first 100,000."""
    cpu_s: float
    """Of the server."""

    def of(self, kind: str) -> list[Asked]:
        """Requests about one folder of a store."""
        return [each for each in self.asked if each.kind == kind]

    def one_after_the_other(self) -> int:
        """Of the requests until the first bytes of a pack came, the longest chain, each of which began after the one
        before was answered."""
        chain, free_s = 0, float("-inf")
        first_s = min(each.ended_s for each in self.of("packs"))
        for each in sorted(self.asked, key=lambda each: each.ended_s):
            if each.began_s >= free_s and each.ended_s <= first_s:
                chain, free_s = chain + 1, each.ended_s
        return chain


class LinkedServer:
    """`with`: started; ended, whatever happens."""

    def __init__(self, folder: Path, plain: Path, huge: str, huge_files: int) -> None:
        """Where the bucket is kept, what is shown as plain objects, and the prefix and size of the huge store."""
        command = [sys.executable, str(Path(__file__).with_name("cloud_server.py"))]
        command += [str(folder), str(plain), huge, str(huge_files)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the server did not start")
        place = urlsplit(self.url)
        self.host, self.port = str(place.hostname), int(place.port or 0)

    def __enter__(self) -> LinkedServer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    # --- control: without delay, and not counted

    def unlimited(self) -> None:
        """No link in between: for what is only prepared."""
        self._ask("POST", "link", {"rtt_ms": 0, "mbit": 0})

    def limited(self) -> None:
        """The link."""
        self._ask("POST", "link", {"rtt_ms": RTT_S * 1000, "mbit": BYTES_PER_S / 125_000})

    @contextmanager
    def counted(self) -> Iterator[list[Traffic]]:
        """What is asked meanwhile; the list has it in the end."""
        self._ask("DELETE", "counters")
        before = processor_s(self.process.pid)
        answer: list[Traffic] = []
        yield answer
        answer.append(self.traffic(before))

    def traffic(self, cpu_before_s: float = 0.0) -> Traffic:
        """Since the counters were last set to zero."""
        deadline = time.monotonic() + 10
        while (counters := self._ask("GET", "counters"))["in_flight"] and time.monotonic() < deadline:
            time.sleep(0.01)
        records = self._ask("GET", "records")
        return Traffic(
            sum(counters["requests"].values()),
            sum(counters["bytes_out"].values()),
            counters["bytes_in"],
            tuple(Asked(*record) for record in records),
            processor_s(self.process.pid) - cpu_before_s,
        )

    def _ask(self, method: str, what: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, f"/_control/{what}", None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def empty(self, bucket: str, prefix: str = "") -> None:
        """Delete the objects of a bucket whose names begin so."""
        listing = f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}"
        while found := self._api("GET", listing).get("items"):
            for each in found:
                self._api("DELETE", f"/storage/v1/b/{bucket}/o/{quote(each['name'], safe='')}")

    def _api(self, method: str, target: str) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, target)
            return json.loads(connection.getresponse().read() or b"null")
        finally:
            connection.close()

    # --- a plain client

    def size(self, bucket: str, name: str) -> int:
        """Of an object."""
        return int(self._get(bucket, name, 0, 1)[1].rpartition("/")[2])

    def read(self, bucket: str, name: str, start: int, end: int) -> bytes:
        """Bytes of an object."""
        return self._get(bucket, name, start, end)[0]

    def _get(self, bucket: str, name: str, start: int, end: int) -> tuple[bytes, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request("GET", _media(bucket, name), headers={"Range": f"bytes={start}-{end - 1}"})
            answer = connection.getresponse()
            if answer.status != 206:
                raise OSError(f"{name}: the server answered {answer.status}")
            return answer.read(), answer.headers["Content-Range"]
        finally:
            connection.close()

    def throughput(self, bucket: str, name: str, size: int) -> float:
        """Bytes a second that a plain client of some connections gets, in ranges, thrown away."""
        starts = iter(range(0, size, CLIENT_RANGE))
        lock = threading.Lock()

        def work() -> None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            buffer = memoryview(bytearray(1024 * 1024))
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    break
                end = min(start + CLIENT_RANGE, size) - 1
                connection.request("GET", _media(bucket, name), headers={"Range": f"bytes={start}-{end}"})
                answer = connection.getresponse()
                while answer.readinto(buffer):
                    pass
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(CLIENT_CONNECTIONS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return size / (time.perf_counter() - began)

    def upload_throughput(self, bucket: str, size: int) -> float:
        """Bytes a second that a plain client gets to the server: an upload on each of four connections."""
        share = bytes(size // 4)

        def work(number: int) -> None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            start = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name=plain-{number}"
            connection.request("POST", start, b"{}", {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            place = urlsplit(answer.headers["Location"])
            headers = {"Content-Range": f"bytes 0-{len(share) - 1}/{len(share)}"}
            connection.request("PUT", f"{place.path}?{place.query}", share, headers)
            connection.getresponse().read()
            connection.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(share) * 4 / (time.perf_counter() - began)

    def latency(self, bucket: str, name: str, size: int, count: int) -> float:
        """Seconds that a plain client waits for `size` bytes on a connection that is there; the median."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        taken = []
        for number in range(count + 1):
            began = time.perf_counter()
            connection.request("GET", _media(bucket, name), headers={"Range": f"bytes={number}-{number + size - 1}"})
            connection.getresponse().read()
            taken.append(time.perf_counter() - began)
        connection.close()
        return statistics.median(taken[1:])


def _media(bucket: str, name: str) -> str:
    return f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"


def processor_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
