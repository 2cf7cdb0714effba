"""A tree in memory behind the adapter's protocol, so that `fsd.fuse` is tested without anything below it.

/small/f00000 …     files of equal length, as many as asked for
/big                one large file of a repeating pattern
/twins/a, b         two files of equal content: one inode
/links/to-small     a symlink
/script             executable
/moving/t0, t1 …    a directory whose listing differs each time; it may not be cached
/stalled/s0 … s199  reading them waits until `release` is set
/broken/*           reading them raises the error that is named
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator, Sequence

import trio

from fsd.errors import CorruptDataError, NotFoundError, StoreUnreachableError
from fsd.ids import Buffer
from fsd.vfs.attributes import (
    DIRECTORY_MODE,
    EXECUTABLE_MODE,
    FILE_MODE,
    FILE_MTIME_NS,
    ROOT_INO,
    SYMLINK_MODE,
    Attributes,
    FilesystemTotals,
    Listing,
    Missing,
    NoAttributeError,
)

FOREVER_S = 1e6
STALLED_FILES = 200
BIG_BYTES = 256 << 20
PATTERN = bytes(range(256)) * 8192
"""2 MiB: what /big repeats."""

BROKEN: dict[bytes, Exception] = {
    b"corrupt": CorruptDataError("flipped"),
    b"unreachable": StoreUnreachableError("no answer"),
    b"gone": NotFoundError("no such thing"),
    b"bug": ZeroDivisionError("a bug"),
}


class _Node:
    def __init__(self, ino: int, mode: int, *, size: int = 0, content: bytes = b"") -> None:
        self.ino = ino
        self.mode = mode
        self.content = content
        self.size = size or len(content)
        self.children: dict[bytes, _Node] = {}
        self.cached = True


class FakeTree:
    """Implements `fsd.fuse.adapter.FileSystem`; counts what it is asked."""

    def __init__(self, *, files: int, file_bytes: int) -> None:
        self.counts: Counter[str] = Counter()
        self.lookups: Counter[int] = Counter()
        self.release = trio.Event()
        self.stalled = 0
        self._nodes: dict[int, _Node] = {}
        root = self._add(None, b"", DIRECTORY_MODE)
        small = self._add(root, b"small", DIRECTORY_MODE)
        content = PATTERN[:file_bytes]
        for number in range(files):
            self._add(small, b"f%05d" % number, FILE_MODE, content=content)
        self._big = self._add(root, b"big", FILE_MODE, size=BIG_BYTES).ino
        twins = self._add(root, b"twins", DIRECTORY_MODE)
        twins.children[b"b"] = self._add(twins, b"a", FILE_MODE, content=b"twin" * 1000)
        links = self._add(root, b"links", DIRECTORY_MODE)
        self._add(links, b"to-small", SYMLINK_MODE, content=b"../small")
        self._add(root, b"script", EXECUTABLE_MODE, content=b"#!/bin/sh\necho from the mount\n")
        self._moving = self._add(root, b"moving", DIRECTORY_MODE)
        self._moving.cached = False
        stalled = self._add(root, b"stalled", DIRECTORY_MODE)
        self._stalled = {
            self._add(stalled, b"s%d" % number, FILE_MODE, size=1 << 20).ino for number in range(STALLED_FILES)
        }
        broken = self._add(root, b"broken", DIRECTORY_MODE)
        self._broken = {self._add(broken, name, FILE_MODE, size=4096).ino: error for name, error in BROKEN.items()}

    def _add(self, parent: _Node | None, name: bytes, mode: int, *, size: int = 0, content: bytes = b"") -> _Node:
        node = _Node(ROOT_INO + len(self._nodes), mode, size=size, content=content)
        self._nodes[node.ino] = node
        if parent is not None:
            parent.children[name] = node
        return node

    def _timeout(self, parent: _Node) -> float:
        return FOREVER_S if parent.cached else 0.0

    def _attributes(self, node: _Node, timeout_s: float) -> Attributes:
        return Attributes(node.ino, node.mode, node.size, FILE_MTIME_NS, timeout_s, FOREVER_S)

    async def lookup(self, parent: int, name: bytes) -> Attributes | Missing:
        self.counts["lookup"] += 1
        directory = self._nodes[parent]
        node = directory.children.get(name)
        if node is None:
            return Missing(self._timeout(directory))
        self.lookups[node.ino] += 1
        return self._attributes(node, self._timeout(directory))

    async def getattr(self, ino: int) -> Attributes:
        self.counts["getattr"] += 1
        return self._attributes(self._nodes[ino], FOREVER_S)

    async def readlink(self, ino: int) -> bytes:
        self.counts["readlink"] += 1
        return self._nodes[ino].content

    def lists_for_ever(self, ino: int) -> bool:
        return self._nodes[ino].cached

    async def list(self, ino: int, start: int) -> Listing:
        self.counts["list"] += 1
        directory = self._nodes[ino]
        if directory is self._moving and start == 0:
            self._add(directory, b"t%d" % len(directory.children), FILE_MODE)
        return Listing(self._entries(directory, start), self._timeout(directory))

    def _entries(self, directory: _Node, start: int) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        names = list(directory.children)[start : start + 1000]
        for position, name in enumerate(names, start + 1):
            node = directory.children[name]
            self.lookups[node.ino] += 1
            yield name, node.ino, node.mode, node.size, FILE_MTIME_NS, position

    def refuse(self, ino: int) -> None:
        self.lookups[ino] -= 1

    def read_nowait(self, ino: int, offset: int, size: int) -> Buffer | None:
        self.counts["read"] += 1
        if ino in self._broken:
            raise self._broken[ino]
        if ino in self._stalled:
            return None
        if ino == self._big:
            start = offset % len(PATTERN)
            return memoryview(PATTERN + PATTERN)[start : start + min(size, BIG_BYTES - offset)]
        return memoryview(self._nodes[ino].content)[offset : offset + size]

    async def read(self, ino: int, offset: int, size: int) -> Buffer:
        self.stalled += 1
        try:
            await self.release.wait()
        finally:
            self.stalled -= 1
        return bytes(min(size, self._nodes[ino].size - offset))

    def forget(self, ino: int, lookups: int) -> None:
        self.counts["forget"] += 1
        self.lookups[ino] -= lookups
        if self.lookups[ino] < 0:
            raise AssertionError(f"inode {ino} forgotten more often than looked up")

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        self.counts["getxattr"] += 1
        if name == b"user.fsd.size" and stat.S_ISREG(self._nodes[ino].mode):
            return b"%d" % self._nodes[ino].size
        raise NoAttributeError("no such attribute")

    async def listxattr(self, ino: int) -> Sequence[bytes]:
        return [b"user.fsd.size"] if stat.S_ISREG(self._nodes[ino].mode) else []

    def statfs(self) -> FilesystemTotals:
        return FilesystemTotals(1 << 30, 12345)
