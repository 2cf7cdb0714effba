"""What every store promises (`fsd.stores.base`), for each implementation in `places`."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import trio

from fsd.clock import now_us
from fsd.ids import Buffer
from fsd.stores.base import (
    ObjectExistsError,
    ObjectNotFoundError,
    Store,
    Version,
    VersionMismatchError,
    is_key,
)
from fsd.stores.retry import RetryingStore
from tests.contract.places import MakePlace, content, listed

ALPHABET = "ABab09._@-"
segments = st.builds(lambda first, rest: first + rest, st.sampled_from("Aa0b"), st.text(alphabet=ALPHABET, max_size=3))
keys = st.lists(segments, min_size=1, max_size=3).map("/".join)


# --- reading and writing one object


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "small", "1 MiB"])
async def test_what_was_put_is_read(store: Store, data: bytes) -> None:
    version = await store.put_if_absent("folder/key", data)
    fetched = await store.get("folder/key")
    assert fetched.data == data
    assert fetched.size == len(data)
    assert fetched.version == version


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
async def test_all_buffers_are_written(store: Store, wrap: Callable[[bytes], Buffer]) -> None:
    version = await store.put_if_absent("a/created", wrap(b"one"))
    await store.overwrite("a/overwritten", wrap(b"two"))
    await store.compare_and_swap("a/created", wrap(b"three"), version)
    async with store.upload("a/uploaded") as upload:
        await upload.write(wrap(b"fo"))
        await upload.write(wrap(b"ur"))
        await upload.finish()
    assert await content(store, "a/created") == b"three"
    assert await content(store, "a/overwritten") == b"two"
    assert await content(store, "a/uploaded") == b"four"


async def test_wide_memoryviews_are_counted_in_bytes(store: Store) -> None:
    wide = memoryview(bytes(range(16))).cast("I")
    await store.put_if_absent("put", wide)
    async with store.upload("uploaded") as upload:
        await upload.write(wide)
        await upload.finish()
    assert await content(store, "put") == await content(store, "uploaded") == bytes(range(16))


async def test_ranges(store: Store) -> None:
    data = bytes(range(100))
    version = await store.put_if_absent("key", data)
    for start, length in [(0, 0), (0, 1), (0, 100), (10, 20), (90, 10), (90, 11), (99, 1), (0, 1 << 45), (50, 1 << 45)]:
        fetched = await store.get_range("key", start, length)
        assert fetched.data == data[start : start + length], (start, length)
        assert fetched.size == 100
        assert fetched.version == version


async def test_a_range_past_the_end_is_empty(store: Store) -> None:
    await store.put_if_absent("key", b"123")
    await store.put_if_absent("empty", b"")
    for key, start in [("key", 3), ("key", 4), ("key", 1 << 45), ("empty", 0), ("empty", 1)]:
        fetched = await store.get_range(key, start, 10)
        assert fetched.data == b""
        assert fetched.size == (3 if key == "key" else 0)


async def test_tails(store: Store) -> None:
    version = await store.put_if_absent("key", b"0123456789")
    for length in (0, 1, 9, 10, 11, 1 << 45):
        fetched = await store.get_tail("key", length)
        assert fetched.data == (b"0123456789"[-length:] if length else b"")
        assert fetched.size == 10
        assert fetched.version == version


@pytest.mark.parametrize("key", ["missing", "missing/folder/key", "folder", "folder/key.other", "folder/key2"])
async def test_a_missing_object(store: Store, key: str) -> None:
    await store.put_if_absent("folder/key", b"x")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.get_tail(key, 1),
        lambda: store.stat(key),
    ]
    for call in calls:
        with pytest.raises(ObjectNotFoundError) as caught:
            await call()
        assert caught.value.key == key
        assert key in str(caught.value)


async def test_stat_agrees_with_the_listing(store: Store) -> None:
    version = await store.put_if_absent("a/b", b"123")
    info = await store.stat("a/b")
    assert (info.key, info.size, info.version) == ("a/b", 3, version)
    assert [info] == [each async for each in store.list("")]


async def test_the_time_of_a_write_is_about_now(store: Store) -> None:
    before_us = now_us()
    await store.put_if_absent("key", b"")
    modified_us = (await store.stat("key")).modified_us
    assert before_us - 1_000_000 <= modified_us <= now_us() + 1_000_000


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        ".tmp/a",
        "a/.b",
        "a b",
        "ä",
        "a\n",
        "-a",
        "a/" + "b" * 256,
    ],
)
async def test_a_malformed_key_is_refused(store: Store, key: str) -> None:
    assert not is_key(key)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.get_tail(key, 1),
        lambda: store.stat(key),
        lambda: store.put_if_absent(key, b""),
        lambda: store.overwrite(key, b""),
        lambda: store.compare_and_swap(key, b"", None),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="malformed key"):
            await call()
    with pytest.raises(ValueError, match="malformed key"):
        async with store.upload(key):
            pass


async def test_the_longest_segment(store: Store) -> None:
    key = "a/" + "b" * 255 + "/c"
    await store.put_if_absent(key, b"x")
    assert await listed(store) == [key]


async def test_impossible_ranges_are_refused(store: Store) -> None:
    await store.put_if_absent("key", b"123")
    for start, length in [(-1, 1), (0, -1)]:
        with pytest.raises(ValueError, match="impossible range"):
            await store.get_range("key", start, length)
    with pytest.raises(ValueError, match="impossible range"):
        await store.get_tail("key", -1)


# --- create-if-absent, compare-and-swap, delete


async def test_put_leaves_what_is_there(store: Store) -> None:
    version = await store.put_if_absent("key", b"first")
    with pytest.raises(ObjectExistsError) as caught:
        await store.put_if_absent("key", b"second")
    assert caught.value.key == "key"
    fetched = await store.get("key")
    assert (fetched.data, fetched.version) == (b"first", version)


async def test_every_write_has_a_version_of_its_own(store: Store) -> None:
    versions = [await store.put_if_absent("key", b"same")]
    for round_ in range(50):
        match round_ % 3:
            case 0:
                versions.append(await store.overwrite("key", b"same"))
            case 1:
                versions.append(await store.compare_and_swap("key", b"same", versions[-1]))
            case _:
                await store.delete("key", versions[-1])
                versions.append(await store.put_if_absent("key", b"same"))
        assert (await store.stat("key")).version == versions[-1]
        assert (await store.get_range("key", 0, 1)).version == versions[-1]
    assert len(set(versions)) == len(versions)


async def test_compare_and_swap(store: Store) -> None:
    first = await store.compare_and_swap("key", b"1", None)
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("key", b"x", None)
    second = await store.compare_and_swap("key", b"2", first)
    for stale in (first, Version("nonsense"), Version("")):
        with pytest.raises(VersionMismatchError) as caught:
            await store.compare_and_swap("key", b"x", stale)
        assert caught.value.key == "key"
    fetched = await store.get("key")
    assert (fetched.data, fetched.version) == (b"2", second)


async def test_compare_and_swap_of_what_is_gone(store: Store) -> None:
    version = await store.put_if_absent("key", b"1")
    await store.delete("key")
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("key", b"2", version)
    with pytest.raises(VersionMismatchError):
        await store.compare_and_swap("other/key", b"2", version)
    assert await listed(store) == []


async def test_overwrite_creates_and_replaces(store: Store) -> None:
    await store.overwrite("a/key", b"1")
    await store.overwrite("a/key", b"22")
    assert await content(store, "a/key") == b"22"
    assert (await store.stat("a/key")).size == 2


async def test_delete(store: Store) -> None:
    version = await store.put_if_absent("a/key", b"1")
    with pytest.raises(VersionMismatchError):
        await store.delete("a/key", Version("another"))
    assert await content(store, "a/key") == b"1"
    await store.delete("a/key", version)
    await store.delete("a/key", version)
    await store.delete("a/key")
    await store.delete("never/was/there")
    assert await listed(store) == []
    await store.put_if_absent("a/key", b"2")


# --- uploads


async def test_an_upload_is_invisible_until_finished(store: Store) -> None:
    async with store.upload("packs/one") as upload:
        for _ in range(5):
            await upload.write(b"x" * 700_000)
        with pytest.raises(ObjectNotFoundError):
            await store.stat("packs/one")
        assert await listed(store) == []
        version = await upload.finish()
    fetched = await store.get("packs/one")
    assert fetched.data == b"x" * 3_500_000
    assert fetched.version == version


async def test_an_empty_upload(store: Store) -> None:
    async with store.upload("packs/one") as upload:
        await upload.finish()
    assert await content(store, "packs/one") == b""


async def test_the_caller_may_reuse_its_buffer(store: Store) -> None:
    buffer = bytearray(1 << 20)
    async with store.upload("key") as upload:
        for value in range(4):
            buffer[:] = bytes([value]) * len(buffer)
            await upload.write(memoryview(buffer)[: 1 << 18 if value % 2 else 1 << 20])
        buffer[:] = b"?" * len(buffer)
        await upload.finish()
    expected = b"".join(bytes([value]) * (1 << 18 if value % 2 else 1 << 20) for value in range(4))
    assert await content(store, "key") == expected


async def test_an_upload_that_is_not_finished_is_gone(store: Store) -> None:
    async with store.upload("key") as upload:
        await upload.write(b"x" * 2_000_000)

    async def fail_in_the_middle() -> None:
        async with store.upload("key") as upload:
            await upload.write(b"x" * 2_000_000)
            raise RuntimeError("meant")

    with pytest.raises(RuntimeError, match="meant"):
        await fail_in_the_middle()
    assert await listed(store) == []
    await store.put_if_absent("key", b"1")


async def test_an_upload_leaves_what_came_first(store: Store) -> None:
    async with store.upload("key") as upload:
        await upload.write(b"late")
        await store.put_if_absent("key", b"early")
        with pytest.raises(ObjectExistsError):
            await upload.finish()
    assert await content(store, "key") == b"early"


# --- listing


async def test_listing_is_in_the_order_of_whole_keys(store: Store) -> None:
    expected = sorted(["a-b", "a.b", "a/b-c", "a/b.c/d", "a/b/c", "a/bb", "a0", "a@b", "ab/c", "b", "Z/z", "Zz"])
    for key in reversed(expected):
        await store.put_if_absent(key, key.encode())
    assert await listed(store) == expected
    for prefix in [
        "",
        "a",
        "a/",
        "a/b",
        "a/b.",
        "a/b/",
        "a/b/c",
        "b",
        "c",
        "a//",
        "/",
        ".",
        "..",
        "a/..",
        "a/b/c/",
        "ä",
    ]:
        assert await listed(store, prefix) == [key for key in expected if key.startswith(prefix)], prefix
        for after in [*expected, "a/", "a", "a/b", "a/b/", "z"]:
            assert await listed(store, prefix, after) == [
                key for key in expected if key.startswith(prefix) and key > after
            ], (prefix, after)


@hypothesis.given(
    actions=st.lists(st.tuples(st.sampled_from(["put", "overwrite", "upload", "delete"]), keys, st.binary(max_size=3))),
    prefix=st.one_of(keys, keys.map(lambda key: key[:2]), keys.map(lambda key: key + "/"), st.just("")),
    start_after=st.one_of(keys, st.just("")),
)
@hypothesis.settings(max_examples=40)
async def test_a_store_is_a_dictionary(
    make_place: MakePlace, actions: list[tuple[str, str, bytes]], prefix: str, start_after: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = make_place(Path(folder)).open()
        model: dict[str, bytes] = {}
        used: set[str] = set()
        for action, key, data in actions:
            if any(key.startswith(other + "/") or other.startswith(key + "/") for other in used):
                continue
            used.add(key)
            match action:
                case "put" | "upload" if key in model:
                    if isinstance(store, RetryingStore) and data == model[key]:
                        # It may take these for its own, whose answer got lost (fsd.stores.retry).
                        data += b"!"
                    with pytest.raises(ObjectExistsError):
                        await _write(store, action, key, data)
                case "delete":
                    await store.delete(key)
                    model.pop(key, None)
                case _:
                    await _write(store, action, key, data)
                    model[key] = data
        found = {info.key: info async for info in store.list("")}
        assert list(found) == sorted(model)
        assert await listed(store, prefix, start_after) == sorted(
            key for key in model if key.startswith(prefix) and key > start_after
        )
        for key, data in model.items():
            fetched = await store.get(key)
            assert (fetched.data, fetched.version) == (data, found[key].version)


async def _write(store: Store, action: str, key: str, data: bytes) -> None:
    match action:
        case "put":
            await store.put_if_absent(key, data)
        case "overwrite":
            await store.overwrite(key, data)
        case _:
            async with store.upload(key) as upload:
                await upload.write(data)
                await upload.finish()


async def test_a_long_listing_can_be_left_and_taken_up(store: Store) -> None:
    expected = sorted(f"k{number:04}" for number in range(1_500))
    async with trio.open_nursery() as nursery:
        for key in expected:
            nursery.start_soon(store.put_if_absent, key, b"")
    first = []
    async for info in store.list("k"):
        first.append(info.key)
        if len(first) == 700:
            break
    assert first + await listed(store, "k", first[-1]) == expected


async def test_a_listing_survives_deletions(store: Store) -> None:
    for number in range(300):
        await store.put_if_absent(f"a/{number:03}", b"")
    seen = []
    async for info in store.list(""):
        seen.append(info.key)
        await store.delete(info.key)
        await store.delete(f"a/{299:03}")
    assert seen == sorted(set(seen))
    assert set(seen) >= {f"a/{number:03}" for number in range(299)}
    assert await listed(store) == []


# --- the store itself


async def test_the_url_names_the_store(store: Store) -> None:
    assert ":" in store.url


async def test_closing_twice_is_fine(store: Store) -> None:
    await store.aclose()
    await store.aclose()
