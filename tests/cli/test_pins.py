"""`fsd pin`, `fsd status` and `fsd up` in work trees of the real Git, without a mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Fsd


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new work tree, and we are in it."""
    tree = tmp_path / "tree"
    subprocess.run(["git", "init", "-q", tree], check=True)
    monkeypatch.chdir(tree)
    return tree


def commit_of(fsd: Fsd, name: str, repository: str = "birds") -> str:
    commits = [ref["commit"] for ref in fsd.json("ls", repository) if ref["name"] == name]
    assert len(commits) == 1
    return str(commits[0])


def manifest_lines(tree: Path) -> list[str]:
    return (tree / ".fsd.toml").read_text().splitlines()[1:]


def test_a_pin_is_a_link_to_a_commit_and_the_store_stands_beside_it(look: Fsd, tree: Path, published: Path) -> None:
    code, out, err = look.result("pin", "data", "birds/v2+tiny")
    first, second = commit_of(look, "v1"), commit_of(look, "v2")
    assert (code, out) == (0, f"data is birds/{second[:12]}+tiny (v2)\n")
    assert err.splitlines() == [
        "fsd: let Git version it: git add .fsd.toml data",
        "fsd: nothing is mounted at /fsd yet: fsd up",
    ]
    assert os.readlink("data") == f"/fsd/birds/{second}+tiny"
    assert manifest_lines(tree) == [f'store = "file://{published}"']
    assert look("pin", "data", "v2") == f"data is birds/{second[:12]}+tiny (v2) already\n"
    assert look("pin", "data", "birds/v2/images") == f"data is birds/{second[:12]}/images (v2)\n"
    assert look("pin", "data", "v1") == f"data is birds/{first[:12]}/images (v1), was {second[:12]}\n"
    assert look("pin", "data") == f"data is birds/{second[:12]}/images (main), was {first[:12]}\n"
    assert look("pin", "data", second) == f"data is birds/{second[:12]}/images already\n"
    assert manifest_lines(tree) == [f'store = "file://{published}"']
    assert look.json("pin", "sub/../x", "model") == {
        "link": "x",
        "target": f"/fsd/model/{commit_of(look, 'main', 'model')}",
        "repository": "model",
        "commit": commit_of(look, "main", "model"),
        "subset": None,
        "path": None,
        "branch": "main",
    }


def test_a_pin_remembers_its_branch(look: Fsd, tree: Path) -> None:
    look("pin", "data", "birds/dev")
    assert manifest_lines(tree)[1:] == ["", "[follow]", '"data" = "dev"']
    dev = commit_of(look, "dev")
    # A tag of the same repository is no branch to follow, and another repository is another matter.
    look("pin", "data", "v2")
    assert look("pin", "data").endswith(f"{dev[:12]} (dev), was {commit_of(look, 'v2')[:12]}\n")
    look("pin", "data", "model/main")
    assert manifest_lines(tree)[1:] == ["", "[follow]"]


def test_the_manifest_counts_and_not_who_pins(
    look: Fsd, tree: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / ".fsd.toml").write_text(f'store = "{published}"\nmountpoint = "/srv/fsd"\n')
    monkeypatch.setenv("FSD_STORE", "/nowhere")
    look("pin", "data", "birds/v1", "--store", published)
    assert os.readlink("data") == f"/srv/fsd/birds/{look.json('status')[0]['commit']}"
    assert "are in" in look.fails(2, "pin", "data", "v2", "--store", "/elsewhere")


def test_what_cannot_be_pinned(look: Fsd, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is no pin yet; say of what: fsd pin LINK REPO/REV" in look.fails(2, "pin", "data")
    assert "did you mean 'main'" in look.fails(4, "pin", "data", "birds/mian")
    assert "no imges in birds/v1; did you mean 'images'?" in look.fails(4, "pin", "data", "birds/v1/imges")
    assert not (tree / ".fsd.toml").exists()
    (tree / "file").write_text("")
    (tree / "link").symlink_to("file")
    assert "is no symlink" in look.fails(3, "pin", "file", "birds/v1")
    assert "a symlink to file; remove it first: rm link" in look.fails(3, "pin", "link", "birds/v1")
    assert "is no place for a pin" in look.fails(2, "pin", ".git/data", "birds/v1")
    assert "there is no folder sub for data" in look.fails(4, "pin", "sub/data", "birds/v1")
    monkeypatch.chdir(tmp_path)
    assert "is in no Git work tree" in look.fails(4, "pin", "data", "birds/v1")
    assert "is in no Git work tree" in look.fails(4, "status", "--check")


def test_a_pin_that_git_ignores(look: Fsd, tree: Path) -> None:
    (tree / ".gitignore").write_text("data\n")
    _, _, err = look.result("pin", "data", "birds/v1")
    assert "Git ignores data: take it out of .gitignore" in err


def test_status_of_pins(look: Fsd, tree: Path) -> None:
    look("pin", "data", "birds/v2+tiny/images")
    look("pin", "other", "birds/dev")
    Path("moving").symlink_to("/fsd/birds/main")
    v1, v2 = commit_of(look, "v1"), commit_of(look, "v2")
    code, out, err = look.result("status")
    assert code == 0
    assert out.splitlines() == [
        "LINK    PIN                             TAGS  BEHIND   HERE",
        f"data    birds/{v2[:12]}+tiny/images  v2    at main  no",
        "moving  birds/main                      v2    at main  no",
        f"other   birds/{v1[:12]}              v1    at dev   no",
        f"moving: main is a branch: it does not pin, and now means {v2[:12]}",
    ]
    assert err == "fsd: not all of it is here: 'fsd up' mounts the store at /fsd\n"
    assert look.json("status", tree)[0] == {
        "link": "data",
        "target": os.readlink("data"),
        "repository": "birds",
        "revision": v2,
        "subset": "tiny",
        "path": "images",
        "commit": v2,
        "tags": ["v2"],
        "branch": "main",
        "behind": 0,
        "here": False,
        "bytes": None,
        "cached_bytes": None,
        "problem": None,
    }
    assert all("mountpoint" in mount for mount in look.json("status", "--mounts"))


def test_status_without_the_store(look: Fsd, tree: Path) -> None:
    look("pin", "data", "birds/v1")
    (tree / ".fsd.toml").write_text('store = "/gone"')
    code, out, err = look.result("status")
    assert code == 0
    assert out.splitlines()[1].split() == ["data", f"birds/{os.readlink('data')[11:23]}", "?", "?", "no"]
    assert err.startswith("fsd: tags and branches are not shown: there is no folder /gone")
    assert look.json("status")[0]["tags"] is None
    assert "there is no folder /gone" in look.fails(4, "status", "--check")


def test_check_names_what_will_not_do(look: Fsd, tree: Path) -> None:
    assert look("status", "--check") == ""
    look("pin", "data", "birds/v2+tiny")
    assert look("status", "--check") == ""
    Path("moving").symlink_to("/fsd/birds/main")
    Path("gone").symlink_to("/fsd/birds/" + "ab" * 32)
    Path("missing").symlink_to(os.readlink("data").replace("tiny", "tyni"))
    Path("tag").symlink_to("/fsd/birds/v1")
    with (tree / ".fsd.toml").open("a") as file:
        file.write('[follow]\nlong-gone = "dev"\n')
    code, out, err = look.result("status", "--check", tree)
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["gone", "missing", "moving", "long-gone"]
    assert err.startswith(f"fsd: 4 problems with the 5 pins of {tree}; ")


def test_up_needs_a_manifest_and_a_store(look: Fsd, tree: Path, tmp_path: Path) -> None:
    assert "there is no .fsd.toml" in look.fails(4, "up")
    place = tmp_path / "m"
    (tree / ".fsd.toml").write_text(f'store = "/gone"\nmountpoint = "{place}"\n')
    assert f"asks for a mount at {place}; if that is right" in look.fails(2, "up", "--", "touch", "ran")
    assert "asks for a mount at" in look.fails(2, "up", "--mountpoint", "/fsd")
    # Somewhere else it would be missing as well, so the command is not run.
    assert "there is no folder /gone" in look.fails(4, "up", "--mountpoint", place, "--", "touch", "ran")
    assert not (tree / "ran").exists()


@pytest.mark.usefixtures("tree")
def test_unpin_needs_a_pin_that_leads_somewhere(look: Fsd) -> None:
    assert "there is no pin data" in look.fails(4, "unpin", "data")
    look("pin", "data", "birds/v1")
    assert "which is not there; see 'fsd up'" in look.fails(4, "unpin", "data")
