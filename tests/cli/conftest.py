"""`fsd` in a home of its own, and a store to look at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fsd_cli.main import main


class Fsd:
    """Calls `fsd` in this process, with a user's folders below `home`."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str] | None = None) -> None:
        self.home = home
        self._capsys = capsys

    @property
    def own_store(self) -> Path:
        """Where the embedded default store is made."""
        return self.home / "data" / "fsd" / "store"

    def __call__(self, *arguments: str | Path) -> str:
        """What it prints, on a success."""
        code, out, err = self.result(*arguments)
        assert code == 0, err
        return out

    def json(self, *arguments: str | Path) -> Any:
        """What it prints with --json."""
        return json.loads(self(*arguments, "--json"))

    def fails(self, code: int, *arguments: str | Path) -> str:
        """The one line that it says of a failure with that exit code."""
        found, out, err = self.result(*arguments)
        assert (found, out) == (code, ""), err
        assert err.startswith("fsd: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err.removeprefix("fsd: ").removesuffix("\n")

    def result(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        assert self._capsys is not None
        self._capsys.readouterr()
        code = main([os.fspath(argument) for argument in arguments])
        return code, *self._capsys.readouterr()


def environment(home: Path) -> dict[str, str]:
    """The variables of a user whose folders are below `home`."""
    return {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "FSD_AUTHOR": "someone",
    }


@pytest.fixture
def fsd(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fsd:
    """`fsd` for a user who has nothing yet."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FSD_STORE", raising=False)
    monkeypatch.setattr("fsd_cli.context.SYSTEM_CONFIG", home / "etc")
    return Fsd(home, capsys)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to read: `birds` with main, dev, v1, v2 and the subset tiny of v2; `model` with main."""
    home = tmp_path_factory.mktemp("published")
    store = home / "store"
    folder = home / "birds"
    make_birds(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(home).items():
            patch.setenv(name, value)
        patch.setenv("FSD_STORE", str(store))
        patch.setattr("fsd_cli.context.SYSTEM_CONFIG", home / "etc")

        def run(*arguments: str | Path) -> None:
            assert main([os.fspath(argument) for argument in arguments]) == 0

        run("init")
        run("commit", folder, "birds", "-m", "The first birds", "--tag", "v1")
        (folder / "labels.csv").write_text("wren\n" * 2000)
        run("commit", folder, "birds", "-m", "Labels\n\nfor all of them", "--tag", "v2")
        run("branch", "birds", "dev", "v1")
        run("subset", "create", "birds/v2", "tiny", "--per-dir", "2", "--seed", "7")
        run("commit", folder / "images", "model", "--author", "some\none")
    return store


@pytest.fixture
def look(fsd: Fsd, published: Path, monkeypatch: pytest.MonkeyPatch) -> Fsd:
    """`fsd` with the published store."""
    monkeypatch.setenv("FSD_STORE", str(published))
    return fsd


def make_birds(folder: Path) -> None:
    """A small dataset with every kind of entry, and awkward names."""
    for kind in ("wren", "robin"):
        (folder / "images" / kind).mkdir(parents=True)
        for number in range(10):
            (folder / "images" / kind / f"{number}.jpg").write_bytes(b"%d of %s" % (number, kind.encode()))
    (folder / "labels.csv").write_text("wren\n")
    (folder / "large.bin").write_bytes(os.urandom(5_000_000))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "latest").symlink_to("images/wren")
    (folder / "empty").mkdir()
    (folder / "odd\nname \x1b[1m").write_text("odd")
    (folder / os.fsdecode(b"latin-\xe9")).write_text("latin")
