"""`fsd import` and `fsd export` of what lies elsewhere: a bucket of S3 (moto's server, s3fs), one of Google (the test
server, gcsfs), a web server (nginx, or Python's, which knows no ranges). Killed in the middle, an import goes on."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from integration import nginx
from integration.gcs_places import serving
from integration.gcs_server.faults import Stall, Status
from integration.gcs_server.server import GcsServer
from integration.program import Program
from integration.s3_places import MotoServer, s3_environment
from tests.importing.dvc_folder import DvcFolder
from tests.publish.folders import read_folder

fsspec = pytest.importorskip("fsspec", reason="the extra 'import' is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
"""gcsfs and aiohttp do not agree on how bytes are sent; here the test itself sends them."""

FILES = {
    "README": b"what it is\n",
    "train/a b.jpg": os.urandom(5000),
    "train/deep/large": os.urandom(9_500_000),
    "train/deep/ü%20?#.txt": b"a name that wants quoting",
    "train/empty": b"",
}
CORRUPT, NOT_FOUND, CONFLICT, UNREACHABLE = 6, 4, 3, 5


def plain(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {os.fsdecode(path): item.data for path, item in read_folder(folder).items() if item.kind == "f"}


def checked_out(program: Program, version: str, place: Path) -> dict[str, bytes]:
    """The files of a version."""
    program("checkout", version, place)
    return plain(place)


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    """These files."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def google() -> Iterator[GcsServer]:
    with serving(GcsServer()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")  # gcsfs asks in vain whether this is a machine of Google's
        server.create_bucket("google")
        yield server


@pytest.fixture(scope="module")
def amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer() as server, s3_environment(server.url, tmp_path_factory.mktemp("aws")):
        server.create_bucket("amazon")
        yield server


@pytest.fixture(params=["gs://google", "s3://amazon"])
def bucket(request: pytest.FixtureRequest, google: GcsServer, amazon: MotoServer) -> str:  # noqa: ARG001
    """A prefix of a test's own."""
    if request.param.startswith("s3"):
        pytest.importorskip("s3fs", reason="s3fs is not installed")
    return f"{request.param}/{abs(hash(request.node.name))}"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """With a store of its own."""
    made = Program(tmp_path / "home")
    made("init")
    return made


def fill(url: str, files: Mapping[str, bytes]) -> None:
    """Put these files below a URL."""
    filesystem, top = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    for path, data in files.items():
        with filesystem.open(f"{top}/{path}", "wb") as file:
            file.write(data)


def test_a_bucket(program: Program, bucket: str, tmp_path: Path) -> None:
    fill(bucket, FILES)
    done = program.json("import", bucket, "data", "--tag", "v1", "-m", "from a bucket")
    assert (done["files"], done["read_files"], done["from"]) == (len(FILES), len(FILES), "folder")
    assert checked_out(program, "data/v1", tmp_path / "v1") == FILES
    shown = json.loads(program("show", "data/v1", "--json"))
    assert shown["metadata"]["imported"] == {"from": "folder", "source": bucket}

    # What is there with the same ETag is not read again.
    fill(bucket, {"README": b"changed"})
    again = program.json("import", bucket, "data")
    assert (again["files"], again["read_files"], again["read_bytes"]) == (len(FILES), 1, len(b"changed"))
    assert checked_out(program, "data/main", tmp_path / "v2") == {**FILES, "README": b"changed"}
    nothing = program("import", bucket, "data")
    assert nothing.startswith("nothing to commit: data/main has ")


def test_archives_in_a_bucket(program: Program, bucket: str, tmp_path: Path) -> None:
    lay(tmp_path / "files", FILES)
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        archive.add(tmp_path / "files", ".")
    with zipfile.ZipFile(zipped, "w") as packed:
        for path in FILES:
            packed.write(tmp_path / "files" / path, path)
    fill(bucket, {"a.tar.gz": tar.getvalue(), "b.zip": zipped.getvalue()})
    trees = []
    for name in ("a.tar.gz", "b.zip"):
        done = program.json("import", f"{bucket}/{name}", f"data-{name[0]}")
        trees.append(done["files"])
        assert checked_out(program, f"data-{name[0]}/main", tmp_path / name[0]) == FILES
    assert trees == [len(FILES)] * 2


def test_an_export_to_a_bucket(program: Program, bucket: str, tmp_path: Path) -> None:
    lay(tmp_path / "files", FILES)
    (tmp_path / "files" / "link").symlink_to("README")
    program("commit", tmp_path / "files", "data")
    done = program.run("export", "data/main", f"{bucket}/out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == len(FILES)
    assert "1 symlink is left out" in done.stderr
    program("import", f"{bucket}/out", "back")
    assert checked_out(program, "back/main", tmp_path / "back") == FILES
    refused = program.run("export", "data/main/train", f"{bucket}/out")
    assert (refused.returncode, refused.stderr.count("\n")) == (CONFLICT, 1)
    program("export", "data/main/train", f"{bucket}/train")
    program("import", f"{bucket}/train", "train")
    assert set(checked_out(program, "train/main", tmp_path / "train")) == {
        path.removeprefix("train/") for path in FILES if path.startswith("train/")
    }


def test_a_dvc_remote_in_a_bucket(program: Program, bucket: str, tmp_path: Path) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.track("data", {"a": b"1", "deep/b": FILES["train/deep/large"]})
    dvc.git.commit("one", "v1")
    dvc.track("data", {"a": b"2", "deep/b": FILES["train/deep/large"]})
    dvc.configure(f"{bucket}/remote")
    dvc.git.commit("two", "v2")
    fill(f"{bucket}/remote", plain(dvc.remote))
    for path in sorted(dvc.remote.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = program.json("import", dvc.top, "data")
    assert [each["tags"] for each in done["revisions"]] == [["v1"], ["v2"]]
    assert done["read_files"] == 3
    large = FILES["train/deep/large"]
    assert checked_out(program, "data/v2", tmp_path / "v2") == {"data/a": b"2", "data/deep/b": large}


def test_nothing_there(program: Program, bucket: str) -> None:
    for source in (f"{bucket}/nothing", f"{bucket}/nothing.tar", f"{bucket}/nothing.zip"):
        done = program.run("import", source, "data")
        assert (done.returncode, done.stderr.count("\n")) == (NOT_FOUND, 1), done.stderr
        assert bucket.partition("://")[2] in done.stderr
        assert "Traceback" not in done.stderr


def test_a_bucket_that_refuses(program: Program, google: GcsServer) -> None:
    fill("gs://google/refused", {"a": b"1"})
    google.faults.add(Status(403), match="*refused*")
    done = program.run("import", "gs://google/refused", "data")
    google.faults.clear()
    assert done.returncode == UNREACHABLE, done.stderr
    assert done.stderr.count("\n") == 1
    assert "google/refused" in done.stderr


# --- web servers


@pytest.mark.skipif(not nginx.is_installed(), reason="nginx is not installed")
def test_a_web_folder(program: Program, tmp_path: Path) -> None:
    folder = lay(tmp_path / "files", FILES)
    with nginx.Nginx(folder.parent, tmp_path / "nginx", lists=True) as server:
        done = program.json("import", f"{server.url}/files/", "data")
        assert done["read_files"] == len(FILES)
        assert checked_out(program, "data/main", tmp_path / "v1") == FILES
        assert program.json("import", f"{server.url}/files", "other")["read_files"] == 0
        missing = program.run("import", f"{server.url}/nothing/", "data")
        assert (missing.returncode, missing.stderr.count("\n")) == (NOT_FOUND, 1), missing.stderr


@pytest.mark.skipif(not nginx.is_installed(), reason="nginx is not installed")
def test_a_zip_on_the_web_by_ranges(program: Program, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    with zipfile.ZipFile(tmp_path / "web" / "a.zip", "w") as packed:
        for path, data in FILES.items():
            packed.writestr(path, data)
    with nginx.Nginx(tmp_path / "web", tmp_path / "nginx") as server:
        program("import", f"{server.url}/a.zip?signature=secret", "data")
    assert checked_out(program, "data/main", tmp_path / "v1") == FILES
    assert "secret" not in program("show", "data/main", "--json")


def test_a_web_server_without_ranges(program: Program, tmp_path: Path) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    folder = lay(tmp_path / "files", FILES)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        program("import", f"http://127.0.0.1:{server.server_port}/", "data")
        server.shutdown()
        thread.join()
    assert checked_out(program, "data/main", tmp_path / "v1") == FILES


# --- killed


def test_an_import_that_was_killed_goes_on(program: Program, google: GcsServer, tmp_path: Path) -> None:
    files = {f"{number:03}": os.urandom(300_000) for number in range(120)}
    fill("gs://google/killed", files)
    program.configure(pack_bytes="1M", publish_queue_bytes="6M")
    stall = google.faults.add(Stall(), operations=["media"], match="killed/110")
    process = program.start("import", "gs://google/killed", "data")
    try:
        stall.wait_met()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    stall.remove()
    google.faults.clear()
    assert program.run("ls", "data").returncode != 0
    done = program.json("import", "gs://google/killed", "data")
    assert done["files"] == 120
    # Of files that are read again chunks may have arrived as well.
    assert done["known_bytes"] >= (120 - done["read_files"]) * 300_000
    assert done["read_files"] < 60, "what had arrived was read again"
    assert done["added_bytes"] < 60 * 300_000, "what had arrived was sent again"
    assert checked_out(program, "data/main", tmp_path / "v1") == files


def test_a_history_that_was_killed_goes_on(program: Program, google: GcsServer, tmp_path: Path) -> None:
    dvc = DvcFolder(tmp_path / "dvc")
    dvc.configure("gs://google/history")
    for number in range(3):
        dvc.track("data", {"same": b"same", "own": b"%d" % number, "other": os.urandom(100)})
        dvc.git.commit(f"number {number}", f"v{number}")
    fill("gs://google/history", plain(dvc.remote))
    own = next(path for path in dvc.remote.rglob("*") if path.is_file() and path.read_bytes() == b"2")
    stall = google.faults.add(Stall(), operations=["media"], match=f"*{own.parent.name}/{own.name}")
    process = program.start("import", dvc.top, "data")
    try:
        stall.wait_met()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    stall.remove()
    google.faults.clear()
    before = program.json("log", "data/main")
    done = program.json("import", dvc.top, "data")
    assert [(each["tags"], each["new"]) for each in done["revisions"]] == [
        (["v0"], False),
        (["v1"], False),
        (["v2"], True),
    ]
    assert [each["commit"] for each in program.json("log", "data/main")][1:] == [each["commit"] for each in before]
    assert done["read_files"] == 2
