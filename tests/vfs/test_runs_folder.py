"""`/.runs`: what came of a run is a path."""

from __future__ import annotations

import json
import logging
import math
import stat
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing
from trio.testing import MockClock

from fsd.errors import CorruptDataError, StoreUnreachableError, UsageError
from fsd.format.commit import Commit, encode_commit
from fsd.format.inputs import Inputs, ListingInputs, NameInputs, VersionInputs, decode_inputs, digest_of_names
from fsd.format.keys import ObjectKind
from fsd.format.run import END, RunName, StoredTree
from fsd.repo.builder import build_tree
from fsd.repo.objects import ObjectWriter
from fsd.repo.runs import Run
from fsd.vfs import runs_folder
from fsd.vfs.attributes import Missing
from tests.faulty import Fail
from tests.format.test_run import END as AN_END
from tests.format.test_run import START as A_START
from tests.repo.trees import batches
from tests.vfs.world import FOREVER_S, LIMITS, SHORT_S, Builder, Files, World, new_store, opened

RUN = "0123456789abcdef"
OTHER = "0123ffffffffffff"
GOING_ON = "aaaa000000000000"
FILES: Files = {
    b"curves/loss.tsv": b"step\tloss\n",
    b"log": b"epoch 1\n" * 300,
    b"metrics.json": b"{}",
    b"params.yaml": b"lr: 0.1\n",
}
OUTPUTS: Files = {b"out/model": b"weights" * 500, b"out/again": b"epoch 1\n" * 300}
VIEW = b".views/r" + b"0" * 32 + b"/"
ROOM = {"in_trees_bytes": 0, "pages": 0, "versions": 0}
"""What is kept for the next one."""
START_NS = A_START.time_us * 1000
END_NS = AN_END.time_us * 1000


def name_of(run: str) -> RunName:
    return RunName("digits", "5" * 32, run)


def describe(run: Run) -> dict[str, Any]:
    return {"run": run.start.name.run, "has_ended": run.end is not None}


class Store:
    """A store with runs in it."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.runs = builder.repositories.runs
        self.data = self.code = self.outputs = self.files = b""

    async def fill(self) -> None:
        """A run that has ended, one with almost the same id, and one that goes on."""
        self.data = await self.builder.commit("data", {b"a": b"a"}, tag="v1")
        self.code = await self.hidden({b"train.py": b"print()"})
        self.outputs = await self.hidden(OUTPUTS)
        self.files = await self.hidden(FILES)
        await self.start(RUN)
        await self.end(RUN, VersionInputs("data", "v1", self.data, ((0, 2),), (), ()))
        for run in (OTHER, GOING_ON):
            await self.start(run)
        await self.end(OTHER)

    async def hidden(self, files: Files) -> bytes:
        return await self.builder.commit("digits", files, branch=None, time_us=0)

    async def start(self, run: str) -> None:
        await self.runs.write_start(replace(A_START, name=name_of(run), code=StoredTree(self.code, b"t" * 32)))

    async def end(self, run: str, *versions: VersionInputs) -> None:
        outputs, files = (StoredTree(commit, b"t" * 32) for commit in (self.outputs, self.files))
        inputs = Inputs(versions=versions)
        await self.runs.write_end(replace(AN_END, name=name_of(run), outputs=outputs, files=files, inputs=inputs))

    def shown(self, directory: Path) -> AbstractAsyncContextManager[World]:
        """A vfs over it."""
        return opened(self.builder, directory, describe_run=describe)

    async def subset_of(self, commit: bytes) -> bytes:
        """A named subset, by its object."""
        writer = ObjectWriter(self.builder.repositories.store)
        built = await build_tree(writer, batches(()))
        subset = Commit("data", built.id, built.totals, 0, source=commit, rule={"limit": 1})
        return await writer.write(ObjectKind.COMMIT, encode_commit(subset, built.root))


async def new_runs() -> Store:
    store = Store(await new_store())
    await store.fill()
    return store


async def target(world: World, path: bytes) -> bytes:
    found = await world.stat(path)
    assert stat.S_ISLNK(found.mode)
    return await world.vfs.readlink(found.ino)


def path_of(*parts: str | bytes) -> bytes:
    return b"/".join([b".runs", *(part.encode() if isinstance(part, str) else part for part in parts)])


async def test_a_run_is_a_directory_of_files(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        assert await world.names(b"") == [b"data"], "nor is who has nothing but runs"
        names = [b"code", b"inputs", b"outputs", b"run.json", b"curves", b"log", b"metrics.json", b"params.yaml"]
        assert await world.names(path_of(RUN)) == names
        for name, data in FILES.items():
            assert await world.content(path_of(RUN, name)) == data
        assert json.loads(await world.content(path_of(RUN, "run.json"))) == {"run": RUN, "has_ended": True}
        assert (await world.stat(path_of(RUN, "run.json"))).mtime_ns == END_NS
        assert await target(world, path_of(RUN, "outputs")) == b"../../digits/" + store.outputs.hex().encode()
        assert await target(world, path_of(RUN, "code")) == b"../../digits/" + store.code.hex().encode()
        assert await world.content(b"digits/" + store.outputs.hex().encode() + b"/out/model") == b"weights" * 500
        for name in ("nope", "logs", ".git", b"\xff"):
            assert await world.lookup(path_of(RUN, name)) == Missing(FOREVER_S)


async def test_files_have_the_inodes_of_their_content(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        log = await world.stat(path_of(RUN, "log"))
        assert log.ino == (await world.stat(b"digits/" + store.outputs.hex().encode() + b"/out/again")).ino
        assert (log.entry_timeout_s, log.attr_timeout_s) == (FOREVER_S, FOREVER_S)
        listed = {entry[0]: entry for entry in await world.listing((await world.stat(path_of(RUN))).ino)}
        assert listed[b"log"][1:4] == (log.ino, log.mode, log.size)
        assert len({entry[-1] for entry in listed.values()}) == len(listed)


async def test_what_it_read_is_linked(tmp_path: Path) -> None:
    store = Store(await new_store())
    await store.fill()
    subset = await store.subset_of(store.data)
    versions = [
        VersionInputs("data", "v1", store.data, (), (), ()),
        VersionInputs("data", "v1+10pct", store.data, (), (), ()),
        VersionInputs("data", "v1+tiny", subset, (), (), ()),
        VersionInputs("data", "v1+followed", store.data, (), (), ()),
        VersionInputs("data", "v1", store.code, (), (), ()),
    ]
    await store.start("b" * 16)
    await store.end("b" * 16, *versions)
    commit = store.data.hex()
    expected = {
        "data@v1": commit,
        "data@v1+10pct": f"{commit}+10pct",
        "data@v1+tiny": subset.hex(),
        "data@v1+followed": f"{commit}+followed",
        f"data@{store.code.hex()}": store.code.hex(),
    }
    async with store.shown(tmp_path) as world:
        inputs = path_of("b" * 16, "inputs")
        assert await world.names(inputs) == sorted(name.encode() for name in expected)
        for name, label in expected.items():
            assert await target(world, inputs + b"/" + name.encode()) == f"../../../data/{label}".encode()
        for name in (f"data/{commit}/a", f"data/{commit}+10pct", f"data/{subset.hex()}"):
            await world.stat(name.encode())
        assert await world.lookup(inputs + b"/nope") == Missing(FOREVER_S)


# --- which runs there are


async def test_ids_and_their_beginnings(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        assert sorted(await world.names(b".runs")) == sorted(map(str.encode, (RUN, OTHER, GOING_ON)))
        for text in (RUN[:5], RUN[:15]):
            assert await target(world, path_of(text)) == RUN.encode()
        assert await target(world, path_of(GOING_ON[:4])) == GOING_ON.encode()
        for text in (RUN[:4], "0124", "ffff", RUN[:15] + "0"):
            assert await world.lookup(path_of(text)) == Missing(SHORT_S), "none, or several, or not yet"
        for text in ("012", RUN.upper(), RUN + "0", ".git", "latest", b"\xff"):
            assert await world.lookup(path_of(text)) == Missing(FOREVER_S), "that is no id"
        assert (await world.stat(path_of(RUN))).entry_timeout_s == FOREVER_S
        assert (await world.stat(path_of(RUN[:5]))).entry_timeout_s == SHORT_S


async def test_the_store_is_asked_once_a_second(tmp_path: Path, mock_clock: MockClock) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        await trio.testing.wait_all_tasks_blocked()  # which repositories have runs was asked for in the background
        world.requests()
        for _ in range(3):
            await world.names(b".runs")
            await world.lookup(path_of(RUN))
            await world.lookup(path_of("ffff"))
        assert [each for each in world.requests() if "runs/" in each] == ["list runs/"]
        await store.start("f" * 16)
        mock_clock.jump(SHORT_S)
        assert b"f" * 16 in await world.names(b".runs")
        assert await target(world, path_of("ffff")) == b"f" * 16
        await world.content(path_of(RUN, "log"))
        world.requests()
        for name in ("log", "run.json", "params.yaml", "nope"):
            await world.lookup(path_of(RUN, name))
        assert [each for each in world.requests() if "get runs/" in each] == [], "what has ended is read once"


async def test_limits_may_change(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        world.vfs.change_limits(replace(LIMITS, entry_timeout_s=7.0))
        assert (await world.stat(path_of(RUN[:5]))).entry_timeout_s == 7


async def test_a_listing_shows_no_name_twice_whatever_comes(tmp_path: Path, mock_clock: MockClock) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        top = (await world.stat(b".runs")).ino
        first = list((await world.vfs.list(top, 0)).entries)
        assert len(first) == 3
        for run in ("0" * 16, "f" * 16):
            await store.start(run)
        mock_clock.jump(SHORT_S)
        rest = await world.listing(top, first[0][-1])
        assert sorted(entry[0] for entry in (first[0], *rest)) == sorted(
            map(str.encode, (RUN, OTHER, GOING_ON, "0" * 16, "f" * 16))
        )


async def test_when_the_store_is_away(tmp_path: Path, mock_clock: MockClock) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        await world.names(b".runs")
        await world.content(path_of(RUN, "log"))
        world.store.inject(("get", "list"), "*", Fail(StoreUnreachableError("away")), times=math.inf)
        mock_clock.jump(10 * SHORT_S)
        assert len(await world.names(b".runs")) == 3
        assert await world.content(path_of(RUN, "log")) == FILES[b"log"]
        with pytest.raises(StoreUnreachableError, match="away"):
            await world.lookup(path_of(OTHER, "run.json"))
    async with store.shown(tmp_path) as world:
        world.store.inject(("get", "list"), "*", Fail(StoreUnreachableError("away")), times=math.inf)
        with pytest.raises(StoreUnreachableError, match="away"):
            await world.names(b".runs")


async def test_behind_a_web_server_no_run_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:

        async def refuse() -> dict[RunName, bool]:
            raise UsageError("it is behind a web server, which cannot list runs/*")

        monkeypatch.setattr(world.repositories.runs, "names", refuse)
        assert await world.names(b".runs") == []
        assert await world.lookup(path_of(RUN)) == Missing(SHORT_S)


# --- what changes


async def test_a_run_that_goes_on_until_it_ends(tmp_path: Path, mock_clock: MockClock) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        run = await world.stat(path_of(GOING_ON))
        assert run.entry_timeout_s == SHORT_S
        assert await world.names(path_of(GOING_ON)) == [b"code", b"run.json"]
        before = await world.stat(path_of(GOING_ON, "run.json"))
        assert (before.entry_timeout_s, before.mtime_ns) == (SHORT_S, START_NS)
        assert (await world.stat(path_of(GOING_ON, "run.json"))).ino == before.ino, "it says the same"
        assert await world.lookup(path_of(GOING_ON, "log")) == Missing(SHORT_S)
        await store.end(GOING_ON)
        mock_clock.jump(SHORT_S)
        after = await world.stat(path_of(GOING_ON, "run.json"))
        assert (after.entry_timeout_s, after.mtime_ns, after.ino == before.ino) == (FOREVER_S, END_NS, False)
        assert b'"has_ended": true' in await world.read(after.ino, 0, 1000)
        assert b'"has_ended": false' in await world.read(before.ino, 0, 1000), "what was open stays what it was"
        assert await world.content(path_of(GOING_ON, "log")) == FILES[b"log"]
        again = await world.stat(path_of(GOING_ON))
        assert (again.ino, again.entry_timeout_s) == (run.ino, FOREVER_S)


async def test_a_run_without_outputs(tmp_path: Path) -> None:
    store = Store(await new_store())
    await store.builder.commit("digits", {b"a": b"a"})
    await store.runs.write_start(replace(A_START, name=name_of(RUN), code=None))
    await store.runs.write_end(replace(AN_END, name=name_of(RUN), outputs=None, files=None, inputs=Inputs()))
    async with store.shown(tmp_path) as world:
        assert await world.names(path_of(RUN)) == [b"inputs", b"run.json"]
        for name in ("code", "outputs", "log"):
            assert await world.lookup(path_of(RUN, name)) == Missing(FOREVER_S)


async def test_what_was_purged_leads_to_what_took_its_place(tmp_path: Path, mock_clock: MockClock) -> None:
    store = await new_runs()
    new = await store.hidden({b"out/model": b"without the secret"})
    async with store.shown(tmp_path) as world:
        old = await target(world, path_of(RUN, "outputs"))
        await store.runs.note_replaced("1" * 32, {store.outputs: new, store.code: None})
        mock_clock.jump(SHORT_S)
        assert await target(world, path_of(RUN, "outputs")) == b"../../digits/" + new.hex().encode() != old
        gone = await target(world, path_of(RUN, "code"))
        assert gone == b"../../digits/" + store.code.hex().encode(), "it leads nowhere, once gc has been there"
        await store.runs.note_replaced("2" * 32, {store.files: await store.hidden({b"log": b"(purged)"})})
        mock_clock.jump(SHORT_S)
        assert await world.content(path_of(RUN, "log")) == b"(purged)"


async def test_a_bad_record_is_an_error_of_its_own(tmp_path: Path, error_logs: list[logging.LogRecord]) -> None:
    store = await new_runs()
    await store.builder.repositories.store.overwrite(name_of(OTHER).key(END), b"damaged")
    async with store.shown(tmp_path) as world:
        assert len(await world.names(b".runs")) == 3
        with pytest.raises(CorruptDataError):
            await world.lookup(path_of(OTHER, "log"))
        assert len(error_logs) == 1
        assert f"/.runs/{OTHER}/log" in world.vfs.errors.render().decode()
        assert await world.content(path_of(RUN, "log")) == FILES[b"log"]


async def test_a_run_that_is_gone(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        run = await world.stat(path_of(RUN))
        for part in ("start", "end"):
            await store.builder.repositories.store.delete(name_of(RUN).key(part))
        assert await world.vfs.lookup(run.ino, b"log") == Missing(SHORT_S)
        assert await world.listing(run.ino) == []


async def test_records_that_are_kept_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_folder, "MAX_RECORDS", 1)
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        for run in (RUN, OTHER, RUN):
            world.requests()
            await world.content(path_of(run, "log"))
            assert len([each for each in world.requests() if each.startswith("get runs/")]) == 2


async def test_what_the_kernel_forgets_is_gone(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        before = world.vfs.status()["inodes"]
        top = (await world.stat(b".runs")).ino
        run = (await world.stat(path_of(RUN))).ino
        seen = [top, top, run]
        for directory in (top, run):
            seen += [entry[1] for entry in await world.listing(directory)]
        for ino in seen:
            world.vfs.forget(ino, 1)
        assert world.vfs.status()["inodes"] | ROOM == before | ROOM


async def test_a_repository_that_has_nothing_but_runs(tmp_path: Path) -> None:
    """As is that of a work tree from which nothing was ever committed: what it made has to be found all the same."""
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        await world.stat(b"digits/" + store.outputs.hex().encode() + b"/out/model")
        assert await world.names(b"digits") == []
        assert await world.lookup(b"birds") == Missing(SHORT_S)
    async with opened(store.builder, tmp_path) as world:
        for name in (b".runs", b"digits"):
            assert isinstance(await world.lookup(name), Missing), "where no runs are shown"


# --- in a run's view


async def inputs_of(world: World) -> Inputs:
    return decode_inputs(await world.content(VIEW + b".fsd/inputs"), "it")


def named(inputs: Inputs, repository: str = ".runs") -> Sequence[NameInputs]:
    return [each for each in inputs.names if each.repository == repository]


async def test_what_a_view_sees_of_runs(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        world.vfs.observe_runs(lambda *_: None)
        before = await world.stat(path_of(RUN))
        view = VIEW + b".runs/"
        assert (await world.stat(view + RUN.encode())).ino != before.ino
        assert await target(world, view + RUN[:5].encode()) == RUN.encode()
        for text in (b"ffff", b"f" * 16, b"nope"):
            assert isinstance(await world.lookup(view + text), Missing)
        assert await world.content(view + RUN.encode() + b"/log") == FILES[b"log"]
        await world.content(view + RUN.encode() + b"/run.json")
        assert await target(world, view + RUN.encode() + b"/outputs") == b"../../digits/" + store.outputs.hex().encode()
        inputs = await inputs_of(world)
        assert inputs.problem == ""
        assert named(inputs) == [
            NameInputs(".runs", RUN[:5], RUN),
            NameInputs(".runs", RUN, ""),
            NameInputs(".runs", "ffff", None),
            NameInputs(".runs", "f" * 16, None),
        ]
        # By these it shows when they were purged.
        assert {each.name for each in named(inputs, "digits")} == {store.files.hex(), store.outputs.hex()}
        (files,) = inputs.versions
        assert (files.name, files.commit) == (store.files.hex(), store.files)
        assert inputs.listings == ()


async def test_listings_in_a_view_teach_nothing(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        world.vfs.observe_runs(lambda *_: None)
        for path in (b".runs", path_of(RUN), path_of(RUN, "inputs")):
            plain = await world.names(path)
            ino = (await world.stat(VIEW + path)).ino
            before = world.vfs.status()["inodes"]["others"], world.vfs.status()["inodes"]["in_trees"]
            assert [entry[0] for entry in await world.listing(ino)] == plain
            assert (await world.vfs.list(ino, 0)).is_shown_only
            assert all(entry[1] for entry in await world.listing(ino))
            assert (world.vfs.status()["inodes"]["others"], world.vfs.status()["inodes"]["in_trees"]) == before
        inputs = await inputs_of(world)
        names = digest_of_names((run, False) for run in (RUN, OTHER, GOING_ON))
        assert inputs.listings == (ListingInputs(".runs", names),)
        assert inputs.problem == ""


async def test_a_run_that_goes_on_cannot_be_compared(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        world.vfs.observe_runs(lambda *_: None)
        await world.stat(VIEW + path_of(GOING_ON))
        assert (await inputs_of(world)).problem == "", "it is there, and will be"
        await world.stat(VIEW + path_of(GOING_ON, "run.json"))
        assert (await inputs_of(world)).problem == f"it looked at run {GOING_ON}, which had not ended"


async def test_an_edit_sees_no_runs(tmp_path: Path) -> None:
    store = await new_runs()
    async with store.shown(tmp_path) as world:
        assert isinstance(await world.lookup(b".views/0123456789abcdef/.runs"), Missing)
