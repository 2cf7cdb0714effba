"""`fsd diff`: what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Fsd, make_birds


@pytest.fixture
def changed(fsd: Fsd, tmp_path: Path) -> Fsd:
    """Birds, and the same after a day's work: tags v1 and v2."""
    folder = tmp_path / "birds"
    make_birds(folder)
    fsd("init")
    fsd("commit", folder, "birds", "--tag", "v1")
    (folder / "labels.csv").write_text("wren\n" * 2000)
    (folder / "images" / "robin" / "0.jpg").unlink()
    (folder / "images" / "robin" / "1.jpg").rename(folder / "images" / "wren" / "one of robin.jpg")
    (folder / "images" / "heron").mkdir()
    (folder / "images" / "heron" / "0.jpg").write_bytes(b"0 of heron")
    (folder / "run.sh").chmod(0o644)
    (folder / "latest").unlink()
    (folder / "latest").symlink_to("images/heron")
    (folder / "odd\nname \x1b[1m").write_text("ODD")
    fsd("commit", folder, "birds", "--tag", "v2")
    return fsd


def test_every_change_is_a_line(changed: Fsd) -> None:
    assert changed("diff", "birds", "v1", "v2").splitlines() == [
        "M  labels.csv  (5 B -> 9.8 KiB)",
        "M  latest  (another target)",
        'M  "odd\\nname \\x1b[1m"  (3 B as before)',
        "M  run.sh  (not executable any more)",
        "A  images/heron/",
        "A  images/heron/0.jpg  (10 B)",
        "D  images/robin/0.jpg  (10 B)",
        "R  images/robin/1.jpg -> images/wren/one of robin.jpg",
        "1 file added (10 B), 1 removed (10 B), 4 changed (29 B -> 9.8 KiB), 1 renamed",
    ]
    assert changed("diff", "birds", "v2", "v2") == "no differences\n"
    assert changed("diff", "birds", "v1", "v2", "images/robin", "--name-only").splitlines() == [
        "images/robin/0.jpg",
        "images/robin/1.jpg",
    ]


def test_sums(changed: Fsd) -> None:
    assert [line.split() for line in changed("diff", "birds", "v1", "v2", "--stat").splitlines()] == [
        ["CHANGE", "FILES", "BEFORE", "AFTER"],
        ["added", "1", "0", "B", "10", "B"],
        ["removed", "1", "10", "B", "0", "B"],
        ["changed", "4", "29", "B", "9.8", "KiB"],
        ["renamed", "1", "10", "B", "10", "B"],
    ]
    sums = changed.json("diff", "birds", "v1", "v2", "--stat")
    assert list(sums) == ["added", "removed", "changed", "renamed"]
    assert sums["changed"] == {"files": 4, "old_bytes": 29, "new_bytes": 10_025}


def test_json(changed: Fsd) -> None:
    changes = {(each["new"] or each["old"])["path"]: each for each in changed.json("diff", "birds", "v1", "v2")}
    assert changes["images/robin/0.jpg"]["change"] == "removed"
    assert changes["images/robin/0.jpg"]["new"] is None
    renamed = changes["images/wren/one of robin.jpg"]
    assert (renamed["change"], renamed["old"]["path"]) == ("renamed", "images/robin/1.jpg")
    assert renamed["old"]["content"] == renamed["new"]["content"]
    assert set(renamed["new"]) == {"path", "kind", "executable", "bytes", "content"}
    assert changes["images/heron"]["new"]["kind"] == "directory"
    assert changed.json("diff", "birds", "v2", "v2") == []


def test_any_revision_will_do(changed: Fsd) -> None:
    changed("subset", "create", "birds/v1", "tiny", "--per-dir", "2", "--seed", "7")
    fewer = changed.json("diff", "birds", "v1", "v1+tiny")
    assert {each["change"] for each in fewer} == {"removed"}
    both = changed.json("diff", "birds", "v1+50pct", "v2+50pct")
    whole = changed.json("diff", "birds", "v1", "v2")
    names = [
        {(each[side] or {}).get("path") for each in changes for side in ("old", "new")} for changes in (both, whole)
    ]
    assert names[0] < names[1]
    assert "labels.csv" in changed("diff", "birds", "v1", "main", "--name-only")


def test_what_is_not_there(changed: Fsd) -> None:
    assert "did you mean 'v1'" in changed.fails(4, "diff", "birds", "v11", "v2")
    assert "did you mean 'birds'" in changed.fails(4, "diff", "bird", "v1", "v2")
    assert "no imagges in birds/v2" in changed.fails(4, "diff", "birds", "v1", "v2", "imagges")
    assert "exclude each other" in changed.fails(2, "diff", "birds", "v1", "v2", "--stat", "--name-only")
    changed.fails(2, "diff", "birds", "v1")
