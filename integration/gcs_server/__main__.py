"""`python -m integration.gcs_server`: serve until SIGTERM, SIGINT, or the end of the standard input if so wished."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from integration.gcs_server.server import GcsServer


def main() -> None:
    """Print the URL on a line of its own, then serve."""
    parser = argparse.ArgumentParser(prog="python -m integration.gcs_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--rtt-ms", type=float, default=0.0, help="each request waits so long for its answer")
    parser.add_argument("--mbit", type=float, default=0.0, help="bandwidth each way, over all connections; 0: no limit")
    parser.add_argument("--folder", type=Path, help="keep objects there, also for the next start; in memory otherwise")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket; may be given again")
    parser.add_argument("--any-bucket", action="store_true", help="every bucket exists")
    parser.add_argument("--seed", type=int, default=0, help="of the faults that happen by chance")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")
    options = parser.parse_args()
    server = GcsServer(
        rtt_s=options.rtt_ms / 1000,
        bytes_per_s=options.mbit * 125_000 or None,
        folder=options.folder,
        seed=options.seed,
        host=options.host,
        port=options.port,
    )
    server.api.creates_buckets = options.any_bucket
    for bucket in options.bucket:
        server.create_bucket(bucket)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with server:
        print(server.url, flush=True)
        if options.until_eof:
            threading.Thread(target=_read_to_end, args=(ended,), daemon=True).start()
        ended.wait()


def _read_to_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()
