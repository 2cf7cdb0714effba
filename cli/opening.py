"""From an invocation to an open store, and back: the one place where commands start trio and close what they opened."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from fsd.errors import ConflictError, NotFoundError
from fsd.format.keys import STORE_MARKER
from fsd.format.marker import StoreMarker
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.local import create_local_root
from fsd.stores.open import local_path, open_store
from fsd_cli.context import Invocation

Result = TypeVar("Result")

_OF_NOBODY = {".tmp", ".lock", "lost+found"}
"""What may lie where a store is to be made: left by another try, or made with the file system."""


def run_on_store(invocation: Invocation, work: Callable[[Repositories], Awaitable[Result]]) -> Result:
    """Open the store that the invocation means, do the work, close the store."""

    async def main() -> Result:
        async with opened(invocation) as repositories:
            return await work(repositories)

    return trio.run(main)


@asynccontextmanager
async def opened(invocation: Invocation) -> AsyncIterator[Repositories]:
    """The repositories of the store that the invocation means. Raises NotFoundError where there is no store."""
    limits = invocation.settings.limits
    if invocation.named_store is None and not invocation.default_store.exists():
        raise NotFoundError(
            "you have no store yet",
            hint=f"'fsd commit DIR REPO' makes one at {invocation.default_store}, --store or FSD_STORE names another",
        )
    store = open_store(invocation.store_url, limits)
    try:
        yield await open_repositories(store, limits)
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


class CreatedStore(NamedTuple):
    """A store that was made just now."""

    url: str
    marker: StoreMarker


async def create_store(invocation: Invocation, url: str, keep: tuple[str, ...] = ()) -> CreatedStore:
    """Make a store at `url`; `keep` are the names that its subsets keep, () for the usual ones.

    Raises ConflictError if there is a store, or something else, already.
    """
    folder = local_path(url)
    if folder is not None:
        await trio.to_thread.run_sync(_make_folder, folder)
    store = open_store(url, invocation.settings.limits)
    try:
        return CreatedStore(store.url, await init_store(store, keep=keep or None))
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


async def create_own_store(invocation: Invocation) -> Path | None:
    """Make the user's own store if that is the one that is meant, and it is not there. Where it was made, or None."""
    folder = invocation.default_store
    if invocation.named_store is not None or (folder / STORE_MARKER).exists():
        return None
    try:
        await create_store(invocation, os.fspath(folder))
    except ConflictError:
        # Another first commit at the same moment; or what is there is no store, which opening it will say.
        return None
    return folder


def _make_folder(folder: Path) -> None:
    """The folder for a store. What the store itself would not see, such as `My files`, is in the way as well."""
    create_local_root(folder)
    names = set(os.listdir(folder))
    if STORE_MARKER not in names and names - _OF_NOBODY:
        raise ConflictError(f"{folder} is not empty", hint="make the store in a folder of its own")
