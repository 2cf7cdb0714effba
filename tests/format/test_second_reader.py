"""What fsd writes is read by a program that was written from the document alone.

`second_reader.py` may use no code of fsd's. Here stores are made for it: published ones, and one by hand that is deeper
than what could be published in a test's time.
"""

from __future__ import annotations

import ast
import os
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
import trio

from fsd.format.chunker import ChunkerParams
from fsd.format.commit import Commit, encode_commit
from fsd.format.envelope import seal
from fsd.format.keys import ObjectKind, object_key, pack_key, ref_key
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.format.pack import PackedChunk, encode_contents
from fsd.format.recipe import encode_recipe
from fsd.format.ref import Move, Ref, RefKind, encode_ref
from fsd.ids import content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.publish.landing import Request
from fsd.publish.publisher import publish
from fsd.repo.builder import build_tree
from fsd.repo.cutting import Cuts
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.repo.rules import Rule
from fsd.repo.subsets import create_subset
from fsd.stores.local import LocalStore, create_local_root
from tests.format import second_reader
from tests.format.example import HELLO, PACK, example_store
from tests.format.second_reader import DIRECTORY, FILE, SYMLINK, Item, SecondReader


def test_it_shares_no_code_with_fsd() -> None:
    tree = ast.parse(Path(second_reader.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in imports if isinstance(node, ast.ImportFrom)}
    assert modules == {
        "__future__", "blake3", "collections.abc", "itertools", "json", "pathlib", "struct", "typing", "zstandard"
    }  # fmt: skip


def read_folder(top: Path) -> list[Item]:
    """A folder as the reader sees a tree, unsorted."""
    items = []
    root = os.fsencode(top)
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files]:
            full = os.path.join(directory, name)
            path = os.path.relpath(full, root)
            if os.path.islink(full):
                items.append(Item(path, SYMLINK, False, os.readlink(full)))
            elif name in directories:
                items.append(Item(path, DIRECTORY, False, b""))
            else:
                with open(full, "rb") as file:
                    items.append(Item(path, FILE, os.access(full, os.X_OK), file.read()))
    return items


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def make_folder(top: Path) -> None:
    """Something of everything."""
    rng = random.Random(11)
    write(top / "README.md", b"# A dataset\n" * 100)
    write(top / "empty", b"")
    write(top / "run.sh", b"#!/bin/sh\n", 0o755)
    for number in range(3000):
        write(top / f"train/{number % 7}/{number:05}.txt", b"%d " % number * rng.randrange(40))
    write(top / "noise.bin", rng.randbytes(300_000))
    write(top / "many-chunks.csv", b"".join(b"%d,%f\n" % (row, rng.random()) for row in range(250_000)))
    write(top / "deep/er/and/deeper/file", b"x")
    (top / "no-files/at all").mkdir(parents=True)
    (top / "latest").symlink_to("train/6")
    (top / "dangling").symlink_to("/nowhere")
    write(top / os.fsdecode(b"bytes\xff\n\x01"), b"odd")
    write(top / ("n" * 255), b"long")


async def open_new(place: Path, chunker: ChunkerParams | None = None) -> Repositories:
    create_local_root(place)
    store = LocalStore(place, DEFAULT_LIMITS)
    await init_store(store, chunker=chunker, keep=("README*",))
    return await open_repositories(store)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with two versions and a subset of the second, and the folder that is the second."""
    top = tmp_path_factory.mktemp("second-reader")
    folder = top / "folder"
    make_folder(folder)

    async def main() -> None:
        # Short chunks: the table has thousands of them, and so several recipes.
        repositories = await open_new(top / "store", ChunkerParams(1024, 4096))
        await publish(repositories, str(folder), Request("data", tag="v1", message="First"), state=top / "state")
        write(folder / "train/1/new.txt", b"new")
        (folder / "empty").unlink()
        done = await publish(repositories, str(folder), Request("data", tag="v2"), state=top / "state")
        await create_subset(repositories, "data", done.commit, "tiny", Rule(limit=20, keep=("README*",)))

    trio.run(main)
    return top / "store", folder


def test_it_reads_every_file_of_a_published_tree(published: tuple[Path, Path]) -> None:
    store, folder = published
    reader = SecondReader(store)
    header, root = reader.commit(reader.resolve("data", "main"))
    found = list(reader.walk(root))
    assert sorted(found) == sorted(read_folder(folder))
    files = [item for item in found if item.kind == FILE]
    sizes = sum(len(item.data) for item in files)
    assert header["totals"] == {"entries": len(found), "files": len(files), "bytes": sizes}
    assert len(list((store / "recipes").glob("*/*"))) >= 2
    assert header["parents"] == [reader.resolve("data", "v1").hex()]


def test_it_reads_the_version_before(published: tuple[Path, Path]) -> None:
    reader = SecondReader(published[0])
    header, root = reader.commit(reader.resolve("data", "v1"))
    assert header["message"] == "First"
    assert reader.find(root, b"empty") == Item(b"empty", FILE, False, b"")
    assert reader.find(root, b"train/1/new.txt") is None


def test_it_reads_a_subset(published: tuple[Path, Path]) -> None:
    store, folder = published
    reader = SecondReader(store)
    header, root = reader.commit(reader.resolve("data", "main", subset="tiny"))
    found = list(reader.walk(root))
    everything = read_folder(folder)
    assert set(found) <= set(everything)
    assert {item for item in everything if item.kind == DIRECTORY} <= set(found)
    assert 20 <= sum(item.kind != DIRECTORY for item in found) <= 25
    assert any(item.path == b"README.md" for item in found)
    assert header["source"] == reader.resolve("data", "v2").hex()


def test_a_small_file_takes_four_requests_and_one_with_a_recipe_one_more(published: tuple[Path, Path]) -> None:
    store, folder = published
    for path, most in (("train/3/00010.txt", 4), ("README.md", 4)):
        reader = SecondReader(store)
        _, root = reader.commit(reader.resolve("data", "main"))
        item = reader.find(root, path.encode())
        assert item is not None
        assert item.data == (folder / path).read_bytes()
        assert reader.requests == most


def test_it_finds_every_path_and_no_other(published: tuple[Path, Path]) -> None:
    store, folder = published
    reader = SecondReader(store)
    _, root = reader.commit(reader.resolve("data", "main"))
    items = read_folder(folder)
    for item in random.Random(3).sample(items, 40):
        assert reader.find(root, item.path) == item
        assert reader.find(root, item.path + b"!") is None
    assert reader.find(root, b"") is None


async def one_batch(entries: Sequence[Entry]) -> AsyncIterator[Sequence[Entry]]:
    yield entries


def test_a_deep_tree_and_a_deep_recipe(tmp_path: Path) -> None:
    """Indexes of several levels, and a file of recipes of recipes of recipes."""
    chunks = [b"%d;" % number * 50 for number in range(120)]
    placements = []
    packed = []
    at = 0
    for chunk in chunks:
        placements.append(Placement(PACK, at, len(chunk), at))
        packed.append(PackedChunk(content_id(chunk), len(chunk), len(chunk)))
        at += len(chunk)

    async def main() -> None:
        repositories = await open_new(tmp_path / "store")
        write_object = repositories.writer.write
        await repositories.store.put_if_absent(pack_key(PACK), b"".join(chunks) + encode_contents(packed))
        pieces = [Piece(chunk.id, chunk.length) for chunk in packed]
        places: Sequence[Placement] = placements
        for level in range(3):
            above = []
            for start in range(0, len(pieces), 4):
                run = pieces[start : start + 4]
                parts = encode_recipe(level, run, places[start : start + 4])
                recipe = await write_object(ObjectKind.RECIPE, *parts)
                above.append(Piece(recipe, sum(piece.length for piece in run)))
            pieces, places = above, []
        whole = b"".join(chunks)
        big = Entry(b"d7", b"big", Kind.FILE, False, len(whole), content_id(whole), b"", 3, tuple(pieces))
        small = [
            Entry(directory, b"%04d" % number, Kind.FILE, content=content_id(b""))
            for directory in (b"d%d" % number for number in range(10))
            for number in range(60)
        ]
        entries = [*[Entry(b"", b"d%d" % number, Kind.DIRECTORY) for number in range(10)], *small, big]
        entries.sort(key=lambda entry: entry.key)
        cuts = Cuts(page_entries=8, page_bytes=2000, index_children=4, index_bytes=700, index_least_children=2)
        built = await build_tree(repositories.writer, one_batch(entries), cuts=cuts)
        commit = Commit("deep", built.id, built.totals, 1)
        commit_id = await write_object(ObjectKind.COMMIT, encode_commit(commit, built.root))
        await repositories.refs.set_tag("deep", "v1", commit_id)

    trio.run(main)
    reader = SecondReader(tmp_path / "store")
    _, root = reader.commit(reader.resolve("deep", "v1"))
    assert reader.index(root)[0] >= 2
    found = {item.path: item for item in reader.walk(root)}
    assert len(found) == 10 + 600 + 1
    assert found[b"d7/big"].data == b"".join(chunks)
    for path, item in found.items():
        assert reader.find(root, path) == item
    assert reader.find(root, b"d7/nothing") is None


def test_a_long_history(tmp_path: Path) -> None:
    async def main() -> None:
        repositories = await open_new(tmp_path / "store")
        expected = None
        for number in range(200):
            commit = content_id(b"%d" % number)
            await repositories.refs.move_branch("data", "main", commit, expected=expected)
            expected = commit

    trio.run(main)
    reader = SecondReader(tmp_path / "store")
    ref = reader.ref("data", "main")
    assert len(ref["segments"]) == 2
    assert [move["commit"] for move in reader.log(ref)] == [content_id(b"%d" % number).hex() for number in range(200)]


def write_store(top: Path, objects: Iterable[tuple[str, bytes]]) -> None:
    for key, data in objects:
        write(top / key, data)


def test_it_reads_the_documents_example(tmp_path: Path) -> None:
    write_store(tmp_path, example_store().items())
    reader = SecondReader(tmp_path)
    _, root = reader.commit(reader.resolve("demo", "main"))
    assert reader.find(root, b"greetings/hello.sh") == Item(b"greetings/hello.sh", FILE, True, HELLO)
    assert reader.requests == 4


def test_it_notices_what_is_not_what_it_says(tmp_path: Path) -> None:
    """A reader that checks nothing would pass all tests above."""
    objects = example_store()
    for key in objects:
        if key == "fsd.json":
            continue
        changed = bytearray(objects[key])
        changed[3] ^= 1
        write_store(tmp_path / key.replace("/", "-"), (objects | {key: bytes(changed)}).items())
        reader = SecondReader(tmp_path / key.replace("/", "-"))
        with pytest.raises(ValueError, match="document"):
            list(reader.walk(reader.commit(reader.resolve("demo", "main"))[1]))


def test_a_child_that_is_in_another_place_is_noticed(tmp_path: Path) -> None:
    """An index that says something else than its pages hold, named by a commit as it should be."""
    objects = example_store()
    page = next(key for key in objects if key.startswith("pages/"))
    from_index = bytes.fromhex(page.split("/")[-1])
    root = b"".join(
        (b"fsdindx1", bytes(4), b"\1\0\0\0", b"\2\0", b"\0\0", from_index, *[b"\2" + bytes(7)] * 2, bytes(8))
    )
    header = b'{"tree":"%b"}' % content_id(root).hex().encode()
    logical = b"fsdcomm1" + len(header).to_bytes(4, "little") + header + root
    commit_id, stored = seal(ObjectKind.COMMIT, logical)
    ref = encode_ref(Ref(RefKind.BRANCH, (Move(commit_id, 1),)))
    added = {object_key(ObjectKind.COMMIT, commit_id): stored, ref_key("demo", "main"): ref}
    write_store(tmp_path, (objects | added).items())
    reader = SecondReader(tmp_path)
    with pytest.raises(ValueError, match="order"):
        list(reader.walk(reader.commit(reader.resolve("demo", "main"))[1]))
