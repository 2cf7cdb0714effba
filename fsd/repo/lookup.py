"""Finding a path that somebody named, and saying how far it goes where it is not there."""

from __future__ import annotations

from collections.abc import Iterable

from fsd.errors import NotFoundError, near_misses
from fsd.format.model import Kind
from fsd.repo.tree import Found, TreeView

_SEARCHED_NAMES = 2000
"""Names of a directory that are compared with one that is not there."""


async def find_path(tree: TreeView, path: bytes, where: str) -> Found:
    """The entry at `path`, which is not the top. Raises NotFoundError with near misses; `where` names the tree."""
    directory = b""
    parts = path.split(b"/")
    for position, name in enumerate(parts):
        found = await tree.find(directory, name)
        if found is None:
            raise await _no_such_path(tree, where, directory, name)
        if position == len(parts) - 1:
            return found
        here = found.page.path(found.position)
        kind = found.page.kind(found.position)
        if kind != Kind.DIRECTORY:
            what, hint = "a file", ""
            if kind == Kind.SYMLINK:
                what, hint = "a symlink", f"it points to {text_of_name(found.page.target(found.position))}"
            raise NotFoundError(f"{text_of_name(here)} in {where} is {what}", hint=hint)
        directory = here
    raise AssertionError("a path has at least one part")


def text_of_name(name: bytes) -> str:
    """A name or path in a message: whoever prints it escapes what is not printable."""
    return name.decode("utf-8", "surrogateescape")


async def _no_such_path(tree: TreeView, where: str, directory: bytes, name: bytes) -> NotFoundError:
    if directory:
        where += f"/{text_of_name(directory)}"
    text = text_of_name(name)
    hint = near_misses(text, await _first_names(tree, directory)) or f"'fsd ls {where}' lists what is there"
    return NotFoundError(f"no {text} in {where}", hint=hint)


async def _first_names(tree: TreeView, directory: bytes) -> Iterable[str]:
    names: list[str] = []
    async for listed in tree.list(directory):
        names += (text_of_name(listed.page.name(position)) for position in listed.positions)
        if len(names) >= _SEARCHED_NAMES:
            break
    return names
