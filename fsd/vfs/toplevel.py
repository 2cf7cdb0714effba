"""What lies above versions: the top, repositories and their refs, `/.fsd`, views. Lookups and listings of these
directories.

Makes the nodes; what refs mean is `versions`' business, how old an answer may be `refcache`'s. Names here can move, so
the kernel is told to ask again after `limits.entry_timeout_s`; a node itself never changes, so its attributes hold.

A *view* is everything once more, at `/.views/<16 hex digits>/`, with directories and files of its own: a file's number
follows from the view, the version and the path, so that no two names have one inode. An overlay needs that: over two
names with one inode it gives a write to one of them to both. Whoever wants a view makes up its digits; nobody has to be
told, so it is there again after a restart.

A listing goes on by numbers that each name keeps, in the order in which names were first seen: whatever comes or goes
in between, no name is shown twice or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fsd.clock import Clock
from fsd.format.keys import is_repository_name
from fsd.limits import Limits
from fsd.repo.repository import Repositories
from fsd.vfs.attributes import Attributes, Listing, Missing
from fsd.vfs.nodes import (
    LinkNode,
    Node,
    Nodes,
    RepositoryNode,
    RootNode,
    Version,
    VersionNode,
    ViewedVersionNode,
    ViewNode,
    ViewsNode,
    VirtualDirectoryNode,
    VirtualFileNode,
)
from fsd.vfs.refcache import RefCache
from fsd.vfs.versions import Link, Versions
from fsd.vfs.virtual import DIRECTORY_NAME, VirtualFiles

VIEWS_NAME = b".views"
_VIEW = re.compile(rb"[0-9a-f]{16}")


class TopLevel:
    """See the module. Raises CorruptDataError and StoreUnreachableError where an answer cannot be had."""

    def __init__(
        self, repositories: Repositories, refs: RefCache, virtual: VirtualFiles, limits: Limits, clock: Clock
    ) -> None:
        self._repositories = repositories
        self._refs = refs
        self.versions = Versions(repositories, refs)
        """What names in repositories mean."""
        self._virtual = virtual
        self._limits = limits
        self._clock = clock
        self._cookies: dict[str, dict[bytes, int]] = {}
        self.nodes = Nodes()

    def attributes(self, node: Node, entry_timeout_s: float) -> Attributes:
        """Those of a node that has its number."""
        return Attributes(
            node.ino, node.mode, node.size, node.mtime_ns, entry_timeout_s, self._limits.immutable_timeout_s
        )

    async def load_time(self, node: VersionNode) -> None:
        """Give a version directory its commit's time."""
        if not node.is_dated:
            node.set_time((await self._repositories.commit(node.version.tree_of)).time_us)

    # --- lookups

    async def lookup(self, parent: Node, name: bytes) -> Attributes | Missing | None:
        """A name in a directory that is not of a version; None if `parent` is no such directory."""
        if isinstance(parent, RepositoryNode):
            return await self._lookup_version(parent, name)
        if isinstance(parent, RootNode):
            return self._lookup_hidden(name) or await self._lookup_repository(name, "")
        if isinstance(parent, ViewNode):
            return await self._lookup_repository(name, parent.view)
        if isinstance(parent, ViewsNode):
            return self._lookup_view(name)
        if isinstance(parent, VirtualDirectoryNode):
            return self._lookup_virtual(name)
        return None

    def _lookup_hidden(self, name: bytes) -> Attributes | None:
        """What the top has besides repositories, and does not list."""
        if name not in (DIRECTORY_NAME, VIEWS_NAME):
            return None
        node = VirtualDirectoryNode() if name == DIRECTORY_NAME else ViewsNode()
        return self.attributes(self.nodes.remember(node), self._limits.immutable_timeout_s)

    def _lookup_view(self, name: bytes) -> Attributes | Missing:
        forever = self._limits.immutable_timeout_s
        if not _VIEW.fullmatch(name):
            return Missing(forever)
        return self.attributes(self.nodes.remember(ViewNode(name.decode())), forever)

    async def _lookup_repository(self, name: bytes, view: str) -> Attributes | Missing:
        forever = self._limits.immutable_timeout_s
        text = _text(name)
        if not is_repository_name(text):
            return Missing(forever)
        if not await self._refs.has_repository(text):
            return Missing(self._limits.entry_timeout_s)
        return self.attributes(self.nodes.remember(RepositoryNode(text, view)), self._limits.entry_timeout_s)

    async def _lookup_version(self, repository: RepositoryNode, name: bytes) -> Attributes | Missing:
        text = _text(name)
        named = await self.versions.find(repository.name, text) if text else None
        if named is None:
            return Missing(self._limits.entry_timeout_s)
        timeout_s = self._limits.immutable_timeout_s if named.is_fixed else self._limits.entry_timeout_s
        if isinstance(named.node, Version):
            # A version whose commit cannot be had is an error here, not below it.
            await self._repositories.commit(named.node.tree_of)
        return self.attributes(self.nodes.remember(self._node(repository, text, named.node)), timeout_s)

    def _lookup_virtual(self, name: bytes) -> Attributes | Missing:
        content = self._virtual.render(name)
        if content is None:
            return Missing(self._limits.immutable_timeout_s)
        # No lifetime for the name: the next lookup is to find what holds then.
        return self.attributes(self.nodes.remember(VirtualFileNode(content, self._clock() * 1000)), 0.0)

    def _node(self, repository: RepositoryNode, name: str, meant: Link | Version) -> Node:
        if isinstance(meant, Link):
            return LinkNode(repository.name, name, meant.target)
        seen = ViewedVersionNode(replace(meant, view=repository.view)) if repository.view else VersionNode(meant)
        node = self.nodes.same(seen)
        header = self._repositories.objects.commit_nowait(meant.tree_of)
        if header is not None and isinstance(node, VersionNode):
            node.set_time(header[0].time_us)
        return node

    # --- listings

    async def list(self, directory: Node, start: int) -> Listing | None:
        """Entries after number `start`; None if `directory` is no directory outside of versions."""
        timeout_s = self._limits.entry_timeout_s
        if isinstance(directory, RepositoryNode):
            listed = await self.versions.list(directory.name)
            nodes = [(name.encode(), self._node(directory, name, meant)) for name, meant in listed]
            if not all(node.is_dated for _, node in nodes if isinstance(node, VersionNode)):
                # Loading every commit to show its time would cost a request a tag. Who wants to know asks again.
                timeout_s = 0.0
            return Listing(self._entries(self._numbered(directory.name, nodes), start), timeout_s)
        if isinstance(directory, ViewsNode):
            return Listing(iter(()), self._limits.immutable_timeout_s)
        if isinstance(directory, RootNode | ViewNode):
            names = await self._refs.repositories()
            view = directory.view if isinstance(directory, ViewNode) else ""
            repositories = [(name.encode(), RepositoryNode(name, view)) for name in names]
            return Listing(self._entries(self._numbered("", repositories), start), timeout_s)
        if isinstance(directory, VirtualDirectoryNode):
            now_ns = self._clock() * 1000
            files = [(name, VirtualFileNode(self._virtual.render(name) or b"", now_ns)) for name in self._virtual.names]
            return Listing(self._entries(enumerate(files, 1), start), 0.0)
        return None

    def _numbered(
        self, directory: str, nodes: Iterable[tuple[bytes, Node]]
    ) -> Sequence[tuple[int, tuple[bytes, Node]]]:
        numbers = self._cookies.setdefault(directory, {})
        return sorted(
            ((numbers.setdefault(name, len(numbers) + 1), (name, node)) for name, node in nodes),
            key=lambda row: row[0],
        )

    def _entries(
        self, rows: Iterable[tuple[int, tuple[bytes, Node]]], start: int
    ) -> Iterator[tuple[bytes, int, int, int, int, int]]:
        for number, (name, listed) in rows:
            if number > start:
                node = self.nodes.remember(listed)
                yield name, node.ino, node.mode, node.size, node.mtime_ns, number


def _text(name: bytes) -> str:
    """The name as text; '' if it is none that a repository or revision could have."""
    return name.decode() if name.isascii() else ""
