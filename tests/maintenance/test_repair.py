"""What a store lost comes back as far as anybody has it, nothing gets worse on the way, and what is left is told."""

from __future__ import annotations

import os
import random
from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
import zstandard
from hypothesis import given, settings

from fsd.cache.donor import CacheDonor
from fsd.errors import UsageError
from fsd.format.envelope import seal
from fsd.format.keys import (
    COMMITS,
    LEASES,
    MOVED,
    PACKS,
    PAGES,
    RECIPES,
    REFS,
    REFS_INDEX,
    STORE_MARKER,
    ObjectKind,
    moved_key,
    object_key,
    pack_key,
)
from fsd.format.moved import encode_moved
from fsd.format.pack import Contents, encode_contents, encode_row
from fsd.ids import content_id
from fsd.limits import KIB
from fsd.maintenance import rebuild
from fsd.maintenance.gc import Policy, collect
from fsd.maintenance.mending import MendingLoader
from fsd.maintenance.packing import nowhere
from fsd.maintenance.placed import Row
from fsd.maintenance.rebuild import LostPack, mend_pack
from fsd.publish.donor import FolderDonor
from fsd.repo.repository import open_repositories
from fsd.stores.base import ObjectNotFoundError, Store
from fsd.stores.memory import MemoryStore
from tests.faulty import WRITES, FaultyStore, FlipBit
from tests.maintenance.desks import Quiet
from tests.maintenance.lossy import (
    LIMITS,
    DictDonor,
    Original,
    flipped,
    readable,
    repaired,
    spoil,
    to_be_had,
    told,
    verified,
)
from tests.publish.folders import keys_of

KINDS = {COMMITS: "commit", PAGES: "page", RECIPES: "recipe", PACKS: "pack"}

SMALL = (b"small/1", b"small/2", b"small/5")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return trio.run(Original.publish, tmp_path_factory.mktemp("desk"))


async def test_a_whole_store_is_left_alone(original: Original, tmp_path: Path) -> None:
    store = await original.copy(None)
    async with original.cache(tmp_path / "cache") as cache:
        outcome = await repaired(store, CacheDonor(cache, "the cache"))
    assert outcome.left.is_whole
    assert outcome.mended == outcome.found == []
    assert {key: (await store.get(key)).data for key in await keys_of(store)} == original.objects


@pytest.mark.parametrize("place", ["memory", "folder"])
@pytest.mark.parametrize("way", ["gone", "short", "empty", "flip"])
async def test_each_object_comes_back_as_it_was(original: Original, tmp_path: Path, place: str, way: str) -> None:
    """Out of the cache of somebody who had read everything: the same bytes under the same keys."""
    store = await original.copy(tmp_path / "store" if place == "folder" else None)
    async with original.cache(tmp_path / "cache") as cache:
        donor = CacheDonor(cache, "the cache")
        keys = [key for prefix in KINDS for key in original.objects if key.startswith(prefix)]
        for key in keys if place == "memory" else random.Random(way).sample(keys, 5):
            await spoil(store, key, way)
            damages = await verified(store)
            assert damages
            outcome = await repaired(store, donor)
            assert outcome.left.is_whole, (key, outcome)
            [mended] = outcome.mended
            assert (mended.what, mended.id) == (KINDS[key[: key.index("/") + 1]], key.rpartition("/")[2])
            assert mended.origins == ("the cache",)
            assert (await store.get(key)).data == original.objects[key]
    assert await verified(store) == []
    assert not await keys_of(store, MOVED)
    assert not await keys_of(store, LEASES)


async def test_all_is_written_under_a_lease(original: Original, tmp_path: Path) -> None:
    """Else a collector may delete what is not named yet; and who has nothing to write takes none."""
    inner = await original.copy(None)
    store = FaultyStore(inner)
    async with original.cache(tmp_path / "cache") as cache:
        for key in ("", *original.objects):
            if key.startswith(REFS) or key == STORE_MARKER:
                continue
            if key:
                await spoil(inner, key, "gone")
            store.calls.clear()
            await repaired(store, CacheDonor(cache, "the cache"))
            written = [call.key for call in store.calls if call.operation in (*WRITES, "upload")]
            assert (written[0].startswith(LEASES) and len(written) > 1) if key else not written
    assert not await keys_of(inner, LEASES)


async def test_everything_at_once(original: Original, tmp_path: Path) -> None:
    """Every commit, page, recipe and pack is gone: one walk puts back what leads to what."""
    store = await original.copy(None)
    for key in original.objects:
        if not key.startswith(REFS) and key != STORE_MARKER:
            await store.delete(key)
    async with original.cache(tmp_path / "cache") as cache:
        outcome = await repaired(store, CacheDonor(cache, "the cache"), data=False)
    assert outcome.left.is_whole
    assert {key: (await store.get(key)).data for key in await keys_of(store)} == original.objects


async def no_lease() -> None:
    """Nobody collects garbage here."""


@pytest.mark.parametrize("kind", ObjectKind)
async def test_every_kind_of_object(kind: ObjectKind) -> None:
    store = MemoryStore()
    object_id, stored = seal(kind, kind.value + b"and more")
    key = object_key(kind, object_id)
    liar = DictDonor({(kind, object_id): seal(kind, kind.value + b"something else")[1]}, name="a liar")
    friend = DictDonor({(kind, object_id): stored})
    with pytest.raises(ObjectNotFoundError):
        await MendingLoader(store, [liar], no_lease).load(kind, object_id)
    assert not await keys_of(store)
    for spoiled in (None, b"", stored[:-1], stored[:40] + b"x" + stored[41:]):
        if spoiled is not None:
            await store.overwrite(key, spoiled)
            assert await MendingLoader(store, [liar], no_lease).load(kind, object_id) == spoiled
        loader = MendingLoader(store, [liar, friend], no_lease)
        assert await loader.load(kind, object_id) == stored
        assert [mended.origins for mended in loader.mended] == [("a friend",)]
        assert (await store.get(key)).data == stored
        assert await loader.load(kind, object_id) == stored
        assert len(loader.mended) == 1


async def test_the_list_of_refs_is_written_anew_and_a_ref_is_not_guessed(original: Original) -> None:
    store = await original.copy(None)
    await spoil(store, REFS + REFS_INDEX, "flip")
    outcome = await repaired(store)
    assert outcome.left.is_whole
    assert [mended.what for mended in outcome.mended] == ["refs"]
    await spoil(store, "refs/repo/v1", "flip")
    outcome = await repaired(store)
    assert [damage.what for damage in outcome.left.damages] == ["ref"]
    assert not outcome.mended


async def test_what_only_some_had_is_moved_and_the_rest_is_told(original: Original, tmp_path: Path) -> None:
    store = await original.copy(None)
    for key in original.packs():
        await store.delete(key)
    async with original.cache(tmp_path / "cache", lambda path: path in SMALL) as cache:
        outcome = await repaired(store, CacheDonor(cache, "the cache"), data=False)
        had = await to_be_had(store, original.files, cache)
    read = await readable(store, original.files)
    assert had == read
    assert {path for _, path in read} == {*SMALL, b"small"}
    assert await keys_of(store, MOVED)
    assert await verified(store, data=False) == told(outcome.left)
    left = {file.split("/", 2)[2] for file in outcome.left.files}
    assert left == {path.decode() for _, path in original.files} - {"small", *map(bytes.decode, SMALL)}
    # Somebody else has the others; and a third who has nothing changes nothing.
    async with original.cache(tmp_path / "other", lambda path: path not in SMALL) as cache:
        assert not (await repaired(store, DictDonor())).mended
        assert (await repaired(store, CacheDonor(cache, "the cache"))).left.is_whole
    assert await readable(store, original.files) == original.files.keys()


async def test_a_folder_has_the_chunks_of_its_files_whatever_they_are_called(
    original: Original, tmp_path: Path
) -> None:
    store = await original.copy(None)
    for key in original.packs():
        await spoil(store, key, "gone")
    top = tmp_path / "copy"
    top.mkdir()
    for number, path in enumerate(sorted(original.top.rglob("*"))):
        if path.is_file():
            (top / f"{number}").write_bytes(b"front " * (path.name == "large") + path.read_bytes())
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    marker = (await open_repositories(store, LIMITS)).marker
    outcome = await repaired(store, FolderDonor(os.fsencode(top), marker.chunker))
    # The version before had another `small/new`, and a chunk at the start of `large` is not found behind `front`.
    assert {file.split("/", 2)[2] for file in outcome.left.files} == {"large", "small/new"}
    outcome = await repaired(store, FolderDonor(os.fsencode(original.top), marker.chunker))
    assert {file.split("/", 2)[2] for file in outcome.left.files} == {"small/new"}
    with pytest.raises(UsageError):
        FolderDonor(os.fsencode(top / "0"), marker.chunker)


async def test_files_that_changed_since_they_were_looked_at_give_nothing(original: Original, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a" * 100)
    chunk = content_id(b"a" * 100)
    donor = FolderDonor(os.fsencode(tmp_path), (await open_repositories(await original.copy(None))).marker.chunker)
    await donor.look_for({chunk: 100})
    assert await donor.chunk(chunk, 100) == b"a" * 100
    for data in (b"a" * 99 + b"b", b"a"):
        (tmp_path / "file").write_bytes(data)
        assert await donor.chunk(chunk, 100) is None
    (tmp_path / "file").unlink()
    assert await donor.chunk(chunk, 100) is None


async def test_a_damaged_pack_that_is_too_large_for_one_write_moves(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one goes, and the next collection keeps what took its place."""
    monkeypatch.setattr(rebuild, "IN_PLACE_BYTES", 100 * KIB)
    monkeypatch.setattr(rebuild, "KEPT_BYTES", 0)
    store = await original.copy(None)
    large = original.packs()[-1]
    await spoil(store, large, "flip")
    async with original.cache(tmp_path / "cache") as cache:
        assert (await repaired(store, CacheDonor(cache, "the cache"))).left.is_whole
    assert large not in await keys_of(store)
    assert await readable(store, original.files) == original.files.keys()
    await collected(store)
    assert await readable(store, original.files) == original.files.keys()
    # And what took its place can be lost as well.
    async with original.cache(tmp_path / "again") as cache:
        for what in (MOVED, PACKS):
            for way in ("flip", "short", "gone"):
                key = max([(info.size, info.key) async for info in store.list(what)])[1]
                await spoil(store, key, way)
                assert (await repaired(store, CacheDonor(cache, "the cache"))).left.is_whole, (key, way)
                await collected(store)
                assert await readable(store, original.files) == original.files.keys()


async def collected(store: Store) -> None:
    """Whatever garbage there is goes."""
    await collect(await open_repositories(store, LIMITS), Policy(grace_s=0), Quiet())


async def test_what_a_moved_pack_lost_is_told_without_reading_it(original: Original, tmp_path: Path) -> None:
    """Its target is cut off, and only a part of what was there is to be had."""
    store = await original.copy(None)
    for key in original.packs():
        await spoil(store, key, "gone")
    async with original.cache(tmp_path / "first", lambda path: path in {*SMALL, b"large"}) as cache:
        await repaired(store, CacheDonor(cache, "the cache"))
    sizes = [(info.size, info.key) async for info in store.list(PACKS)]
    for _, key in sizes:
        await spoil(store, key, "short")
    async with original.cache(tmp_path / "second", lambda path: path == SMALL[0]) as cache:
        had = await to_be_had(store, original.files, cache)
        outcome = await repaired(store, CacheDonor(cache, "the cache"), data=False)
    assert await readable(store, original.files) == had
    concerned = {file.split("/", 2)[2] for file in outcome.left.files}
    assert concerned == {path.decode() for name in original.files.keys() - had for path in name[1:]}


async def test_contradictory_placements_mend_what_they_can(original: Original) -> None:
    """Of chunks that overlap in a pack that is gone, only one can have been there."""
    store = await original.copy(None)
    repositories = await open_repositories(store, LIMITS)
    first, second = b"a" * 100, b"b" * 100
    rows = [Row(0, 100, 100, content_id(first)), Row(50, 100, 100, content_id(second))]
    donor = DictDonor(chunks={content_id(each): each for each in (first, second)})
    lost = LostPack(bytes(16), rows, ())
    async with repositories.leases.held("test"):
        mended = await mend_pack(repositories, [donor], lost, lambda _: None)
    assert mended is not None
    assert (mended.chunks, mended.bytes) == (1, 100)
    assert await repositories.packs.read(bytes(16), 0, 100) == first


async def test_what_nobody_needs_is_nothing_to_mend(original: Original) -> None:
    store = await original.copy(None)
    repositories = await open_repositories(store, LIMITS)
    needed, dead = b"a" * 100, b"b" * 100
    contents = Contents(encode_row(content_id(needed), 100, 100) + encode_row(content_id(dead), 100, 100))
    await store.overwrite(moved_key(bytes(16)), encode_moved(b"t" * 16, contents, nowhere(contents)))
    lost = LostPack(bytes(16), [Row(0, 100, 100, content_id(needed))], ())
    async with repositories.leases.held("test"):
        donor = DictDonor(chunks={content_id(dead): dead})
        assert await mend_pack(repositories, [donor], lost, lambda _: None) is None


async def test_chunks_that_no_tree_names_are_carried_over(original: Original) -> None:
    """A publisher may be about to name them: also where the pack's contents are damaged, so that nothing tells."""
    store = await original.copy(None)
    key = original.packs()[0]
    [rows] = [needs.chunks for (_, path), needs in original.files.items() if path == b"small/new"][:1]
    pack, [chunk, *_] = rows[0].placement.pack, rows
    data = original.objects[pack_key(pack)]
    assert key
    contents = await (await open_repositories(store)).packs.contents(pack)
    stray = b"stray" * 100
    end = sum(each.stored for each in contents)
    table = [*contents, type(contents[0])(content_id(stray), len(stray), len(stray))]
    whole = data[:end] + stray + encode_contents(table)
    for spoiled in (flipped(whole, len(whole) - 1), flipped(whole, chunk.placement.offset)):
        await store.overwrite(pack_key(pack), spoiled)
        plain = data[chunk.placement.offset : chunk.placement.offset + chunk.placement.stored]
        outcome = await repaired(store, DictDonor(chunks={chunk.id: plain}))
        assert outcome.left.is_whole
        assert (await store.get_range(pack_key(pack), end, len(stray))).data == stray


async def test_a_network_that_spoils_what_is_read_spoils_no_pack(original: Original, tmp_path: Path) -> None:
    """What reads otherwise the second time is not written down for good, whichever read it was."""
    place = original.files[original.commits[0], SMALL[0]].chunks[0].placement
    key = pack_key(place.pack)
    async with original.cache(tmp_path / "cache", lambda path: path == SMALL[0]) as cache:
        for number in range(1000):
            inner = await original.copy(None)
            await inner.overwrite(key, flipped(original.objects[key], place.offset + 100))
            before = await readable(inner, original.files)
            store = FaultyStore(inner)
            fault = store.inject("get_range", key, FlipBit(0.99), times=1, after=number)
            await repaired(store, CacheDonor(cache, "the cache"))
            assert before <= await readable(inner, original.files), number
            if not fault.met:
                break
        assert number > 2
        assert await readable(inner, original.files) == original.files.keys()


@pytest.mark.parametrize("level", [3, 19])
async def test_another_compressor_fills_the_same_places(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """One of another version makes frames of other lengths, where placements name the old ones."""
    compressor = zstandard.ZstdCompressor(level=level)
    monkeypatch.setattr(rebuild, "compress_chunk", lambda plain: compressor.compress(bytes(plain)))
    store = await original.copy(None)
    for key in original.packs():
        await spoil(store, key, "gone")
    async with original.cache(tmp_path / "cache") as cache:
        assert (await repaired(store, CacheDonor(cache, "the cache"))).left.is_whole
    assert not await keys_of(store, MOVED)
    assert {info.key: info.size async for info in store.list(PACKS)} == {
        key: len(original.objects[key]) for key in original.packs()
    }
    assert await readable(store, original.files) == original.files.keys()


@settings(max_examples=25, deadline=None)
@given(
    damages=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.sampled_from(["gone", "short", "empty", "flip"]), st.floats(0, 1)),
        min_size=1,
        max_size=6,
    ),
    share=st.sets(st.integers(0, 40)),
    in_place_bytes=st.sampled_from([10 * KIB, rebuild.IN_PLACE_BYTES]),
)
def test_whatever_is_damaged_and_whatever_was_read(
    original: Original,
    tmp_path_factory: pytest.TempPathFactory,
    damages: list[tuple[int, str, float]],
    share: set[int],
    in_place_bytes: int,
) -> None:
    """What could be had reads right, what read right does so still, and what is left is told: no more, no less."""
    keys = sorted(key for key in original.objects if not key.startswith(REFS) and key != STORE_MARKER)
    paths = sorted({path for _, path in original.files})
    wanted = {path for number, path in enumerate(paths) if number in share}

    async def main() -> None:
        store = await original.copy(None)
        for key, (way, at) in {keys[which % len(keys)]: (way, at) for which, way, at in damages}.items():
            await spoil(store, key, way, at)
        before = await readable(store, original.files)
        async with original.cache(tmp_path_factory.mktemp("cache"), wanted.__contains__) as cache:
            had = await to_be_had(store, original.files, cache)
            outcome = await repaired(store, CacheDonor(cache, "the cache"))
        assert before <= had == await readable(store, original.files)
        assert await verified(store) == told(outcome.left)
        if had == original.files.keys():
            assert outcome.left.is_whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "IN_PLACE_BYTES", in_place_bytes)
        trio.run(main)
