"""The walk: everything, in the tree's order, and nothing that changed place meanwhile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsd.format.model import entry_key
from fsd.publish import walk as walk_module
from fsd.publish.source import STATUS, ChangedError, SourceFolder, UnsupportedFileError, shown, sizes_of
from fsd.publish.walk import Run, walk
from tests.publish.folders import DIRECTORY, Item, file, link, write_folder

NAMES = st.sampled_from([b"a", b"b", b"a.b", b"a b", b"\xff", b"\x01", b"aa", b"a\n", b"a-"])


def entries(runs: list[Run]) -> list[tuple[bytes, bytes]]:
    return [(run.directory, name) for run in runs for name in run.names]


def walk_all(top: Path) -> list[Run]:
    with SourceFolder(os.fsencode(top)) as source:
        return list(walk(source))


@given(paths=st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=20))
def test_the_order_is_the_trees(paths: set[tuple[bytes, ...]]) -> None:
    folder: dict[bytes, Item] = {}
    for path in paths:
        for depth in range(1, len(path) + 1):
            folder[b"/".join(path[:depth])] = DIRECTORY
    with tempfile.TemporaryDirectory() as place:
        found = entries(walk_all(write_folder(Path(place) / "top", folder)))
    assert {b"/".join(filter(None, entry)) for entry in found} == folder.keys()
    assert found == sorted(found, key=lambda entry: entry_key(*entry))


def test_runs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "RUN_ENTRIES", 4)
    top = write_folder(tmp_path / "top", {b"%02d" % number: file(b"x" * number) for number in range(10)})
    runs = walk_all(top)
    assert [len(run.names) for run in runs] == [4, 4, 2]
    assert sum(sizes_of(run.statuses) for run in runs) == 45


def test_what_a_status_says(tmp_path: Path) -> None:
    folder = {b"d": DIRECTORY, b"f": file(b"abc"), b"l": link(b"f")}
    (run,) = [run for run in walk_all(write_folder(tmp_path / "top", folder)) if run.names]
    directory, plain, symlink = STATUS.iter_unpack(run.statuses)
    assert directory[:4] == (0, 0, 0, 0), "a directory's own times say nothing of what is in it"
    status = os.lstat(tmp_path / "top" / "f")
    assert plain == (3, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)
    assert symlink[3] == os.lstat(tmp_path / "top" / "l").st_ino


def test_a_symlink_that_took_the_place_of_a_directory(tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", {b"e": DIRECTORY, b"e/secret": file(b"secret")})
    top = write_folder(tmp_path / "top", {b"d": DIRECTORY, b"d/e": DIRECTORY, b"d/e/open": file(b"open")})
    # As the last part of the path: it is not what it was.
    with SourceFolder(os.fsencode(top)) as source:
        runs = walk(source)
        next(runs)
        (top / "d").rename(tmp_path / "was")
        (top / "d").symlink_to(elsewhere)
        with pytest.raises(ChangedError, match="top/d changed"):
            list(runs)
    (top / "d").unlink()
    (tmp_path / "was").rename(top / "d")
    # In the middle of it: what was seen is what is listed.
    with SourceFolder(os.fsencode(top)) as source:
        runs = walk(source)
        first = [next(runs), next(runs)]
        (top / "d").rename(tmp_path / "was")
        (top / "d").symlink_to(elsewhere)
        assert entries([*first, *runs]) == [(b"", b"d"), (b"d", b"e"), (b"d/e", b"open")]


def test_descriptors_are_bounded_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "OPEN_LEVELS", 3)
    path = tmp_path / "top" / "/".join("d" * 20)
    path.mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with SourceFolder(os.fsencode(tmp_path / "top")) as source:
        runs = walk(source)
        counts = [len(os.listdir("/proc/self/fd")) - before for _ in runs]
        assert len(counts) == 20
        assert max(counts) <= 1 + 3 + 2
        again = walk(source)
        next(again)
        again.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_vanished_was_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "RUN_ENTRIES", 1)
    top = write_folder(tmp_path / "top", {b"a": file(), b"b": file(), b"c": file()})
    with SourceFolder(os.fsencode(top)) as source:
        runs = walk(source)
        first = next(runs)
        (top / "b").unlink()
        assert entries([first, *runs]) == [(b"", b"a"), (b"", b"c")]


def test_a_path_that_no_tree_can_hold(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(32_767 // 251 + 2):
        os.mkdir(b"n" * 250, dir_fd=fd)
        below = os.open(b"n" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(UnsupportedFileError, match="deeper than the 32767 bytes"):
        walk_all(top)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", "."),
        (b"a/b", "a/b"),
        ("ä".encode(), "ä"),
        (b"a\nb", "a\\nb"),
        (b"\xff", "\\xff"),
        (b"a\x1b[0m", "a\\x1b[0m"),
    ],
)
def test_paths_in_messages_are_one_line(path: bytes, text: str) -> None:
    assert shown(path) == text
