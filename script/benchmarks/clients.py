"""gs:// by google-cloud-storage and by obstore: what each gets out of a link, and what it costs.

    .venv/bin/python -m script.benchmarks.clients [--repeat 3]

Both fill the same protocol (`fsd.stores.base`) and read the same object from the test server, in turns, each run in a
process of its own. The server runs beside them on the same machine: throughput is of both, the processor's time and the
memory are of the client alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio
from obstore.store import GCSStore

from fsd.limits import GIB, KIB, MIB, Limits
from fsd.stores.base import Store
from fsd.stores.gcs import GcsStore
from fsd.stores.obstore import ObstoreStore
from fsd.stores.obstore_clients import Clients
from fsd.stores.obstore_clouds import S3
from fsd.stores.obstore_options import client_options
from integration.gcs_server.server import GcsServer

OBJECT_BYTES = GIB
KEY = "packs/measured"
CLIENTS = ("google", "obstore")
LINKS = {"30 ms, 2 Gbit/s": (0.03, 250_000_000.0), "none": (0.0, None)}
CASES: dict[str, tuple[int, int, int]] = {
    # what: bytes of a request, requests at once, requests
    "8 MiB, 16 at once": (8 * MIB, 16, 192),
    "8 MiB, 64 at once": (8 * MIB, 64, 192),
    "64 KiB, 64 at once": (64 * KIB, 64, 4000),
    "4 KiB, 64 at once": (4 * KIB, 64, 4000),
}


def _open(client: str, url: str) -> Store:
    limits = Limits()
    if client == "google":
        return GcsStore("bucket", "", limits)

    def make(bucket: str, limits: Limits) -> Clients:
        def client(retries: Any) -> Any:
            config: Any = {"base_url": url, "skip_signature": True}
            return GCSStore(bucket, config=config, client_options=client_options(limits), retry_config=retries)

        return Clients(S3, client, limits, is_anonymous=True)

    return ObstoreStore(replace(S3, name="Google Cloud Storage", scheme="gs"), "bucket", "", limits, make)


async def _read(store: Store, size: int, at_once: int, requests: int) -> float:
    """Seconds for all requests. Connections are there before."""
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            start = number * size % (OBJECT_BYTES - size)
            assert len((await store.get_range(KEY, start, size)).data) == size

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(store.get_range, KEY, 0, 1)
    started_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
    return time.perf_counter() - started_s


def _run_client(client: str, url: str, case: str) -> None:
    """In a process of its own: one line of JSON."""
    size, at_once, requests = CASES[case]
    store = _open(client, url)
    took_s, used_s = trio.run(_measure, store, size, at_once, requests)
    print(
        json.dumps(
            {
                "mb_per_s": size * requests / took_s / 1e6,
                "per_s": requests / took_s,
                "cpu_s_per_gb": used_s / (size * requests / 1e9),
                "cpu_ms": used_s / requests * 1e3,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB,
            }
        )
    )


async def _measure(store: Store, size: int, at_once: int, requests: int) -> tuple[float, float]:
    await store.get_range(KEY, 0, 1)
    before = resource.getrusage(resource.RUSAGE_SELF)
    took_s = await _read(store, size, at_once, requests)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return took_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _table(link: str, results: dict[tuple[str, str], dict[str, float]]) -> None:
    print(f"\nlink: {link}\n")
    print("| | | MB/s | requests/s | CPU s per GB | CPU ms per request | peak MiB |\n|---|---|---|---|---|---|---|")
    for (case, client), each in results.items():
        print(
            f"| {case} | {client} | {each['mb_per_s']:.0f} | {each['per_s']:.0f} | {each['cpu_s_per_gb']:.2f}"
            f" | {each['cpu_ms']:.2f} | {each['peak_mib']:.0f} |"
        )


def main() -> None:
    """Measure everything, print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--client", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        _run_client(*options.client)
        return
    for link, (rtt_s, bytes_per_s) in LINKS.items():
        with tempfile.TemporaryDirectory() as folder, GcsServer(folder=Path(folder)) as server:
            bucket = server.create_bucket("bucket")
            pieces = [os.urandom(16 * MIB)] * (OBJECT_BYTES // (16 * MIB))
            bucket.write(KEY, server.buckets.storage.store(pieces), {}, {})
            server.link.rtt_s, server.link.bytes_per_s = rtt_s, bytes_per_s
            environment = os.environ | {"STORAGE_EMULATOR_HOST": server.url}
            results = {}
            for case in CASES:
                runs: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
                for _ in range(options.repeat):
                    for client in CLIENTS:
                        command = [
                            sys.executable,
                            "-m",
                            "script.benchmarks.clients",
                            "--client",
                            client,
                            server.url,
                            case,
                        ]
                        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                        assert done.returncode == 0, done.stderr
                        runs[client].append(json.loads(done.stdout))
                results.update({(case, client): _median(runs[client]) for client in CLIENTS})
            _table(link, results)


if __name__ == "__main__":
    main()
