"""Learning from trees, and counting ahead."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsd.publish.cover import cover
from fsd.publish.known import KnownChunks
from fsd.publish.source import SourceFolder
from fsd.publish.survey import survey
from tests.faulty import FaultyStore
from tests.publish.folders import Counting, Desk, Item, chunks_of, file, keys_of, write_folder

FOLDER: dict[bytes, Item] = {b"%04d" % number: file(b"%d" % number) for number in range(3000)}


async def test_all_chunks_of_a_tree(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    large = random.Random(1).randbytes(4_000_000)
    first = await desk.commit(FOLDER | {b"large": file(large), b"middle": file(large[:500_000])})
    repositories = await desk.repositories()
    known = KnownChunks(tmp_path / "notes")
    known.open()
    await cover(repositories, known, first.commit)
    assert known.covers(first.commit)
    async for listed in (await repositories.tree(first.commit)).list_below():
        for position in listed.positions:
            for chunk in await chunks_of(repositories, listed.page.entry(position)):
                found = known.find(chunk.id, chunk.length)
                assert found is not None
                assert not known.is_present(found.pack)
    known.close()


async def test_pages_of_a_covered_commit_are_not_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(FOLDER)
    second = await desk.commit(FOLDER | {b"2000": file(b"changed")})
    desk.store = store = FaultyStore(desk.store)
    known = KnownChunks(tmp_path / "notes")
    known.open()
    repositories = await desk.repositories()
    await cover(repositories, known, first.commit)
    before = len(store.calls)
    await cover(repositories, known, second.commit, first.commit)
    assert known.covers(second.commit)
    pages = [call for call in store.calls[before:] if call.key.startswith("pages/")]
    assert len(pages) == 1
    known.close()


async def test_a_tree_with_a_hole_is_not_covered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = await desk.commit(FOLDER)
    (lost, *_) = await keys_of(desk.store, "pages/")
    await desk.store.delete(lost)
    known = KnownChunks(tmp_path / "notes")
    known.open()
    await cover(await desk.repositories(), known, first.commit)
    assert not known.covers(first.commit)
    await cover(await desk.repositories(), known, bytes(32))
    assert not known.covers(bytes(32))
    known.close()


async def test_a_folder_is_counted_ahead_if_somebody_looks(tmp_path: Path) -> None:
    top = write_folder(tmp_path / "top", {b"a": file(b"abc"), b"b": file(b"de")})
    progress = Counting(wants_total=True)
    with SourceFolder(str(top)) as source:
        await survey(source, progress)
    assert progress.expected == [(2, 5)]


@pytest.mark.parametrize("wants_total", [False, True])
async def test_a_second_commit_expects_what_the_first_had(tmp_path: Path, wants_total: bool) -> None:
    desk = Desk(tmp_path)
    desk.wants_total = wants_total
    await desk.commit(FOLDER)
    assert len(desk.progress.expected) <= wants_total
    assert desk.progress.phases == ["look", "read", "store", "commit"]
    await desk.commit()
    assert desk.progress.expected == [(3000, sum(len(item.data) for item in FOLDER.values()))]
