"""The upper folder of an overlay, made by hand: what its marks mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fsd.errors import ConflictError, FsdError
from fsd.publish.edited import Committed, EditedFolder, commit_edit
from fsd.publish.landing import Request
from fsd.publish.progress import NoProgress
from tests.publish.folders import DIRECTORY, Desk, Item, file, link

BASE: dict[bytes, Item] = {
    b"a": file(b"a"),
    b"d": DIRECTORY,
    b"d/one": file(b"1"),
    b"d/sub": DIRECTORY,
    b"d/sub/two": file(b"2"),
    b"z": link(b"a"),
}


class Upper(Desk):
    """A desk with a commit, and an upper folder over it in which marks are files, as a user's fuse-overlayfs has it."""

    async def commit_upper(self, base: bytes, last: bytes | None = None, **request: object) -> Committed:
        edit = EditedFolder(os.fsencode(self.top.with_name("upper")), base, last or base, marks_are_files=True)
        return await commit_edit(
            await self.repositories(),
            Request("repo", **request),
            edit,
            state=self.state,
            progress=NoProgress(),  # type: ignore[arg-type]
        )


def touch(*paths: str) -> Callable[[Path], None]:
    def make(upper: Path) -> None:
        for path in paths:
            (upper / path).parent.mkdir(parents=True, exist_ok=True)
            (upper / path).touch()

    return make


def gone(folder: dict[bytes, Item], *paths: bytes) -> dict[bytes, Item]:
    below = tuple(path + b"/" for path in paths)
    return {path: item for path, item in folder.items() if path not in paths and not path.startswith(below)}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (touch(), BASE),
        (touch(".wh.a", ".wh.nothing"), gone(BASE, b"a")),
        (touch(".wh.d"), gone(BASE, b"d")),
        (touch("d/.wh.sub", "d/x"), gone(BASE, b"d/sub") | {b"d/x": file()}),
        (touch("d/.wh..wh..opq"), gone(BASE, b"d/one", b"d/sub")),
        (touch("d/.wh..wh..opq", "d/sub/two", "d/a"), gone(BASE, b"d/one") | {b"d/sub/two": file(), b"d/a": file()}),
        (touch("d/.wh..wh..opq", "d/sub/x"), gone(BASE, b"d/one", b"d/sub/two") | {b"d/sub/x": file()}),
        (touch("z/deep/file"), BASE | {b"z": DIRECTORY, b"z/deep": DIRECTORY, b"z/deep/file": file()}),
        (lambda upper: (upper / "d").write_bytes(b"flat"), gone(BASE, b"d") | {b"d": file(b"flat")}),
        (lambda upper: (upper / "a").write_bytes(b"a"), BASE),
        (lambda upper: (upper / "a").symlink_to("z"), BASE | {b"a": link(b"z")}),
    ],
)
async def test_what_the_marks_mean(make: Callable[[Path], None], expected: dict[bytes, Item], tmp_path: Path) -> None:
    desk = Upper(tmp_path)
    base = (await desk.commit(BASE)).commit
    (tmp_path / "upper").mkdir()
    make(tmp_path / "upper")
    done = await desk.commit_upper(base)
    assert await desk.read_back(done.snapshot) == expected
    assert done.landed.is_new == (expected != BASE)
    files = [path for path in (tmp_path / "upper").rglob("*") if path.is_file() and not path.is_symlink()]
    assert done.content.files_read == sum(not path.name.startswith(".wh.") for path in files)


async def test_opaque_directories_by_attribute(tmp_path: Path) -> None:
    desk = Upper(tmp_path)
    base = (await desk.commit(BASE)).commit
    (tmp_path / "upper" / "d" / "sub").mkdir(parents=True)
    os.setxattr(tmp_path / "upper" / "d", "user.fuseoverlayfs.opaque", b"y")
    (tmp_path / "upper" / "d" / "sub" / "two").write_bytes(b"2")
    done = await desk.commit_upper(base)
    assert await desk.read_back(done.snapshot) == gone(BASE, b"d/one"), "the same file again, in a new directory"


async def test_a_branch_that_moved_on(tmp_path: Path) -> None:
    desk = Upper(tmp_path)
    base = (await desk.commit(BASE)).commit
    await desk.commit(BASE | {b"theirs": file(b"t")})
    touch(".wh.a")(tmp_path / "upper")
    with pytest.raises(ConflictError, match="has moved on since"):
        await desk.commit_upper(base)
    elsewhere = await desk.commit_upper(base, branch="mine")
    assert await desk.read_back(elsewhere.landed.commit) == gone(BASE, b"a")
    merged = await desk.commit_upper(base, merge=True)
    assert await desk.read_back(merged.landed.commit) == gone(BASE, b"a") | {b"theirs": file(b"t")}
    assert await desk.read_back(merged.snapshot) == gone(BASE, b"a")
    assert not (await desk.commit_upper(base, merged.snapshot, merge=True)).landed.is_new


async def test_what_no_tree_can_hold(tmp_path: Path) -> None:
    desk = Upper(tmp_path)
    base = (await desk.commit(BASE)).commit
    (tmp_path / "upper").mkdir()
    os.mkfifo(tmp_path / "upper" / "fifo")
    with pytest.raises(FsdError, match="fifo is no file, directory or symlink"):
        await desk.commit_upper(base)
