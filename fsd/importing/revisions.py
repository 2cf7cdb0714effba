"""The revisions of a source that has a history, and the names that their tags get."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsd.format.keys import MAX_REF_NAME_CHARACTERS, is_ref_name

_SHOWN_DIGITS = 10
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Revision:
    """What becomes one commit."""

    id: str
    """The source's own, for good."""
    tags: tuple[str, ...] = ()
    """As the source has them."""
    parents: tuple[str, ...] = ()
    """The nearest of the revisions imported that it came from."""
    author: str = ""
    time_us: int = 0
    message: str = ""
    on_branch: bool = True
    """Whether the branch passes it; the others are reached by their tags."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else decides what the commit has."""

    @property
    def shown(self) -> str:
        """For messages."""
        return self.tags[0] if self.tags else self.id[:_SHOWN_DIGITS]


def tag_names(revisions: Sequence[Revision], branch: str, warnings: list[str]) -> dict[str, tuple[str, ...]]:
    """The names of the tags of each revision, by its id. Tells `warnings` of those that are not the source's own.

    What no name may hold becomes `-`; a name that would be a commit's id, a built-in subset or the branch begins with
    `tag-`. Where that gives one name twice, the second tag is left out.
    """
    taken = {name for revision in revisions for name in revision.tags if _is_free(name, branch)}
    names: dict[str, tuple[str, ...]] = {}
    for revision in revisions:
        mine: list[str] = []
        for tag in revision.tags:
            name = tag
            if not _is_free(tag, branch):
                name = _named(tag, branch)
                if not name or name in taken:
                    warnings.append(f"the tag {tag!r} is left out: no name like it is free")
                    continue
                warnings.append(f"the tag {tag!r} is called {name!r} here")
                taken.add(name)
            mine.append(name)
        names[revision.id] = tuple(mine)
    return names


def _is_free(name: str, branch: str) -> bool:
    return is_ref_name(name) and name != branch


def _named(tag: str, branch: str) -> str:
    """The name for a tag whose own cannot be; '' if there is none."""
    name = _NOT_IN_NAMES.sub("-", tag)[:MAX_REF_NAME_CHARACTERS]
    if not _is_free(name, branch):
        name = f"tag-{name}"[:MAX_REF_NAME_CHARACTERS]
    return name if _is_free(name, branch) else ""
