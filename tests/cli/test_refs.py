"""`fsd tag`, `fsd branch` and `fsd subset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsd.repo.refs import Refs
from fsd_cli.subset import describe

from .conftest import Fsd, make_birds


@pytest.fixture
def birds(fsd: Fsd, tmp_path: Path) -> Fsd:
    """`fsd` with a repository of two commits, main and v1 at the second."""
    make_birds(tmp_path / "birds")
    fsd("commit", tmp_path / "birds", "birds", "-m", "One")
    (tmp_path / "birds" / "labels.csv").write_text("robin\n")
    fsd("commit", tmp_path / "birds", "birds", "-m", "Two", "--tag", "v1")
    return fsd


def targets(birds: Fsd) -> dict[str, str]:
    return {row["name"]: row["commit"] for row in birds.json("ls", "birds")}


# --- tags


def test_tags(birds: Fsd) -> None:
    one = birds.json("log", "birds")[1]["commit"]
    assert birds("tag", "birds", one[:7], "v0") == f"tag v0 of birds names {one[:12]}\n"
    assert targets(birds)["v0"] == one
    birds("tag", "birds", "v0", "v0")
    assert [row["name"] for row in birds.json("tag", "birds")] == ["v0", "v1"]
    assert [line.split()[0] for line in birds("tag", "birds", "-l").splitlines()] == ["NAME", "v0", "v1"]
    assert birds.json("tag", "birds")[0]["summary"] == "One"


def test_a_tag_is_only_moved_by_force(birds: Fsd) -> None:
    birds("tag", "birds", "main", "current")
    assert "--force" in birds.fails(3, "tag", "birds", birds.json("log", "birds")[1]["commit"], "current")
    birds("tag", "birds", birds.json("log", "birds")[1]["commit"], "current", "--force")
    assert targets(birds)["current"] != targets(birds)["main"]


def test_deleting_tags(birds: Fsd) -> None:
    one = birds.json("log", "birds")[1]["commit"]
    birds("tag", "birds", one, "v0")
    assert "deleted tag v1" in birds("tag", "birds", "-d", "v1"), "main names its commit"
    birds("branch", "birds", "other", "v0")
    birds("branch", "birds", "-d", "main", "--force")
    assert "deleted" in birds("tag", "birds", "-d", "v0"), "the branch other names its commit"
    birds("tag", "birds", "other", "only")
    birds("branch", "birds", "-d", "other")
    assert "nothing else names" in birds.fails(3, "tag", "birds", "-d", "only")
    birds("tag", "birds", "-d", "only", "--force")
    assert birds.json("ls") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["birds", "main"], 2, "write: fsd tag REPO REV NAME"),
        (["birds", "main", "abcdef0"], 2, "looks like a commit id"),
        (["birds", "main", "10pct"], 2, "built-in subset"),
        (["birds", "main", "a b"], 2, "is not a branch, tag or subset name"),
        (["birds", "main", "main"], 3, "is a branch, not a tag"),
        (["birds", "man", "v2"], 4, "did you mean 'main'?"),
        (["brids", "main", "v2"], 4, "did you mean 'birds'?"),
        (["brids"], 4, "did you mean 'birds'?"),
        (["birds", "v1+10pct", "v2"], 2, "is a subset"),
        (["birds", "-d", "v3"], 4, "did you mean 'v2' or 'v1'?"),
        (["birds", "-d", "main"], 4, "is a branch, not a tag"),
        (["birds", "main", "-d", "v1"], 2, "one name"),
        (["birds", "main", "-l"], 2, "alone"),
    ],
)
def test_what_cannot_be_tagged(arguments: list[str], code: int, words: str, look: Fsd) -> None:
    before = targets(look)
    assert words in look.fails(code, "tag", *arguments)
    assert targets(look) == before


# --- branches


def test_branches(birds: Fsd) -> None:
    one = birds.json("log", "birds")[1]["commit"]
    birds("branch", "birds", "dev")
    birds("branch", "birds", "old", one)
    assert (targets(birds)["dev"], targets(birds)["old"]) == (targets(birds)["main"], one)
    assert [row["name"] for row in birds.json("branch", "birds")] == ["dev", "main", "old"]
    birds("branch", "birds", "dev", "main")
    assert "fsd branch birds dev --to old" in birds.fails(3, "branch", "birds", "dev", "old")
    assert targets(birds)["dev"] == targets(birds)["main"]
    birds("branch", "birds", "-d", "old")
    assert "old" not in targets(birds)


def test_reverting(birds: Fsd, tmp_path: Path) -> None:
    two, one = (commit["commit"] for commit in birds.json("log", "birds"))
    lines = birds("branch", "birds", "main", "--to", one[:9]).splitlines()
    assert lines[0] == f"branch main of birds names {one[:12]}"
    assert f"{two[:12]}, which 'fsd log birds/main --moves'" in lines[1]
    assert targets(birds)["main"] == one
    moves = [(move["commit"], move["summary"]) for move in birds.json("log", "birds/main", "--moves")]
    assert moves == [(one, f"moved to {one[:9]}: One"), (two, "Two"), (one, "One")]
    assert "already" in birds("branch", "birds", "main", "--to", one)
    assert len(birds.json("log", "birds/main", "--moves")) == 3
    birds("tag", "birds", "-d", "v1")
    birds("branch", "birds", "main", "--to", two[:7])
    assert targets(birds)["main"] == two, "what nothing but the history names is still there"
    birds("branch", "birds", "main", "--to", one)
    assert birds.json("commit", tmp_path / "birds", "birds")["parent"] == one


def test_a_branch_that_somebody_moves_meanwhile(birds: Fsd, monkeypatch: pytest.MonkeyPatch) -> None:
    two, one = (commit["commit"] for commit in birds.json("log", "birds"))
    birds("tag", "birds", one, "v0")
    move_branch = Refs.move_branch

    async def late(refs: Refs, *arguments: Any, **options: Any) -> None:
        await move_branch(refs, "birds", "main", bytes.fromhex(one), expected=bytes.fromhex(two))
        await move_branch(refs, *arguments, **options)

    birds("branch", "birds", "dev", "v0")
    with monkeypatch.context() as patch:
        patch.setattr(Refs, "move_branch", late)
        birds("branch", "birds", "main", "--to", "v0")  # which is where the other one moved it
    birds("branch", "birds", "main", "--to", two)
    birds("branch", "birds", "third", two)
    folder = birds.home / "third"
    folder.mkdir()
    third = birds.json("commit", folder, "birds", "-b", "third")["commit"]
    with monkeypatch.context() as patch:
        patch.setattr(Refs, "move_branch", late)
        said = birds.fails(3, "branch", "birds", "main", "--to", "third")
    assert f"it is at {one[:12]}, not at {two[:12]}" in said
    assert targets(birds)["main"] == one != third


def test_a_commit_that_only_a_branch_names_is_not_given_up_lightly(birds: Fsd, tmp_path: Path) -> None:
    (tmp_path / "birds" / "labels.csv").write_text("blackbird\n")
    birds("commit", tmp_path / "birds", "birds", "-b", "dev")
    assert "nothing else names" in birds.fails(3, "branch", "birds", "-d", "dev")
    birds("tag", "birds", "dev", "v2")
    birds("branch", "birds", "-d", "dev")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["birds", "v1"], 3, "is a tag, not a branch"),
        (["birds", "dev", "nope"], 4, "nope"),
        (["birds", "-d", "v1"], 4, "is a tag, not a branch"),
        (["birds", "-d", "man"], 4, "did you mean 'main'?"),
        (["birds", "deadbeef"], 2, "looks like a commit id"),
        (["birds", "--to", "v1"], 2, "write: fsd branch REPO NAME --to REV"),
        (["birds", "main", "v1", "--to", "v1"], 2, "write: fsd branch REPO NAME --to REV"),
        (["birds", "-d", "main", "--to", "v1"], 2, "write: fsd branch REPO NAME --to REV"),
        (["birds", "main", "v1", "--force"], 2, "--to REV"),
        (["birds", "man", "--to", "v1"], 4, "did you mean 'main'?"),
        (["birds", "v1", "--to", "main"], 4, "is a tag, not a branch"),
        (["birds", "main", "--to", "v9"], 4, "did you mean"),
        (["birds", "main", "--to", "v1+10pct"], 2, "is a subset"),
    ],
)
def test_what_cannot_be_branched(arguments: list[str], code: int, words: str, look: Fsd) -> None:
    before = targets(look)
    assert words in look.fails(code, "branch", *arguments)
    assert targets(look) == before


# --- subsets


def test_subsets(birds: Fsd) -> None:
    made = birds.json("subset", "create", "birds/v1", "tiny", "--sample", "30%", "--include", "images/**")
    assert made["source"] == targets(birds)["v1"]
    assert 1 <= made["files"] < 25
    (row,) = birds.json("subset", "list", "birds")
    assert {**row, **made} == row
    assert (row["source_name"], row["follows"]) == ("v1", [])
    assert row["rule"]["sample_percent"] == "30"
    assert "30%" in birds("subset", "list", "birds").splitlines()[1]
    assert birds("subset", "create", "birds/v1", "tiny", "--sample", "30", "--include", "images/**").startswith(
        "birds/v1+tiny has "
    )
    assert "--force" in birds.fails(3, "subset", "create", "birds/v1", "tiny", "--limit", "1")
    birds("subset", "create", "birds/v1", "tiny", "--limit", "1", "--no-keep", "--force")
    files = [entry for entry in birds.json("ls", "-R", "birds/v1+tiny") if entry["kind"] != "directory"]
    assert len(files) == 1
    assert "deleted subset tiny" in birds("subset", "delete", "birds", "tiny")
    birds.fails(4, "ls", "birds/v1+tiny")
    assert birds.json("subset", "list", "birds") == []


def test_a_listed_subset(birds: Fsd, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"./images/wren\nrun.sh\n\nlatin-\xe9\n")
    birds("subset", "create", "birds/main", "some", "--list", tmp_path / "list", "--no-keep")
    names = [entry["name"] for entry in birds.json("ls", "-R", "birds/main+some") if entry["kind"] == "file"]
    assert len(names) == 12
    (tmp_path / "list").write_bytes(b"odd\nname \x1b[1m\0")
    birds("subset", "create", "birds/main", "odd", "--list", tmp_path / "list", "--no-keep")
    assert "listed" in birds("subset", "list", "birds")
    (tmp_path / "list").write_bytes(b"no/such/file\n")
    assert "no/such/file" in birds.fails(4, "subset", "create", "birds/main", "none", "--list", tmp_path / "list")
    (tmp_path / "list").write_bytes(b"\n")
    assert "empty" in birds.fails(2, "subset", "create", "birds/main", "none", "--list", tmp_path / "list")


def test_a_branch_that_is_moved_by_hand_is_followed_too(birds: Fsd, tmp_path: Path) -> None:
    birds("branch", "birds", "back", "main")
    birds("subset", "create", "birds/back", "few", "--limit", "1", "--follow")
    (tmp_path / "birds" / "labels.csv").write_text("blackbird\n")
    birds("commit", tmp_path / "birds", "birds", "--tag", "v2")
    birds("branch", "birds", "back", "--to", "v2")
    assert birds("ls", "birds/back+few")
    assert [row["source_name"] for row in birds.json("subset", "list", "birds")] == ["v2", "v1"]


def test_a_subset_that_follows(birds: Fsd, tmp_path: Path) -> None:
    birds("subset", "create", "birds/main", "tiny", "--per-dir", "1", "--follow")
    (tmp_path / "birds" / "labels.csv").write_text("blackbird\n")
    committed = birds.json("commit", tmp_path / "birds", "birds")
    assert [subset["name"] for subset in committed["subsets"]] == ["tiny"]
    birds("ls", "birds/main+tiny")
    rows = birds.json("subset", "list", "birds")
    assert [row["source_name"] for row in rows] == ["main", "v1"]
    assert all(row["follows"] == ["main"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["create", "birds/v1", "tiny"], 2, "a subset takes a rule"),
        (["create", "birds/v1", "tiny", "--seed", "3"], 2, "a subset takes a rule"),
        (["create", "birds/v1", "tiny", "--sample", "lots"], 2, "lots"),
        (["create", "birds/v1", "tiny", "--sample", "0%"], 2, "0"),
        (["create", "birds/v1", "tiny", "--limit", "0"], 2, "limit"),
        (["create", "birds/v1", "tiny", "--include", "*.png"], 2, "selects no file"),
        (["create", "birds/v1", "tiny", "--limit", "3", "--keep", "*", "--no-keep"], 2, "contradict"),
        (["create", "birds/v1", "tiny", "--limit", "3", "--follow"], 2, "is not a branch"),
        (["create", "birds/v1+10pct", "tiny", "--limit", "3"], 2, "is a subset already"),
        (["create", "birds/v1", "v1", "--limit", "3"], 3, "is a tag, not a subset"),
        (["create", "birds/v9", "tiny", "--limit", "3"], 4, "did you mean 'v2' or 'v1'?"),
        (["create", "birds/v1", "tiny", "--list", "/nowhere"], 2, "/nowhere"),
        (["delete", "birds", "tny"], 4, "no subset 'tny' in 'birds'; did you mean 'tiny'?"),
        (["list", "brids"], 4, "did you mean 'birds'?"),
        (["creat", "birds"], 2, "creat"),
    ],
)
def test_what_cannot_be_a_subset(arguments: list[str], code: int, words: str, look: Fsd) -> None:
    before = targets(look)
    assert words in look.fails(code, "subset", *arguments)
    assert targets(look) == before


def test_a_rule_described() -> None:
    assert describe({"sample_percent": "10", "keep": ["*.md"], "seed": 3}) == "10%, seed 3"
    assert describe({"include": ["*.jpg", {"hex": "ff"}], "exclude": ["a\nb"]}) == '"*.jpg, (not text), not a\\nb"'
    assert describe({"per_dir": 1000, "limit": 5}) == "1,000 per directory, 5 files"
    assert describe({"paths": {"count": 5000, "blake3": "00"}}) == "5,000 listed"
