"""What runs name is kept by gc, and by an expiry; nothing else of them is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fsd.errors import CorruptDataError
from fsd.format.inputs import Inputs, VersionInputs
from fsd.format.keys import COMMITS
from fsd.format.run import RunPin, StoredTree
from fsd.maintenance.expiry import Keep
from fsd.maintenance.verify import verify
from fsd.publish.picked import store_picked
from fsd.repo.repository import open_repositories
from fsd.stores.memory import MemoryStore
from tests.format.test_run import END, NAME, START
from tests.maintenance.desks import AT_ONCE, LIMITS, Quiet, collected, noise, numbered
from tests.publish.folders import Desk, file, keys_of, write_folder

FILES = {name: file(noise(number, 9_000)) for number, name in enumerate((b"code", b"out", b"log", b"garbage"))}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, limits=LIMITS, store=MemoryStore())


async def picked(desk: Desk, name: bytes) -> StoredTree:
    repositories = await desk.repositories()
    folder = write_folder(desk.top.with_name("picked"), FILES)
    async with repositories.leases.held("test"):
        return await store_picked(repositories, "repo", folder, [name], state=desk.state)


async def unnamed(desk: Desk, *numbers: int) -> bytes:
    """A commit whose branch was deleted."""
    made = await desk.commit(numbered(*numbers), branch="gone")
    refs = (await desk.repositories()).refs
    stored = await refs.read("repo", "gone")
    assert stored is not None
    await refs.delete("repo", "gone", stored.version)
    return made.commit


async def test_code_pins_outputs_files_and_inputs_of_runs_stay(desk: Desk) -> None:
    code, out, log, garbage = [await picked(desk, name) for name in FILES]
    pinned, read = await unnamed(desk, 1, 2), await unnamed(desk, 3)
    forgotten = await unnamed(desk, 4)
    runs = (await desk.repositories()).runs
    pins = (RunPin("data", "repo", "gone", "", pinned), RunPin("other", "repo", "gone", "", None))
    await runs.write_start(replace(START, code=code, pins=pins))
    await runs.write_end(
        replace(END, outputs=out, files=log, inputs=Inputs((VersionInputs("data", "v1", read, ((0, 1),), (), ()),)))
    )
    assert (await collected(desk.store)).deleted_objects > 0
    kept = {bytes.fromhex(key.removeprefix(COMMITS)) for key in await keys_of(desk.store, COMMITS)}
    assert kept == {code.commit, out.commit, log.commit, pinned, read}
    assert {garbage.commit, forgotten}.isdisjoint(kept)
    for stored, name in ((code, b"code"), (out, b"out"), (log, b"log")):
        assert await desk.read_back(stored.commit) == {name: FILES[name]}
    assert await desk.read_back(pinned) == numbered(1, 2)
    assert (await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)).is_whole


async def test_a_run_that_has_not_ended_keeps_its_code(desk: Desk) -> None:
    code = await picked(desk, b"code")
    await (await desk.repositories()).runs.write_start(replace(START, code=code, pins=()))
    await collected(desk.store)
    assert await desk.read_back(code.commit) == {b"code": FILES[b"code"]}


async def test_an_expiry_spares_what_runs_name(desk: Desk) -> None:
    first = (await desk.commit(numbered(*range(20)))).commit
    second = (await desk.commit(numbered(*range(20, 40)))).commit
    third = (await desk.commit(numbered(*range(40, 60)))).commit
    runs = (await desk.repositories()).runs
    await runs.write_start(replace(START, code=None, pins=(RunPin("data", "repo", "main", "", first),)))
    await collected(desk.store, replace(AT_ONCE, keep=Keep()))
    assert await desk.read_back(first) == numbered(*range(20))
    assert await desk.read_back(third) == numbered(*range(40, 60))
    with pytest.raises(CorruptDataError):
        await desk.read_back(second)
    await runs.write_end(replace(END, outputs=None, files=None, inputs=Inputs()))
    assert (await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)).is_whole


async def test_nothing_is_deleted_while_a_record_cannot_be_read(desk: Desk) -> None:
    await unnamed(desk, 1)
    await desk.store.put_if_absent(NAME.key("start"), b"fsdruns1")
    before = await keys_of(desk.store)
    with pytest.raises(CorruptDataError, match=NAME.run):
        await collected(desk.store)
    assert await keys_of(desk.store) == before
    report = await verify(await open_repositories(desk.store, LIMITS), Quiet(), data=True)
    assert not report.is_whole
