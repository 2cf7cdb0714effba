"""What the cache holds of paths in the mount: told, fetched, pinned, let go; the order of reads recorded and replayed.

Paths are bytes from the mountpoint, with no symlink in them. Results and reports are JSON objects, as the control API
sends them. Every call can be cancelled at any point: what was fetched stays, a pin holds what it held until then.

Owns what a pin says of itself (`about`): path, tree and folder in it, files, bytes, whether it is complete.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import trio

from fsd.cache.cache import Cache
from fsd.cache.index import IndexFailedError
from fsd.cache.pins import Pin
from fsd.clock import Clock
from fsd.config import format_size
from fsd.errors import FsdError
from fsd.format.keys import ObjectKind
from fsd.ids import Buffer
from fsd.limits import MIB, Limits
from fsd.repo.repository import Repositories
from fsd.tasks import one_error
from fsd.vfs.coverage import Coverage, survey
from fsd.vfs.kept import KeptObjects
from fsd.vfs.ordering import Recorder, Replay
from fsd.vfs.prefetch import NoRoomError, Prefetcher, Progress
from fsd.vfs.reads import FileRange
from fsd.vfs.targets import Place, Stretches, Target, find_place, open_target
from fsd.vfs.trees import Trees
from fsd.vfs.versions import Versions

Report = Callable[[dict[str, Any]], None]
"""Is told, often, how far something is."""

Observer = Callable[[FileRange], None]

SAVE_INTERVAL_S = 10.0
"""So much of what a pin holds is unprotected after a kill, until it is fetched again."""

PARTIAL_SHARE = 0.95
"""Of the room, for as much of a set as fits: blocks and pages take some."""

REPLAY_SHARE = 4
"""A replay is ahead of its reader by one part in this many of the room. Between a file's arrival and its being read,
twice the distance passes through the cache; the rest is for what shares extents."""

_EVICTED_BYTES = 64 * MIB
"""Of files, let go between two reports."""


class TooLargeError(FsdError):
    """More than there is room for in the cache."""


class Holdings:
    """See the module. Raises NotFoundError and UsageError for a path that names no version or nothing in it, and what
    loading objects and fetching chunks raises."""

    def __init__(
        self,
        repositories: Repositories,
        versions: Versions,
        trees: Trees,
        cache: Cache,
        limits: Limits,
        observers: list[Observer],
        clock: Clock,
    ) -> None:
        """Whoever is in `observers` is told of each read."""
        self._objects = repositories.objects
        self._versions = versions
        self._trees = trees
        self._cache = cache
        self._stock = cache.stock
        self._limits = limits
        self._observers = observers
        self._clock = clock
        self._pinning: set[str] = set()
        """Pins that are being made."""

    def pins(self) -> list[dict[str, Any]]:
        """What is pinned: what each pin says of itself."""
        return sorted((dict(pin.about) for pin in self._stock.pins), key=lambda about: str(about.get("path")))

    async def stored_object(self, kind: ObjectKind, object_id: bytes) -> bytes | None:
        """An object as the store held it; None if the cache does not have it. Fetches nothing."""
        return await self._cache.stored_object(kind, object_id)

    async def chunk(self, chunk: bytes, length: int) -> Buffer | None:
        """A chunk of `length` bytes; None if the cache does not have it. Fetches nothing."""
        return await self._cache.read_chunk(chunk, length, 0, length)

    async def coverage(self, path: bytes, report: Report, *, verify: bool = False) -> dict[str, Any]:
        """How much of what is at `path` is in the cache. With `verify`, all of it is read and checked."""
        target = await self._open(path)
        seen = await survey(target, self._stock, lambda so_far: report(_looked(so_far)), verify=verify)
        version = target.place.version
        return {
            "path": target.place.name,
            "repository": version.repository,
            "revision": version.label,
            "commit": version.commit.hex(),
            "files": seen.files,
            "complete_files": seen.complete_files,
            "bytes": seen.size_bytes,
            "cached_bytes": seen.cached_bytes,
            "missing_bytes": seen.missing_bytes,
            "pinned_bytes": seen.pinned_bytes,
            "complete": seen.is_complete,
            "verified": seen.is_verified,
            "pinned": seen.is_complete and seen.pinned_bytes == seen.size_bytes,
        }

    # --- fetching

    async def prefetch(
        self, path: bytes, report: Report, *, pin: bool = False, partial: bool = False
    ) -> dict[str, Any]:
        """Fetch everything at `path`. With `pin` it is not evicted any more; with `partial`, what is larger than the
        room is fetched as far as it fits.

        Raises TooLargeError before anything is fetched.
        """
        started_s = time.monotonic()
        target = await self._open(path)
        own = self._stock.pins.get(target.key)
        seen = await survey(target, self._stock, lambda so_far: report(_looked(so_far)), besides=own)
        room = self._stock.room_bytes(own)
        is_partial = seen.size_bytes - seen.pinned_bytes > room
        if is_partial and not partial:
            raise self._too_large(target.place, seen, room)
        prefetcher = Prefetcher(
            self._cache, target.objects, self._limits, report=lambda progress: report(_fetched(progress, seen))
        )
        async with self._pinned(target, seen, is_wanted=pin) as pinned:
            prefetcher.pin = pinned
            if pinned is not None:
                target = await open_target(target.place, KeptObjects(self._objects, self._stock, pinned), self._limits)
            limit = int(PARTIAL_SHARE * room) + seen.pinned_bytes if is_partial else None
            # Of a part, it was a guess how much fits.
            with _telling_how_far(prefetcher.progress, seen), suppress(*[NoRoomError] if is_partial else []):
                await prefetcher.run(Stretches(target, prefetcher.stretch_bytes, limit))
            if pinned is not None:
                pinned.about["complete"] = not is_partial
        return {
            "path": target.place.name,
            **_done(prefetcher.progress),
            "left_bytes": seen.size_bytes - prefetcher.progress.size_bytes,
            "pinned": pinned is not None,
            "seconds": round(time.monotonic() - started_s, 3),
        }

    def _too_large(self, place: Place, seen: Coverage, room: int) -> TooLargeError:
        wanted = seen.size_bytes - seen.pinned_bytes
        pinned = self._stock.pinned_bytes()
        why = f", where {format_size(pinned)} are pinned" if pinned else ""
        limit = format_size(self._cache.statistics().limit_bytes)
        return TooLargeError(
            f"{place.name} takes {format_size(wanted)}, and there is room for {format_size(room)} in a cache of {limit}"
            f"{why}",
            hint="mount with a larger --cache-size, evict what is pinned, or fetch what fits with --partial",
        )

    @asynccontextmanager
    async def _pinned(self, target: Target, seen: Coverage, *, is_wanted: bool) -> AsyncIterator[Pin | None]:
        """A pin on the target, saved now and then and at the end, however it comes."""
        if not is_wanted:
            yield None
            return
        pin = self._stock.pins.begin(target.key, {})
        if pin.key in self._pinning:
            raise FsdError(f"{target.place.name} is being pinned already", hint="wait until that is done")
        self._pinning.add(pin.key)
        pin.about |= {
            "path": target.place.name,
            "commit": target.place.version.commit.hex(),
            "tree": target.tree.id.hex(),
            "below": target.place.path.decode(errors="surrogateescape"),
            "files": seen.files,
            "bytes": seen.size_bytes,
            "since_us": self._clock(),
            "complete": False,
        }
        try:
            with one_error():
                await self._save(pin)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._save_now_and_then, pin)
                    try:
                        yield pin
                    finally:
                        nursery.cancel_scope.cancel()
                        with trio.CancelScope(shield=True):
                            await self._save(pin)
        finally:
            self._pinning.discard(pin.key)

    async def _save_now_and_then(self, pin: Pin) -> None:
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            await self._save(pin)

    async def _save(self, pin: Pin) -> None:
        try:
            await self._stock.save(pin)
        except OSError as error:
            raise FsdError(f"cannot write down what is pinned: {error.strerror}") from error

    # --- letting go

    async def evict(self, path: bytes, report: Report, *, unpin: bool = False) -> dict[str, Any]:
        """Let go of everything at `path` but what is pinned. With `unpin`, pins on it or on something in it end."""
        place = await find_place(self._versions, path)
        target = await open_target(place, KeptObjects(self._objects, None), self._limits)
        ended = [pin for pin in self._stock.pins if unpin and _is_on(pin, target)]
        for pin in ended:
            if pin.key in self._pinning:
                raise FsdError(f"{pin.about['path']} is being pinned just now", hint="wait until that is done")
            try:
                await self._stock.pins.remove(pin)
            except OSError as error:
                raise FsdError(f"cannot write down what is no longer pinned: {error.strerror}") from error
        files = freed = pinned = 0
        async for stretch in Stretches(target, _EVICTED_BYTES):
            try:
                gone = await self._stock.evict(stretch.chunks)
            except (OSError, IndexFailedError) as error:
                raise FsdError(f"cannot evict {place.name}: {error}") from error
            files += len(stretch.ends)
            freed += gone.freed_bytes
            pinned += gone.pinned_bytes
            report({"phase": "evict", "files": files, "bytes": freed})
        return {
            "path": place.name,
            "files": files,
            "freed_bytes": freed,
            "pinned_bytes": pinned,
            "ended_pins": [pin.about["path"] for pin in ended],
        }

    # --- the order of reads

    async def record(self, path: bytes, begin: Report, emit: Callable[[bytes], Awaitable[None]]) -> None:
        """Give the paths, from the version's top, of files at `path` as they are first read, until cancelled.

        `begin` is told of what once reads are seen.
        """
        target = await self._open(path)
        recorder = Recorder(target, self._seen, self._objects.page)
        with self._observing(recorder.note):
            begin(_order_header(target.place))
            await recorder.run(emit)

    async def replay(self, path: bytes, order: AsyncIterator[bytes], report: Report) -> dict[str, Any]:
        """Fetch the files at the paths of `order`, which are from the version's top, in this order.

        Where `path` is larger than the cache, no more is fetched than so far ahead of who reads them.
        """
        started_s = time.monotonic()
        target = await self._open(path)
        seen = await survey(target, self._stock, lambda so_far: report(_looked(so_far)))
        room = self._stock.room_bytes()
        fits = seen.size_bytes - seen.pinned_bytes <= room
        replay = Replay(target, order, None if fits else max(1, room // REPLAY_SHARE))
        prefetcher = Prefetcher(
            self._cache,
            target.objects,
            self._limits,
            report=lambda progress: report(_fetched(progress, seen) | {"waiting": replay.is_waiting}),
        )
        with self._observing(replay.note), _telling_how_far(prefetcher.progress, seen):
            await prefetcher.run(replay.in_stretches(prefetcher.stretch_bytes))
        return {
            "path": target.place.name,
            **_done(prefetcher.progress),
            "unknown_paths": replay.unknown_paths,
            "seconds": round(time.monotonic() - started_s, 3),
        }

    @contextmanager
    def _observing(self, observer: Observer) -> Iterator[None]:
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def _seen(self, ino: int) -> tuple[bytes, int] | None:
        seen = self._trees.table.seen(ino)
        return None if seen is None else (self._trees.table.pages[seen.page], seen.position)

    async def _open(self, path: bytes) -> Target:
        place = await find_place(self._versions, path)
        return await open_target(place, KeptObjects(self._objects, self._stock, None), self._limits)


def _is_on(pin: Pin, target: Target) -> bool:
    """Whether a pin is on the target or on something in it."""
    below, path = str(pin.about.get("below", "")), target.place.path.decode(errors="surrogateescape")
    is_inside = not path or below == path or below.startswith(path + "/")
    return pin.about.get("tree") == target.tree.id.hex() and is_inside


def _order_header(place: Place) -> dict[str, Any]:
    version = place.version
    return {
        "repository": version.repository,
        "revision": version.label,
        "commit": version.commit.hex(),
        "path": place.path.decode(errors="surrogateescape"),
    }


def _looked(seen: Coverage) -> dict[str, Any]:
    return {"phase": "look", "files": seen.files, "bytes": seen.size_bytes}


def _done(progress: Progress) -> dict[str, Any]:
    return {"files": progress.files, "bytes": progress.size_bytes, "fetched_bytes": progress.fetched_bytes}


def _fetched(progress: Progress, seen: Coverage) -> dict[str, Any]:
    there = _done(progress) | {"bytes": progress.size_bytes + progress.arriving_bytes}
    return {"phase": "fetch", **there, "total_files": seen.files, "total_bytes": seen.size_bytes}


@contextmanager
def _telling_how_far(progress: Progress, seen: Coverage) -> Iterator[None]:
    """An error says how much was there when it came."""
    try:
        yield
    except FsdError as error:
        done = f"{format_size(progress.size_bytes)} of {format_size(seen.size_bytes)}"
        error.message = f"{error.message}; {done} are there ({progress.files:,} of {seen.files:,} files)"
        raise
