"""Where on this machine a store's contents may be: what `fsd verify --repair` puts back from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from fsd.cache.cache import Cache
from fsd.cache.donor import CacheDonor
from fsd.config import default_cache_path
from fsd.daemon.control_client import fetching, socket_of
from fsd.daemon.donor import MountDonor
from fsd.errors import ConflictError, FsdError
from fsd.maintenance.mending import Donor
from fsd.publish.donor import FolderDonor
from fsd.repo.packs import PackReader
from fsd.repo.repository import Repositories
from fsd_cli.context import Invocation
from fsd_cli.mounted import answering_mounts
from fsd_cli.output import note
from fsd_cli.text import bytes_of, shown

_UNLIMITED_BYTES = 1 << 60
"""Nothing is fetched, and nothing must be evicted: a mount may have been given more room than is configured."""


@asynccontextmanager
async def opened_donors(
    invocation: Invocation, repositories: Repositories, folders: Sequence[Path]
) -> AsyncIterator[list[Donor]]:
    """The caches of the store's mounts, by way of their daemons; its cache that no mount uses; and `folders`.

    What cannot be asked is told, and done without. Raises UsageError for a folder that is none.
    """
    async with AsyncExitStack() as stack:
        donors: list[Donor] = []
        in_use: set[Path] = set()
        for mount in await trio.to_thread.run_sync(list, answering_mounts(repositories.store.url.__eq__)):
            try:
                in_use.add((await trio.to_thread.run_sync(socket_of, mount)).parent)
                donors.append(MountDonor(stack.enter_context(fetching(mount)), shown(bytes_of(mount.mountpoint))))
            except FsdError as error:
                note(f"going without the cache of {shown(bytes_of(mount.mountpoint))}: {error.message}")
        cache = await _cache_donor(invocation, repositories, in_use, stack)
        if cache is not None:
            donors.append(cache)
        donors += [FolderDonor(os.fsencode(folder), repositories.marker.chunker) for folder in folders]
        if not donors:
            note("this machine has no cache of the store; --from DIR names a folder to look in")
        yield donors


async def _cache_donor(
    invocation: Invocation, repositories: Repositories, in_use: set[Path], stack: AsyncExitStack
) -> Donor | None:
    settings, store = invocation.settings, repositories.store
    folder = settings.cache_dir or default_cache_path(invocation.cache_home, repositories.marker.id)
    if folder in in_use or not (folder / "index").exists():
        return None
    limits = replace(settings.limits, cache_bytes=_UNLIMITED_BYTES)
    try:
        cache = await stack.enter_async_context(
            Cache.open(folder, PackReader(store), limits, purpose="fsd verify --repair")
        )
    except ConflictError as error:
        # A mount in another namespace, say.
        note(f"going without the cache: {error.message}; what it has can be put back once that has ended")
        return None
    return CacheDonor(cache, f"the cache in {shown(os.fsencode(folder))}")
