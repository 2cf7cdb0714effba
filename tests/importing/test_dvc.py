"""DVC repositories, written by hand: every revision arrives, checked, and nothing is read twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fsd.errors import ConflictError, CorruptDataError, NotFoundError, UsageError
from fsd.importing.dvc import DvcHistory
from fsd.importing.dvc_config import Remote
from tests.importing.dvc_folder import DvcFolder, md5_of
from tests.importing.importing import FIRST_COMMIT_S, Importer
from tests.publish.folders import DIRECTORY, Item, file, link, program

LARGE = os.urandom(3_000_000)


def no_remote(remote: Remote) -> tuple[Any, str]:
    """Nothing is elsewhere."""
    raise AssertionError(f"{remote} was opened")


def history(dvc: DvcFolder, *revisions: str, **options: bool) -> DvcHistory:
    """Its revisions, opened."""
    return DvcHistory(dvc.top, revisions, no_remote, **options)


def folder(**paths: bytes) -> dict[bytes, Item]:
    """Files at the top."""
    return {path.replace("_", ".").encode(): file(data) for path, data in paths.items()}


async def test_each_tag_becomes_a_commit(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"a": b"1", "deep/b": b"2", "large": LARGE})
    dvc.track("models/model.bin", b"weights 1", more="  isexec: true\n")
    first = dvc.git.commit("The first\n\nwith a body", "v1", "also-v1")
    dvc.git.commit("No tag")
    dvc.track("data", {"a": b"1", "deep/b": b"changed", "large": LARGE})
    second = dvc.git.commit("The second", "v2")

    done = await desk.bring_history(history(dvc))
    assert [(each.revision.id, each.tags) for each in done.revisions] == [(first, ("also-v1", "v1")), (second, ("v2",))]
    data = {b"data": DIRECTORY, b"data/a": file(b"1"), b"data/deep": DIRECTORY, b"data/large": file(LARGE)}
    data |= {b"models": DIRECTORY, b"models/model.bin": program(b"weights 1")}
    v1, v2 = await desk.named("v1"), await desk.named("v2")
    assert await desk.read_back(v1) == data | {b"data/deep/b": file(b"2")}
    assert await desk.read_back(v2) == data | {b"data/deep/b": file(b"changed")}
    assert await desk.named("also-v1") == v1
    assert await desk.named("main") == v2
    repositories = await desk.repositories()
    headers = [await repositories.commit(commit) for commit in (v1, v2)]
    assert [header.parents for header in headers] == [(), (v1,)]
    assert [header.author for header in headers] == ["Ann <ann@example.org>"] * 2
    assert headers[0].message == "The first\n\nwith a body"
    assert headers[1].time_us == (FIRST_COMMIT_S + 2 * 86_400) * 1_000_000
    # Of the second revision only what is new was read.
    assert [each.content.files_read for each in done.revisions if each.content] == [4, 1]


async def test_a_second_time_only_new_revisions_are_imported(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    first = await desk.bring_history(history(dvc))
    dvc.track("a", b"2")
    dvc.git.commit("two", "v2")
    again = await desk.bring_history(history(dvc))
    assert [each.is_new for each in again.revisions] == [False, True]
    assert again.revisions[0].commit == first.revisions[0].commit
    header = await (await desk.repositories()).commit(await desk.named("main"))
    assert header.parents == (first.revisions[0].commit,)
    # The source may be gone by then: nothing of it is looked for.
    shutil.rmtree(dvc.remote)
    assert [each.is_new for each in (await desk.bring_history(history(dvc))).revisions] == [False, False]


async def test_a_tag_that_was_lost_is_made_again(tmp_path: Path) -> None:
    """As after a kill between branch and tag."""
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    await desk.bring_history(history(dvc))
    commit = await desk.named("v1")
    refs = (await desk.repositories()).refs
    stored = await refs.read("repo", "v1")
    assert stored is not None
    await refs.delete("repo", "v1", stored.version)
    (again,) = (await desk.bring_history(history(dvc))).revisions
    assert (again.is_new, again.commit, await desk.named("v1")) == (False, commit, commit)


async def test_a_tag_that_names_something_else(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    await desk.commit({b"x": file(b"1")}, tag="v1")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    with pytest.raises(ConflictError, match="tag 'v1' of 'repo' is there, and not from v1 of the source"):
        await desk.bring_history(history(dvc))


async def test_without_tags_what_is_checked_out(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one")
    dvc.track("a", b"2")
    commit = dvc.git.commit("two")
    (done,) = (await desk.bring_history(history(dvc))).revisions
    assert (done.revision.id, done.tags) == (commit, ())
    assert await desk.read_back(await desk.named("main")) == folder(a=b"2")


async def test_chosen_revisions(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    ids = []
    for number in range(4):
        dvc.track("a", b"%d" % number)
        ids.append(dvc.git.commit(f"number {number}", f"v{number}"))
    done = await desk.bring_history(history(dvc, "v1", ids[0][:12], "main"), branch="imported")
    assert [each.revision.id for each in done.revisions] == [ids[0], ids[1], ids[3]]
    assert await desk.named("imported") == await desk.named("v3")
    with pytest.raises(NotFoundError, match="no revision 'v9' in the Git repository"):
        await desk.bring_history(history(dvc, "v9"))
    with pytest.raises(NotFoundError, match="no revision '--all'"):
        await desk.bring_history(history(dvc, "--all"))


async def test_a_line_beside_the_branch_is_reached_by_its_tags(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    dvc.git("checkout", "-q", "-b", "fix")
    dvc.track("a", b"1.1")
    dvc.git.commit("fix", "v1.1")
    dvc.git("checkout", "-q", "main")
    dvc.track("a", b"2")
    dvc.git.commit("two", "v2")
    await desk.bring_history(history(dvc))
    v1, fix, v2 = [await desk.named(name) for name in ("v1", "v1.1", "v2")]
    assert await desk.named("main") == v2
    repositories = await desk.repositories()
    assert [(await repositories.commit(commit)).parents for commit in (v1, fix, v2)] == [(), (v1,), (v1,)]
    assert await desk.read_back(fix) == folder(a=b"1.1")
    dvc.git("tag", "-d", "v1.1")
    with pytest.raises(UsageError, match="has no tag, so nothing would name it"):
        await desk.bring_history(history(dvc, "fix", "main"), "other")


async def test_merges_have_all_their_parents(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    dvc.git("checkout", "-q", "-b", "side")
    dvc.track("b", b"2")
    dvc.git.commit("side", "side-1")
    dvc.git("checkout", "-q", "main")
    dvc.track("c", b"3")
    dvc.git.commit("main", "main-1")
    dvc.git("merge", "-q", "--no-edit", "side")
    dvc.git.commit("merged", "v2")
    await desk.bring_history(history(dvc))
    header = await (await desk.repositories()).commit(await desk.named("v2"))
    assert set(header.parents) == {await desk.named("side-1"), await desk.named("main-1")}
    assert await desk.read_back(await desk.named("main")) == folder(a=b"1", b=b"2", c=b"3")


async def test_names_of_tags_that_cannot_be_here(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "release/1.0", "abcdef01", "10pct", "refs-1", "refs/1")
    dvc.git("tag", "main")
    done = await desk.bring_history(history(dvc))
    (only,) = done.revisions
    assert set(only.tags) == {"release-1.0", "tag-abcdef01", "tag-10pct", "tag-main", "refs-1"}
    assert "the tag 'release/1.0' is called 'release-1.0' here" in done.warnings
    assert "the tag 'refs/1' is left out: no name like it is free" in done.warnings


async def test_a_missing_content_is_named(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    dvc.track("data", {"x/y": b"gone"})
    dvc.git.commit("two", "v2")
    md5 = md5_of(b"gone")
    (dvc.remote / "files/md5" / md5[:2] / md5[2:]).unlink()
    message = (
        rf"data/x/y of v2 \(MD5 {md5}\) is neither in the cache .*/\.dvc/cache nor in the remote 'storage' \(/.*\)"
    )
    with pytest.raises(CorruptDataError, match=message):
        await desk.bring_history(history(dvc))
    # What came before it is there, and the next try goes on from it.
    assert await desk.read_back(await desk.named("main")) == folder(a=b"1")
    dvc.keep(b"gone")
    assert [each.is_new for each in (await desk.bring_history(history(dvc))).revisions] == [False, True]
    shutil.rmtree(dvc.remote)
    with pytest.raises(CorruptDataError, match=r"data of v2 \(MD5 [0-9a-f]{32}\.dir\) is neither"):
        await desk.bring_history(history(dvc, "v2"), "other")


@pytest.mark.parametrize("data", [b"sound", LARGE], ids=["small", "large"])
async def test_a_damaged_content_is_named(tmp_path: Path, data: bytes) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"x/y": data})
    dvc.git.commit("one", "v1")
    dvc.keep(data[:-1] + bytes([data[-1] ^ 1]), name=md5_of(data))
    with pytest.raises(CorruptDataError, match="data/x/y is damaged where it comes from: its md5 is"):
        await Importer(tmp_path).bring_history(history(dvc))


async def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"x": b"1"})
    dvc.git.commit("one", "v1")
    (manifest,) = dvc.remote.rglob("*.dir")
    manifest.write_bytes(b"[]")
    with pytest.raises(CorruptDataError, match="data is damaged where it comes from"):
        await Importer(tmp_path).bring_history(history(dvc))


async def test_the_cache_comes_before_the_remote(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"x": b"cached"}, cached=True)
    dvc.track("b", b"elsewhere")
    dvc.git.commit("one", "v1")
    elsewhere = tmp_path / "shared cache"
    await desk.bring_history(history(dvc))
    assert await desk.read_back(await desk.named("v1")) == {
        b"b": file(b"elsewhere"),
        b"data": DIRECTORY,
        b"data/x": file(b"cached"),
    }
    dvc.cache.rename(elsewhere)
    (dvc.top / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../shared cache\n")
    (done,) = (await desk.bring_history(history(dvc), "other")).revisions
    assert done.totals.files == 2


async def test_dvc_2(tmp_path: Path) -> None:
    """Another layout, and of texts the hash is that of lines that end as Unix has them."""
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc", legacy=True)
    text = b"a,b\r\n1,2\r\n"
    name = dvc.keep(text, name=md5_of(text.replace(b"\r\n", b"\n")))
    binary = bytes(100) + b"\r\n"
    dvc.track("data", {"x": b"1"})
    dvc.track("binary", binary)
    (dvc.top / "text.csv.dvc").write_text(f"outs:\n- md5: {name}\n  size: {len(text)}\n  path: text.csv\n")
    dvc.git.commit("one", "v1")
    await desk.bring_history(history(dvc))
    assert await desk.read_back(await desk.named("v1")) == {
        b"binary": file(binary),
        b"data": DIRECTORY,
        b"data/x": file(b"1"),
        b"text.csv": file(text),
    }


async def test_outputs_of_pipelines(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.lock({"train": dvc.out("model.bin", b"weights"), "score": dvc.out("metrics.json", b"{}")})
    (dvc.top / "metrics.json").write_bytes(b"{}")  # cache: false, so that Git has it
    pipeline = "stages:\n  split:\n    foreach: [a, b]\n    do:\n      cmd: make\n      wdir: out\n"
    dvc.lock({"split@a": dvc.out("a", {"1": b"one"})}, folder="deep/", pipeline=pipeline)
    dvc.git.commit("one", "v1")
    await desk.bring_history(history(dvc))
    expected = {b"model.bin": file(b"weights"), b"deep/out/a/1": file(b"one")}
    expected |= dict.fromkeys((b"deep", b"deep/out", b"deep/out/a"), DIRECTORY)
    assert await desk.read_back(await desk.named("v1")) == expected


async def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    for name, text in {
        "outside": "outs:\n- md5: 59b0d7772f0561efb95518f3cb8abc60\n  path: ../x\n",
        "bucket": "outs:\n- etag: '1'\n  path: s3://bucket/x\n",
        "never": "outs:\n- path: never\n",
        "loose": "outs:\n- md5: 59b0d7772f0561efb95518f3cb8abc60\n  cache: false\n  path: loose\n",
    }.items():
        (dvc.top / f"{name}.dvc").write_text(text)
    dvc.git.commit("one", "v1")
    done = await desk.bring_history(history(dvc))
    assert await desk.read_back(await desk.named("v1")) == folder(a=b"1")
    told = "\n".join(done.warnings)
    for expected in ("../x of v1 lies outside", "never of v1 was never committed", "loose of v1 is kept neither"):
        assert expected in told
    assert "bucket/x of v1 lies outside" in told
    assert len(done.warnings) == 4


async def test_with_the_files_of_git(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    dvc.track("a", b"1")
    (dvc.top / "README").write_bytes(b"what it is\n")
    (dvc.top / "run.sh").write_bytes(b"#!/bin/sh\n")
    (dvc.top / "run.sh").chmod(0o755)
    (dvc.top / "big").write_bytes(LARGE)
    (dvc.top / "link").symlink_to("README")
    dvc.git.commit("one", "v1")
    await desk.bring_history(history(dvc, with_git_files=True))
    found = await desk.read_back(await desk.named("v1"))
    expected = folder(a=b"1", README=b"what it is\n", big=LARGE) | {b"link": link(b"README")}
    assert expected.items() <= found.items()
    assert found[b"run.sh"] == program(b"#!/bin/sh\n")
    assert {b"a.dvc", b".dvc/config"} <= found.keys()
    # Without them it is another tree, and so not what was imported.
    with pytest.raises(ConflictError, match="not from v1 of the source"):
        await desk.bring_history(history(dvc))


async def test_a_repository_in_a_folder_of_a_repository(tmp_path: Path) -> None:
    desk = Importer(tmp_path)
    outer = DvcFolder(tmp_path / "outer")
    (outer.top / "inner" / ".dvc").mkdir(parents=True)
    (outer.top / "inner" / ".dvc" / "config").write_text(
        (outer.top / ".dvc" / "config").read_text().replace("../../", "../../../")
    )
    outer.track("a", b"outer")
    outer.track("inner/a", b"inner")
    outer.git.commit("one", "v1")
    await desk.bring_history(DvcHistory(outer.top / "inner", (), no_remote))
    assert await desk.read_back(await desk.named("v1")) == folder(a=b"inner")


@pytest.mark.parametrize("text", ["outs: [", "- 1", "outs:\n- md5: 1\n", "outs: 7"])
async def test_files_that_dvc_did_not_write(tmp_path: Path, text: str) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    (dvc.top / "bad.dvc").write_text(text)
    dvc.git.commit("one", "v1")
    with pytest.raises(CorruptDataError, match=r"bad\.dvc is not as DVC writes it"):
        await Importer(tmp_path).bring_history(history(dvc))


async def test_a_manifest_that_leads_out(tmp_path: Path) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"../../../etc/passwd": b"x"})
    dvc.git.commit("one", "v1")
    with pytest.raises(Exception, match=r"leads out of it with '\.\.'"):
        await Importer(tmp_path).bring_history(history(dvc))
    assert not (tmp_path / "etc").exists()


async def test_one_tag_for_many_revisions(tmp_path: Path) -> None:
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    for number in range(2):
        dvc.track("a", b"%d" % number)
        dvc.git.commit("one", f"v{number}")
    with pytest.raises(UsageError, match="--tag mine for 2 revisions"):
        await desk.bring_history(history(dvc), tag="mine")
    await desk.bring_history(history(dvc, "v1"), tag="mine", message="Mine", author="me")
    header = await (await desk.repositories()).commit(await desk.named("mine"))
    assert (header.message, header.author) == ("Mine", "me")


async def test_a_branch_with_other_commits(tmp_path: Path) -> None:
    """The first revision stands on what the branch has; later ones must come from what it names."""
    desk, dvc = Importer(tmp_path), DvcFolder(tmp_path / "dvc")
    own = await desk.commit({b"x": file(b"1")})
    dvc.track("a", b"1")
    dvc.git.commit("one", "v1")
    await desk.bring_history(history(dvc))
    assert (await (await desk.repositories()).commit(await desk.named("v1"))).parents == (own.commit,)
    await desk.commit({b"x": file(b"2")})
    dvc.track("a", b"2")
    dvc.git.commit("two", "v2")
    with pytest.raises(ConflictError, match="repo/main has commits that v2 of the source does not come from"):
        await desk.bring_history(history(dvc))
