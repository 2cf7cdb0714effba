"""`fsd purge`: take a file out of every version, and its bytes out of the store."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click
import trio

from fsd.cache.cache import Cache
from fsd.config import default_cache_path, format_size
from fsd.daemon import control_client
from fsd.daemon.mounts import Mount
from fsd.errors import ConflictError, FsdError, UsageError
from fsd.maintenance.purge import Purged
from fsd.maintenance.purge import purge as purge_paths
from fsd.repo.repository import Repositories
from fsd_cli.completion import complete_repository
from fsd_cli.confirming import confirm
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.mounted import answering_mount
from fsd_cli.opening import opened
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.paths import parse_path
from fsd_cli.progress import ProgressBar, StoreWork
from fsd_cli.repository_refs import read_refs
from fsd_cli.spans import SPAN
from fsd_cli.text import count, duration, shown, text_of

SHOWN = 20
"""Commits and places shown as text; JSON has all that were kept."""


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=complete_repository)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--wait", type=SPAN, default=60.0, show_default="60s", metavar="SPAN", help="Wait so long for publishers at work."
)
@json_option
@pass_invocation
def purge(
    invocation: Invocation, repository: str, paths: tuple[str, ...], yes: bool, wait: float, as_json: bool
) -> None:
    """Take a file out of every version, for good.

    Or a folder, with all that is below it.

    Every version that has one of the paths becomes another commit, with the same message, author and time, and every
    branch, tag and subset names these: pins to the old ones have to be moved. The bytes are deleted from the store at
    once, from packs that they share with other files as well, and from this machine's cache. Other machines' caches
    hold what they fetched until it is evicted there. The same bytes at other paths stay; they are listed.
    """
    chosen = {parse_path(path) for path in paths}
    if b"" in chosen:
        raise UsageError("that is the top of the tree", hint=f"'fsd delete {repository}' deletes all of it")

    async def main() -> tuple[Purged, float]:
        async with opened(invocation) as repositories:
            await read_refs(repositories, repository)
            if not yes:
                await trio.to_thread.run_sync(_ask, repository, sorted(chosen))
            started = trio.current_time()
            async with ProgressBar("rewrite").ticking() as bar:
                done = await purge_paths(repositories, repository, chosen, StoreWork(bar), wait_s=wait)
            await _evict(invocation, repositories, repository, chosen, done)
            return done, trio.current_time() - started

    done, seconds = trio.run(main)
    if as_json:
        print_json(_as_json(done, seconds))
    else:
        _print(repository, done, seconds)
    if not done.is_complete:
        raise ConflictError(
            "the bytes are not deleted yet",
            hint="run it again when they are done; no branch or tag names them any more",
        )


def _ask(repository: str, paths: list[bytes]) -> None:
    named = ", ".join(shown(path) for path in paths)
    confirm(f"take {named} out of every version of {repository}, for good?", otherwise="nothing was purged")


# --- this machine's cache


async def _evict(
    invocation: Invocation, repositories: Repositories, repository: str, paths: set[bytes], done: Purged
) -> None:
    """Have the cache let go of it: the mount's, if there is one, or else our own."""
    mount = await trio.to_thread.run_sync(answering_mount, lambda url: url == repositories.store.url)
    if mount is not None:
        await trio.to_thread.run_sync(_evict_mounted, mount, repository, paths, done)
        return
    settings = invocation.settings
    folder = settings.cache_dir or default_cache_path(invocation.cache_home, repositories.marker.id)
    if not folder.exists():
        return
    try:
        async with Cache.open(folder, repositories.packs, settings.limits, purpose="fsd purge") as cache:
            await cache.stock.evict(done.chunks)
    except ConflictError as error:
        note(f"the cache in {folder} was left as it is: {error.message}; evict the paths there")


def _evict_mounted(mount: Mount, repository: str, paths: set[bytes], done: Purged) -> None:
    """The mount has no bytes of an old version that it cannot look up any more."""
    for commit in done.commits:
        for path in paths:
            asked = {"path": f"{repository}/{commit.hex()}/{text_of(path)}", "unpin": True}
            with suppress(FsdError), control_client.asking(mount, "evict", asked) as lines:
                for _ in lines:
                    pass


# --- output


def _print(repository: str, done: Purged, seconds: float) -> None:
    say(f"{repository} is without it")
    say(f"  versions {len(done.commits):,} became others; {count(done.refs, 'ref')} rewritten")
    say(f"  files    {done.files:,} taken out, counted in each version")
    say(f"  deleted  {count(done.deleted_objects, 'object')}, {format_size(done.deleted_bytes)}")
    say(f"  time     {duration(seconds)}")
    for old, new in list(done.commits.items())[:SHOWN]:
        say(f"  {old.hex()[:12]} → {'expired before' if new is None else new.hex()[:12]}")
    _more(len(done.commits))
    if done.places_elsewhere:
        say(f"the same contents are still at {count(done.places_elsewhere, 'place')}:")
        for place in done.elsewhere[:SHOWN]:
            say(f"  {shown(place)}")
        _more(done.places_elsewhere)
    for line in done.waiting:
        say(f"  {line}")


def _more(found: int) -> None:
    if found > SHOWN:
        say(f"  … and {found - SHOWN:,} more (--json has them)")


def _as_json(done: Purged, seconds: float) -> dict[str, Any]:
    return {
        "complete": done.is_complete,
        "commits": {old.hex(): None if new is None else new.hex() for old, new in done.commits.items()},
        "refs": done.refs,
        "files": done.files,
        "packs": sorted(pack.hex() for pack in done.packs),
        "deleted_objects": done.deleted_objects,
        "deleted_bytes": done.deleted_bytes,
        "elsewhere": done.elsewhere,
        "places_elsewhere": done.places_elsewhere,
        "waiting": done.waiting,
        "seconds": round(seconds, 3),
    }
