"""Nodes outside of trees: which are the same, and how long they live."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsd.ids import content_id
from fsd.vfs.attributes import ROOT_INO
from fsd.vfs.nodes import LinkNode, Nodes, RepositoryNode, Version, VersionNode, VirtualFileNode

COMMIT, OTHER = content_id(b"commit"), content_id(b"other")
VERSION = Version("data", "v1", COMMIT, COMMIT, tag="v1")


def test_the_same_thing_has_the_same_number_while_it_is_known() -> None:
    nodes = Nodes()
    first = nodes.remember(RepositoryNode("data"))
    assert nodes.remember(RepositoryNode("data")) is first
    assert nodes.remember(RepositoryNode("other")) is not first
    nodes.forget(first.ino, 1)
    assert nodes.get(first.ino) is first
    nodes.forget(first.ino, 1)
    assert nodes.get(first.ino) is None
    again = nodes.remember(RepositoryNode("data"))
    assert again.ino not in (first.ino, ROOT_INO)


def test_a_moved_branch_is_another_node() -> None:
    nodes = Nodes()
    before = nodes.remember(LinkNode("data", "main", COMMIT.hex()))
    after = nodes.remember(LinkNode("data", "main", OTHER.hex()))
    assert before.ino != after.ino
    assert before.size == 64


@pytest.mark.parametrize(
    "other",
    [
        replace(VERSION, label=COMMIT.hex(), tag=""),
        replace(VERSION, commit=OTHER, tree_of=OTHER),
        replace(VERSION, repository="other"),
        replace(VERSION, tree_of=OTHER),
    ],
)
def test_versions_are_told_apart_by_all_that_they_are(other: Version) -> None:
    nodes = Nodes()
    assert nodes.remember(VersionNode(VERSION)).ino != nodes.remember(VersionNode(other)).ino
    assert VERSION.digest != other.digest
    assert nodes.remember(VersionNode(replace(VERSION))).lookups == 2


def test_virtual_files_are_never_the_same() -> None:
    nodes = Nodes()
    first = nodes.remember(VirtualFileNode(b"a", 0))
    assert nodes.remember(VirtualFileNode(b"a", 0)).ino != first.ino
    nodes.forget(first.ino, 1)
    assert nodes.get(first.ino) is None


def test_the_top_stays() -> None:
    nodes = Nodes()
    nodes.forget(ROOT_INO, 5)
    assert nodes.get(ROOT_INO) is nodes.root
    nodes.forget(12345, 1)
    assert len(nodes) == 1


def test_a_node_that_was_forgotten_comes_back_under_another_number() -> None:
    nodes = Nodes()
    node = nodes.remember(VersionNode(VERSION))
    before = node.ino
    nodes.forget(before, 1)
    assert nodes.remember(node) is node
    assert nodes.get(node.ino) is node
    assert (node.ino, node.lookups) != (before, 1)
    assert node.lookups == 1
