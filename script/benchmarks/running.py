"""What `fsd run` costs: beside a command that does nothing, and where it takes what an earlier run made."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import trio
from diffing import CHANGED_FOLDERS, FILES, FOLDERS, REPOSITORY, huge_store
from program import FSD
from reading import Bench
from report import Figure

from fsd.format.inputs import Inputs, NameInputs, VersionInputs
from fsd.format.positions import stretches_of
from fsd.format.run import RunSource
from fsd.limits import DEFAULT_LIMITS
from fsd.repo.repository import open_repositories
from fsd.repo.revisions import resolve
from fsd.stores.open import open_store

INPUTS = {10_000: 0.5, 1_280_000: 3.0}
"""How many files a run had read, and how many seconds a HIT may take then."""
OVERHEAD_GOAL_S = 0.3
_REPEATS = 5
_FIRST_FILE = 2 + FOLDERS
"""The position of the first file of `diffing.make_versions`: behind the top, `train`, and its folders."""


def runs(bench: Bench) -> None:
    """A work tree of three files, its pin on one version of 1.5 million files, and then on one with a thousand changes
    that the run never read."""
    store = huge_store(bench.folder)
    top = _work_tree(bench.folder / "run", store)
    native = statistics.median(_seconds(["true"], top) for _ in range(_REPEATS))
    forced = statistics.median(_seconds([*FSD, "run", "--force", "--", "true"], top) for _ in range(_REPEATS))
    bench.report.add(Figure("fsd run beside 'true'", "s", forced - native, goal=OVERHEAD_GOAL_S, least=False))
    for count, goal in INPUTS.items():
        name = f"step-{count}"
        _run(top, name)
        trio.run(_pretend_to_have_read, store, name, count)
        _pin(top, "close")
        hits = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            said = _run(top, name)
            hits.append(time.perf_counter() - start)
            if "HIT" not in said:
                raise RuntimeError(said)
        _pin(top, "v1")
        label = f"a HIT of a run that read {count:,} files, in another version"
        bench.report.add(Figure(label, "s", statistics.median(hits), goal=goal, least=False))


def _work_tree(top: Path, store: Path) -> Path:
    shutil.rmtree(top, ignore_errors=True)
    shutil.rmtree(store / "runs", ignore_errors=True)
    top.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", top], check=True)
    (top / ".fsd.toml").write_text(f'store = "{store}"\n')
    for number in range(2):
        (top / f"{number}.py").write_text("")
    _pin(top, "v1")
    return top


def _pin(top: Path, tag: str) -> None:
    (top / "data").unlink(missing_ok=True)
    (top / "data").symlink_to(f"/fsd/{REPOSITORY}/{tag}")


def _seconds(command: list[str], top: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=top, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _run(top: Path, name: str) -> str:
    command = [*FSD, "run", "--", "true", name]
    done = subprocess.run(command, cwd=top, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return done.stderr


async def _pretend_to_have_read(folder: Path, name: str, count: int) -> None:
    """A second record of the only run of a step, newer, and with so many files read, here and there."""
    store = open_store(os.fspath(folder), DEFAULT_LIMITS)
    repositories = await open_repositories(store)
    (run,) = [run async for run in repositories.runs.read_all("run") if run.start.argv[-1] == name]
    assert run.end is not None
    commit = (await resolve(repositories, REPOSITORY, "v1")).commit
    in_folder, changed = FILES // FOLDERS, FOLDERS // CHANGED_FOLDERS
    unchanged = [number for number in range(FILES) if number // in_folder % changed]
    seen = stretches_of(_FIRST_FILE + number for number in random.Random(1).sample(unchanged, count))
    version = VersionInputs(REPOSITORY, "v1", commit, ((0, _FIRST_FILE), *seen), ((0, 1),), ())
    new = run.start.name._replace(run=f"{count:016x}")
    async with repositories.leases.held("run"):
        await repositories.runs.write_start(replace(run.start, name=new, time_us=run.start.time_us + 1))
        end = replace(
            run.end,
            name=new,
            inputs=Inputs((version,), (NameInputs(REPOSITORY, "v1", ""), NameInputs(REPOSITORY, "", ""))),
            sources=(RunSource(REPOSITORY, "", "data"), RunSource(REPOSITORY, "v1", "data")),
        )
        await repositories.runs.write_end(end)
    for part in ("start", "end"):
        await store.delete(run.start.name.key(part))
    await store.aclose()
