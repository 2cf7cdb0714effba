"""`fsd checkout`: what it prints, what it notes for the next commit, and how it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsd.cache.folder import CacheFolder

from .conftest import Fsd, make_birds


def test_a_version_as_plain_files(look: Fsd, tmp_path: Path) -> None:
    commit = {ref["name"]: ref["commit"] for ref in look.json("ls", "birds")}["v2"]
    lines = look("checkout", "birds/v2", tmp_path / "out").splitlines()
    assert lines[:2] == [f"{tmp_path / 'out'} is birds/v2 ({commit[:12]})", "  content  25 files, 4.8 MiB"]
    assert (tmp_path / "out" / "labels.csv").read_text() == "wren\n" * 2000
    assert os.readlink(tmp_path / "out" / "latest") == "images/wren"
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)
    assert look("checkout", "birds/v2", tmp_path / "out") == (
        f"{tmp_path / 'out'} is birds/v2 ({commit[:12]}) already: 25 files checked\n"
    )
    made = look.json("checkout", "birds/v2+tiny/images/", tmp_path / "tiny")
    assert (made["commit"], made["subset"], made["path"], made["files"]) == (commit, "tiny", "images", 4)
    assert (made["new"], made["kept_files"], made["directory"]) == (True, 0, str(tmp_path / "tiny"))
    assert len(os.listdir(tmp_path / "tiny" / "wren")) == 2


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("birds", 2, "write REPO/REV"),
        ("birds/v3", 4, "did you mean"),
        ("birds/v1/imges", 4, "did you mean 'images'?"),
        ("birds/v1/run.sh", 2, "'fsd cat birds/v1/run.sh' writes a file"),
        ("birds/v1", 3, "is not empty, and not that version"),
    ],
)
def test_what_cannot_be_checked_out(place: str, code: int, words: str, look: Fsd, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert words in look.fails(code, "checkout", place, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_what_was_checked_out_is_known_to_the_next_commit(fsd: Fsd, tmp_path: Path) -> None:
    make_birds(tmp_path / "birds")
    first = fsd.json("commit", tmp_path / "birds", "birds")["commit"]
    fsd("checkout", "birds/main", tmp_path / "out")
    fsd("rm", "birds", "run.sh")
    (tmp_path / "out" / "labels.csv").write_text("robin\n")
    merged = fsd.json("commit", tmp_path / "out", "birds", "--merge")
    assert [parent["parents"] for parent in fsd.json("log", "birds") if parent["commit"] == merged["snapshot"]] == [
        [first]
    ]
    names = [entry["name"] for entry in fsd.json("ls", "birds/main")]
    assert "run.sh" not in names
    assert fsd.json("ls", "birds/main/labels.csv")[0]["bytes"] == 6
    # A part is not what a commit holds: nothing is noted of it.
    fsd("checkout", "birds/main/images", tmp_path / "images")
    assert "--base REV" in fsd.fails(2, "commit", tmp_path / "images", "birds", "--merge")


def test_a_cache_that_is_in_use(fsd: Fsd, tmp_path: Path) -> None:
    make_birds(tmp_path / "birds")
    fsd("commit", tmp_path / "birds", "birds")
    fsd("checkout", "birds/main/images", tmp_path / "images")
    (cache,) = (fsd.home / "cache" / "fsd").iterdir()
    folder = CacheFolder(cache, "somebody else")
    try:
        code, _, err = fsd.result("checkout", "birds/main", tmp_path / "out")
    finally:
        folder.close()
    assert code == 0
    assert err.startswith("fsd: reading without the cache: ")
    assert (tmp_path / "out" / "large.bin").read_bytes() == (tmp_path / "birds" / "large.bin").read_bytes()
