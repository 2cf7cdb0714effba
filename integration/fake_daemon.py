"""Mounts a `FakeTree`: a process of its own, because nobody may touch a mount from the process that serves it.

    fake_daemon.py MOUNTPOINT JSON      settings: files, file_bytes, interposed, max_background, options

Says one JSON line on stdout when the mount is there, and one for each command on stdin: `counts` tells what the tree
and the handlers were asked since the last time, `release` lets stalled reads go.
"""

# ruff: noqa: ARG002 - the signatures are pyfuse3's

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio

from fsd.errors import FsdError
from fsd.fuse import adapter, interpose, session
from fsd.limits import DEFAULT_LIMITS
from integration.fake_tree import FakeTree


class CountingOperations(adapter.Operations):
    """Counts the opens, which the tree does not see."""

    tree: FakeTree

    def __init__(self, filesystem: FakeTree) -> None:
        super().__init__(filesystem)
        self.tree = filesystem

    async def open(self, inode: Any, flags: Any, ctx: Any) -> Any:
        self.tree.counts["open"] += 1
        return await super().open(inode, flags, ctx)

    async def release(self, fh: Any) -> None:
        self.tree.counts["release"] += 1

    async def flush(self, fh: Any) -> None:
        self.tree.counts["flush"] += 1
        await super().flush(fh)

    async def opendir(self, inode: Any, ctx: Any) -> Any:
        self.tree.counts["opendir"] += 1
        return await super().opendir(inode, ctx)


async def answer(tree: FakeTree) -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as commands:
        async for command in commands:  # one at a time: who asks waits for the answer
            if command.strip() == b"release":
                tree.release.set()
            reply = dict(tree.counts, stalled=tree.stalled, live=sum(tree.lookups.values()))
            if command.strip() == b"counts":
                tree.counts.clear()
            print(json.dumps(reply), flush=True)


async def serve(tree: FakeTree, mounted: session.Session) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            nursery.start_soon(until, signals, nursery.cancel_scope)
            nursery.start_soon(answer, tree)
            print(json.dumps({"state": int(interpose.state())}), flush=True)
            await mounted.serve()
            nursery.cancel_scope.cancel()


async def until(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def main() -> int:
    mountpoint, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    limits = dataclasses.replace(DEFAULT_LIMITS, max_background=settings.get("max_background", 512))
    tree = FakeTree(files=settings.get("files", 100), file_bytes=settings.get("file_bytes", 4096))
    options = frozenset(settings.get("options", ["fsname=fake"]))
    try:
        with session.mounted(
            CountingOperations(tree), mountpoint, options, limits, interposed=settings.get("interposed", True)
        ) as mounted:
            trio.run(serve, tree, mounted)
    except FsdError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
