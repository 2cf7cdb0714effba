"""Objects of every kind that are bit-flipped, truncated or gone: EIO on what needs them, and on nothing else.

One mount is up all the time. Each test damages an object that nobody has read yet, in all ways one after the other, and
at last puts it back: what cannot be had is not remembered, so that it can then be read.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fsd.format.keys import ObjectKind, object_key, pack_key, ref_key
from fsd.format.model import Entry, PlacedChunk
from fsd.limits import DEFAULT_LIMITS, MIB
from fsd.repo.repository import Repositories, open_repositories
from fsd.repo.revisions import resolve
from fsd.stores.local import LocalStore
from fsd.vfs.pieces import Pieces
from integration.datasets import noise, text
from integration.program import Program, status
from integration.reader import files_below
from integration.test_bad_input import CORRUPT, NOT_FOUND, refused

DEEP_NAMES = 15
DEEP_DIRECTORIES = 5_000
"""With paths of some 3,900 bytes: enough for the root of the tree to be two indexes."""

WAYS = ("flipped", "truncated", "gone")


class World:
    """A store, the folders that were published to it, and a mount."""

    def __init__(self, program: Program, sources: Path, mountpoint: Path) -> None:
        self.program = program
        self.sources = sources
        self.mountpoint = mountpoint

    def publish(self, repository: str, *options: str) -> None:
        self.program("commit", self.sources / repository, repository, *options)

    def log(self) -> str:
        [path] = (self.program.home / ".local" / "state" / "fsd").glob("*.log")
        return path.read_text()

    def errors(self) -> str:
        return (self.mountpoint / ".fsd" / "errors").read_text()

    def ask(self, question: Callable[[Repositories], object]) -> object:
        """Run an async question about the store."""

        async def main() -> object:
            return await question(await open_repositories(LocalStore(self.program.store, DEFAULT_LIMITS)))  # type: ignore[misc]

        return trio.run(main)

    def same(self, repository: str, version: str = "v1", but: tuple[str, ...] = ()) -> None:
        """All files of a version are as they were published, except those named, which are not looked at."""
        source = self.sources / repository
        for path in files_below(source):
            if str(path) not in but:
                there = self.mountpoint / repository / version / path
                assert there.read_bytes() == (source / path).read_bytes(), path


@pytest.fixture(scope="module")
def world(module_program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    made = World(module_program, folder / "sources", folder / "m")
    # Own packs for smaller files; and what moved or failed is asked for again at once.
    module_program.configure(own_pack_bytes="1M", refs_ttl_s=0.02, entry_timeout_s=0.02)
    files = made.sources / "files"
    (files / "small").mkdir(parents=True)
    for number in range(40):
        (files / "small" / f"{number}").write_bytes(noise(number, 20_000))
    for number, name in enumerate(("recipe", "body", "packed", "contents")):
        kind = text if name == "packed" else noise
        (files / name).write_bytes(kind(100 + number, 4_000_000 if name == "recipe" else 1_600_000))
    (made.sources / "names").mkdir()
    (made.sources / "names" / "file").write_bytes(b"named")
    make_deep(made.sources / "deep")
    module_program("init")
    made.publish("files", "--tag", "v1")
    made.publish("names", "--tag", "v1")
    made.publish("names", "--tag", "v2", "--allow-empty", "-m", "second")
    made.publish("deep", "--tag", "v1")
    module_program.mount(made.mountpoint)
    yield made
    module_program("umount", made.mountpoint)


def make_deep(top: Path) -> None:
    """A tree whose root is too long for one object."""
    top.mkdir()
    place = os.open(top, os.O_RDONLY)
    for number in range(DEEP_NAMES):
        name = f"{number:02}" + "d" * 253
        os.mkdir(name, dir_fd=place)
        place, above = os.open(name, os.O_RDONLY, dir_fd=place), place
        os.close(above)
    for number in range(DEEP_DIRECTORIES):
        os.mkdir(f"{number:05}", dir_fd=place)
        os.close(os.open(f"{number:05}/file", os.O_CREAT, dir_fd=place))
    os.close(place)


def damage(path: Path, way: str, at: float = 0.5) -> None:
    """Flip a bit of an object at a share of its length, or let it end there, or remove it."""
    if way == "gone":
        path.unlink()
        return
    original = path.read_bytes()
    position = int(at * len(original))
    made = original[:position]
    if way == "flipped":
        made += bytes([original[position] ^ 4]) + original[position + 1 :]
    # At no moment is the object gone: the kernel may be reading ahead in it.
    beside = path.with_name(f".made-{path.name}")
    beside.write_bytes(made)
    beside.replace(path)


@contextmanager
def damaged(path: Path, way: str, at: float = 0.5) -> Iterator[None]:
    """The same, for a while."""
    aside = path.with_name(f".aside-{path.name}")
    shutil.copy2(path, aside)
    damage(path, way, at)
    try:
        yield
    finally:
        aside.rename(path)


def gives_eio(action: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="Input/output error") as caught:
        action()
    assert caught.value.errno == errno.EIO


def check_told(world: World, action: Callable[[], object], *names: str) -> str:
    """`action` gives EIO; exactly one line of the log tells of it, with all of `names`, and so does `.fsd/errors`."""
    before, counted = world.log(), status(world.mountpoint)["errors"]
    gives_eio(action)
    [line] = world.log()[len(before) :].splitlines()
    for name in names:
        assert name in line
        assert name in world.errors()
    assert "ERROR" in line
    assert status(world.mountpoint)["errors"] > counted
    return line


def entry_of(world: World, repository: str, path: bytes) -> tuple[Entry, list[PlacedChunk]]:
    """A file's entry and all its chunks."""

    async def look(repositories: Repositories) -> tuple[Entry, list[PlacedChunk]]:
        tree = await repositories.tree((await resolve(repositories, repository, "v1")).commit)
        directory, _, name = path.rpartition(b"/")
        found = await tree.find(directory, name)
        assert found is not None
        entry = found.page.entry(found.position)
        runs = [run async for run in Pieces(entry, repositories.objects).all_runs(64 * MIB)]
        return entry, [chunk for run in runs for chunk in run]

    answer = world.ask(look)
    assert isinstance(answer, tuple)
    return answer


# --- what a file needs


@pytest.mark.parametrize("name", ["body", "packed"], ids=["plain chunks", "compressed chunks"])
def test_the_body_of_a_pack(world: World, name: str) -> None:
    entry, chunks = entry_of(world, "files", name.encode())
    middle = len(chunks) // 2
    bad = chunks[middle]
    pack = world.program.store / pack_key(bad.placement.pack)
    share = (bad.placement.offset + bad.placement.stored // 2) / pack.stat().st_size
    start = sum(chunk.length for chunk in chunks[:middle])
    end = start + bad.length
    path, data = world.mountpoint / "files" / "v1" / name, (world.sources / "files" / name).read_bytes()

    def read(first: int, last: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no more than is asked for
            return os.pread(descriptor, last - first, first)
        finally:
            os.close(descriptor)

    assert entry.size == len(data)
    for way in WAYS:
        with damaged(pack, way, share):
            line = check_told(world, lambda: read(start + 4096, start + 4096 + 10), name, bad.placement.pack.hex())
            assert way == "gone" or bad.id.hex() in line
            # What lies before it is there in any case, but for the pages that the bad chunk has a part in.
            if way != "gone":
                before = start - start % 4096
                assert read(0, before) == data[:before]
            if way == "flipped":
                after = end + -end % 4096
                assert read(after, len(data)) == data[after:]
            world.same("files", but=("recipe", "body", "packed", "contents"))
            line = refused_cat(world, f"files/v1/{name}")
            assert bad.placement.pack.hex() in line or bad.id.hex() in line
    assert path.read_bytes() == data


def refused_cat(world: World, place: str) -> str:
    """`fsd cat` gives what it can, then one line."""
    with open(os.devnull, "wb") as nowhere:
        cat = world.program.start("cat", place, stdout=nowhere)
    _, said = cat.communicate(timeout=60)
    assert cat.returncode == CORRUPT
    [line] = str(said).splitlines()
    assert line.startswith("fsd: ")
    return line


def test_the_contents_of_a_pack(world: World) -> None:
    """Nobody needs them to read a file: they only say what else is in the pack."""
    _, chunks = entry_of(world, "files", b"contents")
    pack = world.program.store / pack_key(chunks[0].placement.pack)
    end = chunks[-1].placement.offset + chunks[-1].placement.stored
    path, data = world.mountpoint / "files" / "v1" / "contents", (world.sources / "files" / "contents").read_bytes()
    before = world.log()
    for number, way in enumerate(("flipped", "truncated")):
        with damaged(pack, way, (end + 100) / pack.stat().st_size):
            half = slice(number * len(data) // 2, (number + 1) * len(data) // 2)
            with path.open("rb") as file:
                file.seek(half.start)
                assert file.read(half.stop - half.start) == data[half]
    assert "ERROR" not in world.log()[len(before) :]


def test_a_recipe(world: World) -> None:
    entry, _ = entry_of(world, "files", b"recipe")
    recipe = entry.pieces[0].id
    path = world.program.store / object_key(ObjectKind.RECIPE, recipe)
    file = world.mountpoint / "files" / "v1" / "recipe"
    for way in WAYS:
        with damaged(path, way):
            check_told(world, file.read_bytes, "recipe", recipe.hex())
            assert file.stat().st_size == entry.size
            world.same("files", but=("recipe", "body", "packed", "contents"))
            assert recipe.hex() in refused_cat(world, "files/v1/recipe")
    assert file.read_bytes() == (world.sources / "files" / "recipe").read_bytes()


# --- what names a file


class Deep:
    """The directory at the end of the deep tree, in the mount."""

    def __init__(self, world: World) -> None:
        self._place = os.open(world.mountpoint / "deep" / "v1", os.O_RDONLY)
        for number in range(DEEP_NAMES):
            below = os.open(f"{number:02}" + "d" * 253, os.O_RDONLY, dir_fd=self._place)
            os.close(self._place)
            self._place = below

    def close(self) -> None:
        os.close(self._place)

    def names(self, number: int) -> list[str]:
        """What is listed in a directory."""
        inner = os.open(f"{number:05}", os.O_RDONLY, dir_fd=self._place)
        try:
            return os.listdir(inner)
        finally:
            os.close(inner)

    def look(self, number: int) -> os.stat_result:
        """A file's status."""
        return os.stat(f"{number:05}/file", dir_fd=self._place)


@pytest.fixture
def deep(world: World) -> Iterator[Deep]:
    opened = Deep(world)
    yield opened
    opened.close()


def below_root(world: World) -> list[tuple[bytes, list[tuple[bytes, int]]]]:
    """The indexes below the root of the deep tree, each with its pages: the id, and the number of the first file."""

    async def look(repositories: Repositories) -> list[tuple[bytes, list[tuple[bytes, int]]]]:
        _, root = await repositories.objects.commit((await resolve(repositories, "deep", "v1")).commit)
        assert root.level == 1
        found = []
        for child in root.children:
            index = await repositories.objects.index(child.id)
            pages = []
            for page in index.children:
                number = re.search(rb"\0(\d{5})\0\0file\Z", page.first_key)
                if number is not None:
                    pages.append((page.id, int(number[1])))
            found.append((child.id, pages))
        return found

    answer = world.ask(look)
    assert isinstance(answer, list)
    return answer


def test_an_index(world: World, deep: Deep) -> None:
    indexes = below_root(world)
    index, pages = indexes[-1]
    first = pages[0][1]
    for way in WAYS:
        with damaged(world.program.store / object_key(ObjectKind.INDEX, index), way):
            check_told(world, lambda: deep.look(first + 1), f"{first + 1:05}", index.hex())
            assert deep.look(first - 1).st_size == 0
            assert deep.names(first - 2) == ["file"]
            world.same("names")
            line = refused(world.program, "ls", "deep/v1", "--recursive", "--json", code=CORRUPT, printed=True)
            assert index.hex() in line
    assert deep.look(first + 1).st_size == 0


def test_a_page(world: World, deep: Deep) -> None:
    pages = below_root(world)[0][1]
    (page, first), (_, end) = pages[3:5]
    for way in WAYS:
        with damaged(world.program.store / object_key(ObjectKind.PAGE, page), way):
            check_told(world, lambda: deep.look(first + 1), f"{first + 1:05}", page.hex())
            gives_eio(lambda: deep.names(first + 2))
            # (Of what a page begins with, the one before may hold the first part: so not `end` itself.)
            for number in (0, first - 1, end + 1, DEEP_DIRECTORIES - 1):
                assert deep.look(number).st_size == 0
                assert deep.names(number) == ["file"]
            line = refused(world.program, "ls", "deep/v1", "--recursive", code=CORRUPT, printed=True)
            assert page.hex() in line
    assert deep.look(first + 1).st_size == 0
    assert deep.names(first + 2) == ["file"]


def test_a_commit(world: World) -> None:
    commit = world.program.json("ls", "names")[-1]["commit"]
    path = world.program.store / "commits" / commit
    names = world.mountpoint / "names"
    for way in WAYS:
        with damaged(path, way):
            check_told(world, lambda: os.stat(names / "v2"), "/names/v2", commit)
            gives_eio(lambda: os.stat(names / commit)) if way != "gone" else None
            assert sorted(os.listdir(names)) == ["main", "v1", "v2"]
            assert (names / "v1" / "file").read_bytes() == b"named"
            for command in (("ls", "names/v2"), ("log", "names/v2"), ("tag", "names", "v2", "v3")):
                assert commit in refused(world.program, *command, code=CORRUPT)
    assert (names / "v2" / "file").read_bytes() == b"named"


def test_a_ref(world: World) -> None:
    world.program("tag", "names", "v1", "v9")
    path = world.program.store / ref_key("names", "v9")
    names = world.mountpoint / "names"
    for way in ("flipped", "truncated"):
        with damaged(path, way):
            if way == "flipped":  # the second time nothing else is to be said
                check_told(world, lambda: os.stat(names / "v9"), "/names/v9", "refs/names/v9")
            gives_eio(lambda: os.stat(names / "v9"))
            assert "v1" in os.listdir(names)
            assert "v9" not in os.listdir(names)
            assert (names / "v1" / "file").read_bytes() == b"named"
            for command in (("ls", "names/v9"), ("tag", "names", "v1", "v9", "-f"), ("ls", "names")):
                assert "refs/names/v9" in refused(world.program, *command, code=CORRUPT)
            assert world.program("ls", "names/v1") == "file\n"
            assert len(world.program.json("log", "names/v1")) == 1
    with damaged(path, "gone"):
        assert refused(world.program, "ls", "names/v9", code=NOT_FOUND)


@pytest.mark.parametrize(("way", "at", "code"), [("flipped", 0.0, 6), ("truncated", 0.5, 6), ("gone", 0.0, 4)])
def test_the_marker(world: World, tmp_path: Path, way: str, at: float, code: int) -> None:
    (tmp_path / "m").mkdir()
    with damaged(world.program.store / "fsd.json", way, at):
        for command in (("ls",), ("commit", world.sources / "names", "names"), ("mount", tmp_path / "m")):
            line = refused(world.program, *command, code=code)
            assert ("is not an fsd store" if way == "gone" else "fsd.json of file://") in line
        world.same("names")  # who has read it once is not concerned


@pytest.mark.parametrize("way", WAYS)
def test_publishing_onto_a_damaged_tree_mends_it(program: Program, tmp_path: Path, way: str) -> None:
    """Of what publishing meets, nothing bad is taken over: else it would succeed, and nobody could read the result."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3000):
        (source / f"{number:04}").write_bytes(b"%d" % number)
    (source / "large").write_bytes(noise(1, 4_000_000))
    program("init")
    program("commit", source, "data")
    for path in (*(program.store / "pages").glob("*/*"), *(program.store / "recipes").glob("*/*")):
        damage(path, way)
    (source / "1500").write_bytes(b"changed")
    program("commit", source, "data")
    for name in ("0000", "1500", "2999", "large"):
        with (tmp_path / "read").open("wb") as file:
            cat = program.start("cat", f"data/main/{name}", stdout=file)
        assert cat.communicate(timeout=60)[1] == ""
        assert (tmp_path / "read").read_bytes() == (source / name).read_bytes()
