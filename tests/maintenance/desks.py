"""Small stores with many packs, and what tests of their care have in common."""

from __future__ import annotations

import random

from fsd.format.ref import Ref
from fsd.limits import KIB, Limits
from fsd.maintenance.gc import Collected, Policy, collect
from fsd.maintenance.verify import verify
from fsd.repo.repository import open_repositories
from fsd.stores.base import Store
from tests.publish.folders import Desk, Folder, Item, file

LIMITS = Limits(pack_bytes=64 * KIB, own_pack_bytes=256 * KIB, range_bytes=64 * KIB, lease_s=2.0, lease_margin_s=1.0)
"""A publisher that was killed is waited for two seconds."""

AT_ONCE = Policy(grace_s=0, wait_s=20)


class Quiet:
    """Is told how far something got, and does not care."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def advance(self, objects: int, size_bytes: int = 0) -> None:
        """Nothing."""

    def expect(self, size_bytes: int) -> None:
        """Nothing."""


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def numbered(*numbers: int, size: int = 8_000) -> dict[bytes, Item]:
    """Files by number: the same number is the same content."""
    return {b"%d" % number: file(noise(number, size)) for number in numbers}


async def collected(store: Store, policy: Policy = AT_ONCE, *, dry_run: bool = False) -> Collected:
    """Collect garbage as a new process would."""
    return await collect(await open_repositories(store, LIMITS), policy, Quiet(), dry_run=dry_run)


def merged(*folders: Folder) -> dict[bytes, Item]:
    """All files of several folders."""
    return {path: item for folder in folders for path, item in folder.items()}


async def delete_ref(desk: Desk, name: str) -> None:
    """Delete a branch, tag or subset of the desk's repository."""
    refs = (await desk.repositories()).refs
    stored = await refs.read("repo", name)
    assert stored is not None
    await refs.delete("repo", name, stored.version)


async def ref_of(desk: Desk, name: str) -> Ref:
    """A ref of the desk's repository."""
    stored = await (await desk.repositories()).refs.read("repo", name)
    assert stored is not None
    return stored.ref


async def is_whole(desk: Desk) -> bool:
    """Whether all that is named is there, and right."""
    return (await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)).is_whole
