"""Rows of runs: what has ended is read once, what has not again and again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fsd.repo.repository import Repositories, init_store, open_repositories
from fsd.runs.process import this_process
from fsd.runs.rows import read_rows
from fsd.runs.table import Row
from fsd.stores.memory import MemoryStore
from tests.format.test_run import END, NAME, START

RUNNING = NAME._replace(run="b" * 16)
ELSEWHERE = NAME._replace(repository="birds", run="c" * 16)


async def three_runs() -> Repositories:
    """One that has ended, one that runs, and one of another repository."""
    store = MemoryStore()
    await init_store(store)
    repositories = await open_repositories(store)
    runs = repositories.runs
    await runs.write_start(START)
    await runs.write_end(END)
    await runs.write_start(replace(START, name=RUNNING, process=this_process()))
    await runs.write_start(replace(START, name=ELSEWHERE))
    await runs.write_end(replace(END, name=ELSEWHERE))
    return repositories


def states(rows: list[Row]) -> dict[str, str]:
    return {str(row["run"])[0]: str(row["state"]) for row in rows}


async def test_rows_are_the_same_from_the_file(tmp_path: Path) -> None:
    repositories = await three_runs()
    first = await read_rows(repositories, "", tmp_path)
    assert states(first) == {"a": "done", "b": "running", "c": "done"}
    second = await read_rows(repositories, "", tmp_path)
    assert sorted(map(repr, second)) == sorted(map(repr, first))
    assert states(await read_rows(repositories, "birds", tmp_path)) == {"c": "done"}


async def test_what_has_ended_is_not_read_again_and_what_has_not_is(tmp_path: Path) -> None:
    repositories = await three_runs()
    await read_rows(repositories, "", tmp_path)
    for name in (NAME, ELSEWHERE):
        # Nobody does this; it shows that nobody looks.
        await repositories.store.overwrite(name.key("start"), b"damaged")
    await repositories.runs.write_end(replace(END, name=RUNNING, code=1))
    assert states(await read_rows(repositories, "", tmp_path)) == {"a": "done", "b": "failed", "c": "done"}


async def test_a_run_that_is_gone_is_not_shown(tmp_path: Path) -> None:
    repositories = await three_runs()
    await read_rows(repositories, "", tmp_path)
    for part in ("start", "end"):
        await repositories.store.delete(NAME.key(part))
    assert states(await read_rows(repositories, "", tmp_path)) == {"b": "running", "c": "done"}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"version": 0, "rows": {}}', b'{"version": 1, "rows": {"a": 1}}']
)
async def test_a_file_that_will_not_do_is_none(tmp_path: Path, content: bytes) -> None:
    repositories = await three_runs()
    rows = await read_rows(repositories, "", tmp_path)
    (path,) = (tmp_path / "rows").iterdir()
    path.write_bytes(content)
    assert states(await read_rows(repositories, "", tmp_path)) == states(rows)
    assert json.loads(path.read_bytes())["rows"], "and it is written anew"


async def test_where_no_file_can_be_the_list_is_the_same(tmp_path: Path) -> None:
    repositories = await three_runs()
    (tmp_path / "rows").write_text("in the way")
    assert len(await read_rows(repositories, "", tmp_path)) == 3
