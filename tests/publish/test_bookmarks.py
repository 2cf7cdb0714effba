"""Bookmarks of uploads: whose they are, and that they are hints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsd.ids import content_id
from fsd.publish.bookmarks import KEPT_S, Bookmarks

WHAT, OTHER = content_id(b"what"), content_id(b"other")


def opened(folder: Path) -> Bookmarks:
    bookmarks = Bookmarks(folder)
    bookmarks.open()
    return bookmarks


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    bookmark = opened(tmp_path / "uploads").take(WHAT)
    assert bookmark.read() == ""
    bookmark.close()
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_last_is_found_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    first = opened(folder).take(WHAT)
    for text in ("a" * 2000, "b", "c" * 500):
        first.write(text)
    first.close()
    assert opened(folder).take(OTHER).pack != first.pack
    again = opened(folder).take(WHAT)
    assert (again.pack, again.read()) == (first.pack, "c" * 500)
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_one_that_is_used_is_nobody_elses(tmp_path: Path) -> None:
    first = opened(tmp_path).take(WHAT)
    first.write("text")
    late = opened(tmp_path)
    other = late.take(WHAT)
    assert (other.pack != first.pack, other.read()) == (True, "")
    other.write("mine")
    assert first.read() == "text"
    # Who looked before another finished takes nothing up, either.
    late = opened(tmp_path)
    first.remove()
    other.remove()
    assert late.take(WHAT).read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["write nothing", "remove", "remove twice"])
def test_what_has_ended_is_gone(tmp_path: Path, end: str) -> None:
    bookmark = opened(tmp_path).take(WHAT)
    bookmark.write("text")
    if end == "write nothing":
        bookmark.write("")
        assert bookmark.read() == ""
    else:
        for _ in range(2 if end == "remove twice" else 1):
            bookmark.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b'{"what": 1}', b'{"what": "00", "pack": "00", "text": ""}', b"[]"])
def test_one_that_is_damaged_is_none(tmp_path: Path, damage: bytes) -> None:
    bookmark = opened(tmp_path).take(WHAT)
    bookmark.write("text")
    bookmark.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert opened(tmp_path).take(WHAT).read() == ""


def test_old_ones_are_removed(tmp_path: Path) -> None:
    bookmark = opened(tmp_path).take(WHAT)
    bookmark.write("text")
    bookmark.close()
    (file,) = tmp_path.iterdir()
    long_ago = file.stat().st_mtime - KEPT_S - 1
    os.utime(file, (long_ago, long_ago))
    assert opened(tmp_path).take(WHAT).read() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_costs_only_the_bookmark(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_bytes(b"in the way")
    bookmark = opened(tmp_path / "uploads").take(WHAT)
    bookmark.write("text")
    assert bookmark.read() == "text"
    bookmark.remove()
