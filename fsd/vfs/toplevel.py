"""What lies above versions: the top, repositories and their refs, `/.fsd`, views. Lookups and listings of these
directories. (`/.runs` has a module of its own, `fsd.vfs.runs_folder`.)

Makes the nodes; what refs mean is `versions`' business, how old an answer may be `refcache`'s. Names here can move, so
the kernel is told to ask again after `limits.entry_timeout_s`; a node itself never changes, so its attributes hold.

A *view* is everything once more, with directories of its own. Whoever wants one makes up its name. There are two kinds:

    /.views/<16 hex digits>/        an edit's. Files are its own too: a file's number follows from the view, the version
                                    and the path, so that no two names have one inode. An overlay needs that: over two
                                    names with one inode it gives a write to one of them to both. Nobody has to be told
                                    of it, so it is there again after a restart.
    /.views/r<32 hex digits>/       a run's. Files are those of everybody, but whatever is asked for in it is told to
                                    its observation (`fsd.vfs.observation`), which is there from the first lookup of
                                    the view until somebody looks up `.fsd/end` in it, or the kernel forgets its top.
                                    `.fsd/inputs` shows it. It stands in the place of the top, and so has `.fsd`,
                                    `.views` and `.runs` as that does: of a view in there, the observation around it is
                                    told, too.

A listing goes on by numbers that each name keeps, in the order in which names were first seen: whatever comes or goes
in between, no name is shown twice or left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from fsd.clock import Clock
from fsd.format.inputs import digest_of_names
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
    RunsNode,
    Version,
    VersionNode,
    View,
    ViewedVersionNode,
    ViewNode,
    ViewsNode,
    VirtualDirectoryNode,
    VirtualFileNode,
)
from fsd.vfs.observation import TOP, Observation, ObservationRoom
from fsd.vfs.refcache import RefCache
from fsd.vfs.runs_folder import RUNS
from fsd.vfs.versions import Link, Named, Versions
from fsd.vfs.virtual import DIRECTORY_NAME, END_NAME, INPUTS_NAME, VirtualFiles, render_inputs

VIEWS_NAME = b".views"
_EDITS_VIEW = re.compile(rb"[0-9a-f]{16}")
_RUNS_VIEW = re.compile(rb"r[0-9a-f]{32}")

_HIDDEN: Mapping[bytes, Callable[[View | None], Node]] = {
    DIRECTORY_NAME: VirtualDirectoryNode,
    VIEWS_NAME: ViewsNode,
    RUNS.encode(): RunsNode,
}

_UNKNOWN_INO = 1 << 60
"""What a listing that teaches nothing shows from here on as numbers of nodes that have none."""

ForgetEntry = Callable[[int, bytes], None]
"""Asks the kernel to forget a name in a directory, and all below it that nobody uses. Does not wait."""


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
        self.observations = ObservationRoom(limits.observed_runs, limits.observed_bytes)
        self.forget_entry: ForgetEntry | None = None
        """If there are views of runs: asks the kernel to forget a name."""
        self._run_views: dict[View, ViewNode] = {}
        self.shows_runs = False
        """Whether there is `.runs`."""
        self._serials = count(1)

    def change_limits(self, limits: Limits) -> None:
        """Heed these from now on: how long the kernel may believe a name."""
        self._limits = limits

    def attributes(self, node: Node, entry_timeout_s: float) -> Attributes:
        """Those of a node that has its number."""
        return Attributes(
            node.ino, node.mode, node.size, node.mtime_ns, entry_timeout_s, self._limits.immutable_timeout_s
        )

    async def load_time(self, node: VersionNode) -> None:
        """Give a version directory its commit's time."""
        if not node.is_dated:
            node.set_time((await self._repositories.commit(node.version.tree_of)).time_us)

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel gives lookups back. With a run's view its observation goes."""
        gone = self.nodes.forget(ino, lookups)
        if isinstance(gone, ViewNode) and gone.view.observation is not None:
            self._run_views.pop(gone.view, None)
            self.observations.end(gone.view.observation)

    def _give_up(self, node: ViewNode) -> None:
        """Ask the kernel to forget a view; it does so once nobody uses it any more."""
        parent = self.nodes.known(ViewsNode.key_of(node.outer))
        if self.forget_entry is not None and parent is not None:
            self.forget_entry(parent.ino, node.name.encode())

    # --- lookups

    async def lookup(self, parent: Node, name: bytes) -> Attributes | Missing | None:
        """A name in a directory that is not of a version; None if `parent` is no such directory."""
        if isinstance(parent, RepositoryNode):
            return await self._lookup_version(parent, name)
        if isinstance(parent, RootNode | ViewNode):
            view = parent.view if isinstance(parent, ViewNode) else None
            return self._lookup_hidden(name, view) or await self._lookup_repository(name, view)
        if isinstance(parent, ViewsNode):
            return self._lookup_view(name, parent.view)
        if isinstance(parent, VirtualDirectoryNode):
            return await self._lookup_virtual(name, parent.view)
        return None

    def _lookup_hidden(self, name: bytes, view: View | None) -> Attributes | None:
        """What the top and runs' views have besides repositories, and do not list."""
        make_node = _HIDDEN.get(name)
        is_shown = self.shows_runs or make_node is not RunsNode
        if make_node is None or not is_shown or (view is not None and view.owns_files):
            return None
        node = make_node(view)
        return self.attributes(self.nodes.remember(node), self._limits.immutable_timeout_s)

    def _lookup_view(self, name: bytes, outer: View | None) -> Attributes | Missing:
        forever = self._limits.immutable_timeout_s
        text = _text(name)
        node = self.nodes.known(ViewNode.key_of(outer, text))
        if node is None:
            view = self._new_view(name, text, outer)
            if view is None:
                return Missing(forever)
            node = ViewNode(view, outer, text)
            if view.observation is not None:
                self._run_views[view] = node
        return self.attributes(self.nodes.remember(node), forever)

    def _new_view(self, name: bytes, text: str, outer: View | None) -> View | None:
        """The view that begins with the lookup of that name; None if it is no view's."""
        around = None if outer is None else outer.observation
        if _EDITS_VIEW.fullmatch(name):
            if around is not None:
                around.fail("an edit was begun or resumed in it, and what is read by that is not seen")
            return View(text)
        depth = 0 if around is None else around.depth
        if self.forget_entry is None or depth >= self._limits.observed_depth or not _RUNS_VIEW.fullmatch(name):
            return None
        if len(self.observations) >= self._limits.observed_runs:
            # Runs that were killed leave views that the kernel sees no reason to forget.
            for node in self._run_views.values():
                self._give_up(node)
        # Another one each time: what is left of an earlier one of that name tells nobody anything.
        return View(f"{text}.{next(self._serials)}", self.observations.enter(around))

    async def _lookup_repository(self, name: bytes, view: View | None) -> Attributes | Missing:
        forever = self._limits.immutable_timeout_s
        text = _text(name)
        if not is_repository_name(text):
            return Missing(forever)
        is_there = await self._refs.has_repository(text)
        if view is not None and view.observation is not None:
            view.observation.named(text, "", "" if is_there else None)
        if not is_there:
            return Missing(self._limits.entry_timeout_s)
        return self.attributes(self.nodes.remember(RepositoryNode(text, view)), self._limits.entry_timeout_s)

    async def _lookup_version(self, repository: RepositoryNode, name: bytes) -> Attributes | Missing:
        text = _text(name)
        named = await self.versions.find(repository.name, text) if text else None
        if text and repository.view is not None and repository.view.observation is not None:
            self._observe_version(repository.view.observation, repository.name, text, named)
        if named is None:
            return Missing(self._limits.entry_timeout_s)
        timeout_s = self._limits.immutable_timeout_s if named.is_fixed else self._limits.entry_timeout_s
        if isinstance(named.node, Version):
            # A version whose commit cannot be had is an error here, not below it.
            await self._repositories.commit(named.node.tree_of)
        return self.attributes(self.nodes.remember(self._node(repository, text, named.node)), timeout_s)

    def _observe_version(self, observation: Observation, repository: str, name: str, named: Named | None) -> None:
        """Tell of what a name in a repository's directory means."""
        if named is None:
            observation.named(repository, name, None)
        elif isinstance(named.node, Link):
            observation.named(repository, name, named.node.target)
        else:
            observation.named(repository, name, "", named.node.tree_of)
            observation.saw(named.node.shown, TOP)
            if not self.versions.is_settled(named.node):
                observation.fail(f"{repository}/{name} was not taken yet from what the branch has that it follows")

    async def _lookup_virtual(self, name: bytes, view: View | None) -> Attributes | Missing:
        if name == INPUTS_NAME and view is not None and view.observation is not None:
            content: bytes | None = await render_inputs(view.observation)
        elif name == END_NAME and view is not None and view.observation is not None:
            self.observations.end(view.observation)
            self._give_up(self._run_views[view])
            return Missing(0.0)
        else:
            content = self._virtual.render(name)
        if content is None:
            return Missing(self._limits.immutable_timeout_s)
        # No lifetime for the name: the next lookup is to find what holds then.
        return self.attributes(self.nodes.remember(VirtualFileNode(content, self._clock() * 1000)), 0.0)

    def _node(self, repository: RepositoryNode, name: str, meant: Link | Version) -> Node:
        if isinstance(meant, Link):
            return LinkNode(repository.name, name, meant.target)
        view = repository.view
        if view is not None:
            meant = replace(meant, view=view)
        node = self.nodes.same(ViewedVersionNode(meant) if view is not None and view.owns_files else VersionNode(meant))
        header = self._repositories.objects.commit_nowait(meant.tree_of)
        if header is not None and isinstance(node, VersionNode):
            node.set_time(header[0].time_us)
        return node

    # --- listings

    async def list(self, directory: Node, start: int) -> Listing | None:
        """Entries after number `start`; None if `directory` is no directory outside of versions."""
        timeout_s = self._limits.entry_timeout_s
        if isinstance(directory, RepositoryNode):
            view, listed = directory.view, await self.versions.list(directory.name)
            if view is not None and view.observation is not None:
                names = digest_of_names((name, isinstance(meant, Link)) for name, meant in listed)
                view.observation.enumerated(directory.name, names)
            nodes = [(name.encode(), self._node(directory, name, meant)) for name, meant in listed]
            if not all(node.is_dated for _, node in nodes if isinstance(node, VersionNode)):
                # Loading every commit to show its time would cost a request a tag. Who wants to know asks again.
                timeout_s = 0.0
            return self._listing(self._numbered(directory.name, nodes), start, timeout_s, view)
        if isinstance(directory, ViewsNode):
            return Listing(iter(()), self._limits.immutable_timeout_s)
        if isinstance(directory, RootNode | ViewNode):
            view, known = directory.view if isinstance(directory, ViewNode) else None, await self._refs.repositories()
            if view is not None and view.observation is not None:
                view.observation.enumerated("", digest_of_names((name, False) for name in known))
            repositories = [(name.encode(), self.nodes.same(RepositoryNode(name, view))) for name in known]
            return self._listing(self._numbered("", repositories), start, timeout_s, view)
        if isinstance(directory, VirtualDirectoryNode):
            now_ns = self._clock() * 1000
            files = [(name, VirtualFileNode(self._virtual.render(name) or b"", now_ns)) for name in self._virtual.names]
            return self._listing(enumerate(files, 1), start, 0.0, None)
        return None

    def _listing(
        self, rows: Iterable[tuple[int, tuple[bytes, Node]]], start: int, timeout_s: float, view: View | None
    ) -> Listing:
        if view is None or view.owns_files:
            return Listing(self._entries(rows, start), timeout_s)
        shown = (
            (name, node.ino or _UNKNOWN_INO + number, node.mode, node.size, node.mtime_ns, number)
            for number, (name, node) in rows
            if number > start
        )
        return Listing(shown, timeout_s, is_shown_only=True)

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
