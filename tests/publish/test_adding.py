"""Adding a file or a folder to a branch's tree."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fsd.errors import ConflictError, FsdError, NotFoundError, UsageError
from fsd.limits import KIB, Limits
from fsd.publish.adding import Added, add_path
from fsd.publish.landing import Request
from tests.faulty import FaultyStore
from tests.publish.folders import DIRECTORY, Desk, Item, file, link, program, write_folder

BASE: dict[bytes, Item] = {
    b"README.md": file(b"what it is\n"),
    b"here": link(b"train"),
    b"train": DIRECTORY,
    b"train/a.jpg": file(b"a" * 5000),
    b"train/deep": DIRECTORY,
    b"train/deep/b.jpg": file(b"b" * 5000),
}


class Adder(Desk):
    """A desk whose folder is committed once, and then nothing but what is added."""

    async def add(self, path: bytes, source: Path, **request: str) -> Added:
        return await add_path(
            await self.repositories(), Request("repo", **request), path, os.fsencode(source), state=self.state
        )


async def adder(tmp_path: Path) -> Adder:
    """With the base on main."""
    desk = Adder(tmp_path)
    await desk.commit(BASE)
    return desk


async def test_a_file(tmp_path: Path) -> None:
    desk = await adder(tmp_path)
    source = tmp_path / "some.jpg"
    source.write_bytes(b"new")
    added = await desk.add(b"train/new.jpg", source, message="one more", tag="v2")
    assert await desk.read_back(added.landed.commit) == BASE | {b"train/new.jpg": file(b"new")}
    assert (added.content.files_read, added.content.bytes_read, added.content.new_bytes) == (1, 3, 3)
    repositories = await desk.repositories()
    header = await repositories.commit(added.landed.commit)
    assert (header.parents, header.message) == ((added.landed.parent,), "one more")
    for name in ("main", "v2"):
        stored = await repositories.refs.read("repo", name)
        assert stored is not None
        assert stored.ref.target == added.landed.commit

    source.write_bytes(b"newer")
    source.chmod(0o755)
    added = await desk.add(b"far/away/new", source)
    replaced = await desk.add(b"train/new.jpg", source)
    assert (replaced.landed.is_new, replaced.content.known_bytes) == (True, 5)
    expected = BASE | {b"far": DIRECTORY, b"far/away": DIRECTORY, b"far/away/new": program(b"newer")}
    assert await desk.read_back(replaced.landed.commit) == expected | {b"train/new.jpg": program(b"newer")}
    again = await desk.add(b"train/new.jpg", source)
    assert not again.landed.is_new
    assert again.landed.commit == replaced.landed.commit


async def test_a_large_file_with_recipes(tmp_path: Path) -> None:
    desk = Adder(tmp_path, limits=Limits(pack_bytes=256 * KIB, own_pack_bytes=512 * KIB))
    await desk.commit(BASE)
    data = random.Random(1).randbytes(6_000_000)
    (tmp_path / "large").write_bytes(data)
    added = await desk.add(b"large", tmp_path / "large")
    assert (await desk.read_back(added.landed.commit))[b"large"] == file(data)
    (tmp_path / "large").write_bytes(data[:3_000_000] + b"changed" + data[3_000_000:])
    added = await desk.add(b"large", tmp_path / "large")
    assert added.content.new_bytes < 200_000


async def test_a_folder(tmp_path: Path) -> None:
    desk = await adder(tmp_path)
    more: dict[bytes, Item] = {
        b"a.jpg": file(b"another a"),
        b"c.jpg": file(b"c"),
        b"deep": DIRECTORY,
        b"deep/b.jpg": BASE[b"train/deep/b.jpg"],
        b"deep/link": link(b"b.jpg"),
        b"void": DIRECTORY,
    }
    folder = write_folder(tmp_path / "more", more)
    below = {b"train/" + path: item for path, item in more.items()}
    added = await desk.add(b"train", folder)
    assert await desk.read_back(added.landed.commit) == BASE | below
    elsewhere = await desk.add(b"some/where", folder)
    expected = BASE | below | {b"some": DIRECTORY, b"some/where": DIRECTORY}
    expected |= {b"some/where/" + path: item for path, item in more.items()}
    assert await desk.read_back(elsewhere.landed.commit) == expected
    assert elsewhere.content.new_bytes == 0
    (tmp_path / "link").symlink_to("more")
    top = await desk.add(b"", tmp_path / "link")
    assert await desk.read_back(top.landed.commit) == expected | more
    assert not (await desk.add(b"", folder)).landed.is_new
    # What was added from elsewhere is no part of what the desk's own folder was last committed as.
    assert await desk.read_back((await desk.commit(BASE)).commit) == BASE


async def test_an_empty_folder(tmp_path: Path) -> None:
    desk = await adder(tmp_path)
    (tmp_path / "empty").mkdir()
    added = await desk.add(b"void", tmp_path / "empty")
    assert await desk.read_back(added.landed.commit) == BASE | {b"void": DIRECTORY}
    assert not (await desk.add(b"train", tmp_path / "empty")).landed.is_new


@pytest.mark.parametrize(
    ("path", "source", "error", "words"),
    [
        (
            b"train",
            "file",
            ConflictError,
            "train in repo/main is a folder, not a file; to put it in there, write train/",
        ),
        (b"README.md", "folder", ConflictError, "README.md in repo/main is a file, not a folder; remove it first"),
        (b"here", "folder", ConflictError, "here in repo/main is a symlink, not a folder"),
        (b"README.md/x", "file", ConflictError, "README.md in repo/main is a file: nothing can be put below it"),
        (b"", "clash", ConflictError, "train/deep in repo/main is a folder, not a file"),
        (b"", "file", UsageError, "cannot be the top"),
        (b"x" * 256, "file", UsageError, "too long"),
        (b"x", "nowhere", NotFoundError, "no file or folder"),
        (b"x", "fifo", UsageError, "neither a file nor a folder"),
        (b"x", "store", FsdError, "store's own folder"),
    ],
)
async def test_what_cannot_be_added(
    path: bytes, source: str, error: type[FsdError], words: str, tmp_path: Path
) -> None:
    desk = await adder(tmp_path)
    (tmp_path / "file").write_bytes(b"data")
    write_folder(tmp_path / "folder", {b"x": file(b"x")})
    write_folder(tmp_path / "clash", {b"a": file(b"a"), b"train": DIRECTORY, b"train/deep": file(b"flat")})
    os.mkfifo(tmp_path / "fifo")
    before = await (await desk.repositories()).refs.read("repo", "main")
    with pytest.raises(error) as caught:
        await desk.add(path, tmp_path / source)
    assert words in str(caught.value)
    assert await (await desk.repositories()).refs.read("repo", "main") == before


async def test_one_small_file_is_not_worth_learning_a_large_tree(tmp_path: Path) -> None:
    desk = Adder(tmp_path)
    await desk.commit({b"%04d" % number: file(b"%d" % number) for number in range(3000)})
    store = FaultyStore(desk.store)
    other = Adder(tmp_path, "other", store=store)
    (tmp_path / "small").write_bytes(b"7")
    added = await other.add(b"small", tmp_path / "small")
    assert len([call for call in store.calls if call.key.startswith("pages/") and call.operation == "get"]) <= 2
    assert added.content.new_bytes == 1
    (tmp_path / "larger").write_bytes(b"%d" % 2999 + b" " * 400_000)
    await other.add(b"larger", tmp_path / "larger")
    assert (await other.add(b"again", tmp_path / "small")).content.new_bytes == 0
