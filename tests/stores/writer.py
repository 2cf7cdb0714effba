"""A program that tests start and kill: writes into a folder as fast as it can, and prints a line before each write.

python -m tests.stores.writer FOLDER NAME uploads     objects whose bytes follow from their key, until it is killed
python -m tests.stores.writer FOLDER NAME counts N    adds 1 to the number in `counter`, N times
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import trio

from fsd.limits import DEFAULT_LIMITS
from fsd.stores.base import Store, VersionMismatchError
from fsd.stores.local import LocalStore

COUNTER = "counter"


def body(key: str) -> bytes:
    """What the object at `key` holds; of a `ref`, one of many such, all of equal bytes."""
    size = 3_000_000 if key.startswith("packs/") else 200_000
    pattern = key.encode() + b"\n"
    return (pattern * (size // len(pattern) + 1))[:size]


async def _write_for_ever(store: Store, name: str) -> None:
    async def put() -> None:
        for number in count():
            key = f"pages/{number % 7:02x}/{name}-{number}"
            print(key, flush=True)
            await store.put_if_absent(key, body(key))

    async def upload() -> None:
        for number in count():
            key = f"packs/{number % 7:02x}/{name}-{number}"
            print(key, flush=True)
            data = body(key)
            async with store.upload(key) as upload:
                for start in range(0, len(data), 500_000):
                    await upload.write(data[start : start + 500_000])
                await upload.finish()

    async def overwrite() -> None:
        for number in count():
            print("ref", flush=True)
            await store.overwrite("ref", bytes([number % 256]) * 200_000)

    async with trio.open_nursery() as nursery:
        for task in (put, upload, overwrite):
            nursery.start_soon(task)


async def _count(store: Store, times: int) -> None:
    done = 0
    while done < times:
        fetched = await store.get(COUNTER)
        try:
            await store.compare_and_swap(COUNTER, str(int(fetched.data) + 1).encode(), fetched.version)
            done += 1
        except VersionMismatchError:
            continue


async def _main() -> None:
    folder, name, task, *rest = sys.argv[1:]
    store = LocalStore(Path(folder), DEFAULT_LIMITS)
    if task == "counts":
        await _count(store, int(rest[0]))
    else:
        await _write_for_ever(store, name)


if __name__ == "__main__":
    trio.run(_main)
