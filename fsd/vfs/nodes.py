"""Nodes that are not in a tree: the top, repositories, the symlinks of branches, version directories, `/.fsd`.

Ordinary objects, since there are few of them. A node never changes: what can move gets another node with another number
when it has moved, so the kernel may cache each for as long as it knows it. Two requests for the same thing get the same
node while it is looked up; a virtual file is a node of its own for each lookup.

Numbers are never used twice. This owns no policy and no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from fsd.format.keys import is_repository_name
from fsd.ids import content_id
from fsd.repo.rules import Rule
from fsd.vfs.attributes import DIRECTORY_MODE, FILE_MODE, FILE_MTIME_NS, ROOT_INO, SYMLINK_MODE, WRITABLE
from fsd.vfs.inodes import FIRST_TREE_INO


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
    view: str = ""
    """The view that it is seen in, if any: whose files are nobody else's (`fsd.vfs.toplevel`)."""

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that tell it from every other; the keys of the directories below it start from this."""
        parts = [self.repository, self.label, self.commit.hex(), self.tree_of.hex()]
        if self.view:
            parts.append(self.view)
        return content_id("\0".join(parts).encode())

    def __hash__(self) -> int:
        # Asked for at every lookup below it.
        return hash(self.digest)


class Node:
    """What all of them have. `key` is what makes two nodes the same, None for one that equals nothing."""

    __slots__ = ("ino", "key", "lookups", "size")
    mode: ClassVar[int] = DIRECTORY_MODE
    mtime_ns: int = FILE_MTIME_NS

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
    """`/.views`: every view that anybody may ask for, none of them listed."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__((ViewsNode,))


class ViewNode(Node):
    """The top of a view: repositories again."""

    __slots__ = ("view",)

    def __init__(self, view: str) -> None:
        super().__init__((ViewNode, view))
        self.view = view


class RepositoryNode(Node):
    """A repository: its branches, tags and subsets."""

    __slots__ = ("name", "view")

    def __init__(self, name: str, view: str = "") -> None:
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
    """The same in a view: to be written to, once an overlay lies over it."""

    __slots__ = ()
    mode = DIRECTORY_MODE | WRITABLE


class VirtualDirectoryNode(Node):
    """`/.fsd`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__((VirtualDirectoryNode,))


class VirtualFileNode(Node):
    """A file that was made up when it was looked up, and does not change any more."""

    __slots__ = ("content", "mtime_ns")
    mode = FILE_MODE

    def __init__(self, content: bytes, mtime_ns: int) -> None:
        super().__init__(None, len(content))
        self.content = content
        self.mtime_ns = mtime_ns


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

    def forget(self, ino: int, count: int) -> None:
        """Undo `count` lookups. A number that is not there is ignored."""
        node = self._by_ino.get(ino)
        if node is None or node is self.root:
            return
        node.lookups -= count
        if node.lookups <= 0:
            del self._by_ino[ino]
            if node.key is not None:
                del self._by_key[node.key]
            # Somebody may be about to remember it again; that is then another number.
            node.ino = node.lookups = 0
