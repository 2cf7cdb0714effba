"""A store that hangs, as a dead network file system does: it lies in a mount whose own daemon is stopped.

What is cached goes on being served, at once; what is not gives EIO in time, however many wait for it; and when the
store answers again, so do reads, with no remount.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.daemon import mounts
from fsd.limits import DEFAULT_LIMITS
from integration.accidents import hanging
from integration.datasets import noise
from integration.program import Program, status
from integration.waiting import wait_for

READERS = 64
FILES = 100
FILE_BYTES = 50_000
DEADLINE_S = 2.0
AT_ONCE_S = 1.0
"""For what asks nobody; a busy machine takes a tenth of it."""


class Tower:
    """A mount of a store that lies in another mount."""

    def __init__(self, folder: Path) -> None:
        self.outer, self.inner = Program(folder / "outer"), Program(folder / "inner")
        self.lower, self.upper = folder / "lower", folder / "upper"
        self.version = self.upper / "data" / "v1"
        source = folder / "source"
        source.mkdir()
        for number in range(FILES):
            (source / f"{number:03}").write_bytes(noise(number, FILE_BYTES))
        # A pack for each file: what the kernel reads ahead of one is no part of another.
        self.inner.configure(pack_bytes=FILE_BYTES, read_deadline_s=DEADLINE_S, store_timeout_s=1.0)
        self.inner("init")
        self.inner("commit", source, "data", "--tag", "v1")
        self.outer("init")
        self.outer("commit", self.inner.store, "store", "--tag", "v1")
        self.outer.mount(self.lower)
        self.inner.environment["FSD_STORE"] = str(self.lower / "store" / "v1")
        self.upper.mkdir()

    def read(self, number: int) -> bytes:
        """A file, out of the daemon rather than the kernel's pages."""
        descriptor = os.open(self.version / f"{number:03}", os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return os.pread(descriptor, FILE_BYTES, 0)
        finally:
            os.close(descriptor)


@pytest.fixture
def tower(tmp_path: Path) -> Iterator[Tower]:
    made = Tower(tmp_path)
    made.inner("mount", made.upper)
    yield made
    if mounts.mount_at(made.upper) is not None:
        made.inner("umount", made.upper)
    made.outer("umount", made.lower)


def test_a_store_that_hangs(tower: Tower) -> None:
    cached = tower.read(0)
    assert len(os.listdir(tower.version)) == FILES
    results: dict[int, object] = {}

    def read(number: int) -> None:
        started = time.monotonic()
        try:
            results[number] = tower.read(number)
        except OSError as error:
            results[number] = error.errno, time.monotonic() - started

    with hanging(tower.lower):
        readers = [threading.Thread(target=read, args=(number,)) for number in range(1, 1 + READERS)]
        for reader in readers:
            reader.start()
        wait_for(lambda: status(tower.upper)["waiting_reads"] >= READERS, "all readers", within_s=DEADLINE_S)
        assert all(reader.is_alive() for reader in readers)
        for _ in range(20):
            started = time.monotonic()
            assert tower.read(0) == cached
            assert len(os.listdir(tower.version)) == FILES
            assert time.monotonic() - started < AT_ONCE_S
        for reader in readers:
            reader.join(DEADLINE_S + 10)
            assert not reader.is_alive()
        for result in results.values():
            assert isinstance(result, tuple)
            number, seconds = result
            assert number == errno.EIO
            assert seconds < DEADLINE_S + 3
        told = (tower.upper / ".fsd" / "errors").read_text()
        assert "no answer from the store within 2 s" in told or "did not answer within 1 s" in told
    deadline = time.monotonic() + 10
    while True:
        try:
            assert [tower.read(number) for number in range(FILES)] == [noise(n, FILE_BYTES) for n in range(FILES)]
            break
        except OSError:
            assert time.monotonic() < deadline, "the store is back, and reads are not"


def test_unmounting_while_the_store_hangs(tower: Tower) -> None:
    tower.read(0)
    with hanging(tower.lower):
        reader = threading.Thread(target=read_in_vain, args=(tower,))
        reader.start()
        wait_for(lambda: status(tower.upper)["waiting_reads"] >= 1, "the reader", within_s=DEADLINE_S)
        started = time.monotonic()
        # It is in use: for that there is `--lazy`; the reader gets its error, and nobody is left.
        pid = status(tower.upper)["pid"]
        daemon = os.pidfd_open(pid)
        tower.inner("umount", "--lazy", tower.upper)
        reader.join(20)
        assert not reader.is_alive()
        assert mounts.wait_gone(daemon, timeout_s=20)
        assert time.monotonic() - started < 20
        os.close(daemon)


def read_in_vain(tower: Tower) -> None:
    with pytest.raises(OSError, match=r"Input/output error|not connected|aborted"):
        tower.read(50)


@pytest.mark.parametrize("expired", [False, True])
def test_mounting_a_store_that_hangs(tower: Tower, tmp_path: Path, *, expired: bool) -> None:
    (tmp_path / "another").mkdir()
    marker = os.open(tower.lower / "store" / "v1" / "fsd.json", os.O_RDONLY)
    os.posix_fadvise(marker, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(marker)
    # What the kernel knows of the way there it believes for so long, and asks nobody.
    time.sleep(1.1 * DEFAULT_LIMITS.entry_timeout_s if expired else 0)
    with hanging(tower.lower):
        started = time.monotonic()
        done = tower.inner.run("mount", tmp_path / "another", "--cache-dir", tmp_path / "cache")
        assert time.monotonic() - started < 20
    assert done.returncode == 5
    [line] = done.stderr.splitlines()
    assert "did not answer within 1 s" in line
