"""What is known of edits, and how one ends; `integration/test_edits.py` mounts them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fsd.daemon.edits import Edit, Edits


@pytest.fixture
def edits(tmp_path: Path) -> Edits:
    return Edits(tmp_path / "state")


@pytest.fixture
def edit(edits: Edits, tmp_path: Path) -> Edit:
    """One that was written to, and is not mounted, as after a reboot."""
    place = tmp_path / "work"
    place.mkdir()
    edit = Edit("0123456789abcdef", str(place), "s", "data", "v1", "c" * 64, "c" * 64, "/nowhere", True, False)
    edit.upper.mkdir(parents=True)
    (edit.upper / "changed").write_text("changed")
    edits.save(edit)
    return edit


def test_an_edit_ends_with_all_that_was_changed(edits: Edits, edit: Edit, tmp_path: Path) -> None:
    assert edits.all() == [edit]
    edits.discard(edit)
    assert edits.all() == []
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_edit_whose_folder_is_gone_ends_like_any_other(edits: Edits, edit: Edit, tmp_path: Path) -> None:
    shutil.rmtree(edit.folder)
    edits.discard(edit)
    assert edits.all() == []
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
