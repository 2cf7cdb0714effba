"""An export to a tar archive: read by Python's `tarfile`, and by an import, it is what the version is."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from fsd.checkout.checkout import LARGE_BYTES, Version
from fsd.checkout.stored import StoredContents
from fsd.errors import CorruptDataError
from fsd.exporting.exported import Exported
from fsd.exporting.tar import export_tar
from fsd.vfs.pieces import Pieces
from tests.importing.importing import Importer, tar
from tests.publish.folders import DIRECTORY, Desk, Item, file, link, program

TIME_US = 1_700_000_000_999_999

FOLDER: dict[bytes, Item] = {
    b"README": file(b"what it is\n"),
    b"empty": DIRECTORY,
    b"here": link(b"train/deep"),
    b"large": file(os.urandom(3 * LARGE_BYTES + 17)),
    b"n" * 200: DIRECTORY,
    b"n" * 200 + b"/" + b"m" * 200: file(b"a long path"),
    b"latin-\xe9": file(b"no UTF-8"),
    b"run.sh": program(b"#!/bin/sh\n"),
    b"train": DIRECTORY,
    b"train/a": file(b"a" * 512),
    b"train/b": file(b""),
}


async def exported(desk: Importer, commit: bytes, below: bytes = b"") -> tuple[bytes, Exported]:
    """The archive of a version."""
    repositories = await desk.repositories()
    version = Version(await repositories.tree(commit), repositories.objects, below)
    out = io.BytesIO()
    done = await export_tar(version, StoredContents(repositories), out.write, TIME_US)
    return out.getvalue(), done


async def test_what_was_published_again_while_it_is_exported(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    commit = (await desk.commit(FOLDER)).commit
    before, _ = await exported(desk, commit)
    repositories = await desk.repositories()
    version = Version(await repositories.tree(commit), repositories.objects)
    async for listed in version.tree.list_below():  # now it is in memory
        for position in listed.positions:
            await Pieces(listed.page.entry(position), repositories.objects).leaves(0, listed.page.size(position))
    for prefix in ("packs/", "pages/", "recipes/"):
        async for info in desk.store.list(prefix):
            await desk.store.delete(info.key)
    await Desk(tmp_path, "other", store=desk.store).commit(FOLDER, branch="again")
    out = io.BytesIO()
    await export_tar(version, StoredContents(repositories), out.write, TIME_US)
    assert out.getvalue() == before


async def test_what_is_in_it(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    commit = (await desk.commit(FOLDER)).commit
    data, done = await exported(desk, commit)
    assert len(data) % 10_240 == 0
    files = {path: item for path, item in FOLDER.items() if item.kind in "fx"}
    assert (done.files, done.bytes) == (len(files), sum(len(item.data) for item in files.values()))
    found: dict[bytes, Item] = {}
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            assert (info.mtime, info.uid, info.gid) == (TIME_US // 1_000_000, 0, 0)
            path = info.name.encode("utf-8", "surrogateescape")
            content = archive.extractfile(info) if info.isfile() else None
            if info.isdir():
                found[path] = DIRECTORY
            elif info.issym():
                found[path] = link(info.linkname.encode())
            else:
                assert content is not None
                found[path] = Item("x" if info.mode & 0o100 else "f", content.read())
    assert found == FOLDER


async def test_there_and_back(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    published = await desk.commit(FOLDER)
    data, _ = await exported(desk, published.commit)
    again, _ = await exported(desk, published.commit)
    assert data == again
    assert (await desk.bring(tar(data), "other")).landed.tree == published.tree


async def test_a_folder_of_it(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    data, done = await exported(desk, (await desk.commit(FOLDER)).commit, b"train")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["a", "b"]
    assert done.files == 2


@pytest.mark.parametrize("name", [b"README", b"large"])
async def test_damage_is_told(tmp_path: Path, name: bytes) -> None:
    desk = Importer(tmp_path)
    commit = (await desk.commit({name: FOLDER[name]})).commit
    for pack in (tmp_path / "store" / "packs").rglob("*"):
        if pack.is_file():
            data = bytearray(pack.read_bytes())
            data[5] ^= 1
            pack.chmod(0o644)
            pack.write_bytes(data)
    with pytest.raises(CorruptDataError):
        await exported(desk, commit)
