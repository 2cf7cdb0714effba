"""`fsd du`: how much versions and paths in them take, in the store and in this machine's cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from fsd.config import format_size
from fsd.daemon import control_client, mounts
from fsd.errors import UsageError
from fsd.repo.repository import Repositories
from fsd.repo.revisions import resolve
from fsd.repo.subsets import open_tree
from fsd.repo.usage import Usage, usage_beyond, usage_of
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, print_json, print_table
from fsd_cli.paths import DEFAULT_BRANCH, Place, parse_place
from fsd_cli.prefetch import MountedPath, find_path, result_of
from fsd_cli.progress import ProgressBar
from fsd_cli.text import Column, shown, text_of

_PATH_STARTS = ("/", "./", "../")
"""What begins so is a path of this machine, and never a repository."""


class _Asked(NamedTuple):
    """An argument."""

    text: str
    place: Place
    mounted: MountedPath | None
    """Where it is in a mount, if it was given as a path there."""


class _Found(NamedTuple):
    """What there is to say of it."""

    asked: _Asked
    commit: bytes
    usage: Usage
    against: Usage | None
    cached: dict[str, Any] | None
    """What the daemon of the mount says."""


@click.command()
@click.argument("places", metavar="PATH|REPO[/REV[/PATH]]...", nargs=-1, required=True, shell_complete=complete_place)
@click.option("--against", metavar="REV", help="Show also what somebody who has REV would fetch.")
@json_option
@pass_invocation
def du(invocation: Invocation, places: tuple[str, ...], against: str | None, as_json: bool) -> None:
    """Show how much versions, or paths in them, take.

    \b
    fsd du imagenet/v1.2/train               files, their bytes, and those that the store has of them
    fsd du imagenet/v1.2 --against v1.1      what a switch from v1.1 would fetch
    fsd du /fsd/imagenet/v1.2                of a path in a mount also what its cache has

    STORED counts each chunk once, compressed as it is. What a cache has, and what it misses, is counted as it is read.
    """
    found = _look(invocation, [_parse(text) for text in places], against)
    if as_json:
        print_json([_json(each, against) for each in found])
    else:
        _print(found, against)


def _parse(text: str) -> _Asked:
    """What leads into a mount is a path; everything else is named as in the store."""
    path = Path(text)
    if not text.startswith(_PATH_STARTS) and mounts.mount_of(path) is None:
        place = parse_place(text)
        return _Asked(text, place._replace(revision=place.revision or DEFAULT_BRANCH), None)
    mounted = find_path(path)
    repository, slash, rest = mounted.path.partition("/")
    if not slash:
        raise UsageError(f"{text!r} is not below a version", hint="go on to a version: REPO/REV")
    return _Asked(text, parse_place(f"{repository}/{rest}"), mounted)


def _look(invocation: Invocation, asked: Sequence[_Asked], against: str | None) -> list[_Found]:
    """What there is to say of each, in their order. However many there are, a store is opened once."""
    by_store: dict[str | None, list[_Asked]] = {}
    for each in asked:
        # The store of a mount, whichever is meant otherwise.
        by_store.setdefault(None if each.mounted is None else each.mounted.mount.source, []).append(each)
    found: dict[_Asked, _Found] = {}
    for store, theirs in by_store.items():
        named = invocation if store is None else dataclasses.replace(invocation, store=store)
        used = run_on_store(named, partial(_used, asked=theirs, against=against))
        found.update(zip(theirs, used, strict=True))
    return [found[each]._replace(cached=_cached(each.mounted)) for each in asked]


async def _used(repositories: Repositories, asked: Sequence[_Asked], against: str | None) -> list[_Found]:
    """What the store says of each."""
    found = []
    async with ProgressBar("look").ticking() as bar:
        for each in asked:
            place = each.place
            resolved = await resolve(repositories, place.repository, place.revision)
            tree = await open_tree(repositories, resolved)
            usage = await usage_of(
                tree,
                place.path,
                repositories.objects,
                where=f"{place.repository}/{place.revision}",
                report=lambda files, size: bar.advance(size, items=files),
            )
            beyond = None
            if against is not None:
                other = await open_tree(repositories, await resolve(repositories, place.repository, against))
                read_ahead = repositories.limits.listing_read_ahead_pages
                beyond = await usage_beyond(other, tree, place.path, repositories.objects, read_ahead_pages=read_ahead)
            found.append(_Found(each, resolved.commit, usage, beyond, None))
    return found


def _cached(mounted: MountedPath | None) -> dict[str, Any] | None:
    """What the daemon of the mount has of a path in it."""
    if mounted is None:
        return None
    return result_of(control_client.asking(mounted.mount, "coverage", {"path": mounted.path}))


def _print(found: Sequence[_Found], against: str | None) -> None:
    has_mounted = any(each.cached is not None for each in found)
    columns = [Column("FILES", right=True), Column("SIZE", right=True), Column("STORED", right=True)]
    if has_mounted:
        columns += [Column("CACHED", right=True), Column("MISSING", right=True)]
    if against is not None:
        columns.append(Column(f"BEYOND {against}", right=True))
    rows = []
    for each in found:
        cells = [f"{each.usage.files:,}", format_size(each.usage.size_bytes), format_size(each.usage.stored_bytes)]
        if has_mounted:
            cached = each.cached
            cells += [format_size(cached[name]) if cached else "" for name in ("cached_bytes", "missing_bytes")]
        if each.against is not None:
            cells.append(format_size(each.against.stored_bytes))
        rows.append([*cells, shown(each.asked.text)])
    print_table([*columns, Column("WHAT")], rows)


def _json(found: _Found, against: str | None) -> dict[str, Any]:
    place, cached = found.asked.place, found.cached
    return {
        "what": found.asked.text,
        "repository": place.repository,
        "revision": place.revision,
        "commit": found.commit.hex(),
        "path": text_of(place.path),
        **_usage_json(found.usage),
        "cached_bytes": cached["cached_bytes"] if cached else None,
        "missing_bytes": cached["missing_bytes"] if cached else None,
        "against": {"revision": against, **_usage_json(found.against)} if found.against is not None else None,
    }


def _usage_json(usage: Usage) -> dict[str, int]:
    return {
        "files": usage.files,
        "directories": usage.directories,
        "symlinks": usage.symlinks,
        "bytes": usage.size_bytes,
        "stored_bytes": usage.stored_bytes,
    }
