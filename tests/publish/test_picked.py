"""Some paths of a folder are stored, as they are and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsd.format.run import StoredTree
from fsd.publish.picked import store_picked
from fsd.publish.source import UnsupportedFileError
from tests.publish.folders import DIRECTORY, Desk, Folder, file, link, program, write_folder

FOLDER: Folder = {
    b"a.py": file(b"a"),
    b"a": DIRECTORY,
    b"a/b": DIRECTORY,
    b"a/b/c.py": file(b"c"),
    b"a/d.sh": program(b"d"),
    b"a.b": DIRECTORY,
    b"a.b/e": file(b"e"),
    b"empty": DIRECTORY,
    b"link": link(b"a/b"),
    b"large": file(os.urandom(3_000_000)),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def stored(desk: Desk, *paths: bytes, folder: Path | None = None) -> StoredTree:
    repositories = await desk.repositories()
    top = folder or write_folder(desk.top.with_name("picked"), FOLDER)
    async with repositories.leases.held("test"):
        return await store_picked(repositories, "repo", top, paths, state=desk.state)


async def test_only_what_was_picked_with_what_is_above_it(desk: Desk) -> None:
    found = await stored(desk, b"a/b/c.py", b"link", b"a.py", b"large")
    wanted = {path: FOLDER[path] for path in (b"a", b"a/b", b"a/b/c.py", b"link", b"a.py", b"large")}
    assert await desk.read_back(found.commit) == wanted


async def test_a_directory_is_picked_with_all_below_it(desk: Desk) -> None:
    found = await stored(desk, b"a", b"a.b/e", b"empty")
    wanted = {path: FOLDER[path] for path in FOLDER if path.startswith((b"a/", b"a.b")) or path in (b"a", b"empty")}
    assert await desk.read_back(found.commit) == wanted


async def test_equal_files_are_one_commit_and_are_sent_once(desk: Desk) -> None:
    first = await stored(desk, b"a", b"large")
    size = sum([info.size async for info in desk.store.list("")])
    assert await stored(desk, b"large", b"a") == first
    assert sum([info.size async for info in desk.store.list("")]) == size
    assert await stored(desk, b"a") != first


@pytest.mark.parametrize("path", [b"nothing", b"a/nothing/x", b"a.py/x", b"link/c.py"])
async def test_what_is_not_there_is_left_out(desk: Desk, path: bytes) -> None:
    found = await stored(desk, path, b"a.py")
    assert set(await desk.read_back(found.commit)) - {b"a", b"link"} == {b"a.py"}


async def test_nothing_at_all(desk: Desk) -> None:
    assert await desk.read_back((await stored(desk)).commit) == {}


async def test_what_cannot_be_kept_is_an_error(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    with pytest.raises(UnsupportedFileError, match="fifo"):
        await stored(desk, b"fifo", folder=folder)
