"""Everything that a folder can hold comes back through the mount: byte for byte, entry for entry."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.program import Program, appear

MIB = 1024 * 1024


def described(root: bytes) -> dict[bytes, tuple[object, ...]]:
    """Every path below a folder: its kind and what belongs to it. Works beyond PATH_MAX."""
    found: dict[bytes, tuple[object, ...]] = {}
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def visit(folder: int, prefix: bytes) -> None:
        for name in map(os.fsencode, os.listdir(folder)):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            path = prefix + name
            if stat.S_ISDIR(info.st_mode):
                found[path] = ("directory",)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
                visit(inner, path + b"/")
                os.close(inner)
            elif stat.S_ISLNK(info.st_mode):
                found[path] = ("symlink", os.readlink(name, dir_fd=folder))
            else:
                found[path] = ("file", info.st_size, bool(info.st_mode & 0o100), digest(name, folder))

    visit(top, b"")
    os.close(top)
    return found


def digest(name: bytes, folder: int) -> str:
    hashed = hashlib.sha256()
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    while block := os.read(descriptor, 4 * MIB):
        hashed.update(block)
    os.close(descriptor)
    return hashed.hexdigest()


def make_awkward_tree(root: Path) -> None:
    """One of everything that has gone wrong in some program of this kind."""
    rng = random.Random(2)
    top = os.fsencode(root)
    os.makedirs(top + b"/empty directory/and one in it")
    (root / "empty").touch()
    (root / "also empty").touch()
    (root / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "plain twin").write_bytes(b"#!/bin/sh\n")
    for odd in (b"with space", b"new\nline", b"\xff\xfe not utf-8", b"n" * 255, "Ünïcode".encode(), b"-rf", b"a\\b"):
        with open(top + b"/" + odd, "wb") as file:
            file.write(rng.randbytes(3000))
    # Composed and decomposed forms of one letter are two names.
    (root / "caf\u00e9").write_text("composed")
    (root / "cafe\u0301").write_text("decomposed")
    links = {"relative": "tool", "absolute": "/etc/hostname", "dangling": "no/such/thing", "up": "../.."}
    for name, target in links.items():
        (root / name).symlink_to(target)
    # Names that sort differently with and without their slash.
    for name in ("a/x", "a-b/x", "a.b/x", "a/b/x", "a0"):
        (root / "order" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "order" / name).write_text(name)
    (root / "sizes").mkdir()
    borders = [1, 4096, 16 * 1024, 32 * 1024, 64 * 1024, 128 * 1024, 256 * 1024, MIB]
    for size in sorted({border + by for border in borders for by in (-1, 0, 1)}):
        (root / "sizes" / str(size)).write_bytes(rng.randbytes(size))
        (root / "sizes" / f"zeros {size}").write_bytes(bytes(size))
    (root / "large").write_bytes(rng.randbytes(20 * MIB))
    same = rng.randbytes(300_000)
    (root / "same").mkdir()
    for number in range(50):
        (root / "same" / str(number)).write_bytes(same)


def make_deep_path(root: Path, levels: int = 60) -> None:
    """A path longer than PATH_MAX."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        name = "d" * 120
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    descriptor = os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(descriptor, b"here")
    os.close(descriptor)
    os.close(folder)


@pytest.fixture(params=["interposed", "ordinary opens"])
def mounted(request: pytest.FixtureRequest, program: Program, tmp_path: Path) -> Iterator[Path]:
    """A mount of a new store, with the extension and without it."""
    program("init", program.store)
    options = () if request.param == "interposed" else ("--no-interpose",)
    yield program.mount(tmp_path / "m", *options)
    program("umount", tmp_path / "m")


def test_awkward_trees_come_back(program: Program, mounted: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_awkward_tree(source)
    make_deep_path(source)
    program("commit", source, "data", "--tag", "v1")
    here, there = described(os.fsencode(source)), described(os.fsencode(appear(mounted / "data" / "v1")))
    assert there == here
    # And again from the kernel's cache, and after a restart from the mirrors.
    assert described(os.fsencode(mounted / "data" / "v1")) == here
    program("umount", mounted)
    program.mount(mounted)
    assert described(os.fsencode(mounted / "data" / "v1")) == here
    assert described(os.fsencode(mounted / "data" / "main")) == here


def test_a_directory_of_100_000_files(program: Program, mounted: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(100_000):
        (source / f"{number:06}").write_bytes(b"%d" % number)
    program("commit", source, "data", "--tag", "v1")
    there = appear(mounted / "data" / "v1")
    assert sorted(os.listdir(there)) == sorted(os.listdir(source))
    for number in random.Random(3).sample(range(100_000), 300):
        assert (there / f"{number:06}").read_bytes() == b"%d" % number
    assert not (there / "100000").exists()


def test_a_sparse_file_of_5_gib(program: Program, tmp_path: Path) -> None:
    program("init", program.store)
    source = tmp_path / "source"
    source.mkdir()
    marks = {0: b"start", 3 * 2**30 + 12345: b"middle", 5 * 2**30 - 3: b"end"}
    with (source / "sparse").open("wb") as file:
        for place, mark in marks.items():
            file.seek(place)
            file.write(mark)
    program("commit", source, "data", "--tag", "v1")
    there = program.mount(tmp_path / "m") / "data" / "v1" / "sparse"
    assert there.stat().st_size == 5 * 2**30
    stored = sum(path.stat().st_size for path in program.store.rglob("*") if path.is_file())
    assert stored < 16 * MIB
    with there.open("rb", buffering=0) as file:
        for place, mark in marks.items():
            assert os.pread(file.fileno(), len(mark), place) == mark
        for place in (2**30, 3 * 2**30, 4 * 2**30 + 7):
            assert os.pread(file.fileno(), 100_000, place).strip(b"\0") in (b"", b"middle")
    program("umount", tmp_path / "m")
