"""Rules of subsets: which files of a tree are in. Signatures only so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """How a subset's files are chosen."""

    sample_percent: Decimal | None = None
    """0 < P < 100, at most 6 decimals."""
    limit: int | None = None
    per_dir: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    paths: tuple[bytes, ...] | None = None
    seed: int = 0

    @property
    def per_entry(self) -> bool:
        """Whether an entry's path alone decides: then the rule can be applied while reading."""
        return self.limit is None and self.per_dir is None

    def to_json(self) -> dict[str, Any]:
        """Canonical: equal rules give equal JSON."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Rule:
        """Raises UsageError."""
        raise NotImplementedError


def parse_builtin(name: str, keep: tuple[str, ...]) -> Rule | None:
    """The rule of a built-in subset such as `10pct` or `0.5pct`; None for another name. Raises UsageError."""
    raise NotImplementedError
