"""Keeping `refs/index`, the list of refs for readers whose server cannot list.

Whoever has moved a ref calls `keep`, after the ref. It reads the index, lists the refs as they are then, and swaps the
index for what it saw. So an index that was swapped in tells at least of every ref that moved before its predecessor
was; whoever loses the swap looks whether the winner told of his ref too, and two lost races are the most there can be:
the second winner has listed after the first had won, and the loser's ref had moved by then.

Who dies between moving a ref and its index leaves a stale one. The next to move any ref mends it, since all refs are
listed each time; so does who tries his own move again. A reader who is given a ref's name reads the ref.

The index is a convenience of some readers: that it cannot be written fails nobody's move.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeVar

import trio

from fsd.errors import ConflictError, CorruptDataError, FsdError
from fsd.format.keys import REFS, REFS_INDEX, is_ref_name, is_repository_name, ref_key
from fsd.format.refs_index import IndexedRef, encode_refs_index, parse_refs_index
from fsd.ids import content_id
from fsd.limits import Limits
from fsd.stores.base import ObjectInfo, ObjectNotFoundError, Store, Version, VersionMismatchError
from fsd.tasks import gather

log = logging.getLogger(__name__)

T = TypeVar("T")

_KEY = REFS + REFS_INDEX


class IndexSeen(NamedTuple):
    """What the index told at one moment."""

    refs: dict[str, IndexedRef]
    """By `<repository>/<name>`."""
    version: Version | None
    """None if there is none."""


class RefsIndex:
    """See the module's docstring."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._has_failed = False

    async def look(self) -> IndexSeen | None:
        """The index as it is, for `keep`; None where it cannot be had. May run beside the move of a ref."""
        return await self._forgiving(self._read)

    async def keep(
        self,
        repository: str,
        name: str,
        version: Version | None,
        data: bytes | None = None,
        *,
        seen: IndexSeen | None = None,
    ) -> None:
        """Have the index tell that the ref has that version; None: that it is gone. Logs what hinders it, once.

        One request where the index does so already, none if it was `seen` to do so. `data` spares reading the ref.
        """
        path = ref_key(repository, name).removeprefix(REFS)
        await self._forgiving(partial(self._keep, path, version, data, seen))

    async def renew(self) -> bool:
        """Write the index anew, whatever it told. False, and logged, where something hinders that."""
        return await self._forgiving(self._renew) is not None

    async def _renew(self) -> Version:
        _, version = await self._read()
        return await self._store.compare_and_swap(_KEY, encode_refs_index(await self._listed({})), version)

    async def _keep(self, path: str, version: Version | None, data: bytes | None, seen: IndexSeen | None) -> None:
        for _ in range(self._limits.ref_attempts):
            known, index_version = seen or await self._read()
            seen = None
            entry = known.get(path)
            if (entry.version if entry else None) == version:
                return
            if version is not None and data is not None:
                known = {**known, path: _indexed(version, data)}
            try:
                await self._store.compare_and_swap(_KEY, encode_refs_index(await self._listed(known)), index_version)
            except VersionMismatchError:
                continue
            return
        raise ConflictError("others keep changing it", hint="try again")

    async def _read(self) -> IndexSeen:
        """An empty one where it is not there, or cannot be read."""
        try:
            fetched = await self._store.get(_KEY)
        except ObjectNotFoundError:
            return IndexSeen({}, None)
        try:
            return IndexSeen(parse_refs_index(fetched.data, _KEY), fetched.version)
        except CorruptDataError:
            return IndexSeen({}, fetched.version)

    async def _forgiving(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """What `step` gives; None where it fails or takes too long."""
        try:
            with trio.fail_after(self._limits.refs_index_wait_s):
                return await step()
        except (FsdError, ValueError, trio.TooSlowError) as error:
            if not self._has_failed:
                self._has_failed = True
                why = str(error) or "it took too long"
                log.warning("cannot keep %s in %s, which web servers need: %s", _KEY, self._store.url, why)
            return None

    async def _listed(self, known: dict[str, IndexedRef]) -> dict[str, IndexedRef]:
        """All refs as they are listed; those whose version is known are not read."""
        infos = [info async for info in self._store.list(REFS) if _is_ref(info.key)]

        async def look(info: ObjectInfo) -> IndexedRef | None:
            entry = known.get(info.key.removeprefix(REFS))
            if entry is not None and entry.version == info.version:
                return entry
            try:
                fetched = await self._store.get(info.key)
            except ObjectNotFoundError:
                return None
            return _indexed(fetched.version, fetched.data)

        entries = await gather(look, infos, tasks=self._limits.fetch_requests)
        return {info.key.removeprefix(REFS): entry for info, entry in zip(infos, entries, strict=True) if entry}


def _indexed(version: Version, data: bytes) -> IndexedRef:
    return IndexedRef(content_id(data), len(data), version)


def _is_ref(key: str) -> bool:
    repository, _, name = key.removeprefix(REFS).partition("/")
    return is_repository_name(repository) and is_ref_name(name)
