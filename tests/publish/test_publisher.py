"""Publishing: what goes in comes out, what is known is not read or stored again, and what cannot be is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from fsd.clock import now_us
from fsd.errors import ConflictError, NotFoundError, UsageError
from fsd.format.keys import ObjectKind, object_key
from fsd.format.model import Kind
from fsd.limits import KIB, MIB, Limits
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from tests.publish.folders import (
    DIRECTORY,
    Desk,
    Item,
    chunks_of,
    file,
    keys_of,
    link,
    program,
    read_folder,
    verify_store,
    write_folder,
)

SMALL = Limits(pack_bytes=256 * KIB, own_pack_bytes=512 * KIB, publish_queue_bytes=4 * MIB)
"""Many packs, and packs of files' own, out of little data."""

BASIC: dict[bytes, Item] = {
    b"README.md": file(b"what it is\n"),
    b"empty": file(),
    b"run": program(b"#!/bin/sh\n"),
    b"again": file(b"#!/bin/sh\n"),
    b"void": DIRECTORY,
    b"train": DIRECTORY,
    b"train/a.jpg": file(b"a" * 5000),
    b"train/b.jpg": file(b"b" * 5000),
    b"train/deep": DIRECTORY,
    b"train/deep/er": DIRECTORY,
    b"train/deep/er/c.jpg": file(b"a" * 5000),
    b"train-more": DIRECTORY,
    b"train-more/d.jpg": file(b"d"),
    b"here": link(b"train/a.jpg"),
    b"there": link(b"/nowhere/at/all"),
    b"void-link": link(b"void"),
}


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def write_sparse(path: Path, size: int, at: int, data: bytes) -> None:
    with open(path, "wb") as out:
        out.truncate(size)
        out.seek(at)
        out.write(data)


def write_in_place(path: Path, data: bytes) -> None:
    with open(path, "r+b" if path.exists() else "wb") as out:
        out.write(data)


# --- round trips


async def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    published = await desk.commit(BASIC, message="first\n\nmore", author="somebody@here")
    assert published.is_new
    assert published.parent is None
    assert await desk.read_back(published.commit) == BASIC == read_folder(desk.top)
    assert published.totals == (len(BASIC), 8, sum(len(item.data) for item in BASIC.values() if item.kind in "fx"))
    header = await (await desk.repositories()).commit(published.commit)
    assert (header.message, header.author, header.parents, header.repository) == (
        "first\n\nmore",
        "somebody@here",
        (),
        "repo",
    )
    assert (await verify_store(desk.store)).keys() == {"repo/main"}


async def test_an_empty_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    published = await desk.commit({})
    assert await desk.read_back(published.commit) == {}
    assert not (await desk.commit({})).is_new
    more = await desk.commit({b"a": file(b"a")})
    assert await desk.read_back(more.commit) == {b"a": file(b"a")}
    assert (await desk.commit({})).tree == published.tree


async def test_names_of_any_bytes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    names = [b" ", b"a\nb", b"\xff\xfe", b"\x01", b"-rf", b"x" * 255, b"\xc3" * 255, "ä".encode(), b"a\x00"[:1], b"..."]
    folder = {name: file(name) for name in names}
    folder |= {b"d" + name[:254]: DIRECTORY for name in names}
    folder |= {b"d" + name[:254] + b"/" + name: file(name * 2) for name in names}
    published = await desk.commit(folder)
    assert await desk.read_back(published.commit) == folder


async def test_paths_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    folder: dict[bytes, Item] = {}
    fd = os.open(desk.top, os.O_RDONLY)
    path = b""
    for depth in range(40):
        name = b"%03d" % depth + b"n" * 200
        os.mkdir(name, dir_fd=fd)
        path = path + b"/" + name if path else name
        folder[path] = DIRECTORY
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    out = os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
    os.write(out, b"deep")
    os.close(out)
    os.symlink("bottom", "link", dir_fd=fd)
    os.close(fd)
    folder |= {path + b"/bottom": file(b"deep"), path + b"/link": link(b"bottom")}
    assert len(path) > 8000
    published = await desk.commit()
    assert await desk.read_back(published.commit) == folder
    assert (await desk.commit()).content.files_read == 0


async def test_files_of_every_size_around_a_chunk(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    whole = (await desk.repositories()).marker.chunker.whole_file
    average = (await desk.repositories()).marker.chunker.average
    sizes = {0, 1, 63, 64, 65, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 4 * MIB, 5 * MIB + 17}
    for edge in (average // 4, average, 4 * average, whole, 2 * whole):
        sizes |= {edge - 1, edge, edge + 1}
    folder = {b"n%08d" % size: file(noise(size, size)) for size in sizes}
    folder |= {b"z%08d" % size: file(bytes(size)) for size in sizes}
    folder |= {b"t%08d" % size: file((b"%08d\n" % size * (size // 9 + 1))[:size]) for size in sizes}
    published = await desk.commit(folder)
    assert await desk.read_back(published.commit) == folder
    repositories = await desk.repositories()
    async for listed in (await repositories.tree(published.commit)).list_below():
        for position in listed.positions:
            entry = listed.page.entry(position)
            if entry.kind is Kind.FILE and entry.size <= whole:
                assert len(entry.pieces) == (entry.size > 0), "a small file is one chunk"


async def test_a_sparse_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    data = noise(1, 300_000)
    write_sparse(desk.top / "sparse", 40 * MIB, 20 * MIB + 12_345, data)
    (desk.top / "plain").write_bytes(bytes(10 * MIB))
    published = await desk.commit()
    assert published.content.stored_bytes < 500_000
    repositories = await desk.repositories()
    tree = await repositories.tree(published.commit)
    found = await tree.find(b"", b"sparse")
    assert found is not None
    chunks = await chunks_of(repositories, found.page.entry(found.position))
    assert sum(chunk.length for chunk in chunks) == 40 * MIB
    # Cut over its hole without looking, it is cut as if it had been read.
    (desk.top / "sparse").write_bytes((desk.top / "sparse").read_bytes())
    os.utime(desk.top / "sparse", ns=(1, 1))
    assert os.stat(desk.top / "sparse").st_blocks * 512 >= 40 * MIB
    again = await desk.commit()
    assert (again.is_new, again.content.files_read, again.content.new_chunks) == (False, 1, 0)


async def test_many_files_in_one_directory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    directory = desk.top / "d"
    directory.mkdir()
    for number in range(4_000):
        (directory / f"{number * 7919 % 4_000:06d}").touch()
    published = await desk.commit()
    assert published.totals.entries == 4_001
    assert list(await desk.read_back(published.commit))[1:] == [b"d/%06d" % n for n in range(4_000)]
    (directory / "001999").write_bytes(b"changed")
    (directory / "002000").unlink()
    (directory / "002001x").write_bytes(b"new")
    changed = await desk.commit()
    assert changed.content.files_read == 2
    assert changed.content.built.pages_written <= 3
    assert await desk.read_back(changed.commit) == read_folder(desk.top)


# --- the second time


async def test_an_unchanged_folder_is_not_read_and_makes_no_commit(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    keys = await keys_of(desk.store)
    again = await desk.commit()
    assert (again.is_new, again.commit, again.parent, again.tree) == (False, first.commit, first.commit, first.tree)
    assert (again.content.files_read, again.content.bytes_read) == (0, 0)
    assert desk.progress.was_read == (0, 0)
    targets = sum(len(item.data) for item in BASIC.values() if item.kind == "l")
    assert desk.progress.unread == (len(BASIC), first.totals.bytes + targets)
    assert await keys_of(desk.store) == keys


async def test_allow_empty_makes_a_commit_of_the_same_tree(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    again = await desk.commit(allow_empty=True)
    assert again.is_new
    assert (again.parent, again.tree, again.content.files_read) == (first.commit, first.tree, 0)
    assert (await desk.commit()).content.files_read == 0


async def test_only_what_changed_is_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.commit(BASIC)
    changed = BASIC | {
        b"train/b.jpg": file(b"B" * 4999),
        b"new": DIRECTORY,
        b"new/one": file(b"one"),
        b"empty": DIRECTORY,
    }
    del changed[b"train/deep/er/c.jpg"], changed[b"train-more"], changed[b"train-more/d.jpg"]
    second = await desk.commit(changed)
    assert second.content.files_read == 2
    assert await desk.read_back(second.commit) == changed
    assert second.files_unchanged == 4
    back = await desk.commit(BASIC)
    assert await desk.read_back(back.commit) == BASIC
    assert back.content.new_chunks == 0, "the store has all of it"
    assert (await verify_store(desk.store))["repo/main"] == BASIC


async def test_a_change_of_mode_or_times_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    os.utime(desk.top / "README.md", ns=(5, 5))
    touched = await desk.commit()
    assert (touched.is_new, touched.content.files_read) == (False, 1)
    os.chmod(desk.top / "README.md", 0o755)
    changed = await desk.commit()
    assert changed.is_new
    assert changed.content.new_chunks == 0
    assert await desk.read_back(changed.commit) == BASIC | {b"README.md": program(b"what it is\n")}
    assert first.tree != changed.tree


async def test_a_commit_from_a_scan_is_the_commit_from_scratch(tmp_path: Path) -> None:
    desk, other = Desk(tmp_path), Desk(tmp_path, "2")
    await desk.commit(BASIC)
    changed = dict(list(BASIC.items())[3:]) | {b"z": file(b"z")}
    assert (await desk.commit(changed)).tree == (await other.commit(changed, branch="other")).tree


async def test_without_the_state_everything_is_read_and_nothing_stored(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC | {b"large": file(noise(3, 3 * MIB))})
    desk.state = tmp_path / "another"
    again = await desk.commit()
    assert (again.is_new, again.commit) == (False, first.commit)
    assert again.content.files_read == first.totals.files
    assert (again.content.new_chunks, again.content.packs) == (0, 0)


async def test_a_colleague_stores_only_what_is_new(tmp_path: Path) -> None:
    desk, colleague = Desk(tmp_path, limits=SMALL), Desk(tmp_path, "2", limits=SMALL)
    large = noise(4, 6 * MIB)
    folder = BASIC | {b"large": file(large), b"middle": file(noise(5, 400_000))}
    await desk.commit(folder)
    moved = folder | {b"large-moved": file(large + b"more"), b"x": file(b"x")}
    del moved[b"large"]
    second = await colleague.commit(moved)
    assert second.content.new_bytes < 300_000
    third = await desk.commit(moved | {b"y": file(b"y"), b"copy": file(large + b"more")})
    assert third.parent == second.commit
    assert third.content.new_bytes == 1
    assert await desk.read_back(third.commit) == read_folder(desk.top)
    await verify_store(desk.store)


async def test_a_scan_of_another_commit_than_the_branch_has(tmp_path: Path) -> None:
    desk, colleague = Desk(tmp_path), Desk(tmp_path, "2")
    await desk.commit(BASIC)
    theirs = await colleague.commit({b"theirs": file(b"theirs")})
    mine = await desk.commit(BASIC | {b"mine": file(b"mine")})
    assert mine.parent == theirs.commit
    assert mine.content.files_read == 1
    assert await desk.read_back(mine.commit) == BASIC | {b"mine": file(b"mine")}


async def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    data, large = noise(6, 50_000), noise(7, 3 * MIB)
    folder = {b"%03d" % number: file(data) for number in range(100)} | {b"l%d" % n: file(large) for n in range(4)}
    published = await desk.commit(folder)
    assert published.content.new_bytes == len(data) + len(large)
    assert published.content.known_chunks > 100
    assert await desk.read_back(published.commit) == folder


async def test_a_large_file_has_a_pack_of_its_own_that_is_the_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=SMALL)
    large = noise(8, 5 * MIB)
    published = await desk.commit({b"a": file(b"a"), b"large": file(large), b"z": file(b"z")})
    assert published.content.packs == 2
    packs = [(await desk.store.get(key)).data for key in await keys_of(desk.store, "packs/")]
    assert sum(pack.startswith(large) for pack in packs) == 1
    changed = large[: 2 * MIB] + b"changed" + large[2 * MIB :]
    second = await desk.commit({b"a": file(b"a"), b"large": file(changed), b"z": file(b"Z")})
    assert second.content.new_bytes < 300_000
    assert second.content.packs == 1, "a small change goes with the small files"
    assert await desk.read_back(second.commit) == read_folder(desk.top)


async def test_text_is_compressed_and_noise_is_not(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    text = b"".join(b"%d,%d\n" % (number, number * 17) for number in range(300_000))
    published = await desk.commit({b"text": file(text), b"noise": file(noise(9, MIB))})
    assert MIB <= published.content.stored_bytes < MIB + len(text) // 2
    assert await desk.read_back(published.commit) == read_folder(desk.top)


# --- packs and objects that are gone


async def test_a_pack_that_the_store_lost_is_not_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.commit({b"a": file(noise(1, 5000))})
    await desk.commit({})
    for key in await keys_of(desk.store, "packs/"):
        await desk.store.delete(key)
    again = await desk.commit({b"b": file(noise(1, 5000))})
    assert again.content.new_chunks == 1
    assert await desk.read_back(again.commit) == read_folder(desk.top)


async def test_a_base_that_lost_its_pages_is_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    for key in await keys_of(desk.store, "pages/"):
        await desk.store.delete(key)
    changed = BASIC | {b"new": file(b"new")}
    second = await desk.commit(changed)
    assert second.parent == first.commit
    assert second.content.files_read == second.totals.files
    assert await desk.read_back(second.commit) == changed


async def test_a_branch_that_lost_its_commit(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    await desk.store.delete(object_key(ObjectKind.COMMIT, first.commit))
    second = await desk.commit()
    assert second.is_new
    assert await desk.read_back(second.commit) == BASIC


# --- branches and tags


async def test_branches_and_tags(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC, tag="v1")
    other = await desk.commit(BASIC | {b"x": file(b"x")}, branch="other")
    assert other.parent is None
    refs = await (await desk.repositories()).refs.read_all("repo")
    assert {name: stored.ref.target for name, stored in refs.items()} == {
        "main": first.commit,
        "v1": first.commit,
        "other": other.commit,
    }
    assert (await desk.commit(BASIC, tag="v1-again")).is_new is False
    assert (await desk.commit(BASIC, repository="second")).content.new_chunks == 0


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        ({"tag": "v1"}, ConflictError, "tag 'v1' of 'repo' already exists"),
        ({"tag": "main"}, UsageError, "both"),
        ({"branch": "v1"}, ConflictError, "is a tag, not a branch"),
        ({"branch": "abcdef0"}, UsageError, "commit id"),
        ({"tag": "10pct"}, UsageError, "built-in"),
        ({"repository": "no/such"}, UsageError, "repository name"),
    ],
)
async def test_names_that_are_refused_before_any_work(
    tmp_path: Path, request_: dict[str, Any], error: type[Exception], says: str
) -> None:
    desk = Desk(tmp_path)
    await desk.commit(BASIC, tag="v1")
    keys = await keys_of(desk.store)
    with pytest.raises(error, match=says):
        await desk.commit(BASIC | {b"new": file(b"new")}, **request_)
    assert await keys_of(desk.store) == keys
    assert desk.progress.was_read == (0, 0)


async def test_no_such_folder(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.top = tmp_path / "missing"
    with pytest.raises(NotFoundError, match="no folder"):
        await desk.commit()
    desk.top = tmp_path / "a-file"
    desk.top.write_bytes(b"")
    with pytest.raises(UsageError, match="is not a folder"):
        await desk.commit()


async def test_the_folder_may_be_named_through_a_symlink(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    write_folder(desk.top, BASIC)
    desk.top = tmp_path / "link"
    desk.top.symlink_to("folder")
    assert await desk.read_back((await desk.commit()).commit) == BASIC


async def test_subsets_follow_the_branch(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(BASIC)
    rule = Rule(include=("*.jpg",))
    await create_subset(await desk.repositories(), "repo", first.commit, "pictures", rule, follow_branch="main")
    assert (await desk.commit()).subsets == (), "nothing new, nothing to follow"
    second = await desk.commit(BASIC | {b"train/new.jpg": file(b"new")})
    (subset,) = second.subsets
    assert (subset.name, subset.source) == ("pictures", second.commit)
    pictures = await desk.read_back(subset.id)
    assert pictures[b"train/new.jpg"] == file(b"new")
    assert b"run" not in pictures
    assert (await desk.commit(BASIC, branch="other")).subsets == ()


# --- times


async def test_young_files_are_read_again_until_they_are_old(tmp_path: Path) -> None:
    desk = Desk(tmp_path, clock=now_us)
    await desk.commit(BASIC)
    young = await desk.commit()
    assert young.content.files_read > 0
    desk.clock = lambda: now_us() + 3_600_000_000
    # They are looked at an hour later: they are read once more, and then no more.
    await desk.commit()
    assert (await desk.commit()).content.files_read == 0


async def test_a_file_rewritten_in_place_within_a_tick_is_seen(tmp_path: Path) -> None:
    desk = Desk(tmp_path, clock=now_us)
    path = desk.top / "a"
    for number in range(20):
        write_in_place(path, b"%08d" % number)
        published = await desk.commit()
        assert await desk.read_back(published.commit) == {b"a": file(b"%08d" % number)}
