"""Listings: any order, sizes that are asked for, digests that are checked, and what was read before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.errors import CorruptDataError, FsdError
from fsd.importing.digests import GIT, MD5, SHA256, Digest
from fsd.importing.items import DIRECTORY_MODE, PROGRAM_MODE, SYMLINK_MODE, UNKNOWN_SIZE, Item
from fsd.importing.summed import SummedProgress
from fsd.limits import KIB, Limits
from fsd.publish.source import UnsupportedFileError
from tests.importing.importing import Importer, Listed
from tests.publish.folders import DIRECTORY, Counting, file, link, program

CONTENTS = {
    b"a": b"first",
    b"d/large": os.urandom(6_000_000),
    b"d/small": b"small" * 100,
    b"program": b"#!",
    b"empty": b"",
}


def md5_items(contents: dict[bytes, bytes], size: int | None = None) -> list[Item]:
    """Items with their MD5, in no order of trees."""
    return [
        Item(path, size=len(data) if size is None else size, digest=Digest(MD5, hashlib.md5(data).hexdigest()))
        for path, data in reversed(contents.items())
    ]


async def test_all_kinds(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    items = [
        Item(b"z/y/x", size=1, origin="1"),
        Item(b"./link", SYMLINK_MODE, target=b"../elsewhere"),
        Item(b"program", PROGRAM_MODE, 2),
        Item(b"empty/", DIRECTORY_MODE),
        Item(b"", DIRECTORY_MODE),
    ]
    desk.wants_total = True
    done = await desk.bring(Listed(items, {b"z/y/x": b"1", b"program": b"#!"}))
    assert await desk.read_back(done.landed.commit) == {
        b"z": DIRECTORY,
        b"z/y": DIRECTORY,
        b"z/y/x": file(b"1"),
        b"link": link(b"../elsewhere"),
        b"program": program(b"#!"),
        b"empty": DIRECTORY,
    }
    assert desk.progress.expected == [(6, 3)]
    assert (desk.progress.was_read, desk.progress.unread) == ((2, 3), (4, 0))


async def test_what_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    first = Listed(md5_items(CONTENTS), CONTENTS)
    done = await desk.bring(first)
    assert sorted(first.was_read) == sorted(CONTENTS)
    moved = {b"new/" + path: data for path, data in CONTENTS.items()} | {b"more": b"more"}
    second = Listed(md5_items(moved), moved)
    again = await desk.bring(second, "other")
    assert second.was_read == [b"more"]
    assert await desk.read_back(again.landed.commit) == {path: file(data) for path, data in moved.items()} | {
        b"new": DIRECTORY,
        b"new/d": DIRECTORY,
    }
    assert again.content.known_bytes == sum(map(len, CONTENTS.values()))
    assert done.landed.commit != again.landed.commit


async def test_a_recalled_file_with_recipes(tmp_path: Path) -> None:
    contents = {b"large": os.urandom(30_000_000)}
    desk = Importer(tmp_path, limits=Limits(own_pack_bytes=512 * KIB))
    await desk.bring(Listed(md5_items(contents), contents))
    again = Listed(md5_items(contents), contents)
    done = await desk.bring(again, "other")
    assert again.was_read == []
    assert await desk.read_back(done.landed.commit) == {b"large": file(contents[b"large"])}


async def test_a_pack_that_is_gone_is_read_again(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    await desk.bring(Listed(md5_items(CONTENTS), CONTENTS))
    for pack in (tmp_path / "store" / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    again = Listed(md5_items(CONTENTS), CONTENTS)
    done = await desk.bring(again, "other")
    # An empty file has no chunks that could be gone.
    assert sorted(again.was_read) == sorted(path for path, data in CONTENTS.items() if data)
    assert (await desk.read_back(done.landed.commit))[b"d/large"] == file(CONTENTS[b"d/large"])


async def test_a_damaged_memo_costs_reading(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    await desk.bring(Listed(md5_items(CONTENTS), CONTENTS))
    (memo,) = (desk.state / "imports").glob("*.sqlite")
    memo.write_bytes(b"nonsense" * 1000)
    again = Listed(md5_items(CONTENTS), CONTENTS)
    await desk.bring(again, "other")
    assert sorted(again.was_read) == sorted(CONTENTS)


async def test_unknown_sizes_are_asked_for_unless_the_file_is_known(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    listed = Listed(md5_items(CONTENTS, UNKNOWN_SIZE), CONTENTS)
    done = await desk.bring(listed)
    assert sorted(listed.asked_sizes) == sorted(CONTENTS)
    assert (await desk.read_back(done.landed.commit))[b"d/large"] == file(CONTENTS[b"d/large"])
    again = Listed(md5_items(CONTENTS, UNKNOWN_SIZE), CONTENTS)
    assert not (await desk.bring(again)).landed.is_new
    assert (again.asked_sizes, again.was_read) == ([], [])


async def test_versions_stand_for_contents_only_at_their_place(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    item = Item(b"a", size=1, origin="https://here/a", version="1")
    await desk.bring(Listed([item], {b"a": b"1"}))
    same, other_place, other_version, none = (
        Listed([changed], {b"a": b"2"})
        for changed in (
            item,
            item._replace(origin="https://there/a"),
            item._replace(version="2"),
            item._replace(version=""),
        )
    )
    for listed in (same, other_place, other_version, none):
        await desk.bring(listed)
    assert [len(listed.was_read) for listed in (same, other_place, other_version, none)] == [0, 1, 1, 1]


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize("algorithm", [MD5, SHA256, GIT])
async def test_a_content_that_is_not_what_its_digest_says(tmp_path: Path, size: int, algorithm: str) -> None:
    digest = Digest(algorithm, "0" * (64 if algorithm == SHA256 else 40 if algorithm == GIT else 32))
    listed = Listed([Item(b"d/bad", size=size, digest=digest)], {b"d/bad": bytes(size)})
    desk = Importer(tmp_path)
    with pytest.raises(CorruptDataError, match=rf"d/bad is damaged.*its {algorithm} is [0-9a-f]+, and was to be 0+"):
        await desk.bring(listed)
    assert await (await desk.repositories()).refs.read("repo", "main") is None


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
@pytest.mark.parametrize(("more", "has"), [(1, "more"), (-1, "[0-9,]+")])
async def test_a_content_of_another_length(tmp_path: Path, size: int, more: int, has: str) -> None:
    listed = Listed([Item(b"bad", size=size)], {b"bad": bytes(size + more)})
    with pytest.raises(CorruptDataError, match=rf"bad was to have {size:,} bytes and has {has}"):
        await Importer(tmp_path).bring(listed)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((b"a", b"./a"), "'a' is in the source twice"),
        ((b"a", b"a/b"), "'a' in the source is a file and a folder"),
        ((b"a/b", b"a"), "'a' in the source is a file and a folder"),
        ((b"a/b/c", b"x", b"a/b"), "'a/b' in the source is a file and a folder"),
        ((b"x/../y",), r"'\.\.'"),
        ((b"n\0l",), "cannot be kept"),
        ((b"/".join([b"d" * 200] * 200),), "cannot be kept"),
        ((b"./",), "without a name"),
    ],
)
async def test_names_that_cannot_be(tmp_path: Path, paths: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(UnsupportedFileError, match=message):
        await Importer(tmp_path).bring(Listed([Item(path) for path in paths], dict.fromkeys(paths, b"")))


async def test_many_files_in_any_order_give_what_a_commit_gives(tmp_path: Path) -> None:
    contents = {b"d%d/%d" % (number % 7, number): b"%d" % number for number in range(3000)}
    desk = Importer(tmp_path)
    done = await desk.bring(Listed(md5_items(contents), contents))
    folder = {path: file(data) for path, data in contents.items()} | {b"d%d" % number: DIRECTORY for number in range(7)}
    assert (await desk.commit(folder)).tree == done.landed.tree


async def test_nothing_is_left_of_the_ledger(tmp_path: Path) -> None:
    """It has no name while it is in use, so that no kill leaves it behind."""
    desk = Importer(tmp_path)
    seen: list[list[str]] = []

    class Looking(Listed):
        def items(self) -> Iterator[Item]:
            for item in super().items():
                seen.append([path.name for path in desk.state.iterdir() if path.is_file()])
                yield item

    await desk.bring(Looking(md5_items(CONTENTS), CONTENTS))
    assert seen == [[]] * len(CONTENTS)


async def test_no_place_for_notes(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    (desk.state / "imports").mkdir(parents=True)
    store = (await desk.repositories()).marker.id
    (desk.state / "imports" / f"{store}.sqlite").mkdir()
    with pytest.raises(FsdError, match="cannot keep notes in"):
        await desk.bring(Listed(md5_items(CONTENTS), CONTENTS))


def test_a_sum_over_revisions() -> None:
    counting = Counting(wants_total=True)
    progress = SummedProgress(counting)
    assert progress.wants_total
    for _ in range(2):
        progress.phase("read")
        progress.expect(3, 100)
        progress.read(2, 100)
        progress.unchanged(1, 0)
    progress.stored(7)
    assert counting.expected == [(3, 100), (6, 200)]
    assert (counting.was_read, counting.unread, counting.stored_bytes) == ((4, 200), (2, 0), 7)
