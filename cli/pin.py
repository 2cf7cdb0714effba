"""`fsd pin` and `fsd unpin`: a version of the data as a symlink that Git versions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import click
import trio

from fsd.config import format_size
from fsd.errors import ConflictError, NotFoundError, UsageError
from fsd.pins import manifest, worktree
from fsd.pins.copying import measure, replace_with_copy
from fsd.pins.links import Target, parse_target
from fsd.pins.manifest import DEFAULT_BRANCH, Manifest
from fsd.repo.refs import short
from fsd.repo.repository import Repositories
from fsd.repo.revisions import RevisionKind, parse_revision, resolve
from fsd.repo.subsets import open_tree
from fsd_cli.bar import Amount
from fsd_cli.completion import complete_place
from fsd_cli.context import Invocation, pass_invocation
from fsd_cli.opening import run_on_store
from fsd_cli.output import json_option, note, print_json, say
from fsd_cli.paths import Place, find_entry, parse_place
from fsd_cli.progress import ProgressBar
from fsd_cli.text import count, shown, text_of
from fsd_cli.worktrees import WorkTree, link_in, work_tree_at


class _Wanted(NamedTuple):
    """What a link is to lead to."""

    target: Target
    branch: str
    """That it follows from now on."""
    name: str
    """By what it was asked for."""
    store: str
    """The store's URL."""


@click.command()
@click.argument("link", type=Path)
@click.argument("revision", metavar="[REPO/REV[+SUBSET][/PATH]]", required=False, shell_complete=complete_place)
@json_option
@pass_invocation
def pin(invocation: Invocation, link: Path, revision: str | None, as_json: bool) -> None:
    """Pin a version of the data beside the code that uses it.

    \b
    fsd pin LINK REPO/REV[+SUBSET][/PATH]   make LINK a symlink to that commit, or let it lead elsewhere
    fsd pin LINK REV                        move it to another revision of the same
    fsd pin LINK                            move it to where its branch is now

    Git versions the link, so that checking out a commit brings the data that it was made with. The store is named in
    .fsd.toml at the top of the work tree; 'fsd up' mounts it. A pin follows the branch that it was pinned through, or
    main.
    """
    tree = work_tree_at(link.parent)
    name = link_in(tree, link)
    current = _read(tree, name)
    place = _place(tree, name, current, revision)

    async def work(repositories: Repositories) -> _Wanted:
        return await _resolve(repositories, tree, name, current, place)

    wanted = run_on_store(tree.meant(invocation), work)
    _write(tree, name, wanted)
    if as_json:
        print_json(_as_json(tree, name, wanted))
        return
    _tell(name, current, wanted)
    if current is None:
        _advise(invocation, tree, name)


@click.command()
@click.argument("link", type=Path)
@click.argument("directory", metavar="[DIR]", type=Path, required=False)
@pass_invocation
def unpin(_invocation: Invocation, link: Path, directory: Path | None) -> None:
    """Replace the pin LINK by real files, to be kept without the store or to be changed.

    With DIR the files go there, and LINK leads to them. They are copied through the mount and checked; until all are
    there, nothing changes.
    """
    tree = work_tree_at(link.parent)
    name = link_in(tree, link)
    target = _read(tree, name)
    if target is None:
        raise NotFoundError(f"there is no pin {name}", hint="'fsd status' lists them")
    path = tree.top / name
    if not path.exists():
        raise NotFoundError(f"{name} leads to {shown(os.readlink(path))}, which is not there", hint="see 'fsd up'")
    place = path if directory is None else Path(os.path.abspath(directory))

    async def main() -> Amount:
        bar = ProgressBar("copy")
        async with bar.ticking():
            if bar.enabled:
                size_bytes, files = await trio.to_thread.run_sync(measure, path.resolve())
                bar.expect(size_bytes, items=files)
            await replace_with_copy(
                path.resolve(), path, place, lambda size_bytes, files: bar.advance(size_bytes, items=files)
            )
        return bar.done

    done = trio.run(main)
    if tree.manifest is not None:
        manifest.set_followed(tree.top, name, None)
    copied = f"{count(done.items, 'file')}, {format_size(done.size_bytes)}"
    say(f"{shown(name)} is no pin any more: {copied} in {shown(name) if directory is None else directory}")


def _read(tree: WorkTree, name: str) -> Target | None:
    """Where the pin leads; None if there is nothing yet. Raises ConflictError if something else is there."""
    path = tree.top / name
    if not os.path.lexists(path):
        return None
    if not path.is_symlink():
        raise ConflictError(f"{name} is there already, and is no symlink", hint="choose another name, or move it away")
    target = parse_target(os.readlink(path), tree.mountpoint)
    if target is None:
        raise ConflictError(
            f"{name} is there already, a symlink to {shown(os.readlink(path))}", hint=f"remove it first: rm {name}"
        )
    return target


def _place(tree: WorkTree, name: str, current: Target | None, revision: str | None) -> Place:
    """What the arguments ask for, with what they leave out."""
    if revision is None or (current is not None and "/" not in revision.strip("/")):
        if current is None:
            raise UsageError(f"{name} is no pin yet", hint="say of what: fsd pin LINK REPO/REV")
        base, subset = parse_revision(revision or tree.followed(name))
        subset = subset or current.subset or None
        return Place(current.repository, f"{base}+{subset}" if subset else base, os.fsencode(current.path))
    place = parse_place(revision)
    return place._replace(revision=place.revision or DEFAULT_BRANCH)


async def _resolve(
    repositories: Repositories, tree: WorkTree, name: str, current: Target | None, place: Place
) -> _Wanted:
    resolved = await resolve(repositories, place.repository, place.revision)
    if place.path:
        await find_entry(await open_tree(repositories, resolved), place)
    subset = resolved.subset.name if resolved.subset is not None else ""
    target = Target(place.repository, resolved.commit.hex(), subset, text_of(place.path))
    if resolved.kind in (RevisionKind.TAG, RevisionKind.COMMIT, RevisionKind.PREFIX):
        is_same = current is not None and current.repository == place.repository
        branch = tree.followed(name) if is_same else DEFAULT_BRANCH
    else:
        # A branch, or one as it stood on a date.
        branch = resolved.name.partition("@")[0]
    return _Wanted(target, branch, resolved.name, repositories.store.url)


def _write(tree: WorkTree, name: str, wanted: _Wanted) -> None:
    """The manifest first: whoever is interrupted here leaves no link without a store."""
    if tree.manifest is None:
        manifest.create(tree.top, Manifest(wanted.store))
    manifest.set_followed(tree.top, name, None if wanted.branch == DEFAULT_BRANCH else wanted.branch)
    _replace_link(tree.top / name, wanted.target.text(tree.mountpoint))


def _replace_link(path: Path, text: str) -> None:
    """Make `path` a symlink to `text` in one step: nobody finds it missing meanwhile."""
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    os.symlink(text, temporary)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _tell(name: str, current: Target | None, wanted: _Wanted) -> None:
    target = wanted.target
    rest = f"+{target.subset}" if target.subset else ""
    rest += f"/{shown(target.path)}" if target.path else ""
    commit = short(bytes.fromhex(target.base))
    through = f" ({wanted.name})" if not target.base.startswith(wanted.name) else ""
    before = ""
    if current == target:
        before = " already"
    elif current is not None and current.base != target.base:
        before = f", was {current.base[: len(commit)] if current.is_fixed else current.base}"
    say(f"{shown(name)} is {target.repository}/{commit}{rest}{through}{before}")


def _advise(invocation: Invocation, tree: WorkTree, name: str) -> None:
    """What somebody who just made a pin may want to know."""
    if worktree.is_ignored(tree.top, name):
        note(f"Git ignores {shown(name)}: take it out of .gitignore, or it will not be versioned")
    elif not worktree.is_tracked(tree.top, name):
        note(f"let Git version it: git add {manifest.FILE_NAME} {shown(name)}")
    if tree.manifest is None and invocation.named_store is None:
        note(f"the store is a folder of your own: nobody else reaches what {manifest.FILE_NAME} names")
    if not os.path.exists(tree.top / name):
        note(f"nothing is mounted at {tree.mountpoint} yet: fsd up")


def _as_json(tree: WorkTree, name: str, wanted: _Wanted) -> dict[str, str | None]:
    target = wanted.target
    return {
        "link": name,
        "target": target.text(tree.mountpoint),
        "repository": target.repository,
        "commit": target.base,
        "subset": target.subset or None,
        "path": target.path or None,
        "branch": wanted.branch,
    }
