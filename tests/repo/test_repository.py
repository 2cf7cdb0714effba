"""Making and opening stores, and what it takes to get to the first byte."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fsd.errors import ConflictError, CorruptDataError, NotFoundError, UnsupportedFormatError
from fsd.format.chunker import ChunkerParams
from fsd.format.keys import STORE_MARKER, pack_key
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.objects import MissingObjectError
from fsd.repo.repository import init_store, open_repositories, read_marker
from fsd.repo.revisions import resolve
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset, open_tree
from fsd.stores.local import LocalStore
from fsd.stores.memory import MemoryStore
from tests.faulty import FaultyStore
from tests.format.samples import sample_id
from tests.repo.trees import PACK, commit_tree, file


async def test_a_new_store() -> None:
    store = MemoryStore()
    made = await init_store(store, chunker=ChunkerParams(64 * 1024), keep=("a*",), clock=lambda: 77)
    assert await read_marker(store) == made
    assert (made.created_us, made.keep, made.chunker.average) == (77, ("a*",), 64 * 1024)
    repositories = await open_repositories(store)
    assert repositories.marker == made
    assert await repositories.refs.repositories() == []


async def test_a_store_is_made_once() -> None:
    store = MemoryStore()
    await init_store(store)
    with pytest.raises(ConflictError, match="is an fsd store already"):
        await init_store(store)
    await commit_tree(store, "data", [])
    with pytest.raises(ConflictError, match="is an fsd store already"):
        await init_store(store)


async def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    store = LocalStore(tmp_path, DEFAULT_LIMITS)
    with pytest.raises(ConflictError, match=r"is not empty: there is photos/cat\.jpg in it"):
        await init_store(store)
    assert os.listdir(tmp_path) == ["photos"]


async def test_a_store_that_this_program_must_not_write_to() -> None:
    store = MemoryStore()
    made = await init_store(store)
    commit = await commit_tree(store, "data", [file(b"a")])
    await (await open_repositories(store)).refs.move_branch("data", "main", commit, expected=None)
    repositories = await open_repositories(store, marker=replace(made, write_features=frozenset({"sealed"})))
    refs = repositories.refs
    version = (await refs.list("data"))["main"]
    before = [info.key async for info in store.list("")]
    assert (await refs.read("data", "main")) is not None  # a move may begin with what was read
    for writing in (
        lambda: refs.move_branch("data", "main", sample_id(1), expected=commit),
        lambda: refs.set_tag("data", "v1", commit),
        lambda: refs.set_subset("data", "tiny", commit, sample_id(1)),
        lambda: refs.delete("data", "main", version),
        lambda: create_subset(repositories, "data", commit, "tiny", Rule(limit=1)),
    ):
        with pytest.raises(UnsupportedFormatError, match="cannot write to memory:: it needs sealed"):
            await writing()
    assert [info.key async for info in store.list("")] == before
    assert (await resolve(repositories, "data", "main")).commit == commit


async def test_what_is_no_store() -> None:
    with pytest.raises(NotFoundError, match="memory: is not an fsd store") as caught:
        await open_repositories(MemoryStore())
    assert "fsd init" in caught.value.hint


async def test_a_newer_store() -> None:
    store = MemoryStore()
    await init_store(store)
    body = json.loads((await store.get(STORE_MARKER)).data)
    for change in ({"version": 2}, {"features": {"read": ["teleport"], "write": [], "gc": []}}):
        await store.overwrite(STORE_MARKER, json.dumps(body | change).encode())
        with pytest.raises(UnsupportedFormatError):
            await open_repositories(store)
    await store.overwrite(STORE_MARKER, b"{")
    with pytest.raises(CorruptDataError):
        await open_repositories(store)


async def test_a_commit_and_its_tree_are_one_request() -> None:
    memory = MemoryStore()
    await init_store(memory)
    commit = await commit_tree(memory, "data", [file(b"a")], message="one\ntwo")
    store = FaultyStore(memory)
    repositories = await open_repositories(store)
    store.calls.clear()
    assert (await repositories.commit(commit)).summary == "one"
    tree = await repositories.tree(commit)
    assert tree.totals.entries == 1
    assert len(store.calls) == 1
    with pytest.raises(MissingObjectError):
        await repositories.tree(sample_id(1))


async def test_four_requests_to_the_first_byte() -> None:
    memory = MemoryStore()
    await init_store(memory)
    data = b"the first bytes"
    await memory.put_if_absent(pack_key(PACK), b"before " + data + b" after")
    commit = await commit_tree(memory, "data", [file(b"train/a.txt", data), *[file(b"b%d" % n) for n in range(5_000)]])
    store = FaultyStore(memory)
    repositories = await open_repositories(store)
    await repositories.refs.move_branch("data", "main", commit, expected=None)
    store.calls.clear()
    tree = await open_tree(repositories, await resolve(repositories, "data", "main"))
    found = await tree.find(b"train", b"a.txt")
    assert found is not None
    chunk = found.page.single_chunk(found.position)
    assert chunk is not None
    assert await repositories.packs.read(chunk.placement.pack, chunk.placement.offset, chunk.placement.stored) == data
    asked = [(call.operation, call.key.split("/")[0]) for call in store.calls]
    assert asked == [("get", "refs"), ("get", "commits"), ("get", "pages"), ("get_range", "packs")]
