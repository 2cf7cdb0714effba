"""Nodes that are not in a tree: the top, repositories, the symlinks of branches, version directories, `/.fsd`.

Ordinary objects, since there are few of them. A node never changes: what can move gets another node with another number
when it has moved, so the kernel may cache each for as long as it knows it. Two requests for the same thing get the same
node while it is looked up; a virtual file is a node of its own for each lookup.

Numbers are never used twice. This owns no policy and no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from fsd.format.keys import is_repository_name
from fsd.format.run import RunName
from fsd.ids import content_id
from fsd.repo.rules import Rule
from fsd.vfs.attributes import DIRECTORY_MODE, FILE_MODE, FILE_MTIME_NS, ROOT_INO, SYMLINK_MODE, WRITABLE
from fsd.vfs.inodes import FIRST_TREE_INO
from fsd.vfs.observation import Observation, ShownVersion


@dataclass(frozen=True)
class View:
    """Everything once more (`fsd.vfs.toplevel`): for an edit or, with an observation, for a run."""

    name: str
    """That no other has, nor had."""
    observation: Observation | None = field(default=None, compare=False)
    """The recorder of what is asked for in a run's view."""

    @property
    def owns_files(self) -> bool:
        """Whether its files are nobody else's, and may be written to once an overlay lies over it."""
        return self.observation is None


@dataclass(frozen=True)
class Version:
    """A version directory: what it shows and under which name. Equal ones are the same directory."""

    repository: str
    label: str
    """Its name in the repository's directory."""
    commit: bytes
    """The commit, or the one that the subset was taken from."""
    tree_of: bytes
    """The object with its tree: the commit, or a named subset."""
    rule: Rule | None = None
    """Of a built-in subset: what to leave out of that tree."""
    tag: str = ""
    subset: str = ""
    """The part after the `+`."""
    view: View | None = None
    """The view that it is seen in, if any."""

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that tell it from every other; the keys of the directories below it start from this."""
        parts = [self.repository, self.label, self.commit.hex(), self.tree_of.hex()]
        if self.view is not None:
            parts.append(self.view.name)
        return content_id("\0".join(parts).encode())

    @cached_property
    def shown(self) -> ShownVersion:
        """As an observation names it."""
        return ShownVersion(self.repository, self.label, self.tree_of)

    @property
    def observation(self) -> Observation | None:
        """Of the view, if there is one."""
        return None if self.view is None else self.view.observation

    def __hash__(self) -> int:
        # Asked for at every lookup below it.
        return hash(self.digest)


class Node:
    """What all of them have. `key` is what makes two nodes the same, None for one that equals nothing."""

    __slots__ = ("ino", "key", "lookups", "size")
    mode: ClassVar[int] = DIRECTORY_MODE
    mtime_ns: int = FILE_MTIME_NS
    view: View | None = None
    """That it belongs to; a version says its own."""

    def __init__(self, key: object, size: int = 0) -> None:
        self.key = key
        self.size = size
        self.ino = 0
        """Given by `Nodes`."""
        self.lookups = 0


class RootNode(Node):
    """The top: repositories."""

    __slots__ = ()


class ViewsNode(Node):
    """`.views` of the top or of a run's view: every view that anybody may ask for, none of them listed."""

    __slots__ = ("view",)

    def __init__(self, view: View | None = None) -> None:
        super().__init__(self.key_of(view))
        self.view = view

    @staticmethod
    def key_of(view: View | None) -> object:
        """What it is known by."""
        return ViewsNode, view


class ViewNode(Node):
    """The top of a view: repositories again."""

    __slots__ = ("name", "outer", "view")
    view: View

    def __init__(self, view: View, outer: View | None, name: str) -> None:
        """`name` is what it is called in the `.views` of the view `outer`, or of the top."""
        super().__init__(self.key_of(outer, name))
        self.view = view
        self.outer = outer
        self.name = name

    @staticmethod
    def key_of(outer: View | None, name: str) -> object:
        """What the node of that name is known by."""
        return ViewNode, outer, name


class RepositoryNode(Node):
    """A repository: its branches, tags and subsets."""

    __slots__ = ("name", "view")

    def __init__(self, name: str, view: View | None = None) -> None:
        assert is_repository_name(name)
        super().__init__((RepositoryNode, name, view))
        self.name = name
        self.view = view


class LinkNode(Node):
    """A branch, a commit's prefix or a date, as it stood when it was looked up: once moved it is another node."""

    __slots__ = ("target",)
    mode = SYMLINK_MODE

    def __init__(self, repository: str, name: str, target: str) -> None:
        super().__init__((LinkNode, repository, name, target), len(target))
        self.target = target


class VersionNode(Node):
    """The directory of a version: the top of its tree."""

    __slots__ = ("is_dated", "mtime_ns", "version")

    def __init__(self, version: Version) -> None:
        super().__init__(version)
        self.version = version
        self.mtime_ns = FILE_MTIME_NS
        self.is_dated = False
        """Whether the time is the commit's. A listing does not load commits to show their times."""

    def set_time(self, time_us: int) -> None:
        """The commit's time, in microseconds since 1970 UTC."""
        self.mtime_ns = time_us * 1000
        self.is_dated = True


class ViewedVersionNode(VersionNode):
    """The same in an edit's view: to be written to, once an overlay lies over it."""

    __slots__ = ()
    mode = DIRECTORY_MODE | WRITABLE


class VirtualDirectoryNode(Node):
    """`.fsd` of the top or of a run's view."""

    __slots__ = ("view",)

    def __init__(self, view: View | None = None) -> None:
        super().__init__((VirtualDirectoryNode, view))
        self.view = view


class VirtualFileNode(Node):
    """A file that was made up when it was looked up, and does not change any more."""

    __slots__ = ("content", "mtime_ns")
    mode = FILE_MODE

    def __init__(self, content: bytes, mtime_ns: int) -> None:
        super().__init__(None, len(content))
        self.content = content
        self.mtime_ns = mtime_ns


class RunsNode(Node):
    """`.runs` of the top or of a run's view: every run of the store."""

    __slots__ = ("view",)

    def __init__(self, view: View | None = None) -> None:
        super().__init__((RunsNode, view))
        self.view = view


class RunNode(Node):
    """A run: its record as files."""

    __slots__ = ("name", "view")

    def __init__(self, name: RunName, view: View | None = None) -> None:
        super().__init__((type(self), name, view))
        self.name = name
        self.view = view


class RunInputsNode(RunNode):
    """A run's `inputs`: the versions that it read."""

    __slots__ = ()


class RunFileNode(VirtualFileNode):
    """A file that tells of a run: the same node for as long as it says the same."""

    __slots__ = ()

    def __init__(self, name: RunName, content: bytes, mtime_ns: int) -> None:
        super().__init__(content, mtime_ns)
        self.key = RunFileNode, name, content_id(content)


class Nodes:
    """Nodes by number, from when the kernel is given one until it forgets it. The top stays."""

    def __init__(self) -> None:
        self.root = RootNode((RootNode,))
        self.root.ino = ROOT_INO
        self._by_ino: dict[int, Node] = {ROOT_INO: self.root}
        self._by_key: dict[object, Node] = {}
        self._next = ROOT_INO + 1

    def __len__(self) -> int:
        return len(self._by_ino)

    def get(self, ino: int) -> Node | None:
        """The node of a number."""
        return self._by_ino.get(ino)

    def known(self, key: object) -> Node | None:
        """The node with that key."""
        return self._by_key.get(key)

    def same(self, node: Node) -> Node:
        """The node that is known and the same as `node`, if there is one; else `node`."""
        return self._by_key.get(node.key, node)

    def remember(self, node: Node) -> Node:
        """Count a lookup of `node`, or of the one that is the same and already known; returns that with its number."""
        if node.key is not None:
            node = self._by_key.setdefault(node.key, node)
        if not node.ino:
            node.ino = self._next
            self._next += 1
            assert node.ino < FIRST_TREE_INO
            self._by_ino[node.ino] = node
        node.lookups += 1
        return node

    def forget(self, ino: int, count: int) -> Node | None:
        """Undo `count` lookups; returns the node if nobody knows it any more. A number that is not there is ignored."""
        node = self._by_ino.get(ino)
        if node is None or node is self.root:
            return None
        node.lookups -= count
        if node.lookups > 0:
            return None
        del self._by_ino[ino]
        if node.key is not None:
            del self._by_key[node.key]
        # Somebody may be about to remember it again; that is then another number.
        node.ino = node.lookups = 0
        return node
