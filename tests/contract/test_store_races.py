"""What every store promises to many callers at once, and to those who change their mind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from fsd.stores.base import ObjectExistsError, Store, Version, VersionMismatchError
from tests.contract.places import Place, content, listed

# --- many at once


async def race(*calls: Callable[[], Awaitable[object]]) -> list[object]:
    """What each of them gave: a result or a ConflictError's class."""
    results: list[object] = [None] * len(calls)

    async def run(position: int) -> None:
        try:
            results[position] = await calls[position]()
        except (ObjectExistsError, VersionMismatchError) as error:
            results[position] = type(error)

    async with trio.open_nursery() as nursery:
        for position in range(len(calls)):
            nursery.start_soon(run, position)
    return results


async def test_exactly_one_swap_wins_each_round(place: Place) -> None:
    stores = [place.open() for _ in range(2)]
    version = await stores[0].put_if_absent("ref", b"start")
    for round_ in range(20):
        bodies = [f"{round_} {task}".encode() for task in range(8)]
        results = await race(
            *(partial(stores[task % 2].compare_and_swap, "ref", bodies[task], version) for task in range(8))
        )
        winners = [task for task in range(8) if results[task] is not VersionMismatchError]
        assert len(winners) == 1
        fetched = await stores[0].get("ref")
        assert fetched.data == bodies[winners[0]]
        assert fetched.version == results[winners[0]]
        version = fetched.version


async def test_exactly_one_creation_wins(place: Place) -> None:
    stores = [place.open() for _ in range(2)]

    async def upload(store: Store, key: str, data: bytes) -> Version:
        async with store.upload(key) as upload:
            await upload.write(data)
            return await upload.finish()

    for round_ in range(20):
        key = f"new/{round_}/key"
        results = await race(
            partial(stores[0].put_if_absent, key, b"0"),
            partial(stores[1].put_if_absent, key, b"1"),
            partial(upload, stores[0], key, b"2"),
            partial(upload, stores[1], key, b"3"),
            partial(stores[0].compare_and_swap, key, b"4", None),
            partial(stores[1].compare_and_swap, key, b"5", None),
        )
        assert results.count(ObjectExistsError) + results.count(VersionMismatchError) == 5
        winner = next(task for task in range(6) if isinstance(results[task], str))
        fetched = await stores[0].get(key)
        assert (fetched.data, fetched.version) == (str(winner).encode(), results[winner])


async def test_a_conditional_delete_and_a_swap_exclude_each_other(place: Place) -> None:
    stores = [place.open() for _ in range(2)]
    for round_ in range(20):
        key = f"ref{round_}"
        version = await stores[0].put_if_absent(key, b"old")
        deleted, swapped = await race(
            partial(stores[0].delete, key, version),
            partial(stores[1].compare_and_swap, key, b"new", version),
        )
        # A swap of what is gone fails; a removal of what is another now fails.
        assert (deleted is VersionMismatchError) != (swapped is VersionMismatchError)
        assert await listed(stores[0], key) == ([] if swapped is VersionMismatchError else [key])


async def test_readers_see_whole_objects_only(place: Place) -> None:
    writer, reader = place.open(), place.open()
    bodies = [bytes([value]) * (1 + value * 5_000) for value in range(30)]
    await writer.overwrite("ref", bodies[0])

    async def read() -> None:
        while not done.is_set():
            fetched = await reader.get("ref")
            assert fetched.data in bodies
            assert fetched.size == len(fetched.data)

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        for body in bodies:
            await writer.overwrite("ref", body)
        done.set()


# --- cancellation


async def test_a_cancelled_call_does_nothing_by_halves(store: Store) -> None:
    for attempt in range(30):
        key = f"a/{attempt}"
        with trio.move_on_after(attempt / 30 * 0.002):
            await store.put_if_absent(key, b"x" * 100_000)
    data = {await content(store, key) for key in await listed(store)}
    assert data <= {b"x" * 100_000}


async def test_calls_are_checkpoints(store: Store) -> None:
    await store.put_if_absent("key", b"x")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get("key"),
        lambda: store.get_range("key", 0, 1),
        lambda: store.get_tail("key", 1),
        lambda: store.stat("key"),
        lambda: store.put_if_absent("other", b""),
        lambda: store.overwrite("other", b""),
        lambda: store.compare_and_swap("other", b"", None),
        lambda: store.delete("key"),
        lambda: listed(store),
    ]
    for call in calls:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
    assert await content(store, "key") == b"x"


async def test_a_cancelled_upload_is_gone(store: Store) -> None:
    with trio.CancelScope() as scope:
        async with store.upload("key") as upload:
            await upload.write(b"x" * 3_000_000)
            scope.cancel()
            await upload.write(b"x" * 3_000_000)
    assert scope.cancelled_caught
    assert await listed(store) == []
    await store.put_if_absent("key", b"1")
