"""What a pin's link says: `MOUNTPOINT/REPO/REV[+SUBSET][/PATH]`. Text only; nothing here looks at a disk.

The text begins with the manifest's mountpoint wherever the store is mounted on this machine: it is the same for
everybody, and Git sees a change where the data changed and nowhere else.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fsd.format.keys import is_repository_name
from fsd.ids import ID_HEX_DIGITS, is_commit_prefix
from fsd.repo.dates import DATED


class Target(NamedTuple):
    """Where a pin leads. `subset` and `path` are '' where there is none."""

    repository: str
    base: str
    """A commit's full id, as `fsd pin` writes it; by hand, whatever names a revision."""
    subset: str = ""
    path: str = ""
    """Below the revision; names that are not UTF-8 are surrogate-escaped."""

    @property
    def is_fixed(self) -> bool:
        """Whether it names its commit by the full id."""
        return len(self.base) == ID_HEX_DIGITS and is_commit_prefix(self.base)

    @property
    def revision(self) -> str:
        """`REV[+SUBSET]`."""
        return f"{self.base}+{self.subset}" if self.subset else self.base

    def text(self, mountpoint: str) -> str:
        """What the symlink holds."""
        return "/".join(part for part in (mountpoint, self.repository, self.revision, self.path) if part)


def parse_target(text: str, mountpoint: str) -> Target | None:
    """What the symlink's text `text` means; None if it is no pin.

    It is one if it leads below the mountpoint, into a repository. What is wrong with its revision shows later.
    """
    if not text.startswith(mountpoint + "/"):
        return None
    below = os.path.normpath(text.removeprefix(mountpoint).lstrip("/"))
    repository, _, rest = below.partition("/")
    revision, _, path = rest.partition("/")
    if not revision or not is_repository_name(repository):
        return None
    dated = DATED.match(revision)
    base = dated[0] if dated else revision.partition("+")[0]
    return Target(repository, base, revision[len(base) + 1 :], path)
