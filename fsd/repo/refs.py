"""Refs: branches, tags and subsets, the only objects that change, moved by compare-and-swap alone.

This module knows how a ref may move and keeps its history. It does not check that what a ref names exists: whoever
moves a ref has made everything durable that it reaches, *before* (see `fsd.repo.builder`, `fsd.publish`).

`refs/index`, by which readers of web servers list the refs, is kept after each move (`fsd.repo.refs_index`).

A ref that grew too long is written in this order: first the log segment with its older half, then the ref that names
the segment. Losing the race in between leaves a segment that nobody names, which is garbage and no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fsd.clock import Clock
from fsd.errors import ConflictError, UsageError
from fsd.format.keys import (
    REFS,
    ObjectKind,
    check_ref_name,
    check_repository_name,
    is_ref_name,
    is_repository_name,
    ref_key,
    ref_prefix,
)
from fsd.format.ref import MAX_MOVES, MAX_SUMMARY_CHARACTERS, Move, Ref, RefKind, encode_ref, encode_segment, parse_ref
from fsd.limits import Limits
from fsd.repo.leases import Leases
from fsd.repo.objects import Objects, ObjectWriter
from fsd.repo.refs_index import IndexSeen, RefsIndex
from fsd.stores.base import Fetched, ObjectNotFoundError, Store, Version, VersionMismatchError
from fsd.tasks import gather

SHOWN_DIGITS = 12
"""Of a commit's id, in messages."""

_AFTER_ALL_NAMES = "\x7f"
"""Sorts after every character that a key can have."""

_SKIP_AFTER = 64
"""Refs of one repository seen in a listing of all before it is worth a new request to skip the rest."""

_PARSED_REFS = 4096
"""Refs kept parsed, so that listing a repository again reads only those that changed."""


ChangeMove = Callable[[Move], Move | None]
"""What becomes of a move; None: nothing."""


@dataclass(frozen=True, slots=True)
class StoredRef:
    """A ref as it stood at one version."""

    ref: Ref
    version: Version


class Refs:
    """The refs of a store. Every answer comes from the store as it is now: how old it may get is the caller's choice.

    Errors: what a store raises; CorruptDataError for a ref that does not match its checksum.
    """

    def __init__(
        self,
        store: Store,
        objects: Objects,
        writer: ObjectWriter,
        clock: Clock,
        limits: Limits,
        check_writable: Callable[[], None],
        leases: Leases | None = None,
    ) -> None:
        """`check_writable` is called before each change: it raises UnsupportedFormatError if we must not.

        A lease that is held is taken before a ref is moved, and must not have run out by then.
        """
        self._leases = leases
        self._store = store
        self._objects = objects
        self._writer = writer
        self._clock = clock
        self._limits = limits
        self._check_writable = check_writable
        self._parsed: OrderedDict[str, StoredRef] = OrderedDict()
        self._index = RefsIndex(store, limits)

    # --- reading

    async def repositories(self) -> list[str]:
        """See `list_repositories`."""
        return await list_repositories(self._store)

    async def list(self, repository: str) -> dict[str, Version]:
        """The names of a repository's refs with their versions, sorted; empty if there is no such repository."""
        if not is_repository_name(repository):
            return {}
        prefix = ref_prefix(repository)
        names = [(info.key.removeprefix(prefix), info.version) async for info in self._store.list(prefix)]
        return {name: version for name, version in names if is_ref_name(name)}

    async def read(self, repository: str, name: str) -> StoredRef | None:
        """A ref, or None. One request; none at all for a name that no ref can have."""
        if not (is_repository_name(repository) and is_ref_name(name)):
            return None
        key = ref_key(repository, name)
        try:
            fetched = await self._store.get(key)
        except ObjectNotFoundError:
            self._parsed.pop(key, None)
            return None
        return self._parse(key, fetched)

    async def read_all(self, repository: str) -> dict[str, StoredRef]:
        """All refs of a repository by name, sorted. Those whose version was seen before are not read again."""
        versions = await self.list(repository)

        async def read(name: str) -> StoredRef | None:
            kept = self._parsed.get(ref_key(repository, name))
            return kept if kept and kept.version == versions[name] else await self.read(repository, name)

        refs = await gather(read, versions, tasks=self._limits.fetch_requests)
        # A ref that was deleted meanwhile is no longer there.
        return {name: stored for name, stored in zip(versions, refs, strict=True) if stored}

    def _parse(self, key: str, fetched: Fetched) -> StoredRef:
        kept = self._parsed.get(key)
        if kept is None or kept.version != fetched.version:
            kept = StoredRef(parse_ref(fetched.data, f"{key} in {self._store.url}"), fetched.version)
        self._keep(key, kept)
        return kept

    def _keep(self, key: str, stored: StoredRef) -> None:
        self._parsed[key] = stored
        self._parsed.move_to_end(key)
        if len(self._parsed) > _PARSED_REFS:
            self._parsed.popitem(last=False)

    def history(self, ref: Ref) -> History:
        """The moves of a ref, newest first; its segments are loaded as they are reached."""
        return History(ref, self._objects)

    async def find_subset(self, ref: Ref, source: bytes) -> bytes | None:
        """The subset that a subset ref enters for commit `source`, wherever in its history; None if there is none."""
        async for move in self.history(ref):
            if move.source == source:
                return move.commit
        return None

    async def find_move(self, ref: Ref, time_us: int) -> Move | None:
        """The last move of a ref that was not made after that time; None if it began later. One request at most.

        Clocks differ: of moves whose times do not ascend, the last one counts that is not too late.
        """
        move = _last_until(ref.moves, time_us)
        if move is not None:
            return move
        info = next((info for info in reversed(ref.segments) if min(info.first_us, info.last_us) <= time_us), None)
        return None if info is None else _last_until(await self._objects.segment(info.id), time_us)

    # --- moving

    async def move_branch(
        self, repository: str, name: str, commit: bytes, *, expected: bytes | None, summary: str = ""
    ) -> None:
        """Make a branch name `commit`. `expected` is the commit it names now, None if the branch is to be new.

        Idempotent: a branch that names `commit` already is left as it is. Raises ConflictError if it names another
        commit than expected, or if the name is a tag's or subset's; UsageError for an illegal name.
        """

        def change(ref: Ref | None) -> Ref | None:
            if ref is not None and ref.target == commit:
                return None
            if (ref.target if ref else None) != expected:
                raise _branch_moved(repository, name, ref, expected)
            return self._moved(RefKind.BRANCH, ref, commit, summary)

        # Whoever moves a branch has read it: if it is still as it was then, it need not be read again.
        # (Where nothing is to move it must be: that is the store's to say.)
        seen = self._parsed.get(ref_key(repository, name)) if expected not in (None, commit) else None
        if seen is not None and (seen.ref.kind is not RefKind.BRANCH or seen.ref.target != expected):
            seen = None
        await self._change(repository, name, RefKind.BRANCH, change, seen)

    async def set_tag(
        self, repository: str, name: str, commit: bytes, *, summary: str = "", force: bool = False
    ) -> None:
        """Make a tag. Idempotent. Raises ConflictError if it names another commit, unless `force`: then it is moved."""

        def change(ref: Ref | None) -> Ref | None:
            if ref is not None and ref.target == commit:
                return None
            if ref is not None and not force:
                raise ConflictError(
                    f"tag {name!r} of {repository!r} already names commit {short(ref.target)}",
                    hint="choose another name, or replace the tag with --force",
                )
            return self._moved(RefKind.TAG, ref, commit, summary)

        await self._change(repository, name, RefKind.TAG, change)

    async def set_subset(
        self,
        repository: str,
        name: str,
        source: bytes,
        subset: bytes,
        *,
        summary: str = "",
        follow: Mapping[str, Mapping[str, Any]] | None = None,
        force: bool = False,
    ) -> None:
        """Enter `subset` as what the subset `name` is for commit `source`; `follow` adds rules by branch.

        Idempotent. Changes for other commits commute with this one, so a lost race is tried again. Raises
        ConflictError if another subset is entered for that commit, unless `force`.
        """
        for _ in range(self._limits.ref_attempts):
            stored = await self._read_for_change(repository, name, RefKind.SUBSET)
            ref = stored.ref if stored else None
            entered = await self.find_subset(ref, source) if ref else None
            if entered is not None and entered != subset and not force:
                raise ConflictError(
                    f"subset {name!r} of {repository!r} already is something else for commit {short(source)}",
                    hint="choose another name, or replace it with --force",
                )
            changed = ref
            if ref is None or entered != subset:
                changed = self._moved(RefKind.SUBSET, ref, subset, summary, source)
            assert changed is not None
            changed = replace(changed, follow={**changed.follow, **(follow or {})})
            if stored is not None and changed == ref:
                await self._index.keep(repository, name, stored.version)
                return
            if await self._swap(repository, name, changed, stored):
                return
        raise _lost_too_often(repository, name)

    async def delete(self, repository: str, name: str, expected: Version) -> None:
        """Remove a ref at that version. Raises ConflictError if it changed meanwhile."""
        self._check_writable()
        check_repository_name(repository)
        check_ref_name(name)
        if self._leases is not None:
            await self._leases.take()
        try:
            await self._store.delete(ref_key(repository, name), expected)
        except VersionMismatchError as error:
            raise ConflictError(
                f"{name!r} of {repository!r} was changed by somebody else", hint="look at it again before deleting it"
            ) from error
        await self._index.keep(repository, name, None)

    async def rewrite(self, repository: str, name: str, stored: StoredRef, change: ChangeMove) -> bool:
        """Write a ref's whole history anew, move by move; False if somebody else moved it since it was `stored`.

        For erasure alone: everything else adds moves. `change` makes another move of each, or None, which drops it. A
        ref of which nothing is left is deleted. The old log segments stay, until gc finds that nothing names them.
        """
        self._check_writable()
        changed = [change(move) async for move in self.history(stored.ref)]
        moves = [move for move in reversed(changed) if move is not None]
        if not moves:
            await self.delete(repository, name, stored.version)
            return True
        ref = replace(stored.ref, moves=(moves[-1],), segments=())
        keep = len(moves) % (MAX_MOVES // 2) or MAX_MOVES // 2
        for start in range(0, len(moves) - keep, MAX_MOVES // 2):
            older = tuple(moves[start : start + MAX_MOVES // 2])
            segment = await self._writer.write(ObjectKind.SEGMENT, encode_segment(older))
            ref = replace(ref, moves=(*older, moves[-1])).with_segment(segment, older)
        return await self._swap(repository, name, replace(ref, moves=tuple(moves[-keep:])), stored)

    async def renew_index(self) -> bool:
        """Write the list of refs for web servers anew, where it is damaged. False, and logged, if that fails."""
        self._check_writable()
        return await self._index.renew()

    async def _change(
        self,
        repository: str,
        name: str,
        kind: RefKind,
        change: Callable[[Ref | None], Ref | None],
        seen: StoredRef | None = None,
    ) -> None:
        """Write what `change` makes of the ref, first of `seen`; None means that it is right as it is.

        A lost race is only tried again if `change`, which sees the winner's ref, still agrees.
        """
        self._check_writable()
        for _ in range(self._limits.ref_attempts):
            stored, seen = seen or await self._read_for_change(repository, name, kind), None
            changed = change(stored.ref if stored else None)
            if changed is None:
                # Whoever tries again may have died between the ref and its index.
                await self._index.keep(repository, name, stored.version if stored else None)
                return
            if await self._swap(repository, name, changed, stored):
                return
        raise _lost_too_often(repository, name)

    async def _read_for_change(self, repository: str, name: str, kind: RefKind) -> StoredRef | None:
        self._check_writable()
        check_repository_name(repository)
        check_ref_name(name)
        stored = await self.read(repository, name)
        if stored is not None and stored.ref.kind is not kind:
            raise ConflictError(
                f"{name!r} of {repository!r} is a {stored.ref.kind}, not a {kind}", hint="choose another name"
            )
        return stored

    def _moved(self, kind: RefKind, ref: Ref | None, commit: bytes, summary: str, source: bytes | None = None) -> Ref:
        move = Move(commit, self._clock(), summary[:MAX_SUMMARY_CHARACTERS], source)
        return ref.moved(move) if ref else Ref(kind, (move,))

    async def _swap(self, repository: str, name: str, ref: Ref, stored: StoredRef | None) -> bool:
        """Write `ref` in the place of `stored`; False if somebody else was first."""
        if overflow := ref.overflow():
            segment = await self._writer.write(ObjectKind.SEGMENT, encode_segment(overflow))
            ref = ref.with_segment(segment, overflow)
        try:
            data = encode_ref(ref)
        except ValueError as error:
            raise UsageError(
                f"{name!r} of {repository!r} cannot hold that: {error}", hint="use another name"
            ) from error
        key = ref_key(repository, name)
        version: Version | None = None
        seen: IndexSeen | None = None

        async def swap() -> None:
            nonlocal version
            if self._leases is not None:
                await self._leases.take()
                self._leases.check()
            with suppress(VersionMismatchError):
                version = await self._store.compare_and_swap(key, data, stored.version if stored else None)

        async def look() -> None:
            nonlocal seen
            seen = await self._index.look()

        # At once, which saves a round trip: the index need only be older than the listing that replaces it.
        await gather(lambda step: step(), (swap, look), tasks=2)
        if version is None:
            return False
        await self._index.keep(repository, name, version, data, seen=seen)
        # Whoever looks at all refs next, as after a commit, need not read this one.
        self._keep(key, StoredRef(ref, version))
        return True


async def list_repositories(store: Store) -> list[str]:
    """The names of all repositories, sorted. A repository is there while it has a ref.

    One listing, restarted behind a repository that turns out to have many refs.
    """
    found: dict[str, int] = {}
    start_after: str | None = ""
    while start_after is not None:
        start_after = await _count_refs(store, found, start_after)
    return sorted(found)


async def _count_refs(store: Store, found: dict[str, int], start_after: str) -> str | None:
    """Count refs by repository from `start_after` on; the key to go on behind, None if this was the end."""
    async for info in store.list(REFS, start_after=start_after):
        repository, slash, name = info.key.removeprefix(REFS).partition("/")
        # Other keys are there for other readers (`refs/index`), or are no business of ours.
        if slash and is_repository_name(repository) and is_ref_name(name):
            found[repository] = found.get(repository, 0) + 1
            if found[repository] == _SKIP_AFTER:
                return ref_prefix(repository) + _AFTER_ALL_NAMES
    return None


class History:
    """An async iterator over the moves of a ref, newest first. May be left at any point, with nothing to close."""

    def __init__(self, ref: Ref, objects: Objects) -> None:
        self._objects = objects
        self._moves = list(ref.moves)
        self._segments = list(ref.segments)

    def __aiter__(self) -> History:
        return self

    async def __anext__(self) -> Move:
        while not self._moves:
            if not self._segments:
                raise StopAsyncIteration
            self._moves = list(await self._objects.segment(self._segments.pop().id))
        return self._moves.pop()


def _last_until(moves: Sequence[Move], time_us: int) -> Move | None:
    return next((move for move in reversed(moves) if move.time_us <= time_us), None)


def short(commit: bytes) -> str:
    """A commit's id as messages show it."""
    return commit.hex()[:SHOWN_DIGITS]


def _branch_moved(repository: str, name: str, ref: Ref | None, expected: bytes | None) -> ConflictError:
    what = f"branch {name!r} of {repository!r}"
    if ref is None:
        return ConflictError(
            f"{what} was deleted by somebody else", hint="give another branch, or try again to make it"
        )
    if expected is None:
        message = f"{what} already exists, at commit {short(ref.target)}"
    else:
        message = f"{what} was moved by somebody else: it is at {short(ref.target)}, not at {short(expected)}"
    return ConflictError(
        message,
        hint=f"nothing was lost; look at 'fsd log {repository}/{name}' before trying again",
    )


def _lost_too_often(repository: str, name: str) -> ConflictError:
    return ConflictError(f"others keep changing {name!r} of {repository!r}", hint="try again")
