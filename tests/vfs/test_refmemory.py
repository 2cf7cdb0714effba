"""What is known of refs, over a restart while the store is out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.errors import StoreUnreachableError
from fsd.vfs.attributes import Missing
from fsd.vfs.refmemory import KnownRefs, RefMemory
from tests.faulty import READS, Fail
from tests.vfs.world import TREE, Builder, new_store, opened

AWAY = Fail(StoreUnreachableError("away"))


async def shop() -> Builder:
    builder = await new_store()
    await builder.commit("data", TREE, tag="v1")
    await builder.commit("other", {b"a": b"b"})
    return builder


async def test_what_was_seen_is_shown_again(tmp_path: Path) -> None:
    builder, memory = await shop(), tmp_path / "refs.json"
    async with opened(builder, tmp_path / "cache", known_refs=memory) as world:
        names = await world.names(b"data")
        assert await world.content(b"data/v1/README") == TREE[b"README"]
        top = await world.names(b"")
        link = await world.vfs.readlink((await world.stat(b"data/main")).ino)
    async with opened(builder, tmp_path / "cache", known_refs=memory) as world:
        world.store.inject((*READS, "list"), "*", AWAY)
        assert (await world.names(b""), await world.names(b"data")) == (top, names)
        assert await world.vfs.readlink((await world.stat(b"data/main")).ino) == link
        assert await world.content(b"data/v1/README") == TREE[b"README"]
        with pytest.raises(StoreUnreachableError):
            await world.lookup(b"other/main")  # never asked for
    # What changed meanwhile is found when the store can be asked.
    await builder.commit("data", {b"new": b"new"}, tag="v1")
    async with opened(builder, tmp_path / "cache", known_refs=memory) as world:
        assert not isinstance(await world.lookup(b"data/v1/new"), Missing)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 1, "repositories": 3, "refs": {}, "listed": []}'])
async def test_what_makes_no_sense_is_forgotten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.json"
    path.write_bytes(content)
    assert await RefMemory(path).recall() == KnownRefs()


async def test_a_changed_ref_is_not_believed(tmp_path: Path) -> None:
    builder, memory = await shop(), tmp_path / "refs.json"
    async with opened(builder, tmp_path / "cache", known_refs=memory) as world:
        commit = await world.lookup(b"data/main")
    assert commit
    data = memory.read_bytes()
    assert (await RefMemory(memory).recall()).refs
    memory.write_bytes(
        data.replace(b'commit\\": \\"', b'commit\\": \\"0', 1).replace(b'commit\\":\\"', b'commit\\":\\"0', 1)
    )
    assert memory.read_bytes() != data
    assert not (await RefMemory(memory).recall()).refs
