"""`fsd checkout`: a version as plain files."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import trio

from fsd.cache.cache import Cache
from fsd.checkout.checkout import CheckedOut, Version, check_out
from fsd.checkout.contents import CachedContents, Contents, MountedContents
from fsd.checkout.stored import StoredContents
from fsd.config import default_cache_path, format_size
from fsd.daemon import mounts
from fsd.errors import ConflictError, UsageError
from fsd.format.model import Kind
from fsd.publish.noting import note_folder
from fsd.publish.scan import ScanKey
from fsd.repo.objects import StoreLoader
from fsd.repo.packs import PackReader
from fsd.repo.refs import short
from fsd.repo.repository import Repositories, open_repositories
from fsd.repo.revisions import Resolved, resolve
from fsd.repo.subsets import open_tree
from fsd.stores.retry import single_attempts
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.mounted import answering_mount
from fsd_cli.opening import opened
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.paths import Place, find_entry, parse_place
from fsd_cli.progress import ProgressBar
from fsd_cli.text import bytes_of, count, duration, shown, text_of


@click.command()
@click.argument("place", metavar="REPO/REV[/PATH]", shell_complete=complete_place)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@pass_invocation
def checkout(invocation: Invocation, place: str, directory: Path, as_json: bool) -> None:
    """Copy a version, or a folder of one, to DIR as plain files.

    DIR must be empty or not there yet; it appears when all is in it. Every file is checked. If it is interrupted, the
    same command goes on. 'fsd commit DIR REPO' then reads only what you changed. To read a version, mount the store
    instead: that copies nothing ahead.
    """
    parsed = parse_place(place)
    if not parsed.revision:
        raise UsageError(f"{place!r} names no revision", hint="write REPO/REV")

    async def main() -> tuple[CheckedOut, Resolved, float]:
        started = trio.current_time()
        bar = ProgressBar("copy")
        async with opened(invocation) as repositories, bar.ticking():
            resolved = await resolve(repositories, parsed.repository, parsed.revision)
            async with _reading(invocation, repositories, resolved) as reading:
                version = await _version(reading.repositories, resolved, parsed)
                if bar.enabled:
                    await _expect(version, bar)
                done = await check_out(
                    version,
                    reading.contents,
                    os.fsencode(directory),
                    progress=bar,
                    before_naming=_noting(invocation, repositories, resolved, parsed, directory),
                )
        return done, resolved, trio.current_time() - started

    done, resolved, seconds = trio.run(main)
    if as_json:
        print_json(
            {
                "repository": parsed.repository,
                "commit": resolved.commit.hex(),
                "subset": resolved.subset.name if resolved.subset else None,
                "path": text_of(parsed.path),
                "directory": os.path.abspath(directory),
                "new": done.is_new,
                "files": done.files,
                "bytes": done.bytes,
                "kept_files": done.files_kept,
                "seconds": round(seconds, 3),
            }
        )
        return
    where = f"{place.strip('/')} ({short(resolved.commit)})"
    if not done.is_new:
        say(f"{shown(bytes_of(str(directory)))} is {where} already: {count(done.files, 'file')} checked")
        return
    say(f"{shown(bytes_of(str(directory)))} is {where}")
    kept = f"; {done.files_kept:,} were there from an earlier try" if done.files_kept else ""
    say(f"  content  {count(done.files, 'file')}, {format_size(done.bytes)}{kept}")
    say(f"  time     {duration(seconds)}")


class _Reading(NamedTuple):
    """Through what a version is read."""

    repositories: Repositories
    contents: Contents


@asynccontextmanager
async def _reading(invocation: Invocation, repositories: Repositories, resolved: Resolved) -> AsyncIterator[_Reading]:
    """A cache has one owner: a mount of the store, through which we read then, or else this process.

    Where the cache is in use and no mount is to be seen, it goes without.
    """
    mounted = await trio.to_thread.run_sync(_mounted_at, repositories.store.url, resolved)
    if mounted is not None:
        yield _Reading(repositories, MountedContents(os.fsencode(mounted)))
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
            yield _Reading(repositories, StoredContents(repositories))
            return
        cached = await open_repositories(store, settings.limits, marker=marker, loader=cache.loader(StoreLoader(store)))
        yield _Reading(cached, CachedContents(cache, cached))


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


async def _version(repositories: Repositories, resolved: Resolved, place: Place) -> Version:
    tree = await open_tree(repositories, resolved)
    if place.path:
        found = await find_entry(tree, place)
        if found.page.kind(found.position) != Kind.DIRECTORY:
            whole = f"{place.repository}/{place.revision}/{text_of(place.path)}"
            raise UsageError(f"{shown(place.path)} is no directory", hint=f"'fsd cat {shown(whole)}' writes a file")
    return Version(tree, repositories.objects, place.path)


async def _expect(version: Version, bar: ProgressBar) -> None:
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


def _noting(
    invocation: Invocation, repositories: Repositories, resolved: Resolved, place: Place, directory: Path
) -> partial[None] | None:
    """Notes for the next commit from the folder; of a part there are none, since it is not what a commit holds."""
    if resolved.subset is not None or place.path:
        return None
    key = ScanKey(os.fsencode(os.path.abspath(directory)), repositories.marker.id, resolved.repository)
    return partial(_note, invocation.state, key, commit=resolved.commit)


def _note(state: Path, key: ScanKey, folder: bytes, *, commit: bytes) -> None:
    try:
        note_folder(state, key, folder, commit, clock_ns=time.time_ns)
    except OSError as error:
        # The next commit reads everything, then.
        note(f"cannot keep notes in {state}: {error.strerror}")
