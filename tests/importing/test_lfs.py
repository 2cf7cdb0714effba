"""Git LFS repositories: pointers are followed into LFS's folder, or to a real server that speaks its batch API."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsd.errors import CorruptDataError, StorePermissionError
from fsd.importing.lfs import LfsHistory, Pointer, parse_pointer
from tests.importing.importing import GitFolder, Importer
from tests.importing.lfs_server import ObjectServer
from tests.publish.folders import DIRECTORY, file, link

LARGE = os.urandom(3_000_000)


def pointer(data: bytes) -> bytes:
    """What Git has in the place of `data`."""
    oid = hashlib.sha256(data).hexdigest()
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (oid.encode(), len(data))


def keep(folder: Path, data: bytes) -> Path:
    """Put an object into a folder of LFS."""
    oid = hashlib.sha256(data).hexdigest()
    path = folder / "objects" / oid[:2] / oid[2:4] / oid
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def git(tmp_path: Path) -> GitFolder:
    """Two tags; of the second a model is another, and nothing else."""
    git = GitFolder(tmp_path / "git")
    (git.top / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (git.top / "README").write_text("what it is\n")
    (git.top / "link").symlink_to("README")
    (git.top / "d").mkdir()
    (git.top / "d" / "large.bin").write_bytes(pointer(LARGE))
    (git.top / "model.bin").write_bytes(pointer(b"one"))
    git.commit("one", "v1")
    (git.top / "model.bin").write_bytes(pointer(b"two"))
    git.commit("two", "v2")
    return git


@pytest.fixture
def server(git: GitFolder) -> Iterator[ObjectServer]:
    """A server with all objects, which the remote names."""
    with ObjectServer([LARGE, b"one", b"two"]) as server:
        git("remote", "add", "origin", f"{server.url}/team/repo.git")
        yield server


async def check(desk: Importer) -> None:
    """All of it has arrived."""
    for tag, content in (("v1", b"one"), ("v2", b"two")):
        found = await desk.read_back(await desk.named(tag))
        assert found.pop(b".gitattributes").kind == "f"
        assert found == {
            b"README": file(b"what it is\n"),
            b"d": DIRECTORY,
            b"d/large.bin": file(LARGE),
            b"link": link(b"README"),
            b"model.bin": file(content),
        }


async def test_objects_that_are_here(tmp_path: Path, git: GitFolder) -> None:
    for data in (LARGE, b"one", b"two"):
        keep(git.top / ".git" / "lfs", data)
    desk = Importer(tmp_path)
    done = await desk.bring_history(LfsHistory(git.top, ()))
    await check(desk)
    assert [each.content.files_read for each in done.revisions if each.content] == [4, 1]
    again = await desk.bring_history(LfsHistory(git.top, ()))
    assert [each.is_new for each in again.revisions] == [False, False]


async def test_objects_of_a_remote_that_is_a_folder(tmp_path: Path, git: GitFolder) -> None:
    git("remote", "add", "origin", f"file://{tmp_path}/bare.git")
    for data in (LARGE, b"one", b"two"):
        keep(tmp_path / "bare.git" / "lfs", data)
    desk = Importer(tmp_path)
    await desk.bring_history(LfsHistory(git.top, ()))
    await check(desk)


async def test_objects_of_a_server(tmp_path: Path, git: GitFolder, server: ObjectServer) -> None:
    keep(git.top / ".git" / "lfs", b"one")
    desk = Importer(tmp_path)
    await desk.bring_history(LfsHistory(git.top, ()))
    await check(desk)
    oids = [hashlib.sha256(data).hexdigest() for data in (LARGE, b"two")]
    assert server.batches == [("/team/repo.git/info/lfs/objects/batch", [oid]) for oid in oids]
    assert server.sent == oids


async def test_a_server_that_lfsconfig_names(tmp_path: Path, git: GitFolder, server: ObjectServer) -> None:
    git("remote", "set-url", "origin", "ssh://git@example.org/repo")
    (git.top / ".lfsconfig").write_text(f"[lfs]\n    url = {server.url}/somewhere\n")
    git.commit("config", "v3")
    await Importer(tmp_path).bring_history(LfsHistory(git.top, ()))
    assert {path for path, _ in server.batches} == {"/somewhere/objects/batch"}


async def test_a_server_that_wants_to_know_who_we_are(tmp_path: Path, git: GitFolder, server: ObjectServer) -> None:
    server.wants = ("ann", "sec:ret")
    with pytest.raises(StorePermissionError, match=r"no right to read http://127\.0\.0\.1:\d+/team/.*answers 401"):
        await Importer(tmp_path, "a").bring_history(LfsHistory(git.top, ()), "a")
    git("remote", "set-url", "origin", server.url.replace("://", "://ann:sec%3Aret@") + "/team/repo.git")
    desk = Importer(tmp_path)
    await desk.bring_history(LfsHistory(git.top, ()))
    await check(desk)


async def test_a_connection_that_breaks_is_taken_up(tmp_path: Path, git: GitFolder, server: ObjectServer) -> None:
    server.breaks_after = 1_000_000
    desk = Importer(tmp_path)
    await desk.bring_history(LfsHistory(git.top, ()))
    await check(desk)
    assert server.ranges


async def test_many_objects_are_asked_for_together(tmp_path: Path) -> None:
    git = GitFolder(tmp_path / "git")
    contents = [b"%d" % number for number in range(250)]
    for number, data in enumerate(contents):
        (git.top / f"{number}.bin").write_bytes(pointer(data))
    git.commit("many", "v1")
    with ObjectServer(contents) as server:
        git("remote", "add", "origin", f"{server.url}/repo")
        desk = Importer(tmp_path)
        await desk.bring_history(LfsHistory(git.top, ()))
    assert len(await desk.read_back(await desk.named("v1"))) == 250
    assert [len(oids) for _, oids in server.batches] == [100, 100, 50]


async def test_an_object_that_nobody_has(tmp_path: Path, git: GitFolder, server: ObjectServer) -> None:
    del server.objects[hashlib.sha256(b"two").hexdigest()]
    desk = Importer(tmp_path)
    with pytest.raises(
        CorruptDataError, match=r"model\.bin of v2 \(SHA-256 [0-9a-f]{64}\) is neither in .*nor on http"
    ):
        await desk.bring_history(LfsHistory(git.top, ()))
    assert await desk.named("main") == await desk.named("v1")


@pytest.mark.parametrize("data", [b"two", LARGE], ids=["small", "large"])
async def test_a_damaged_object(tmp_path: Path, git: GitFolder, server: ObjectServer, data: bytes) -> None:
    server.objects[hashlib.sha256(data).hexdigest()] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(CorruptDataError, match="is damaged where it comes from: its sha256 is"):
        await Importer(tmp_path).bring_history(LfsHistory(git.top, ()))


async def test_submodules_are_told(tmp_path: Path) -> None:
    git = GitFolder(tmp_path / "git")
    (git.top / "a").write_text("a")
    commit = git.commit("one")
    git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    git("commit", "-q", "-m", "with a submodule")
    desk = Importer(tmp_path)
    done = await desk.bring_history(LfsHistory(git.top, ()))
    assert done.warnings == ("sub is a submodule: it is left out",)
    assert await desk.read_back(await desk.named("main")) == {b"a": file(b"a")}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pointer(b"x"), Pointer(hashlib.sha256(b"x").hexdigest(), 1)),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:short\nsize 1\n", None),
        (pointer(b"x").replace(b"size 1", b"size -1"), None),
        (b"a text about version https://git-lfs.github.com/spec/v1\n", None),
        (pointer(b"x") + b"#" * 1000, None),
        (b"", None),
    ],
)
def test_pointers(data: bytes, expected: Pointer | None) -> None:
    assert parse_pointer(data) == expected
