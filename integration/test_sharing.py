"""Stores elsewhere, end to end: published to S3 and mounted; published to a folder, and mounted from a web server."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration import nginx
from integration.program import Program, appear
from integration.s3_places import SECRET, MotoServer
from integration.web_server import WebServer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    rng = random.Random(3)
    for number in range(50):
        path = folder / f"class{number % 5}" / f"{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(1, 60_000)))
    (folder / "large").write_bytes(rng.randbytes(20 * MIB))
    return folder


def assert_same(there: Path, here: Path) -> None:
    names = sorted(path.relative_to(here) for path in here.rglob("*"))
    assert sorted(path.relative_to(there) for path in there.rglob("*")) == names
    for name in names:
        if (here / name).is_file():
            assert (there / name).read_bytes() == (here / name).read_bytes(), name


# --- s3://


def test_published_to_s3_and_mounted(program: Program, dataset: Path, tmp_path: Path) -> None:
    with MotoServer() as server:
        server.create_bucket("data")
        program.environment |= {
            "FSD_STORE": "s3://data/team/store",
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        program("init", "s3://data/team/store")
        program("commit", dataset, "things", "--tag", "v1")
        assert [row["repository"] for row in program.json("ls")] == ["things"]
        (tmp_path / "mnt").mkdir()
        program("mount", "s3://data/team/store", tmp_path / "mnt")
        assert_same(tmp_path / "mnt/things/v1", dataset)
        program("umount", tmp_path / "mnt")
        left = [path for path in program.home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
        assert left == [], "no secret is kept"


# --- http://


@pytest.fixture(scope="module")
def served(module_program: Program, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of one commit, behind nginx."""
    if not nginx.is_installed():
        pytest.skip("no nginx")
    store = module_program.store
    module_program("init", store)
    module_program("commit", dataset, "things", "--tag", "v1")
    with nginx.Nginx(store.parent, tmp_path_factory.mktemp("nginx")) as server:
        yield f"{server.url}/{store.name}"


def test_a_folder_behind_nginx(module_program: Program, served: str, dataset: Path, tmp_path: Path) -> None:
    program = module_program
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    program("mount", served, mountpoint)
    assert os.listdir(mountpoint) == ["things"]
    assert sorted(os.listdir(mountpoint / "things")) == ["main", "v1"]
    assert_same(mountpoint / "things/v1", dataset)
    with (mountpoint / "things/main/large").open("rb") as file:
        file.seek(7 * MIB)
        assert file.read(100_000) == (dataset / "large").read_bytes()[7 * MIB : 7 * MIB + 100_000]
    # What is published to the folder appears.
    changed = tmp_path / "changed"
    shutil.copytree(dataset, changed)
    (changed / "new").write_text("new")
    program("commit", changed, "things", "--tag", "v2")
    program("commit", changed, "more")
    assert appear(mountpoint / "things/v2/new").read_text() == "new"
    assert appear(mountpoint / "things/main/new").read_text() == "new"
    assert appear(mountpoint / "more/main/new").read_text() == "new"
    program("umount", mountpoint)


def test_commands_ask_a_web_server(program: Program, served: str, dataset: Path) -> None:
    program.environment["FSD_STORE"] = served
    assert "things" in [row["repository"] for row in program.json("ls")]
    commit = program.json("log", "things/main")[0]["commit"]
    program("ls", f"things/{commit}/class0")
    assert program.run("ls", "things/mian").returncode == 4
    for arguments in (("commit", dataset / "class0", "other"), ("tag", "things", "main", "v3"), ("init", served)):
        done = program.run(*arguments)
        assert done.returncode == 2, done.stderr
        assert "can only be read: it is behind a web server" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = program.run("ls", f"things/{commit[:8]}")
    assert done.returncode == 2
    assert "cannot list commits/" in done.stderr


def test_what_a_cache_on_the_way_gets_wrong(program: Program, dataset: Path) -> None:
    program("init", program.store)
    program("commit", dataset / "class0", "things", "--tag", "v1")
    with WebServer(program.store) as web:
        program.environment["FSD_STORE"] = web.url
        for path in (program.store / "pages").rglob("*"):
            if path.is_file():
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= 1
                web.replaced[str(path.relative_to(program.store))] = bytes(data)
        done = program.run("ls", "-R", "things/v1")
        assert done.returncode == 6
        web.replaced.clear()
        program("ls", "-R", "things/v1")
