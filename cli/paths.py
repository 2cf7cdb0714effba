"""`REPO`, `REPO/REV`, `REPO/REV/PATH`: how commands name things, and what they say when there is no such thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fsd.errors import NotFoundError, UsageError, near_misses
from fsd.format.keys import check_repository_name
from fsd.format.model import Kind
from fsd.repo.tree import Found, TreeView
from fsd_cli.text import bytes_of, shown, text_of

DEFAULT_BRANCH = "main"

_SEARCHED_NAMES = 2000
"""Names of a directory that are compared with one that is not there."""


class Place(NamedTuple):
    """What an argument names; what it leaves out is ''."""

    repository: str
    revision: str
    path: bytes


def parse_place(text: str) -> Place:
    """The parts of `REPO[/REV[/PATH]]`. Raises UsageError."""
    repository, _, rest = text.strip("/").partition("/")
    revision, _, path = rest.partition("/")
    check_repository_name(repository)
    parts = [part for part in bytes_of(path).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(f"'..' in {text!r}", hint="write the path from the top of the revision")
    return Place(repository, revision, b"/".join(parts))


def parse_revision_argument(text: str) -> tuple[str, str]:
    """Repository and revision of `REPO[/REV]`; the revision is the branch main if it is left out. Raises UsageError."""
    place = parse_place(text)
    if place.path:
        raise UsageError(f"{text!r} goes on after the revision", hint="write REPO/REV")
    return place.repository, place.revision or DEFAULT_BRANCH


async def find_entry(tree: TreeView, place: Place) -> Found:
    """The entry at the place's path, which is not the top. Raises NotFoundError that says how far the path goes."""
    directory = b""
    parts = place.path.split(b"/")
    for position, name in enumerate(parts):
        found = await tree.find(directory, name)
        if found is None:
            raise await _no_such_path(tree, place, directory, name)
        if position == len(parts) - 1:
            return found
        here = found.page.path(found.position)
        kind = found.page.kind(found.position)
        if kind != Kind.DIRECTORY:
            what, hint = "a file", ""
            if kind == Kind.SYMLINK:
                what, hint = "a symlink", f"it points to {shown(found.page.target(found.position))}"
            raise NotFoundError(f"{shown(here)} in {place.repository}/{place.revision} is {what}", hint=hint)
        directory = here
    raise AssertionError("a path has at least one part")


async def _no_such_path(tree: TreeView, place: Place, directory: bytes, name: bytes) -> NotFoundError:
    where = f"{place.repository}/{place.revision}"
    if directory:
        where += f"/{shown(directory)}"
    hint = near_misses(text_of(name), await _first_names(tree, directory)) or f"'fsd ls {where}' lists what is there"
    return NotFoundError(f"no {shown(name)} in {where}", hint=hint)


async def _first_names(tree: TreeView, directory: bytes) -> Iterable[str]:
    names: list[str] = []
    async for listed in tree.list(directory):
        names += (text_of(listed.page.name(position)) for position in listed.positions)
        if len(names) >= _SEARCHED_NAMES:
            break
    return names
