"""Random trees through the whole vfs: every path, listing and range equals what a dictionary says."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from fsd.ids import content_id
from fsd.vfs.attributes import DIRECTORY_MODE, EXECUTABLE_MODE, FILE_MODE, ROOT_INO, SYMLINK_MODE, Attributes, Missing
from tests.vfs.world import (
    CHUNK_BYTES,
    LIMITS,
    Executable,
    Files,
    Node,
    Symlink,
    World,
    directories_of,
    new_store,
    opened,
)

SMALL = replace(LIMITS, page_memory_bytes=20_000, open_trees=1, read_states=2, window_min_bytes=3000)
"""So little memory that everything comes and goes."""

names = st.lists(st.sampled_from([b"a", b"b", b"-", b"\x01", b"\xff", b"c.d"]), min_size=1, max_size=2).map(b"".join)
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Around the sizes where a file gets another chunk, and where it gets a recipe."""
    size = draw(st.sampled_from([0, 1, CHUNK_BYTES, 64 * CHUNK_BYTES])) + draw(st.integers(-1, 2))
    seed = draw(st.integers(0, 3))
    block = b"".join(content_id(b"%d %d" % (seed, number)) for number in range(CHUNK_BYTES // 32 * 3))
    return (block * (max(size, 0) // len(block) + 1))[: max(size, 0)]


nodes: st.SearchStrategy[Node] = st.one_of(
    contents(),
    contents().map(Executable),
    st.sampled_from([b"a", b"../b", b"/etc/passwd", b"x" * 300]).map(Symlink),
    st.none(),
)


@st.composite
def trees(draw: st.DrawFn) -> Files:
    """A tree in which nothing lies below a file."""
    drawn = draw(st.dictionaries(paths, nodes, max_size=25))
    above = {
        b"/".join(names[:depth]) for names in (path.split(b"/") for path in drawn) for depth in range(1, len(names))
    }
    return {path: node for path, node in drawn.items() if path not in above or node is None}


def expected_mode(node: Node) -> tuple[int, int]:
    match node:
        case None:
            return DIRECTORY_MODE, 0
        case Symlink(target):
            return SYMLINK_MODE, len(target)
        case Executable(data):
            return EXECUTABLE_MODE, len(data)
        case bytes():
            return FILE_MODE, len(node)


def below(files: Files, directory: bytes) -> dict[bytes, Node]:
    """What lies in a directory, by name."""
    inside = directory + b"/" if directory else b""
    found: dict[bytes, Node] = {}
    for path, node in files.items():
        if path.startswith(inside):
            name, slash, _ = path[len(inside) :].partition(b"/")
            found[name] = None if slash else node
    return found


async def check_listing(world: World, draw: st.DataObject, files: Files, directory: bytes) -> None:
    ino = (await world.stat(b"data/v1/" + directory if directory else b"data/v1")).ino
    expected = sorted((name, *expected_mode(node)) for name, node in below(files, directory).items())
    listed = await world.listing(ino)
    assert [(name, mode, size) for name, _, mode, size, _, _ in listed] == expected
    if listed:
        place = draw.draw(st.integers(0, len(listed) - 1))
        assert await world.listing(ino, listed[place][-1]) == listed[place + 1 :]


async def check_reads(world: World, draw: st.DataObject, path: bytes, data: bytes) -> None:
    found = await world.stat(b"data/v1/" + path)
    for _ in range(3):
        start = draw.draw(st.integers(0, len(data) + 10))
        size = draw.draw(st.sampled_from([1, 10, CHUNK_BYTES, 3 * CHUNK_BYTES, 200 * CHUNK_BYTES]))
        assert await world.read(found.ino, start, size) == data[start : start + size]


@settings(max_examples=40)
@given(files=trees(), draw=st.data())
async def test_a_tree_reads_as_a_dictionary_says(files: Files, draw: st.DataObject) -> None:
    builder = await new_store()
    await builder.commit("data", files, tag="v1", one_pack_a_file=draw.draw(st.booleans()))
    with tempfile.TemporaryDirectory() as folder:
        async with opened(builder, Path(folder) / "cache", SMALL) as world:
            inos: dict[tuple[bytes, int], int] = {}
            for path, node in files.items():
                found = await world.stat(b"data/v1/" + path)
                assert (found.mode, found.size) == expected_mode(node)
                if isinstance(node, Symlink):
                    assert await world.vfs.readlink(found.ino) == node.target
                elif node is not None:
                    data = node.data if isinstance(node, Executable) else node
                    assert inos.setdefault((data, found.mode), found.ino) == found.ino
                    await check_reads(world, draw, path, data)
                assert isinstance(await world.lookup(b"data/v1/" + path + b"?"), Missing)
            assert len(set(inos.values())) == len(inos)
            for directory in [b"", *directories_of(files)]:
                await check_listing(world, draw, files, directory)


async def test_walking_a_tree_by_inodes_alone(tmp_path: Path) -> None:
    files: dict[bytes, Node] = {
        b"d%d/e%d/f%d" % (a, b, c): b"%d" % c for a in range(9) for b in range(9) for c in range(9)
    }
    builder = await new_store()
    await builder.commit("data", files, tag="v1")
    async with opened(builder, tmp_path / "cache", SMALL) as world:
        found: dict[bytes, Node] = {}

        async def walk(ino: int, path: bytes) -> None:
            for name, child, mode, _, _, _ in await world.listing(ino):
                if mode == DIRECTORY_MODE:
                    await walk(child, path + name + b"/")
                else:
                    found[path + name] = await world.read(child, 0, 100)

        data = await world.vfs.lookup(ROOT_INO, b"data")
        assert isinstance(data, Attributes)
        version = await world.vfs.lookup(data.ino, b"v1")
        assert isinstance(version, Attributes)
        await walk(version.ino, b"")
        assert found == files
