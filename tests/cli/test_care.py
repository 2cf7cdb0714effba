"""`fsd gc`, `fsd delete`, `fsd purge`: what they do and say, through the commands."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path

import pytest

from fsd.format.keys import CONDEMNED, LEASES, PACKS
from fsd.stores.local import LocalStore
from fsd_cli import opening

from .conftest import Fsd


def write(folder: Path, *names: str) -> Path:
    """Make the folder hold just these files, each with a content of its own."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    for name in names:
        if not (folder / name).exists():
            (folder / name).write_bytes(random.Random(name).randbytes(200_000))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "folder"


def objects(fsd: Fsd, prefix: str = "") -> list[Path]:
    return [path for path in (fsd.own_store / prefix).rglob("*") if path.is_file()]


def holds(fsd: Fsd, name: str) -> bool:
    """Whether the store has the bytes of a file that `write` wrote."""
    piece = random.Random(name).randbytes(200_000)[1000:1100]
    return any(piece in path.read_bytes() for path in objects(fsd))


# --- delete


def test_a_tag_is_deleted_and_can_be_brought_back(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a"), "birds", "--tag", "v1")
    commit = fsd.json("log", "birds/v1")[0]["commit"]
    fsd("commit", write(folder, "b"), "birds")
    fsd("branch", "birds", "side", "v1")
    for name in ("v1", "side"):
        said = fsd("delete", f"birds/{name}", "--yes")
        assert said.startswith(
            f"deleted {'tag v1' if name == 'v1' else 'branch side'} of birds, which named {commit[:12]}"
        )
    assert "v1" not in fsd("ls", "birds")
    fsd("tag", "birds", commit, "v1")
    assert fsd("cat", "birds/v1/a", "--help")
    assert [row["name"] for row in fsd.json("tag", "birds")] == ["v1"]


def test_a_repository_is_deleted(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a"), "birds", "--tag", "v1")
    fsd("subset", "create", "birds/v1", "few", "--limit", "1")
    fsd("commit", write(folder, "b"), "fish")
    said = fsd("delete", "birds", "--yes")
    assert sorted(line.split()[1] for line in said.splitlines()) == ["branch", "subset", "tag"]
    assert [row["repository"] for row in fsd.json("ls")] == ["fish"]
    assert fsd.json("delete", "fish", "--yes")["deleted"].keys() == {"main"}


def test_nothing_is_deleted_unasked(fsd: Fsd, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsd("commit", write(folder, "a"), "birds", "--tag", "v1")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "--yes" in fsd.fails(2, "delete", "birds/v1")
    assert "--yes" in fsd.fails(2, "purge", "birds", "a")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, out, err = fsd.result("delete", "birds")
    assert (code, out) == (3, "")
    assert "birds has 1 branch, 1 tag; all of it goes" in err
    assert "nothing was deleted" in err
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    fsd("delete", "birds/v1")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    code, _, err = fsd.result("delete", "birds/main")
    assert code == 0
    assert "nothing else names" in err


def test_what_is_not_there_is_not_deleted(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a"), "birds", "--tag", "v1.0")
    assert "v1.0" in fsd.fails(4, "delete", "birds/v1.1", "--yes")
    assert "birds" in fsd.fails(4, "delete", "brids", "--yes")
    fsd.fails(2, "delete", "birds/", "--yes")


# --- gc


def test_garbage_is_collected_in_two_steps(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a", "b"), "birds")
    fsd("commit", write(folder, "c"), "fish")
    fsd("delete", "fish", "--yes")
    would = fsd.json("gc", "--dry-run", "--grace", "0")
    assert would["condemned_objects"] > 0
    assert would["dry_run"] is True
    assert objects(fsd, CONDEMNED) == []
    said = fsd("gc")
    assert "condemned  0 objects" in said, "all of it is younger than an hour"
    assert holds(fsd, "c")
    done = fsd.json("gc", "--grace", "0")
    assert done["deleted_objects"] == done["condemned_objects"] == would["condemned_objects"]
    assert not holds(fsd, "c")
    assert holds(fsd, "a")
    assert objects(fsd, CONDEMNED) == objects(fsd, LEASES) == []
    assert fsd("verify", "--data").endswith("there and right\n")


def test_an_expiry_is_asked_for(fsd: Fsd, folder: Path) -> None:
    for name in ("a", "b", "c"):
        fsd("commit", write(folder, name), "birds", "-m", f"with {name}")
    fsd("commit", write(folder, "d"), "fish")
    fsd("commit", write(folder, "e"), "fish")
    fsd("gc", "--grace", "0")
    assert holds(fsd, "a")
    done = fsd.json("gc", "birds", "--keep-last", "2", "--grace", "0")
    assert done["expired_commits"] == 1
    assert [holds(fsd, name) for name in "abcde"] == [False, True, True, True, True]
    fsd("gc", "--keep-within", "1d", "--grace", "0")
    assert [holds(fsd, name) for name in "bcde"] == [True] * 4
    said = fsd("gc", "--keep-tags", "--grace", "0")
    assert "expired    2 commits" in said
    assert [holds(fsd, name) for name in "bcde"] == [False, True, False, True]
    assert [entry["message"] for entry in fsd.json("log", "birds")] == ["with c", "with b", "with a"]
    first = fsd.json("log", "birds")[-1]["commit"]
    assert "given up" in fsd.fails(4, "tag", "birds", first, "old")
    assert "given up" in fsd.fails(4, "branch", "birds", "old", first)
    assert "given up" in fsd.fails(4, "branch", "birds", "main", "--to", first)
    assert "given up" in fsd.fails(4, "subset", "create", f"birds/{first}", "few", "--limit", "1")
    assert fsd("verify", "--data").endswith("there and right\n")


def test_what_gc_is_told_has_to_make_sense(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a"), "birds")
    assert "--keep-last" in fsd.fails(2, "gc", "birds")
    assert "90d" in fsd.fails(2, "gc", "--keep-within", "soon")
    fsd.fails(4, "gc", "brids", "--keep-last", "1")


# --- purge


def test_a_file_is_purged(fsd: Fsd, folder: Path, tmp_path: Path) -> None:
    fsd("commit", write(folder, "a", "secret"), "birds", "--tag", "v1", "-m", "first")
    fsd("commit", write(folder, "a", "b", "secret"), "birds")
    old = fsd.json("log", "birds/v1")[0]["commit"]
    fsd("checkout", "birds/v1", tmp_path / "copy")
    cached = b"".join(path.read_bytes() for path in (fsd.home / "cache").rglob("*") if path.is_file())
    piece = random.Random("secret").randbytes(200_000)[1000:1100]
    assert piece in cached, "the checkout went through the cache"
    said = fsd.json("purge", "birds", "secret", "--yes")
    assert said["complete"] is True
    assert said["files"] == 2
    assert len(said["commits"]) == said["refs"] == 2
    assert not holds(fsd, "secret")
    cached = b"".join(path.read_bytes() for path in (fsd.home / "cache").rglob("*") if path.is_file())
    assert piece not in cached
    assert fsd.json("log", "birds/v1")[0]["commit"] == said["commits"][old]
    assert fsd.json("log", "birds/v1")[0]["message"] == "first"
    assert sorted(row["name"] for row in fsd.json("ls", "birds/main")) == ["a", "b"]
    assert fsd("verify", "--data").endswith("there and right\n")
    assert "no version" in fsd.fails(4, "purge", "birds", "secret", "--yes")
    fsd.fails(2, "purge", "birds", "", "--yes")


def test_a_purge_says_what_it_did(fsd: Fsd, folder: Path) -> None:
    fsd("commit", write(folder, "a", "secret"), "birds")
    (folder / "copy").write_bytes((folder / "secret").read_bytes())
    fsd("commit", folder, "birds")
    said = fsd("purge", "birds", "secret", "--yes")
    assert said.startswith("birds is without it\n")
    assert "2 became others; 1 ref rewritten" in said
    assert "the same contents are still at 1 place:" in said
    assert said.rstrip().endswith("/copy")
    assert holds(fsd, "secret"), "it is at another path"


# --- leases


def test_every_command_that_moves_a_ref_holds_a_lease(
    fsd: Fsd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else gc might take away what it is about to name."""
    unheld: list[str] = []
    moved: list[str] = []

    class Watched(LocalStore):
        def _note(self, key: str) -> None:
            if key.startswith("refs/") and key != "refs/index":
                moved.append(key)
                if not objects(fsd, LEASES):
                    unheld.append(key)

        async def compare_and_swap(self, key, data, expected):  # type: ignore[no-untyped-def]
            self._note(key)
            return await super().compare_and_swap(key, data, expected)

        async def delete(self, key, expected=None):  # type: ignore[no-untyped-def]
            self._note(key)
            await super().delete(key, expected)

    fsd("commit", write(folder, "a"), "birds")
    monkeypatch.setattr(opening, "open_store", lambda _url, limits: Watched(fsd.own_store, limits))
    (tmp_path / "more").write_text("more")
    for command in (
        ("commit", write(folder, "a", "b"), "birds", "--tag", "v1"),
        ("tag", "birds", "main", "v2"),
        ("tag", "birds", "-d", "v2"),
        ("branch", "birds", "side", "v1"),
        ("branch", "birds", "side", "--to", fsd.json("log", "birds/main")[-1]["commit"]),
        ("branch", "birds", "-d", "side", "-f"),
        ("subset", "create", "birds/v1", "few", "--limit", "1"),
        ("add", "birds", "c", tmp_path / "more"),
        ("mv", "birds", "c", "d"),
        ("rm", "birds", "d"),
        ("purge", "birds", "b", "--yes"),
        ("delete", "birds", "--yes"),
    ):
        before = len(moved)
        fsd(*command)
        assert len(moved) > before, command
        assert unheld == [], command
    assert objects(fsd, LEASES) == []
    assert json.dumps(os.fspath(fsd.own_store / PACKS))
