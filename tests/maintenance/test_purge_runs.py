"""What is purged goes out of what runs name as well, and their records lead to what took its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fsd.errors import CorruptDataError, StoreUnreachableError
from fsd.format.inputs import Inputs, VersionInputs
from fsd.format.replaced import MAGIC, encode_replaced, parse_replaced
from fsd.format.run import RunPin
from fsd.format.sealed import seal_list
from fsd.maintenance.purge import purge
from fsd.maintenance.verify import verify
from fsd.publish.picked import store_picked
from fsd.repo.repository import open_repositories
from fsd.stores.base import Store
from fsd.stores.memory import MemoryStore
from tests.faulty import Fail, FaultyStore
from tests.format.test_run import END, START
from tests.maintenance.desks import LIMITS, Quiet, collected, merged, noise, numbered
from tests.publish.folders import Desk, Folder, file, keys_of, read_commit, write_folder

SECRET = noise(4711, 9_000)
OTHER = noise(4712, 9_000)
FILES = numbered(*range(10))
DATA = merged(FILES, {b"secret": file(SECRET), b"other": file(OTHER)})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, limits=LIMITS, store=MemoryStore())


async def run_of(desk: Desk) -> dict[str, bytes]:
    """A run that names what is on a branch, what is on none, and code and outputs of its own."""
    kept = (await desk.commit(DATA)).commit
    gone = (await desk.commit(merged(DATA, numbered(20)), branch="gone")).commit
    repositories = await desk.repositories()
    stored = await repositories.refs.read("repo", "gone")
    assert stored is not None
    await repositories.refs.delete("repo", "gone", stored.version)
    top = write_folder(desk.top.with_name("picked"), DATA)
    async with repositories.leases.held("test"):
        code = await store_picked(repositories, "repo", top, list(DATA), state=desk.state)
    pins = (RunPin("data", "repo", "main", "", kept),)
    await repositories.runs.write_start(replace(START, pins=pins, code=code))
    inputs = Inputs((VersionInputs("data", "v1", gone, ((0, 3),), (), ()),))
    await repositories.runs.write_end(replace(END, outputs=None, files=None, inputs=inputs))
    return {"kept": kept, "gone": gone, "code": code.commit}


async def purged(store: Store, path: bytes) -> None:
    repositories = await open_repositories(store, LIMITS)
    outcome = await purge(repositories, "repo", [path], Quiet(), wait_s=20)
    assert outcome.is_complete
    assert outcome.elsewhere == []


async def is_left(store: Store, data: bytes) -> bool:
    return any([data[:64] in (await store.get(key)).data for key in await keys_of(store)])


async def now(store: Store, commit: bytes) -> Folder:
    """What a record's id leads to."""
    repositories = await open_repositories(store, LIMITS)
    found = (await repositories.runs.replaced()).now(commit)
    assert found is not None
    return await read_commit(repositories, found)


async def check(desk: Desk, commits: dict[str, bytes], left: Folder) -> None:
    assert await now(desk.store, commits["kept"]) == left
    assert await now(desk.store, commits["code"]) == left
    assert await now(desk.store, commits["gone"]) == merged(left, numbered(20))
    assert (await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)).is_whole


async def test_the_bytes_are_gone_and_records_lead_to_what_is_left(desk: Desk) -> None:
    commits = await run_of(desk)
    await check(desk, commits, DATA)
    await purged(desk.store, b"secret")
    assert not await is_left(desk.store, SECRET)
    assert await is_left(desk.store, OTHER)
    await check(desk, commits, merged(FILES, {b"other": file(OTHER)}))
    await collected(desk.store)
    await check(desk, commits, merged(FILES, {b"other": file(OTHER)}))


async def test_one_purge_after_the_other(desk: Desk) -> None:
    commits = await run_of(desk)
    await purged(desk.store, b"secret")
    await purged(desk.store, b"other")
    assert not await is_left(desk.store, OTHER)
    await collected(desk.store)
    await check(desk, commits, FILES)


@pytest.mark.parametrize(
    ("operation", "place"),
    [
        ("put_if_absent", "pages/*"),
        ("put_if_absent", "commits/*"),
        ("overwrite", "replaced/*"),
        ("compare_and_swap", "refs/*"),
        ("put_if_absent", "condemned/*"),
        ("delete", "packs/*"),
        ("delete", "commits/*"),
    ],
)
async def test_a_purge_that_failed_somewhere_goes_on(desk: Desk, operation: str, place: str) -> None:
    commits = await run_of(desk)
    store = desk.store
    faulty = FaultyStore(store)
    faulty.inject(operation, place, Fail(StoreUnreachableError("gone")))
    with pytest.raises(StoreUnreachableError):
        await purge(await open_repositories(faulty, LIMITS), "repo", [b"secret"], Quiet(), wait_s=20)
    faulty.assert_all_exercised()
    await purged(store, b"secret")
    assert not await is_left(store, SECRET)
    await collected(store)
    await check(desk, commits, merged(FILES, {b"other": file(OTHER)}))


async def test_what_nothing_took_the_place_of_is_none(desk: Desk) -> None:
    repositories = await desk.repositories()
    a, b, c = (letter * 32 for letter in (b"a", b"b", b"c"))
    await repositories.runs.note_replaced("1", {a: b})
    await repositories.runs.note_replaced("2", {b: None})
    replaced = await repositories.runs.replaced()
    assert [replaced.now(each) for each in (a, b, c)] == [None, None, c]
    assert replaced.all_now([a, b, c]) == {c}


async def test_a_damaged_note_stops_a_collection(desk: Desk) -> None:
    await run_of(desk)
    await desk.store.put_if_absent("replaced/1", b"fsdrepl1")
    with pytest.raises(CorruptDataError, match="replaced/1"):
        await collected(desk.store)


def test_notes_come_back() -> None:
    commits: dict[bytes, bytes | None] = {b"b" * 32: b"c" * 32, b"a" * 32: None}
    data = encode_replaced(commits)
    assert parse_replaced(data, "it") == commits
    for body, why in ((b"x" * 65, "cut off"), (b"b" * 64 + b"a" * 64, "order"), (b"a" * 128, "order")):
        with pytest.raises(CorruptDataError, match=why):
            parse_replaced(seal_list(MAGIC, body, 1000), "it")
    with pytest.raises(CorruptDataError):
        parse_replaced(data[:-1], "it")
