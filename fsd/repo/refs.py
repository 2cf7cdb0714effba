"""Refs: branches, tags and subsets, the only objects that change, moved by compare-and-swap alone.

This module knows how a ref may move and keeps its history. It does not check that what a ref names exists: whoever
moves a ref has made everything durable that it reaches, *before* (see `fsd.repo.builder`, `fsd.publish`).

A ref that grew too long is written in this order: first the log segment with its older half, then the ref that names
the segment. Losing the race in between leaves a segment that nobody names, which is garbage and no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from fsd.clock import Clock
from fsd.errors import ConflictError, NotFoundError
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
from fsd.format.ref import Move, Ref, RefKind, encode_ref, encode_segment, parse_ref
from fsd.limits import Limits
from fsd.repo.objects import Objects, ObjectWriter
from fsd.stores.base import ObjectNotFoundError, Store, Version, VersionMismatchError
from fsd.tasks import gather

SHOWN_DIGITS = 12
"""Of a commit's id, in messages."""

_AFTER_ALL_NAMES = "\x7f"
"""Sorts after every character that a key can have."""

_SKIP_AFTER = 64
"""Refs of one repository seen in a listing of all before it is worth a new request to skip the rest."""


@dataclass(frozen=True, slots=True)
class StoredRef:
    """A ref as it stood at one version."""

    ref: Ref
    version: Version


class Refs:
    """The refs of a store. Every answer comes from the store as it is now: how old it may get is the caller's choice.

    Errors: what a store raises; CorruptDataError for a ref that does not match its checksum.
    """

    def __init__(self, store: Store, objects: Objects, writer: ObjectWriter, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._objects = objects
        self._writer = writer
        self._clock = clock
        self._limits = limits
        self._parsed: OrderedDict[str, StoredRef] = OrderedDict()

    # --- reading

    async def repositories(self) -> list[str]:
        """The names of all repositories, sorted. A repository is there while it has a ref.

        One listing, restarted behind every repository that has more than a few refs.
        """

    async def list(self, repository: str) -> dict[str, Version]:
        """The names of a repository's refs with their versions, sorted; empty if there is no such repository."""

    async def read(self, repository: str, name: str) -> StoredRef | None:
        """A ref, or None. One request; none at all for a name that no ref can have."""

    async def read_all(self, repository: str) -> dict[str, StoredRef]:
        """All refs of a repository by name, sorted. Those whose version was seen before are not read again."""

    def history(self, ref: Ref) -> AsyncIterator[Move]:
        """The moves of a ref, newest first; its segments are loaded as they are reached. Close it (`aclosing`)."""

    # --- moving

    async def move_branch(
        self, repository: str, name: str, commit: bytes, *, expected: bytes | None, summary: str = ""
    ) -> None:
        """Make a branch name `commit`. `expected` is the commit it names now, None if the branch is to be new.

        Idempotent: a branch that names `commit` already is left as it is. Raises ConflictError if it names another
        commit than expected, or if the name is a tag's or subset's; UsageError for an illegal name.
        """

    async def set_tag(
        self, repository: str, name: str, commit: bytes, *, summary: str = "", force: bool = False
    ) -> None:
        """Make a tag. Idempotent. With `force`, one that names another commit is moved, else that is a ConflictError."""

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

    async def delete(self, repository: str, name: str, expected: Version) -> None:
        """Remove a ref at that version. Raises ConflictError if it changed."""
