"""A version's contents for commands that copy it out: by a mount, by the cache, or straight from the store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

import trio

from fsd.cache.cache import Cache
from fsd.checkout.checkout import Version
from fsd.checkout.contents import CachedContents, Contents, MountedContents
from fsd.checkout.stored import StoredContents
from fsd.config import default_cache_path
from fsd.daemon import mounts
from fsd.errors import ConflictError, UsageError
from fsd.format.model import Kind
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.repository import Repositories, open_repositories
from fsd.repo.revisions import Resolved
from fsd.repo.subsets import open_tree
from fsd.stores.retry import single_attempts
from fsd_cli.context import Invocation
from fsd_cli.mounted import answering_mount
from fsd_cli.output import note
from fsd_cli.paths import Place, find_entry
from fsd_cli.progress import ProgressBar
from fsd_cli.text import shown, text_of


class Reading(NamedTuple):
    """Through what a version is read."""

    repositories: Repositories
    contents: Contents


@asynccontextmanager
async def reading(invocation: Invocation, repositories: Repositories, resolved: Resolved) -> AsyncIterator[Reading]:
    """A cache has one owner: a mount of the store, through which we read then, or else this process.

    Where the cache is in use and no mount is to be seen, it goes without.
    """
    mounted = await trio.to_thread.run_sync(_mounted_at, repositories.store.url, resolved)
    if mounted is not None:
        yield Reading(repositories, MountedContents(os.fsencode(mounted)))
        return
    settings, marker, store = invocation.settings, repositories.marker, repositories.store
    folder = settings.cache_dir or default_cache_path(invocation.cache_home, marker.id)
    async with AsyncExitStack() as stack:
        try:
            cache = await stack.enter_async_context(
                Cache.open(folder, PackReader(single_attempts(store)), settings.limits, purpose="fsd checkout")
            )
        except ConflictError as error:
            note(f"reading without the cache: {error.message}")
            yield Reading(repositories, StoredContents(repositories))
            return
        cached = await open_repositories(store, settings.limits, marker=marker, loader=cache.loader(StoreLoader(store)))
        yield Reading(cached, CachedContents(cache, cached))


def _mounted_at(store_url: str, resolved: Resolved) -> str | None:
    """Where the commit is in a mount that answers us. (A subset's files are its commit's: it has no need to be there.)

    Blocks, for a moment where a mount hangs.
    """
    mount = answering_mount(lambda url: url == store_url)
    if mount is None:
        return None
    version = os.path.join(mount.mountpoint, resolved.repository, resolved.commit.hex())
    try:
        return version if mounts.within(mounts.STATUS_TIMEOUT_S, partial(os.path.isdir, version)) else None
    except TimeoutError:
        return None


async def version_at(repositories: Repositories, resolved: Resolved, place: Place) -> Version:
    """The version, or the directory of it, that is meant. Raises UsageError for a path that is no directory."""
    tree = await open_tree(repositories, resolved)
    if place.path:
        found = await find_entry(tree, place)
        if found.page.kind(found.position) != Kind.DIRECTORY:
            whole = f"{place.repository}/{place.revision}/{text_of(place.path)}"
            raise UsageError(f"{shown(place.path)} is no directory", hint=f"'fsd cat {shown(whole)}' writes a file")
    return Version(tree, repositories.objects, place.path)


async def expect_version(version: Version, bar: ProgressBar) -> None:
    """Tell the bar how much it is: known for a whole commit, else counted."""
    totals = version.tree.totals
    if totals is not None and not version.below:
        bar.expect(totals.bytes, items=totals.files)
        return
    files = size = 0
    async for page, positions, _ in version.tree.list_below(version.below):
        sizes = [page.size(position) for position in positions if page.kind(position) == Kind.FILE]
        files += len(sizes)
        size += sum(sizes)
    bar.expect(size, items=files)
