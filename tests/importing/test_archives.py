"""Tar and zip archives: what they have arrives, what no tree can have is refused, and damage is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from fsd.errors import CorruptDataError, FsdError
from fsd.importing.tar import TarArchive
from fsd.limits import KIB, Limits
from fsd.publish.source import UnsupportedFileError
from tests.importing.importing import Importer, tar, tar_bytes, tar_member, tar_of, zip_of, zipped
from tests.publish.folders import DIRECTORY, Item, file, link, program

FOLDER: dict[bytes, Item] = {
    b"README": file(b"what it is\n"),
    b"empty": DIRECTORY,
    b"here": link(b"train/deep"),
    b"run.sh": program(b"#!/bin/sh\n"),
    b"train": DIRECTORY,
    b"train/a": file(b"a" * 5000),
    b"train/b": file(b""),
    b"train/deep": DIRECTORY,
    b"train/deep/large": file(random.Random(1).randbytes(7_000_000)),
    b"train/deep/middle": file(random.Random(2).randbytes(900_000)),
    b"train/\xc3\xbc": file(b"umlaut"),
}


def two_frames(data: bytes) -> bytes:
    """As `zstd` writes it with several threads."""
    return zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress, two_frames],
    ids=["plain", "gzip", "bzip2", "xz", "zstd", "zstd in two frames"],
)
async def test_a_tar_archive(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    desk = Importer(tmp_path)
    done = await desk.bring(tar(compress(tar_of(FOLDER))), message="from a tar")
    assert await desk.read_back(done.landed.commit) == FOLDER
    header = await (await desk.repositories()).commit(done.landed.commit)
    assert (header.message, header.parents) == ("from a tar", ())


async def test_a_zip_archive(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    done = await desk.bring(zipped(zip_of(FOLDER)))
    assert await desk.read_back(done.landed.commit) == FOLDER


async def test_an_import_and_a_commit_give_the_same_tree(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    imported = await desk.bring(tar(tar_of(FOLDER)))
    again = await desk.bring(zipped(zip_of(FOLDER)))
    published = await desk.commit(FOLDER)
    assert imported.landed.tree == published.tree
    assert (again.landed.is_new, published.is_new) == (False, False)
    assert (again.content.new_bytes, published.content.new_bytes) == (0, 0)


async def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    done = await desk.bring(tar(tar_of({b"caf\xe9": file(b"1"), b"\xff": link(b"caf\xe9")})))
    assert await desk.read_back(done.landed.commit) == {b"caf\xe9": file(b"1"), b"\xff": link(b"caf\xe9")}


async def test_hard_links_are_copies(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    data = os.urandom(3_000_000)
    archive = tar_bytes(
        tar_member(b"./a/first", data),
        tar_member(b"z", type=tarfile.LNKTYPE, linkname="./a/first"),
        tar_member(b"a/small", b"small", mode=0o755),
        tar_member(b"also", type=tarfile.LNKTYPE, linkname="a/small"),
    )
    done = await desk.bring(tar(archive))
    assert await desk.read_back(done.landed.commit) == {
        b"a": DIRECTORY,
        b"a/first": file(data),
        b"a/small": program(b"small"),
        b"also": program(b"small"),
        b"z": file(data),
    }
    assert done.content.files_read == 2


async def test_what_comes_later_counts(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    archive = tar_bytes(tar_member(b"a", b"old"), tar_member(b"b", b"other"), tar_member(b"a", b"newer"))
    done = await desk.bring(tar(archive))
    assert await desk.read_back(done.landed.commit) == {b"a": file(b"newer"), b"b": file(b"other")}


async def test_the_next_version_stands_on_the_first(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    first = await desk.bring(tar(tar_of(FOLDER)), tag="v1")
    second = await desk.bring(tar(tar_of({b"README": file(b"other")})), tag="v2")
    header = await (await desk.repositories()).commit(second.landed.commit)
    assert header.parents == (first.landed.commit,)
    assert await desk.read_back(await desk.named("main")) == {b"README": file(b"other")}
    assert await desk.named("v2") == second.landed.commit


REFUSED = [
    (tar_member(b"/etc/passwd", b"x"), "absolute path"),
    (tar_member(b"a/../../b", b"x"), r"'\.\.'"),
    (tar_member(b"a" * 300, b"x"), "cannot be kept"),
    (tar_member(b"pipe", type=tarfile.FIFOTYPE), "'pipe' in a.tar is a fifo"),
    (tar_member(b"disk", type=tarfile.BLKTYPE), "is a device"),
    (tar_member(b"tty", type=tarfile.CHRTYPE), "is a device"),
    (tar_member(b"link", type=tarfile.SYMTYPE, linkname="x" * 5000), "target of 5000 bytes"),
    (tar_member(b"copy", type=tarfile.LNKTYPE, linkname="nothing"), "hard link to 'nothing'"),
    (tar_member(b"copy", type=tarfile.LNKTYPE, linkname="../../etc/passwd"), r"'\.\.'"),
    (tar_member(b"sound/below", b"x"), "is a file and a folder"),
]


@pytest.mark.parametrize(("member", "message"), REFUSED, ids=[message for _, message in REFUSED])
async def test_what_no_tree_can_have_is_refused(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], message: str
) -> None:
    desk = Importer(tmp_path)
    with pytest.raises(UnsupportedFileError, match=message):
        await desk.bring(tar(tar_bytes(tar_member(b"sound", b"1"), member)))
    assert await (await desk.repositories()).refs.read("repo", "main") is None
    assert list(desk.state.glob(".import-*")) == []


@pytest.mark.parametrize("cut", [700, 5000, 3_000_000, -1024, -10_000])
async def test_a_tar_archive_that_was_cut_off(tmp_path: Path, cut: int) -> None:
    data = tar_of(FOLDER)
    # What an archive ends with are 1,024 bytes of zeros, filled up to a record.
    whole = data.rstrip(b"\0")
    cut = cut if cut > 0 else (len(whole) + 511) // 512 * 512 + cut + 1024
    with pytest.raises(CorruptDataError, match=r"a\.tar is no whole tar archive"):
        await Importer(tmp_path).bring(tar(data[:cut]))


def zstd_checked(data: bytes) -> bytes:
    """As the program zstd writes it."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.mark.parametrize("compress", [gzip.compress, zstd_checked], ids=["gzip", "zstd"])
async def test_a_compressed_archive_that_was_cut_off(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = compress(tar_of(FOLDER))
    for cut in (5, len(data) // 2, len(data) - 5):  # the last four bytes of zstd's are a checksum alone
        with pytest.raises(CorruptDataError, match="no whole tar archive"):
            await Importer(tmp_path).bring(tar(data[:cut]))
    damaged = bytearray(data)
    damaged[-(6 if compress is gzip.compress else 2)] ^= 1  # its checksum
    with pytest.raises(CorruptDataError, match="no whole tar archive"):
        await Importer(tmp_path).bring(tar(bytes(damaged)))


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, b"\0" * 100])
async def test_what_is_no_tar_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="no whole tar archive"):
        await Importer(tmp_path).bring(tar(data))


async def test_a_size_that_is_a_lie(tmp_path: Path) -> None:
    info = tarfile.TarInfo("bomb")
    info.size = 2**50
    data = info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4_000_000
    with pytest.raises(CorruptDataError, match="no whole tar archive"):
        await Importer(tmp_path).bring(tar(data))


async def test_a_window_that_is_too_large_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(tar_of(FOLDER)) + stream.flush()
    with pytest.raises(CorruptDataError, match="nothing was imported"):
        await Importer(tmp_path).bring(tar(data))


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b"])
async def test_a_zip_that_leads_out(tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UnsupportedFileError, match="nothing was imported"):
        await Importer(tmp_path).bring(zipped(out.getvalue()))


async def test_a_zip_whose_sizes_are_lies(tmp_path: Path) -> None:
    """The directory says that ten million bytes are 5, and the other way about."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    data = out.getvalue()
    at = data.rindex(b"PK\x01\x02") + 24
    for lie in (5, 4_000_000_000):
        with pytest.raises(FsdError, match=r"no whole zip archive|was to have"):
            await Importer(tmp_path).bring(zipped(data[:at] + struct.pack("<I", lie) + data[at + 4 :]))


@pytest.mark.parametrize("damage", ["cut", "content", "empty"])
async def test_a_damaged_zip(tmp_path: Path, damage: str) -> None:
    data = bytearray(zip_of(FOLDER))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    else:
        data[data.index(b"large") + 1000] ^= 0xFF
    with pytest.raises(CorruptDataError, match=r"a\.zip is no whole zip archive"):
        await Importer(tmp_path).bring(zipped(bytes(data)))


async def test_an_encrypted_zip(tmp_path: Path) -> None:
    data = bytearray(zip_of({b"secret": file(b"x")}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnsupportedFileError, match=r"'secret' in a\.zip is encrypted"):
        await Importer(tmp_path).bring(zipped(bytes(data)))


class _Endless(io.RawIOBase):
    """An archive of one file of a size, never held as a whole; remembers how far ahead it was read."""

    def __init__(self, size: int) -> None:
        super().__init__()
        info = tarfile.TarInfo("large")
        info.size = size
        self._head = info.tobuf(tarfile.GNU_FORMAT)
        self._left = len(self._head) + size + 1024 + -size % 512
        self._block = random.Random(3).randbytes(1_000_003)
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._left)
        if self._at < len(self._head):
            part = self._head[self._at : self._at + size]
        elif self._left <= 1536:
            part = bytes(size)
        else:
            start = self._at % len(self._block)
            part = self._block[start : start + min(size, self._left - 1536)]
        buffer[: len(part)] = part
        self._at += len(part)
        self._left -= len(part)
        return len(part)


async def test_memory_is_bounded(tmp_path: Path) -> None:
    """What is read and not yet stored stays within the queue, and nothing but packs and notes is on disk."""
    size = 300_000_000
    desk = Importer(tmp_path, limits=Limits(publish_queue_bytes=8_000 * KIB))
    done = await desk.bring(TarArchive(_Endless(size), "endless", None))
    assert done.landed.totals.bytes == size
    assert done.content.new_bytes < 10_000_000
    notes = sum(path.stat().st_size for path in desk.state.rglob("*") if path.is_file())
    assert notes < 5_000_000
