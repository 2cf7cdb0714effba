"""The bucket behind the simulated link, in a process of its own: serves until its standard input ends.

Four buckets: `store` is what is read from, kept in a folder for the next time; `uploads` is what publishing is measured
with; `plain` shows folders of this machine as objects, for what reads plain files; `huge` has the packs of a store that
is too large to be kept (see `cloud_huge`).
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_left
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cloud_huge import HugePacks

from integration.gcs_server.contents import Content, FileContent
from integration.gcs_server.server import GcsServer

STORE, UPLOADS, PLAIN, HUGE = "store", "uploads", "plain", "huge"


class PlainFiles:
    """All files below a folder, as if they had been uploaded under their paths. They must not change."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._names = sorted(
            os.path.relpath(os.path.join(folder, name), top)
            for each in sorted(top.iterdir())
            if each.is_dir()
            for folder, _, names in os.walk(each)
            for name in names
        )

    def find(self, bucket: str, name: str) -> Content | None:  # noqa: ARG002
        position = bisect_left(self._names, name)
        if self._names[position : position + 1] != [name]:
            return None
        return FileContent(self._top / name)  # not kept: that would be 20,000 descriptors

    def names(self, bucket: str, prefix: str, start: str) -> Iterable[str]:  # noqa: ARG002
        positions = range(bisect_left(self._names, max(prefix, start)), len(self._names))
        return takewhile(lambda name: name.startswith(prefix), map(self._names.__getitem__, positions))


def main() -> None:
    """`cloud_server.py FOLDER PLAIN PREFIX FILES`: prints the URL on a line of its own."""
    folder, plain = map(Path, sys.argv[1:3])
    server = GcsServer(folder=folder)
    for name in (STORE, UPLOADS, HUGE):
        server.create_bucket(name)
    server.add_generator(PLAIN, PlainFiles(plain))
    server.add_generator(HUGE, HugePacks(sys.argv[3], int(sys.argv[4])))
    with server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
