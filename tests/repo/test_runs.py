"""Run records in a store: written once, found, and kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsd.errors import ConflictError, CorruptDataError, NotFoundError
from fsd.format.run import RunName
from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.stores.memory import MemoryStore
from tests.format.test_run import END, NAME, START
from tests.publish.folders import keys_of

OTHER = RunName("digits", "6" * 32, "ab" * 8)
ELSEWHERE = RunName("birds", "5" * 32, "b" * 16)


async def empty() -> Repositories:
    store = MemoryStore()
    await init_store(store)
    return await open_repositories(store)


async def test_a_run_without_an_end_has_none() -> None:
    repositories = await empty()
    await repositories.runs.write_start(START)
    run = await repositories.runs.read(NAME)
    assert (run.start, run.end) == (START, None)
    assert run.commits == START.commits
    assert await repositories.runs.names() == {NAME: False}
    await repositories.runs.write_end(END)
    run = await repositories.runs.read(NAME)
    assert (run.start, run.end) == (START, END)
    assert run.commits == START.commits | END.commits
    assert await repositories.runs.names() == {NAME: True}


async def test_neither_is_ever_written_again() -> None:
    repositories = await empty()
    await repositories.runs.write_start(START)
    await repositories.runs.write_end(END)
    with pytest.raises(ConflictError):
        await repositories.runs.write_start(replace(START, label="another"))
    with pytest.raises(ConflictError):
        await repositories.runs.write_end(replace(END, code=1))
    assert (await repositories.runs.read(NAME)).end == END


async def test_runs_are_found_by_repository_step_and_what_their_id_begins_with() -> None:
    repositories = await empty()
    runs = repositories.runs
    for name in (NAME, OTHER, ELSEWHERE):
        await runs.write_start(replace(START, name=name))
    await repositories.store.put_if_absent("runs/digits/notes", b"somebody's own")
    assert set(await runs.names()) == {NAME, OTHER, ELSEWHERE}
    assert set(await runs.names("digits")) == {NAME, OTHER}
    assert set(await runs.names("digits", "6" * 32)) == {OTHER}
    assert await runs.find("AB") == OTHER
    assert await runs.find("b") == ELSEWHERE
    assert {run.start.name async for run in runs.read_all("digits")} == {NAME, OTHER}
    with pytest.raises(NotFoundError, match="2 runs begin with 'a'"):
        await runs.find("a")
    for unknown in ("", "c"):
        with pytest.raises(NotFoundError, match="no run"):
            await runs.find(unknown)
    with pytest.raises(NotFoundError):
        await runs.find("b", "digits")
    with pytest.raises(NotFoundError):
        await runs.read(NAME._replace(run="c" * 16))


async def test_a_lease_is_held_while_a_record_is_written() -> None:
    repositories = await empty()
    async with repositories.leases.held("run"):
        await repositories.runs.write_start(START)
        assert len(await keys_of(repositories.store, "leases/")) == 1
    assert await keys_of(repositories.store, "leases/") == []


async def test_what_is_damaged_is_named() -> None:
    repositories = await empty()
    await repositories.store.put_if_absent(NAME.key("start"), b"fsdruns1 and no more")
    with pytest.raises(CorruptDataError, match=NAME.run):
        await repositories.runs.read(NAME)
