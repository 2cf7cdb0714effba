"""Amending: a commit that is made from the branch's own tree by removing or moving paths, with no folder that holds it.

It costs what it changes: a directory's contents leave without their pages being read, unless those hold something else
too (`RemovalBelow`); what moves is written anew page by page, since pages hold paths, with the chunks where they are:
no file's bytes are read or stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from fsd.errors import ConflictError, UsageError
from fsd.format.limits import MAX_NAME_BYTES, MAX_PATH_BYTES
from fsd.format.model import Entry, Kind, directory_key
from fsd.publish.landing import Landed, Request, check_request, land_edit
from fsd.repo.builder import Change, Removal, RemovalBelow, build_tree
from fsd.repo.lookup import find_path, text_of_name
from fsd.repo.repository import Repositories
from fsd.repo.revisions import unknown_revision
from fsd.repo.tree import Found, Tree

Edit = Callable[[Tree], AsyncGenerator[Sequence[Change]]]
"""The changes that make the new tree of a tree."""


async def remove_paths(repositories: Repositories, request: Request, paths: Sequence[bytes]) -> Landed:
    """Commit the branch's tree without these paths and what is below them. All of them go, or none.

    Raises NotFoundError for a path or branch that is not there, UsageError for the top, ConflictError if somebody else
    changed the same paths meanwhile, and what a store raises.
    """
    where = _where(request)

    async def changes(tree: Tree) -> AsyncGenerator[Sequence[Change]]:
        removals: dict[bytes, Change] = {}
        for path in dict.fromkeys(paths):
            check_path(path)
            found = await find_path(tree, path, where)
            removals |= {change.key: change for change in _removals(path, found)}
        emptied = tuple(change.directory + b"/" for change in removals.values() if isinstance(change, RemovalBelow))
        # A path below another one goes with it.
        yield [change for _, change in sorted(removals.items()) if not _path_of(change).startswith(emptied)]

    return await _amend(repositories, request, changes)


async def move_path(repositories: Repositories, request: Request, source: bytes, target: bytes) -> Landed:
    """Commit the branch's tree with `source`, and what is below it, at `target`, where nothing may be yet.

    Directories above the target are made. Raises as `remove_paths`, and ConflictError if the target is there, or lies
    in what is no directory.
    """
    where = _where(request)

    async def changes(tree: Tree) -> AsyncGenerator[Sequence[Change]]:
        check_path(source)
        check_path(target)
        if target.startswith(source + b"/"):
            raise UsageError(f"{text_of_name(source)} cannot be moved into itself", hint="choose another path")
        found = await find_path(tree, source, where)
        moved = found.page.entry(found.position)
        directory, _, name = target.rpartition(b"/")
        parents = await new_parents(tree, target, where)
        if not parents and await tree.find(directory, name) is not None:
            raise ConflictError(
                f"there is {text_of_name(target)} in {where} already",
                hint="choose another path, or remove it first with 'fsd rm'",
            )
        few: list[Change] = [*_removals(source, found), *parents, moved._replace(directory=directory, name=name)]
        few.sort(key=lambda change: change.key)
        below = directory_key(target) + b"\0"
        yield [change for change in few if change.key < below]
        if moved.kind is Kind.DIRECTORY:
            async for listed in tree.list_below(source):
                yield [
                    entry._replace(directory=_moved(entry, source, target))
                    for entry in map(listed.page.entry, listed.positions)
                ]
        yield [change for change in few if change.key > below]

    return await _amend(repositories, request, changes, moved=source)


async def parent_of(repositories: Repositories, request: Request) -> bytes:
    """The commit that the branch names. Raises as `check_request`, and NotFoundError if there is no such branch."""
    parent = await check_request(repositories, request)
    if parent is None:
        raise await unknown_revision(repositories, request.repository, request.branch)
    return parent


def check_path(path: bytes) -> None:
    """Raises UsageError for a path that no entry can have."""
    if not path:
        raise UsageError("that is the top of the tree", hint="name a path in it")
    if len(path) > MAX_PATH_BYTES or any(len(name) > MAX_NAME_BYTES for name in path.split(b"/")):
        raise UsageError(
            f"{text_of_name(path)[:200]}… is too long",
            hint=f"a name may have {MAX_NAME_BYTES} bytes, a path {MAX_PATH_BYTES}",
        )


async def new_parents(tree: Tree, path: bytes, where: str) -> list[Entry]:
    """The directories above `path` that are not there yet. Raises ConflictError if one of them is no directory."""
    missing: list[Entry] = []
    directory = b""
    for name in path.split(b"/")[:-1]:
        found = None if missing else await tree.find(directory, name)
        here = directory + b"/" + name if directory else name
        if found is None:
            missing.append(Entry(directory, name, Kind.DIRECTORY))
        elif found.page.kind(found.position) != Kind.DIRECTORY:
            kind = Kind(found.page.kind(found.position)).word
            raise ConflictError(
                f"{text_of_name(here)} in {where} is a {kind}: nothing can be put below it",
                hint="choose another path, or remove it first with 'fsd rm'",
            )
        directory = here
    return missing


async def _amend(repositories: Repositories, request: Request, edit: Edit, moved: bytes | None = None) -> Landed:
    repositories.check_writable()
    async with repositories.leases.held("change"):
        parent = await parent_of(repositories, request)
        tree = await repositories.tree(parent)
        built = await build_tree(repositories.writer, edit(tree), base=tree)
        return await land_edit(repositories, request, built, parent, moved=moved)


def _where(request: Request) -> str:
    return f"{request.repository}/{request.branch}"


def _removals(path: bytes, found: Found) -> list[Change]:
    """The changes that take an entry away with all below it."""
    directory, _, name = path.rpartition(b"/")
    if found.page.kind(found.position) == Kind.DIRECTORY:
        return [Removal(directory, name), RemovalBelow(path)]
    return [Removal(directory, name)]


def _path_of(change: Change) -> bytes:
    if isinstance(change, RemovalBelow):
        return change.directory
    return change.directory + b"/" + change.name if change.directory else change.name


def _moved(entry: Entry, source: bytes, target: bytes) -> bytes:
    """The directory of an entry below `source` when that is at `target`."""
    directory = target + entry.directory[len(source) :]
    if len(directory) + 1 + len(entry.name) > MAX_PATH_BYTES:
        raise UsageError(
            f"{text_of_name(directory)[:200]}… would be deeper than the {MAX_PATH_BYTES} bytes that a path may have",
            hint="choose a shorter path",
        )
    return directory
