"""`fsd add`, `fsd rm`, `fsd mv`: what they print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Fsd


@pytest.fixture
def notes(fsd: Fsd, tmp_path: Path) -> Fsd:
    """`fsd` with a repository of three small files."""
    (tmp_path / "notes" / "old").mkdir(parents=True)
    for name in ("a.txt", "old/b.txt", "old/c.txt"):
        (tmp_path / "notes" / name).write_text(name)
    fsd("commit", tmp_path / "notes", "notes", "-m", "One")
    return fsd


def names(notes: Fsd, revision: str = "main") -> list[str]:
    return [entry["name"] for entry in notes.json("ls", "-R", f"notes/{revision}") if entry["kind"] == "file"]


def test_small_changes(notes: Fsd, tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("some more")
    lines = notes("add", "notes", "new/d.txt", tmp_path / "d.txt").splitlines()
    commit = notes.json("log", "notes")[0]
    assert lines[0] == f"{commit['commit'][:12]} is notes/main"
    assert lines[1:] == [
        f"  commit   {commit['commit']}",
        "  content  4 files, 32 B",
        "  read     1 file, 9 B",
        "  added    9 B",
    ]
    assert (commit["message"], commit["author"]) == ("Add new/d.txt", "someone")
    assert names(notes) == ["a.txt", "new/d.txt", "old/b.txt", "old/c.txt"]
    notes("mv", "notes", "/old/", "new/older", "-m", "Tidy", "-m", "up", "--tag", "v2")
    notes("rm", "notes", "a.txt", "new/older/c.txt", "new/older/c.txt", "--author", "other")
    assert names(notes) == ["new/d.txt", "new/older/b.txt"]
    assert names(notes, "v2") == ["a.txt", "new/d.txt", "new/older/b.txt", "new/older/c.txt"]
    log = [(commit["message"], commit["author"]) for commit in notes.json("log", "notes")]
    assert log[:2] == [("Remove a.txt and 2 others", "other"), ("Tidy\n\nup", "someone")]
    assert notes.json("log", "notes")[2] == commit | {"names": []}
    assert "nothing to commit: notes/main has that as it is" in notes("add", "notes", "new/d.txt", tmp_path / "d.txt")


def test_json(notes: Fsd, tmp_path: Path) -> None:
    before = notes.json("ls", "notes")[0]["commit"]
    notes("branch", "notes", "dev")
    notes("subset", "create", "notes/dev", "few", "--include", "old/**", "--follow")
    (tmp_path / "b.txt").write_text("another")
    added = notes.json("add", "notes", "old/b.txt", tmp_path / "b.txt", "-b", "dev", "--tag", "v1")
    assert {key: added[key] for key in ("repository", "branch", "tag", "parent", "new", "files", "read_bytes")} == {
        "repository": "notes",
        "branch": "dev",
        "tag": "v1",
        "parent": before,
        "new": True,
        "files": 3,
        "read_bytes": 7,
    }
    assert [subset["name"] for subset in added["subsets"]] == ["few"]
    removed = notes.json("rm", "notes", "old", "-b", "dev")
    assert (removed["parent"], removed["files"], removed["read_bytes"]) == (added["commit"], 1, 0)
    assert removed.keys() == added.keys()
    assert notes.json("ls", "notes/dev+few") == [], "it is there, and nothing in it"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["rm", "notes", "a.tx"], 4, "no a.tx in notes/main; did you mean 'a.txt'?"),
        (["rm", "note", "a.txt"], 4, "did you mean 'notes'?"),
        (["rm", "notes", "a.txt", "-b", "mai"], 4, "did you mean 'main'?"),
        (["rm", "notes", "../a"], 2, "'..'"),
        (["rm", "notes", "."], 2, "the top"),
        (["rm", "notes"], 2, "PATH"),
        (["mv", "notes", "a.txt", "old"], 3, "there is old in notes/main already"),
        (["mv", "notes", "a.txt", "a.txt/b"], 2, "into itself"),
        (["mv", "notes", "old", "a.txt/b"], 3, "a.txt in notes/main is a file"),
        (["add", "notes", "old", "FILE"], 3, "to put it in there, write old/NAME"),
        (["add", "notes", "x", "/nowhere/at/all"], 4, "no file or folder /nowhere/at/all"),
        (["add", "notes", "x", "FILE", "--tag", "main"], 2, "both the branch and a tag"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, words: str, notes: Fsd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    before = notes.json("ls", "notes")
    given = [str(tmp_path / "file") if argument == "FILE" else argument for argument in arguments]
    assert words in notes.fails(code, *given)
    assert notes.json("ls", "notes") == before
