"""`fsd init` and `fsd commit`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.models.test_files import checkpoint

from .conftest import Fsd, make_birds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    make_birds(folder)
    return folder


# --- init


def test_init_makes_a_store(fsd: Fsd, tmp_path: Path) -> None:
    assert fsd("init", tmp_path / "deep" / "store") == f"made a store at file://{tmp_path}/deep/store\n"
    assert (tmp_path / "deep" / "store" / "fsd.json").exists()


def test_init_without_an_argument_makes_the_store_that_is_meant(
    fsd: Fsd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsd("init")
    assert (fsd.own_store / "fsd.json").exists()
    fsd("--store", tmp_path / "one", "init")
    assert (tmp_path / "one" / "fsd.json").exists()
    monkeypatch.setenv("FSD_STORE", str(tmp_path / "two"))
    made = fsd.json("init")
    assert made["store"] == f"file://{tmp_path}/two"
    assert made["id"] == json.loads((tmp_path / "two" / "fsd.json").read_text())["id"]


def test_init_a_second_time_is_a_conflict(fsd: Fsd, tmp_path: Path, folder: Path) -> None:
    fsd("init", tmp_path / "store")
    before = (tmp_path / "store" / "fsd.json").read_bytes()
    assert "already" in fsd.fails(3, "init", tmp_path / "store")
    fsd("--store", tmp_path / "store", "commit", folder, "birds")
    assert "already" in fsd.fails(3, "init", tmp_path / "store")
    assert (tmp_path / "store" / "fsd.json").read_bytes() == before


@pytest.mark.parametrize("name", ["object", "a name with blanks", ".hidden"])
def test_init_leaves_a_folder_with_other_things_alone(name: str, fsd: Fsd, tmp_path: Path) -> None:
    place = tmp_path / "documents"
    place.mkdir()
    (place / name).write_text("mine")
    assert "is not empty" in fsd.fails(3, "init", place)
    assert os.listdir(place) == [name]


def test_init_of_what_cannot_be(fsd: Fsd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a folder" in fsd.fails(2, "init", tmp_path / "file")
    fsd.fails(2, "init", tmp_path / "file" / "below")
    assert "no stores of the kind" in fsd.fails(2, "init", "ftp://somewhere/else")
    fsd.fails(2, "init", "")


# --- commit


def test_a_first_commit_makes_a_store_of_ones_own(fsd: Fsd, folder: Path) -> None:
    code, out, err = fsd.result("commit", folder, "birds", "-m", "The first")
    assert code == 0, err
    assert err == f"fsd: made a store of your own at {fsd.own_store}\n"
    commit = fsd.json("ls")[0]["main"]["commit"]
    lines = out.splitlines()
    assert lines[0] == f"{commit[:12]} is birds/main"
    assert lines[1] == f"  commit   {commit}"
    assert lines[2].startswith("  content  25 files, 4.8 MiB")
    assert lines[3].startswith("  read     25 files, 4.8 MiB")
    assert lines[4].startswith("  added    4.8 MiB")
    assert lines[5].startswith("  time     ")


def test_a_named_store_is_never_made_by_a_commit(fsd: Fsd, folder: Path, tmp_path: Path) -> None:
    assert "fsd init" in fsd.fails(4, "--store", tmp_path / "store", "commit", folder, "birds")
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").mkdir()
    assert "is not an fsd store" in fsd.fails(4, "--store", tmp_path / "store", "commit", folder, "birds")


def test_ones_own_store_is_not_made_over_something_else(fsd: Fsd, folder: Path) -> None:
    fsd.own_store.mkdir(parents=True)
    (fsd.own_store / "thesis.tex").write_text("mine")
    assert "is not an fsd store" in fsd.fails(4, "commit", folder, "birds")


def test_json_of_a_commit(fsd: Fsd, folder: Path) -> None:
    first = fsd.json("commit", folder, "birds", "-m", "One", "--tag", "v1")
    assert first["repository"] == "birds"
    assert (first["branch"], first["tag"], first["parent"], first["new"]) == ("main", "v1", None, True)
    assert first["files"] == first["read_files"] == 25
    assert first["bytes"] == first["read_bytes"]
    assert 5_000_000 < first["added_bytes"] < 5_100_000
    assert (first["known_bytes"], first["subsets"]) == (0, [])
    assert first["seconds"] > 0

    (folder / "labels.csv").write_text("robin\n")
    second = fsd.json("commit", folder, "birds", "-m", "Two")
    assert (second["parent"], second["tag"], second["new"]) == (first["commit"], None, True)
    assert second["added_bytes"] < 1000


def test_nothing_to_commit(fsd: Fsd, folder: Path) -> None:
    first = fsd.json("commit", folder, "birds")
    assert fsd("commit", folder, "birds").startswith(f"nothing to commit: birds/main has {folder} as it is, in ")
    again = fsd.json("commit", folder, "birds")
    assert (again["new"], again["commit"]) == (False, first["commit"])
    third = fsd.json("commit", folder, "birds", "--allow-empty")
    assert (third["new"], third["parent"]) == (True, first["commit"])


def test_message_author_and_branch(fsd: Fsd, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsd("commit", folder, "birds", "-b", "dev", "-m", "Title", "-m", "More of it")
    (entry,) = fsd.json("log", "birds/dev")
    assert (entry["message"], entry["author"], entry["names"]) == ("Title\n\nMore of it", "someone", ["dev"])
    monkeypatch.delenv("FSD_AUTHOR")
    fsd("commit", folder, "birds", "-b", "other")
    assert "@" in fsd.json("log", "birds/other")[0]["author"]


def test_a_tag_that_is_taken_is_a_conflict_before_anything_is_read(fsd: Fsd, folder: Path) -> None:
    fsd("commit", folder, "birds", "--tag", "v1")
    before = fsd.json("ls", "birds")
    (folder / "labels.csv").write_text("robin\n")
    assert "v1" in fsd.fails(3, "commit", folder, "birds", "--tag", "v1")
    assert fsd.json("ls", "birds") == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "birds"], 4, "nowhere"),
        (["birds/labels.csv", "birds"], 2, "is not a folder"),
        (["birds", "two/parts"], 2, "is not a repository name"),
        (["birds", "birds", "-b", "abcdef12"], 2, "looks like a commit id"),
        (["birds", "birds", "--tag", "10pct"], 2, "built-in subset"),
        (["birds"], 2, "missing argument 'REPO'"),
    ],
)
def test_what_cannot_be_committed(
    arguments: list[str], code: int, words: str, fsd: Fsd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    fsd("init")
    assert words in fsd.fails(code, "commit", *arguments)
    assert fsd.json("ls") == []


def test_a_fifo_is_named(fsd: Fsd, folder: Path) -> None:
    fsd("init")
    os.mkfifo(folder / "images" / "pipe")
    assert f"{folder}/images/pipe is a fifo" in fsd.fails(1, "commit", folder, "birds")


def test_merging(fsd: Fsd, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "labels.csv").write_text("wren\n")
        fsd("commit", folder, "birds", "-m", "One")
    (theirs / "more.csv").write_text("robin\n")
    second = fsd.json("commit", theirs, "birds", "-m", "Two")["commit"]
    (mine / "mine.csv").write_text("tit\n")
    made = fsd.json("commit", mine, "birds", "-m", "Three", "--merge")
    assert made["parent"] == second
    assert fsd.json("log", "birds")[0]["parents"] == [second, made["snapshot"]]
    assert [entry["name"] for entry in fsd.json("ls", "birds/main")] == ["labels.csv", "mine.csv", "more.csv"]
    assert [entry["name"] for entry in fsd.json("ls", f"birds/{made['snapshot']}")] == ["labels.csv", "mine.csv"]
    said = fsd("commit", mine, "birds", "--merge")
    assert said == f"nothing to commit: {mine} is as it was in {made['snapshot'][:12]}, and birds/main has moved on\n"
    (mine / "mine.csv").write_text("great tit\n")
    lines = fsd("commit", mine, "birds", "--merge").splitlines()
    snapshot = fsd.json("log", "birds")[0]["parents"][1]
    assert f"  merged   {snapshot[:12]}, which is {mine}, into {made['commit'][:12]}" in lines

    (theirs / "labels.csv").write_text("blackbird\n")
    fsd("commit", theirs, "birds", "--merge")
    (mine / "labels.csv").write_text("jay\n")
    before = fsd.json("ls", "birds")
    assert "at the same paths: labels.csv; nothing was committed" in fsd.fails(3, "commit", mine, "birds", "--merge")
    assert fsd.json("ls", "birds") == before
    assert "--base" in fsd.fails(2, "commit", mine, "birds", "--base", "main")
    assert "no revision 'mian'" in fsd.fails(4, "commit", mine, "birds", "--merge", "--base", "mian")
    fsd("commit", mine, "birds", "--merge", "--base", "main")
    assert [entry["name"] for entry in fsd.json("ls", "birds/main")] == ["labels.csv", "mine.csv"], (
        "the rest is removed"
    )


def test_a_checkpoint_that_needs_a_gpu_is_warned_of(fsd: Fsd, folder: Path) -> None:
    fsd("init")
    (folder / "model.pt").write_bytes(checkpoint("cpu", "cuda:0"))
    code, out, err = fsd.result("commit", folder, "birds")
    assert code == 0
    assert "cuda" not in out
    [warning] = err.splitlines()
    assert warning.startswith("fsd: model.pt holds tensors of cpu, cuda:0")
    (folder / "model.pt").write_bytes(checkpoint("cuda:1"))
    code, out, err = fsd.result("commit", folder, "birds", "--json")
    assert (code, err) == (0, "")
    [said] = json.loads(out)["warnings"]
    assert said.startswith("model.pt holds tensors of cuda:1")
