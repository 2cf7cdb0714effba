"""What is asked about a pin and what is found, also as JSON: the daemon of a mount can be asked as well as a store.

Cheap to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsd.errors import UsageError
from fsd.ids import parse_id
from fsd.pins.links import Target


@dataclass(frozen=True, slots=True)
class Question:
    """A pin to be examined."""

    target: Target
    branch: str
    """That it follows."""
    is_here: bool = False
    """Its path exists on this machine, so that nobody needs to look for it in the store."""

    def to_json(self) -> dict[str, Any]:
        """`from_json` reads it."""
        return {**self.target._asdict(), "branch": self.branch, "is_here": self.is_here}

    @classmethod
    def from_json(cls, value: object) -> Question:
        """What `to_json` gave. Raises UsageError for anything else."""
        names = (*Target._fields, "branch")
        if not isinstance(value, Mapping) or value.keys() != {*names, "is_here"}:
            raise UsageError(f"a question about a pin has the members {', '.join(names)} and is_here")
        if not all(isinstance(value[name], str) for name in names) or not isinstance(value["is_here"], bool):
            raise UsageError("a member of a question about a pin is of the wrong type")
        return cls(Target(*(value[name] for name in Target._fields)), value["branch"], value["is_here"])


@dataclass(frozen=True, slots=True)
class Findings:
    """What the store says of a pin."""

    commit: bytes | None
    """None if its revision means nothing."""
    tags: tuple[str, ...]
    """That name the commit, sorted."""
    has_branch: bool
    behind: int | None
    """How often the branch was moved since it named the commit last; None if it never did."""
    problem: str
    """Why the pin will not do, and what to do about it; '' if it is sound."""
    size_bytes: int | None = None
    cached_bytes: int | None = None
    """What there is at its path, and how much of that a mount's cache has. None where nobody could say, or not soon."""

    def to_json(self) -> dict[str, Any]:
        """`from_json` reads it."""
        return {
            "commit": self.commit.hex() if self.commit is not None else None,
            "tags": list(self.tags),
            "has_branch": self.has_branch,
            "behind": self.behind,
            "problem": self.problem,
            "size_bytes": self.size_bytes,
            "cached_bytes": self.cached_bytes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Findings:
        """What `to_json` gave."""
        commit = parse_id(value["commit"]) if value["commit"] is not None else None
        return cls(**{**value, "commit": commit, "tags": tuple(value["tags"])})
