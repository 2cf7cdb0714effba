"""What names above versions mean now, as a mount would show them: the store is asked, and not what a mount remembers.

Each is asked for once, however many inputs of however many runs want to know. Raises what a store raises, and
CorruptDataError.
"""

from __future__ import annotations

from fsd.errors import UsageError
from fsd.format.inputs import VersionInputs, digest_of_names
from fsd.repo.differences import Part
from fsd.repo.filtered import FilteredTree
from fsd.repo.repository import Repositories
from fsd.repo.revisions import parse_revision
from fsd.repo.rules import parse_builtin
from fsd.vfs.nodes import Version
from fsd.vfs.refcache import RefCache
from fsd.vfs.versions import Link, Versions


class Meanings:
    """See the module. For the tasks of one trio loop."""

    def __init__(self, repositories: Repositories, refs: RefCache) -> None:
        """`refs` is to be new: it knows nothing yet."""
        self._repositories = repositories
        refs.prime_runs()
        self._refs = refs
        self._versions = Versions(repositories, refs)
        self.read_ahead_pages = repositories.limits.listing_read_ahead_pages
        self._found: dict[tuple[str, str], Link | Version | None] = {}

    async def find(self, repository: str, name: str) -> Link | Version | None:
        """What `name` means in a repository's directory; None if nothing."""
        key = (repository, name)
        if key not in self._found:
            named = None
            if name.isascii() and await self._refs.has_repository(repository):
                named = await self._versions.find(repository, name)
            self._found[key] = named and named.node
        return self._found[key]

    async def version(self, repository: str, name: str) -> Version | None:
        """The version that `name` means or leads to."""
        meant = await self.find(repository, name)
        if isinstance(meant, Link):
            meant = await self.find(repository, meant.target)
        return meant if isinstance(meant, Version) else None

    async def has_repository(self, repository: str) -> bool:
        """Whether it is there."""
        return await self._refs.has_repository(repository)

    async def listing(self, repository: str) -> bytes:
        """32 bytes that tell what a listing shows: of a repository, or of the top for ''."""
        if not repository:
            return digest_of_names((name, False) for name in await self._refs.repositories())
        listed = await self._versions.list(repository) if await self.has_repository(repository) else ()
        return digest_of_names((name, isinstance(meant, Link)) for name, meant in listed)

    async def tree(self, version: Version) -> Part:
        """The tree that a version shows."""
        tree = await self._repositories.tree(version.tree_of)
        return tree if version.rule is None else FilteredTree(tree, version.rule)

    async def seen_tree(self, inputs: VersionInputs) -> Part | None:
        """The tree that inputs were seen in; None where a rule filtered it that is not known any more: of a subset that
        follows a branch, and that nobody had taken."""
        subset = parse_revision(inputs.name).subset
        tree = await self._repositories.tree(inputs.commit)
        if subset is None:
            return tree
        try:
            rule = parse_builtin(subset, self._repositories.marker.keep)
        except UsageError:
            return None
        if rule is not None:
            return FilteredTree(tree, rule)
        return tree if (await self._repositories.commit(inputs.commit)).is_subset else None
