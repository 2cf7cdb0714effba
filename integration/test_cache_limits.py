"""The cache under a mount: its size holds, it never serves a wrong byte, and its disk may fail.

The readers let the kernel forget what they read, so that the daemon is asked again and again.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsd.daemon import mounts
from integration.datasets import write_dataset
from integration.program import Program, appear, status
from integration.reader import Readers, different, files_below, random_ranges, read_range
from integration.waiting import wait_for

MIB = 1024 * 1024
CACHE_BYTES = 16 * MIB
DATA_FILES = {"small": 500, "large": 8, "large_bytes": 4_000_000}
"""About 52 MB."""

USAGE, CONFLICT = 2, 3


class Shop:
    """A store with data/v1, the folder that it was published from, and a place for mounts and caches."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.source = write_dataset(folder / "source", 1, **DATA_FILES)
        self.mountpoint = folder / "m"
        self.version = self.mountpoint / "data" / "v1"

    @contextlib.contextmanager
    def mounted(self, cache: Path, size: str = f"{CACHE_BYTES}") -> Iterator[None]:
        self.program.mount(self.mountpoint, "--cache-dir", str(cache), "--cache-size", size)
        try:
            yield
        except BaseException:
            self.program("umount", "--lazy", self.mountpoint)
            raise
        # Waits until the cache is closed.
        self.program("umount", self.mountpoint)

    def cache(self) -> dict[str, Any]:
        """What the daemon says of its cache, and that nobody was given an error."""
        said = status(self.mountpoint)
        assert said["errors"] == 0
        found: dict[str, Any] = said["cache"]
        return found


@pytest.fixture(scope="module")
def shop(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(module_program, tmp_path_factory.mktemp("shop"))
    # Evicted in small pieces, so that the size is always near its limit.
    module_program.configure(extent_bytes="128K")
    module_program("init")
    module_program("commit", made.source, "data", "--tag", "v1")
    return made


def disk_bytes(folder: Path) -> int:
    """What a folder takes on disk, by the blocks of each file and directory."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in (".", *names):
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


class Watch:
    """Looks all the time at what a folder takes on disk. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[int] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.seen.append(disk_bytes(self._folder))


@pytest.mark.parametrize("order", ["in order", "at random"])
def test_the_size_holds(shop: Shop, tmp_path: Path, order: str) -> None:
    cache = tmp_path / "cache"
    with shop.mounted(cache), Watch(cache) as watch:
        if order == "in order":
            assert different(shop.version, shop.source) == []
            assert different(shop.version, shop.source) == []  # from the kernel, as far as it goes
        ranges = random_ranges(shop.source, seed=4)
        for _ in range(0 if order == "in order" else 1500):
            path, start, size = next(ranges)
            assert read_range(shop.version / path, start, size) == read_range(shop.source / path, start, size)
        said = shop.cache()
        assert said["evicted_bytes"] > CACHE_BYTES
    assert len(watch.seen) > 20
    assert max(watch.seen) <= 1.02 * CACHE_BYTES
    assert max(watch.seen) >= 0.9 * CACHE_BYTES, "much of it was never used"
    assert disk_bytes(cache) <= 1.02 * CACHE_BYTES


def test_the_size_holds_while_trees_are_looked_at(shop: Shop, tmp_path: Path) -> None:
    """Pages of trees are in the cache as well: they come when it is full of files."""
    wide, chosen, cache = tmp_path / "wide", random.Random(3), tmp_path / "cache"
    wide.mkdir()
    for _ in range(20_000):
        os.close(os.open(wide / chosen.randbytes(100).hex(), os.O_CREAT))
    shop.program("commit", wide, "wide", "--tag", "v1")
    with shop.mounted(cache), Watch(cache) as watch:
        assert different(shop.version, shop.source) == []
        before = shop.cache()
        assert len(os.listdir(appear(shop.mountpoint / "wide" / "v1"))) == 20_000
        said = shop.cache()
        assert said["object_bytes"] - before["object_bytes"] > 0.04 * CACHE_BYTES
    assert max(watch.seen) <= 1.02 * CACHE_BYTES


def test_a_cache_that_is_to_be_smaller(shop: Shop, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with shop.mounted(cache, "1G"):
        assert different(shop.version, shop.source) == []
    assert disk_bytes(cache) > 2 * CACHE_BYTES
    with shop.mounted(cache):
        wait_for(lambda: disk_bytes(cache) <= 1.02 * CACHE_BYTES, "an eviction", within_s=10)
        assert different(shop.version, shop.source) == []
    assert disk_bytes(cache) <= 1.02 * CACHE_BYTES


def test_eviction_under_many_readers(shop: Shop, tmp_path: Path) -> None:
    with shop.mounted(tmp_path / "cache", "10M"):
        with Readers(4, shop.version, shop.source, seed=20, reads=400) as readers:
            results = readers.results()
        assert results == [{"reads": 400, "wrong": []}] * 4
        said = shop.cache()
        assert said["evicted_bytes"] > 50 * MIB
        assert said["corrupt_chunks"] == said["dropped_chunks"] == said["failures"] == 0


def test_two_mounts_and_one_cache(shop: Shop, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    cache = tmp_path / "cache"
    with shop.mounted(cache), Readers(2, shop.version, shop.source, seed=30, reads=400) as readers:
        for _ in range(3):
            done = shop.program.run("mount", second, "--cache-dir", cache)
            assert done.returncode == CONFLICT
            [line] = done.stderr.splitlines()
            pid = status(shop.mountpoint)["pid"]
            assert f"cache folder {cache} is in use by process {pid} (the mount at {shop.mountpoint})" in line
            assert line.endswith("; use another --cache-dir or umount it")
            assert mounts.mount_at(second) is None
        assert readers.results() == [{"reads": 400, "wrong": []}] * 2
        assert shop.cache()["dropped_chunks"] == 0
    with shop.mounted(cache):
        assert different(shop.version, shop.source) == []
        assert shop.cache()["dropped_chunks"] == 0


# --- a disk that is full


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=16M", "none"]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(16 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        command = ["mount", "-o", "loop", str(image)]
    if subprocess.run([*command, folder], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{request.param} cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def test_a_full_disk_is_no_readers_business(shop: Shop, small_disk: Path) -> None:
    """The cache may grow far beyond its disk; later that is full of other things; and at last there is room again."""
    cache, filling = small_disk / "cache", small_disk / "filling"
    with shop.mounted(cache, "10G"):
        assert different(shop.version, shop.source) == []
        fill(filling)
        with Readers(2, shop.version, shop.source, seed=40, reads=300) as readers:
            assert readers.results() == [{"reads": 300, "wrong": []}] * 2
        filling.unlink()
        assert different(shop.version, shop.source) == []
        assert shop.cache()["failures"] == 0
    # What was just read may have come from the kernel, and the mirrors be as empty as the full disk left them.
    with shop.mounted(cache, "10G"):
        assert different(shop.version, shop.source) == []
        assert shop.cache()["mirror_bytes"] > MIB
    fill(filling)
    with shop.mounted(cache, "10G"):
        assert different(shop.version, shop.source) == []
        shop.cache()


def test_a_disk_that_is_full_from_the_start(shop: Shop, small_disk: Path) -> None:
    """There is no room for a cache to begin with: that is for the user to know."""
    cache = small_disk / "cache"
    cache.mkdir()
    fill(small_disk / "filling")
    shop.mountpoint.mkdir(exist_ok=True)
    done = shop.program.run("mount", shop.mountpoint, "--cache-dir", cache)
    assert done.returncode == USAGE
    [line] = done.stderr.splitlines()
    assert f"cannot use {cache} as cache folder: " in line
    assert "No space left on device" in line
    assert line.endswith("; make room there, or use another --cache-dir")
    (small_disk / "filling").unlink()
    with shop.mounted(cache, "10G"):
        assert different(shop.version, shop.source) == []
        shop.cache()


# --- a disk that forgets and changes


def flip_bits(path: Path, chosen: random.Random, *, every: int) -> int:
    """Flip a bit in each stretch of `every` bytes of a file's data; how many."""
    flipped = 0
    with path.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for start in range(0, size, every):
            place = chosen.randrange(start, min(start + every, size))
            byte = os.pread(file.fileno(), 1, place)[0]
            if byte:  # not in a hole, which would not be one any more
                os.pwrite(file.fileno(), bytes([byte ^ 1 << chosen.randrange(8)]), place)
                flipped += 1
    return flipped


@pytest.mark.parametrize("folder", ["mirrors", "objects", "index"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "emptied", "removed"])
def test_what_changed_on_disk_is_noticed(shop: Shop, filled: Path, tmp_path: Path, folder: str, damage: str) -> None:
    cache = tmp_path / "cache"
    subprocess.run(["cp", "-a", "--sparse=always", filled, cache], check=True)
    chosen = random.Random(f"{folder} {damage}")
    paths = [cache / folder / path for path in files_below(cache / folder)]
    assert paths
    for path in chosen.sample(paths, 1 + len(paths) // 2) if folder == "objects" else paths:
        match damage:
            case "flipped":
                flip_bits(path, chosen, every=50_000 if folder == "mirrors" else 500)
            case "truncated":
                os.truncate(path, path.stat().st_size // 2)
            case "emptied":
                os.truncate(path, 0)
            case "removed":
                path.unlink()
    with shop.mounted(cache, "1G"):
        assert different(shop.version, shop.source) == []
        said = shop.cache()
        if folder == "mirrors":
            assert said["fetched_bytes"] > MIB
        if (folder, damage) == ("mirrors", "flipped"):
            assert said["dropped_chunks"] > 100


@pytest.fixture(scope="module")
def filled(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds a part of the data."""
    cache = tmp_path_factory.mktemp("filled") / "cache"
    with shop.mounted(cache, "1G"):
        for path in files_below(shop.source)[::3]:
            assert (shop.version / path).read_bytes() == (shop.source / path).read_bytes()
    return cache
