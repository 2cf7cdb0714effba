"""Any folder, any edits: what is committed after them is what would be committed from scratch, and reads back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.format.chunker import ChunkerParams
from fsd.limits import KIB, Limits
from fsd.repo.repository import init_store
from fsd.stores.memory import MemoryStore
from tests.publish.folders import DIRECTORY, Desk, Item, file, link, program, verify_store, write_folder

LIMITS = Limits(pack_bytes=8 * KIB, own_pack_bytes=12 * KIB, publish_queue_bytes=64 * KIB)
PARAMS = ChunkerParams(average=1024, whole_file=2048)
"""So small that folders of a few KB have many packs, chunk lists, recipes and packs of files' own."""

NAMES = st.sampled_from([b"a", b"b", b"a.b", b"a b", b"\xff", b"A", b"a\n", b"aa", b"\x01"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)


def contents() -> st.SearchStrategy[bytes]:
    """Few different ones, so that they come again; some are long, and some are nearly others."""
    seeds = st.integers(0, 3)
    long = st.builds(
        lambda seed, size, at: (bytes((seed * i * i + i // 7) % 251 for i in range(size)) + b"!")[at:],
        seeds,
        st.sampled_from([100, 2047, 2048, 2049, 9_000, 90_000]),
        st.integers(0, 2),
    )
    return st.one_of(seeds.map(lambda seed: b"%d" % seed * seed), st.sampled_from([bytes(5_000), bytes(100_000)]), long)


ITEMS = st.one_of(
    contents().map(file),
    contents().map(program),
    st.sampled_from([b"a", b"../a", b"nowhere", b"/"]).map(link),
    st.just(DIRECTORY),
)


def consistent(paths: dict[bytes, Item]) -> dict[bytes, Item]:
    """Every parent a directory, and nothing below what is none."""
    folder: dict[bytes, Item] = {}
    for path, item in sorted(paths.items()):
        parts = path.split(b"/")
        parents = [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
        if all(folder.get(parent, DIRECTORY) == DIRECTORY for parent in parents):
            folder |= dict.fromkeys(parents, DIRECTORY) | {path: item}
    return folder


FOLDERS = st.dictionaries(PATHS, ITEMS, max_size=12)


@settings(max_examples=60)
@given(states=st.lists(FOLDERS, min_size=1, max_size=4), keep=st.booleans())
async def test_edits(states: list[dict[bytes, Item]], keep: bool) -> None:
    store = MemoryStore()
    await init_store(store, chunker=PARAMS)
    with tempfile.TemporaryDirectory() as place:
        desk = Desk(Path(place), limits=LIMITS, store=store)
        fresh = Desk(Path(place), "fresh", limits=LIMITS, store=store)
        previous: dict[bytes, Item] = {}
        for number, state in enumerate(states):
            folder = consistent(previous | state if keep else state)
            published = await desk.commit(folder)
            assert await desk.read_back(published.commit) == folder
            assert published.is_new is (number == 0 or folder != previous)
            # From scratch, by somebody who knows nothing, in a store that has nothing.
            fresh.store = MemoryStore()
            await init_store(fresh.store, chunker=PARAMS)
            fresh.state = Path(place) / f"state-{number}"
            write_folder(fresh.top, folder)
            assert (await fresh.commit()).tree == published.tree
            again = await desk.commit()
            assert (again.is_new, again.content.files_read) == (False, 0)
            previous = folder
        await verify_store(store)
