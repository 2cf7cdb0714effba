"""Repacking: what is still needed of packs that are mostly dead goes into new ones, and a note says where.

    the new pack     chunks as they are stored, each checked against its id
    moved/<pack>     for each old pack, where its chunks went (`fsd.format.moved`)

Nothing that names a place in an old pack is touched: no page, and so no commit. The old pack is condemned once the note
is there. Killed in between, there is a pack that nobody names.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Container, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import trio

from fsd.errors import CorruptDataError
from fsd.format.keys import moved_key, pack_key
from fsd.format.moved import encode_moved, parse_moved
from fsd.format.pack import Contents, decode_chunk
from fsd.ids import new_pack_id
from fsd.maintenance.mark import PackUse, Reachable
from fsd.maintenance.packing import PackWriting, nowhere
from fsd.repo.repository import Repositories

LEAST_DEAD_BYTES = 1024 * 1024
"""Less than this in a pack is not worth the requests."""


@dataclass
class Repacked:
    """What was done. Sizes in bytes."""

    packs: int = 0
    """That are no longer needed."""
    copied_bytes: int = 0
    dead_bytes: int = 0
    """That go with them."""


def mostly_dead(reachable: Reachable, sizes: Mapping[bytes, int], live_share: float) -> list[tuple[bytes, list[bytes]]]:
    """Packs of which less than `live_share` is needed: each with the packs whose chunks lie in it, as trees name them.

    `sizes`: of the packs that are there, in bytes.
    """
    here: dict[bytes, list[bytes]] = {}
    live: dict[bytes, int] = {}
    for pack, use in reachable.packs.items():
        home = reachable.home(pack)
        here.setdefault(home, []).append(pack)
        live[home] = live.get(home, 0) + use.live_bytes()
    found = []
    for home, packs in here.items():
        size = sizes.get(home)
        if size is not None and live[home] < live_share * size and size - live[home] >= LEAST_DEAD_BYTES:
            found.append((home, packs))
    return found


def homes(reachable: Reachable, wanted: Container[bytes]) -> list[tuple[bytes, list[bytes]]]:
    """Of these packs those that trees need: each with the packs whose chunks lie in it, as trees name them."""
    here: dict[bytes, list[bytes]] = {}
    for pack in reachable.packs:
        here.setdefault(reachable.home(pack), []).append(pack)
    return [(home, packs) for home, packs in here.items() if home in wanted]


async def repack(
    repositories: Repositories,
    reachable: Reachable,
    chosen: Iterable[tuple[bytes, list[bytes]]],
    sizes: Mapping[bytes, int],
    *,
    dry_run: bool = False,
) -> Repacked:
    """Repack what was chosen (`mostly_dead`, `homes`), and note it in `reachable`. Raises what a store raises.

    The caller holds a lease: the new packs are named by nothing for a while. A pack with a damaged chunk is left.
    """
    done = Repacked()
    group: list[bytes] = []
    group_bytes = 0
    for home, packs in chosen:
        live = sum(reachable.packs[pack].live_bytes() for pack in packs)
        done.packs += 1
        done.copied_bytes += live
        done.dead_bytes += sizes[home] - live
        group += packs
        group_bytes += live
        if group_bytes >= repositories.limits.pack_bytes:
            await _move(repositories, reachable, group, dry_run=dry_run)
            group, group_bytes = [], 0
    await _move(repositories, reachable, group, dry_run=dry_run)
    return done


async def _move(repositories: Repositories, reachable: Reachable, packs: Iterable[bytes], *, dry_run: bool) -> None:
    """What is needed of `packs` into one new pack, and the notes."""
    if dry_run or not packs:
        return
    target = new_pack_id()
    moved: list[tuple[bytes, Contents, array[int]]] = []
    async with repositories.store.upload(pack_key(target)) as upload:
        writing = PackWriting(upload)
        for pack in packs:
            try:
                contents = await repositories.packs.contents(pack)
                offsets = await _take(repositories, writing, pack, contents, reachable.packs[pack])
            except CorruptDataError:
                continue
            moved.append((pack, contents, offsets))
        await writing.end()
        await upload.finish()
    for pack, contents, offsets in moved:
        data = encode_moved(target, contents, offsets)
        await repositories.store.overwrite(moved_key(pack), data)
        reachable.note_moved(pack, parse_moved(data, "a note"))


async def _take(
    repositories: Repositories, writing: PackWriting, pack: bytes, contents: Contents, use: PackUse
) -> array[int]:
    """Write the chunks that are needed of a pack; where each of its chunks is now. Raises CorruptDataError."""
    needed = use.chunks()
    offsets = nowhere(contents)
    places: list[tuple[int, int]] = []
    at = 0
    for number, chunk in enumerate(contents):
        if at in needed:
            places.append((number, at))
        at += chunk.stored
    if len(places) != len(needed):
        raise CorruptDataError(f"trees look for chunks in pack {pack.hex()} where none begins")
    async with aclosing(_chunks(repositories, pack, contents, places)) as chunks:
        async for number, stored in chunks:
            chunk = contents[number]
            await trio.to_thread.run_sync(partial(decode_chunk, chunk.id, stored, chunk.length))
            offsets[number] = await writing.add(chunk.id, stored, chunk.length)
    return offsets


async def _chunks(
    repositories: Repositories, pack: bytes, contents: Contents, places: list[tuple[int, int]]
) -> AsyncGenerator[tuple[int, bytes]]:
    """The stored form of chunks given by number and offset, in ranges as long as readers ask for."""
    limits = repositories.limits
    run: list[tuple[int, int]] = []
    for position, (number, offset) in enumerate(places):
        run.append((number, offset))
        end = offset + contents[number].stored
        following = places[position + 1][1] if position + 1 < len(places) else None
        if following is not None and following <= end + limits.range_gap_bytes and end - run[0][1] < limits.range_bytes:
            continue
        start = run[0][1]
        body = await repositories.packs.read(pack, start, end - start)
        for each, at in run:
            yield each, body[at - start : at - start + contents[each].stored]
        run = []
