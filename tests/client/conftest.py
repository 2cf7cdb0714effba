"""A user with a store of two versions, and no mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fsd
from fsd.client.filesystem import FsdFileSystem
from fsd.client.portal import Portal
from fsd.client.store import Store
from fsd_cli.main import main

FILES = 40


def write_source(folder: Path) -> None:
    """A small dataset with every kind of entry."""
    (folder / "train").mkdir(parents=True)
    for number in range(FILES):
        (folder / "train" / f"{number:02}.txt").write_bytes(b"%d" % number * 1000)
    (folder / "large.bin").write_bytes(os.urandom(5_000_000))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "first").symlink_to("train/00.txt")
    (folder / "all").symlink_to("train")
    (folder / "train" / "up").symlink_to("../large.bin")
    (folder / "away").symlink_to("/etc/passwd")
    (folder / "out").symlink_to("../../elsewhere")
    (folder / "loop").symlink_to("loop")
    (folder / "caf\udce9").write_bytes(b"not UTF-8")


@pytest.fixture(autouse=True)
def _nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores that nobody closes, fsspec's among them, would go on writing while other tests run."""
    opened: list[Portal[Any]] = []
    real = Portal.__init__

    def note(portal: Portal[Any], *arguments: Any) -> None:
        real(portal, *arguments)
        opened.append(portal)

    monkeypatch.setattr(Portal, "__init__", note)
    yield
    FsdFileSystem.clear_instance_cache()
    for portal in opened:
        portal.close()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "source"
    write_source(folder)
    return folder


@pytest.fixture(scope="session")
def published(source: Path) -> Path:
    """`birds` with v1, its subset few, and main, which is v1 with one file more."""
    home = source.parent
    environment = {"HOME": str(home), "FSD_STORE": str(home / "store"), "FSD_AUTHOR": "someone"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            patch.delenv(name, raising=False)

        def run(*arguments: str | Path) -> None:
            assert main([os.fspath(argument) for argument in arguments]) == 0

        run("init")
        run("commit", source, "birds", "--tag", "v1")
        run("subset", "create", "birds/v1", "few", "--include", "train/0*")
        (source / "new").write_text("new")
        run("commit", source, "birds")
        (source / "new").unlink()
    return home / "store"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has nothing yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("FSD_STORE", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def store(published: Path, home: Path) -> Store:  # noqa: ARG001 - a cache of one's own
    return fsd.open_store(published)
