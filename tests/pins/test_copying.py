"""Files in the place of a pin. What a mount would show is a folder here, with the mount's attributes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from blake3 import blake3

from fsd.errors import ConflictError, CorruptDataError, FsdError
from fsd.pins.copying import HASH_ATTRIBUTE, measure, replace_with_copy


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        os.setxattr(path, HASH_ATTRIBUTE, blake3(data).hexdigest().encode())
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            pytest.skip("the file system of the temporary folder has no extended attributes")
        raise


class Pinned:
    """A version, a work tree with a pin to it, and what the copy reported."""

    def __init__(self, folder: Path) -> None:
        self.version = folder / "version"
        write(self.version / "train" / "a", b"a" * 3_000_000)
        write(self.version / "run.sh", b"#!/bin/sh\n")
        (self.version / "run.sh").chmod(0o555)
        (self.version / "empty").mkdir()
        (self.version / "latest").symlink_to("train/a")
        self.top = folder / "tree"
        self.top.mkdir()
        self.link = self.top / "data"
        self.link.symlink_to(self.version)
        self.done = [0, 0]

    def advance(self, size_bytes: int, files: int) -> None:
        self.done = [self.done[0] + size_bytes, self.done[1] + files]

    async def unpin(self, target: Path | None = None) -> None:
        await replace_with_copy(self.version, self.link, target or self.link, self.advance)

    def check(self, copy: Path) -> None:
        assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == [
            "empty",
            "latest",
            "run.sh",
            "train",
            "train/a",
        ]
        assert (copy / "train" / "a").read_bytes() == b"a" * 3_000_000
        assert os.readlink(copy / "latest") == "train/a"
        assert stat.S_IMODE((copy / "run.sh").stat().st_mode) & 0o700 == 0o700
        assert stat.S_IMODE((copy / "train" / "a").stat().st_mode) & 0o700 == 0o600
        assert self.done == list(measure(self.version)) == [3_000_017, 3]


@pytest.fixture
def pinned(tmp_path: Path) -> Pinned:
    return Pinned(tmp_path)


async def test_the_copy_takes_the_place_of_the_link(pinned: Pinned) -> None:
    await pinned.unpin()
    assert not pinned.link.is_symlink()
    pinned.check(pinned.link)
    assert os.listdir(pinned.top) == ["data"]


async def test_the_link_leads_to_the_copy_elsewhere(pinned: Pinned) -> None:
    await pinned.unpin(pinned.top / "local")
    assert os.readlink(pinned.link) == "local"
    pinned.check(pinned.top / "local")
    assert sorted(os.listdir(pinned.top)) == ["data", "local"]


async def test_a_pinned_file(pinned: Pinned) -> None:
    pinned.link.unlink()
    pinned.link.symlink_to(pinned.version / "train" / "a")
    await replace_with_copy(pinned.version / "train" / "a", pinned.link, pinned.link, pinned.advance)
    assert not pinned.link.is_symlink()
    assert pinned.link.read_bytes() == b"a" * 3_000_000


async def test_what_a_killed_try_left_is_no_hindrance(pinned: Pinned) -> None:
    (pinned.top / ".data.unpin" / "train").mkdir(parents=True)
    (pinned.top / ".data.unpin" / "half").write_text("half")
    await pinned.unpin()
    pinned.check(pinned.link)
    assert os.listdir(pinned.top) == ["data"]


async def test_nothing_changes_where_something_is_wrong(pinned: Pinned) -> None:
    (pinned.top / "there").mkdir()
    with pytest.raises(ConflictError, match="is there already"):
        await pinned.unpin(pinned.top / "there")
    os.setxattr(pinned.version / "train" / "a", HASH_ATTRIBUTE, b"0" * 64)
    with pytest.raises(CorruptDataError, match="train/a is not what its hash says"):
        await pinned.unpin()
    os.removexattr(pinned.version / "train" / "a", HASH_ATTRIBUTE)
    with pytest.raises(FsdError, match="train/a: No data available"):
        await pinned.unpin()
    assert pinned.link.is_symlink()
    assert sorted(os.listdir(pinned.top)) == ["data", "there"]
