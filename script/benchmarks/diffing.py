"""Comparing versions of 1.5 million files that nobody ever wrote: a diff reads trees, never contents."""

from __future__ import annotations

import shutil
import statistics
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import trio
from program import run
from reading import Bench
from report import Figure

from fsd.format.commit import Commit, encode_commit
from fsd.format.keys import ObjectKind, pack_key
from fsd.format.model import Entry, Kind, Piece, Placement
from fsd.ids import PACK_ID_BYTES, content_id
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.builder import Built, Change, Removal, build_tree
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.local import create_local_root
from fsd.stores.open import open_store

FILES = 1_500_000
FOLDERS = 1_000
CHANGES = 1_000
CHANGED_FOLDERS = 20
REPOSITORY = "huge"

PACK_FILES = 1_000
"""Files of up to 180 KB that a pack would hold."""

_SLOT_BYTES = 180_000
"""From one to the next."""


def _pack(number: int, version: int) -> bytes:
    return content_id(struct.pack("<QQ", number, version))[:PACK_ID_BYTES]


def _file(number: int, version: int = 1) -> Entry:
    content = content_id(struct.pack("<QQ", number, version))
    size = 20_000 + int.from_bytes(content[:4], "little") % (_SLOT_BYTES - 20_000)
    pack = _pack(number // PACK_FILES, version)
    at = _SLOT_BYTES * (number % PACK_FILES)
    directory = b"train/class%04d" % (number * FOLDERS // FILES)
    return Entry(
        directory,
        b"image%08d.jpg" % number,
        Kind.FILE,
        size=size,
        content=content,
        pieces=(Piece(content, size),),
        placements=(Placement(pack, at, size, at),),
    )


async def _first() -> AsyncIterator[list[Change]]:
    yield [Entry(b"", b"train", Kind.DIRECTORY)]
    yield [Entry(b"train", b"class%04d" % number, Kind.DIRECTORY) for number in range(FOLDERS)]
    for start in range(0, FILES, FILES // FOLDERS):
        yield [_file(number) for number in range(start, start + FILES // FOLDERS)]


async def _changed(numbers: Sequence[int]) -> AsyncIterator[list[Change]]:
    """Of these files a tenth is removed, a tenth has another beside it, the others have other content."""
    changes: list[Change] = []
    for at, number in enumerate(numbers):
        old = _file(number)
        if at % 10 == 0:
            changes.append(Removal(old.directory, old.name))
        elif at % 10 == 1:
            changes.append(old._replace(name=old.name + b".new"))
        else:
            changes.append(_file(number, 2))
    yield changes


async def make_versions(place: Path) -> None:
    """A store with a repository of 1.5 million files, as its publisher would leave it, but its packs are holes.

    To v1 the tag `spread` has a thousand changes all over, and `close` as many in twenty folders.
    """
    create_local_root(place)
    store = open_store(str(place), DEFAULT_LIMITS)
    await init_store(store)
    repositories = await open_repositories(store)
    built = await build_tree(repositories.writer, _first())
    first = await _commit(repositories, built, "v1", ())
    base = await repositories.tree(first)
    in_folder = FILES // FOLDERS
    spread = range(0, FILES, FILES // CHANGES)
    close = [
        number
        for start in range(0, FILES, in_folder * FOLDERS // CHANGED_FOLDERS)
        for number in range(start, start + in_folder, in_folder * CHANGED_FOLDERS // CHANGES)
    ]
    for tag, numbers in (("spread", spread), ("close", close)):
        built = await build_tree(repositories.writer, _changed(numbers), base=base)
        await _commit(repositories, built, tag, (first,))
    await store.aclose()
    for number in range(FILES // PACK_FILES):
        for version in (1, 2):
            _make_hole(place / pack_key(_pack(number, version)), _SLOT_BYTES * PACK_FILES)


def _make_hole(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


async def _commit(repositories: Repositories, built: Built, tag: str, parents: tuple[bytes, ...]) -> bytes:
    commit = Commit(REPOSITORY, built.id, built.totals, repositories.clock(), message=tag, parents=parents)
    commit_id = await repositories.writer.write(ObjectKind.COMMIT, encode_commit(commit, built.root))
    await repositories.refs.set_tag(REPOSITORY, tag, commit_id)
    return commit_id


def huge_store(folder: Path) -> Path:
    """The store of `make_versions`, made once."""
    store = folder / "store-huge"
    if not (store / ".made").exists():
        shutil.rmtree(store, ignore_errors=True)
        trio.run(make_versions, store)
        (store / ".made").touch()
    return store


def diffs(bench: Bench) -> None:
    """`fsd diff` of them: with its start, from the third time on."""
    store = huge_store(bench.folder)
    for tag, name in (("close", f"in {CHANGED_FOLDERS} folders"), ("spread", "spread over all")):
        for _ in range(2):
            run("diff", REPOSITORY, "v1", tag, "--stat", store=store)
        seconds = statistics.median(run("diff", REPOSITORY, "v1", tag, "--json", store=store).seconds for _ in range(3))
        bench.report.add(
            Figure(
                f"diff of two versions of {FILES:,} files, {CHANGES:,} changes {name}",
                "s",
                seconds,
                goal=1,
                least=False,
            )
        )
