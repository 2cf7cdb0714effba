"""`REPO`, `REPO/REV`, `REPO/REV/PATH`: how commands name things, and what they say when there is no such thing."""

from __future__ import annotations

from typing import NamedTuple

from fsd.errors import UsageError
from fsd.format.keys import check_repository_name
from fsd.repo.lookup import find_path
from fsd.repo.tree import Found, TreeView
from fsd_cli.text import bytes_of

DEFAULT_BRANCH = "main"


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
    return Place(repository, revision, parse_path(path))


def parse_path(text: str) -> bytes:
    """A path in a tree, b'' for its top. Raises UsageError."""
    parts = [part for part in bytes_of(text).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UsageError(f"'..' in {text!r}", hint="write the path from the top of the revision")
    return b"/".join(parts)


def parse_revision_argument(text: str) -> tuple[str, str]:
    """Repository and revision of `REPO[/REV]`; the revision is the branch main if it is left out. Raises UsageError."""
    place = parse_place(text)
    if place.path:
        raise UsageError(f"{text!r} goes on after the revision", hint="write REPO/REV")
    return place.repository, place.revision or DEFAULT_BRANCH


async def find_entry(tree: TreeView, place: Place) -> Found:
    """The entry at the place's path, which is not the top. Raises NotFoundError that says how far the path goes."""
    return await find_path(tree, place.path, f"{place.repository}/{place.revision}")
