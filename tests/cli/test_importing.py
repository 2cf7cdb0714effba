"""`fsd import` and `fsd export`: what they take SOURCE and DEST for, what they print, and how they fail."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Fsd
from tests.importing.dvc_folder import DvcFolder
from tests.importing.importing import GitFolder, tar_of, zip_of
from tests.importing.test_huggingface import REVISION, HubCache
from tests.importing.test_lfs import keep, pointer
from tests.publish.folders import DIRECTORY, file, read_folder

FOLDER = {b"a": file(b"1"), b"d": DIRECTORY, b"d/b": file(b"2" * 5000)}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A tar archive."""
    path = tmp_path / "some.tar"
    path.write_bytes(tar_of(FOLDER))
    return path


def test_an_archive(fsd: Fsd, archive: Path, tmp_path: Path) -> None:
    told = fsd("import", archive, "data", "--tag", "v1", "-m", "Some")
    assert "is data/main, tag v1\n" in told
    assert "  content  2 files, 4.9 KiB\n  read     2 files, 4.9 KiB\n" in told
    assert fsd.own_store.is_dir()
    fsd("checkout", "data/v1", tmp_path / "out")
    assert read_folder(tmp_path / "out") == FOLDER
    shown = fsd.json("show", "data/v1")
    assert (shown["message"], shown["author"]) == ("Some", "someone")
    assert shown["metadata"]["imported"] == {"from": "tar", "source": str(archive)}
    assert fsd("import", archive, "data").startswith(f"nothing to commit: data/main has {archive} as it is, in ")


def test_a_json_object(fsd: Fsd, archive: Path) -> None:
    told = fsd.json("import", archive, "data", "--author", "me")
    seconds, commit = told.pop("seconds"), told.pop("commit")
    assert seconds >= 0
    assert len(commit) == 64
    added = told.pop("added_bytes")
    assert 0 < added < 5001
    assert told == {
        "repository": "data",
        "branch": "main",
        "tag": None,
        "parent": None,
        "new": True,
        "files": 2,
        "bytes": 5001,
        "read_files": 2,
        "read_bytes": 5001,
        "known_bytes": 0,
        "subsets": [],
        "from": "tar",
        "warnings": [],
    }


def test_standard_input(fsd: Fsd, archive: Path) -> None:
    fsd("init")
    with archive.open("rb") as stdin:
        command = [sys.executable, "-m", "fsd_cli", "import", "-", "data", "--json"]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True, timeout=60)
    assert b'"files": 2' in done.stdout


@pytest.mark.parametrize("name", ["a.tgz", "b.TAR.GZ", "c.zip", "odd"])
def test_archives_by_their_names(fsd: Fsd, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(zip_of(FOLDER) if name.endswith("zip") else gzip.compress(tar_of(FOLDER)))
    if name == "odd":
        assert "say what it is: --from tar, or --from zip" in fsd.fails(2, "import", path, "data")
    assert fsd.json("import", path, "data", *(["--from", "tar"] if name == "odd" else []))["files"] == 2


def test_a_file_url(fsd: Fsd, archive: Path) -> None:
    (archive.parent / "with blanks.tar").write_bytes(archive.read_bytes())
    assert fsd.json("import", f"file://{archive.parent}/with%20blanks.tar", "data")["files"] == 2


def test_histories(fsd: Fsd, tmp_path: Path) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"a": b"1", "b": b"2"})
    dvc.git.commit("one", "v1")
    dvc.track("data", {"a": b"1", "b": b"3"})
    second = dvc.git.commit("two", "release/2")
    fsd("init")
    code, told, warned = fsd.result("import", dvc.top, "data")
    assert code == 0, warned
    assert "of Git, tag v1: 2 files, 2 B\n" in told
    assert f"is {second[:10]} of Git, tag release-2: 2 files, 2 B\n" in told
    assert "  read     3 files, 3 B\n" in told
    assert warned == "fsd: the tag 'release/2' is called 'release-2' here\n"
    again = fsd.json("import", dvc.top, "data", "--rev", "v1")
    (only,) = again.pop("revisions")
    assert (only["tags"], only["new"], only["files"], only["bytes"]) == (["v1"], False, 2, 2)
    assert (again["from"], again["read_files"], again["warnings"]) == ("dvc", 0, [])


def test_git_lfs_and_hugging_face_are_recognised(fsd: Fsd, tmp_path: Path) -> None:
    git = GitFolder(tmp_path / "git")
    (git.top / ".gitattributes").write_text("*.bin filter=lfs\n")
    (git.top / "a.bin").write_bytes(pointer(b"content"))
    keep(git.top / ".git" / "lfs", b"content")
    git.commit("one", "v1")
    assert fsd.json("import", git.top, "lfs")["from"] == "lfs"
    fsd("checkout", "lfs/v1", tmp_path / "out")
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"content"
    hub = HubCache(tmp_path)
    hub.add(REVISION, "config.json", b"{}")
    assert fsd.json("import", hub.top, "hub")["from"] == "huggingface"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.tar"], 4, "there is no {tmp}/nothing.tar"),
        (["folder"], 2, "{tmp}/folder is a plain folder; publish it with: fsd commit {tmp}/folder REPO"),
        (["some.tar", "--rev", "v1"], 2, "{tmp}/some.tar has no revisions"),
        (["folder", "--from", "dvc"], 4, "{tmp}/folder is in no Git repository"),
        (["folder", "--from", "huggingface"], 2, "is no snapshot of Hugging Face's cache"),
        (["some.tar", "--from", "zip"], 6, "{tmp}/some.tar is no whole zip archive"),
        (["nonsense://x/y"], 2, "cannot open nonsense://x/y"),
        (["s3://bucket/x", "--from", "dvc"], 2, "s3://bucket/x cannot be read as dvc"),
        (["https://user:secret@127.0.0.1:9/x.zip"], 5, "cannot reach https://127.0.0.1:9/x.zip"),
    ],
)
def test_failures_are_one_line(
    fsd: Fsd,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(archive.parent)
    monkeypatch.setattr("fsd.importing.asking._WAITS_S", ())
    (archive.parent / "folder").mkdir()
    told = fsd.fails(code, "import", arguments[0], "data", *arguments[1:])
    assert message.format(tmp=archive.parent) in told
    assert "secret" not in told


def test_a_tag_that_is_taken(fsd: Fsd, archive: Path) -> None:
    fsd("import", archive, "data", "--tag", "v1")
    assert "tag 'v1' of 'data' already exists" in fsd.fails(3, "import", archive, "data", "--tag", "v1")


# --- export


def test_exports(look: Fsd, tmp_path: Path) -> None:
    told = look("export", "birds/v2", tmp_path / "out")
    assert "out is birds/v2 (" in told
    look("checkout", "birds/v2", tmp_path / "same")
    assert read_folder(tmp_path / "out") == read_folder(tmp_path / "same")
    told = look("export", "birds/v2", tmp_path / "out.tgz")
    assert "out.tgz is birds/v2 (" in told
    with tarfile.open(tmp_path / "out.tgz") as archive:
        assert "images/wren/3.jpg" in archive.getnames()
    assert (tmp_path / "out.tgz").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert "already" in look.fails(3, "export", "birds/v1", tmp_path / "out.tgz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out", "out.tgz", "same"]
    document = look.json("export", "birds/v2+tiny/images", tmp_path / "b.tar")
    assert (document["subset"], document["path"], document["files"]) == ("tiny", "images", 4)


@pytest.mark.usefixtures("look")
def test_an_export_to_standard_output() -> None:
    command = [sys.executable, "-m", "fsd_cli", "export", "birds/v1/images", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert len(archive.getnames()) == 22
    assert done.stderr == b""


def test_exports_that_fail(look: Fsd, tmp_path: Path) -> None:
    assert "names no revision" in look.fails(2, "export", "birds", tmp_path / "x")
    assert "no revision 'v9'" in look.fails(4, "export", "birds/v9", tmp_path / "x.tar")
    assert "is no directory" in look.fails(2, "export", "birds/v1/labels.csv", tmp_path / "x.tar")
    assert "cannot be written to" in look.fails(2, "export", "birds/v1", "https://example.org/x")
    assert "pipe 'fsd export" in look.fails(2, "export", "birds/v1", "gs://bucket/x.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
