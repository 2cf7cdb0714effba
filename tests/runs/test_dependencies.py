"""What a run depends on, as one id: equal trees have equal ones, and only they do."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsd.errors import FsdError, NotFoundError, UsageError
from fsd.publish import guard
from fsd.publish.source import ChangedError, Found, SourceFolder
from fsd.runs import dependencies
from fsd.runs.dependencies import digest_of
from tests.publish.folders import DIRECTORY, Item, file, link, program, write_folder

NAMES = st.sampled_from([b"a", b"b", b"a.b", b"\xff", b"a\n"])
LEAVES = st.one_of(
    st.builds(file, st.sampled_from([b"", b"a", b"b", b"ab"])),
    st.builds(program, st.sampled_from([b"", b"a"])),
    st.builds(link, st.sampled_from([b"a", b"b", b"a/b", b"nowhere"])),
)
TREES: st.SearchStrategy[object] = st.recursive(
    LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=3), max_leaves=6
)


def folder_of(tree: object, prefix: bytes = b"") -> dict[bytes, Item]:
    """Nested dictionaries as paths."""
    found: dict[bytes, Item] = {}
    assert isinstance(tree, Mapping)
    for name, below in tree.items():
        path = prefix + name
        if isinstance(below, Item):
            found[path] = below
        else:
            found |= {path: DIRECTORY, **folder_of(below, path + b"/")}
    return found


FOLDERS = st.dictionaries(NAMES, TREES, max_size=3).map(folder_of)


@settings(deadline=None)
@given(one=FOLDERS, other=FOLDERS)
def test_equal_trees_have_equal_ids_and_only_they(one: dict[bytes, Item], other: dict[bytes, Item]) -> None:
    with tempfile.TemporaryDirectory() as place:
        first = digest_of(write_folder(Path(place) / "one", one))
        assert digest_of(write_folder(Path(place) / "again", one)) == first, "times and places do not count"
        assert (digest_of(write_folder(Path(place) / "other", other)) == first) == (one == other)


@settings(deadline=None)
@given(tree=FOLDERS)
def test_how_the_work_is_divided_does_not_matter(tree: dict[bytes, Item]) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        top = write_folder(Path(place) / "top", tree)
        first = digest_of(top)
        patch.setattr(dependencies, "_BATCH_ENTRIES", 2)
        patch.setattr(dependencies, "_TASK_FILES", 1)
        patch.setattr(dependencies, "_WHOLE_BYTES", 0)
        assert digest_of(top) == first


def test_kinds_differ(tmp_path: Path) -> None:
    top = write_folder(
        tmp_path / "top",
        {b"f": file(b"x"), b"x": program(b"x"), b"d": DIRECTORY, b"l": link(b"x"), b"e": file(), b"n": link(b"n")},
    )
    assert len({digest_of(top / name) for name in "fxdlen"}) == 6
    assert len(digest_of(top)) == 64
    (tmp_path / "f").write_bytes(b"x")
    assert digest_of(tmp_path / "f") == digest_of(top / "f"), "what a file is called does not count"
    os.chmod(tmp_path / "f", 0o600)
    assert digest_of(tmp_path / "f") == digest_of(top / "f")


def test_a_path_is_what_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = write_folder(tmp_path / "top", {b"d": DIRECTORY, b"d/f": file(b"x")})
    (tmp_path / "way").symlink_to(top)
    monkeypatch.chdir(top)
    assert digest_of(Path("d")) == digest_of(tmp_path / "way" / "d") == digest_of(top / "d" / ".." / "d")


LARGE = 3 * dependencies._READ_BYTES + 1


def test_a_large_file(tmp_path: Path) -> None:
    data = os.urandom(LARGE)
    (tmp_path / "one").write_bytes(data)
    (tmp_path / "two").write_bytes(data)
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    (tmp_path / "two").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert digest_of(tmp_path / "one") != digest_of(tmp_path / "two")


# --- symlinks


def test_what_a_symlink_leads_to_counts(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {b"f": file(b"x"), b"d": DIRECTORY, b"d/g": file(b"y")})
    links = {b"one": link(b"../elsewhere/f"), b"two": link(b"../elsewhere/d"), b"three": link(b"../elsewhere/d/g")}
    top = write_folder(tmp_path / "top", links)
    digests = [digest_of(top), digest_of(top / "one")]
    assert [digest_of(top), digest_of(top / "one")] == digests
    (tmp_path / "elsewhere" / "f").write_bytes(b"z")
    assert digest_of(top / "one") != digests[1], "a command that opens the link reads another content"
    assert digest_of(top) != digests[0]
    digests = [digest_of(top), digest_of(top / "one")]
    (tmp_path / "elsewhere" / "d" / "new").touch()
    assert digest_of(top) != digests[0]
    assert digest_of(top / "one") == digests[1], "which it does not lead to"


def test_a_symlink_that_leads_nowhere_until_it_does(tmp_path: Path) -> None:
    top = write_folder(tmp_path / "top", {b"l": link(b"../later")})
    before = digest_of(top)
    (tmp_path / "later").touch()
    assert digest_of(top) != before


def test_which_of_two_places_a_symlink_leads_to(tmp_path: Path) -> None:
    """Although the link's own text, and what there is, are the same."""
    for name in ("one", "two"):
        write_folder(tmp_path / name, {b"f": file(b"x"), b"g": file(b"x")})
    (tmp_path / "way").symlink_to("one")
    top = write_folder(tmp_path / "one" / "top", {b"l": link(b"../../way/top/a"), b"a": file(b"x"), b"b": file(b"x")})
    write_folder(tmp_path / "two" / "top", {b"a": file(b"x")})
    inside = digest_of(top)
    (tmp_path / "way").unlink()
    (tmp_path / "way").symlink_to("two")
    assert digest_of(top) != inside


def test_circles_of_symlinks_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", {b"b": link(b"../b"), b"self": link(b"."), b"loop": link(b"loop")})
    write_folder(tmp_path / "b", {b"a": link(b"../a"), b"up": link(b"..")})
    before = digest_of(tmp_path / "a")
    (tmp_path / "b" / "f").touch()
    assert digest_of(tmp_path / "a") != before


def test_a_copy_elsewhere_is_equal_with_its_symlinks(tmp_path: Path) -> None:
    def tree(name: str) -> Path:
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name / "shared", {b"f": file(b"x")})
        return write_folder(tmp_path / name / "top", {b"in": link(b"f"), b"f": file(b"y"), b"out": link(b"../shared")})

    assert digest_of(tree("one")) == digest_of(tree("two"))


# --- mounts of fsd


def with_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mountpoint: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(b"4 2 0:5 / " + os.fsencode(mountpoint) + b" ro shared:1 - fuse.fsd file:///store ro\n")
    monkeypatch.setattr(guard, "MOUNT_INFO", os.fspath(table))


def test_a_symlink_into_a_mount_is_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = write_folder(tmp_path / "mount", {b"v1": DIRECTORY, b"v1/f": file(b"x")})
    with_mount(monkeypatch, tmp_path, mount)
    (tmp_path / "data").symlink_to("mount/v1")
    before = digest_of(tmp_path / "data")
    (mount / "v1" / "f").write_bytes(b"y")
    assert digest_of(tmp_path / "data") == before, "what is read there is observed"
    (mount / "v2").mkdir()
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("mount/v2")
    assert digest_of(tmp_path / "data") != before


def test_a_folder_in_which_fsd_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = write_folder(tmp_path / "top", {b"mount": DIRECTORY})
    with_mount(monkeypatch, tmp_path, top / "mount")
    with pytest.raises(UsageError, match=r"top/mount is a mount of fsd, in .*name what lies beside it"):
        digest_of(top)


# --- what cannot be


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for name in ("missing", "f/below"):
        with pytest.raises(NotFoundError, match=f"there is no .*/{name} to depend on"):
            digest_of(tmp_path / name)


def test_what_has_no_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "socket"))
    (tmp_path / "null").symlink_to("/dev/null")
    for name, kind in (("fifo", "fifo"), ("socket", "socket"), ("null", "device")):
        with pytest.raises(FsdError, match=f"is a {kind}, whose content cannot be known; depend on files"):
            digest_of(tmp_path / name)
    with pytest.raises(FsdError, match=r"fifo is a fifo, .*socket is a socket, whose content"):
        digest_of(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    top = write_folder(tmp_path / "top", {b"d": DIRECTORY, b"f": file(b"x")})
    for name in ("d", "f"):
        (top / name).chmod(0)
        for path in (top, top / name):
            with pytest.raises(FsdError, match=f"cannot read .*top/{name}: Permission denied; make it readable"):
                digest_of(path)
        (top / name).chmod(0o755)


def test_what_the_system_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for root."""
    top = write_folder(tmp_path / "top", {b"f": file(b"x")})

    def refuse(self: SourceFolder, found: Found) -> bytes:
        raise self.unreadable(found.path, PermissionError(13, "Permission denied"))

    monkeypatch.setattr(SourceFolder, "read_file", refuse)
    with pytest.raises(FsdError, match=r"cannot read .*top/f: Permission denied; make it readable, or depend on"):
        digest_of(top)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(bytes(LARGE)),
        lambda path: os.truncate(path, LARGE - 1),
        lambda path: os.truncate(path, LARGE + 1),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["written", "cut", "longer", "gone", "a folder"],
)
@pytest.mark.parametrize("moment", ["read_file", "open_file"])
def test_what_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], moment: str
) -> None:
    top = write_folder(tmp_path / "top", {b"f": file(os.urandom(LARGE))})
    if moment == "read_file":
        monkeypatch.setattr(dependencies, "_WHOLE_BYTES", LARGE)
    really = getattr(SourceFolder, moment)

    def late(self: SourceFolder, found: Found) -> object:
        change(top / "f")
        return really(self, found)

    monkeypatch.setattr(SourceFolder, moment, late)
    with pytest.raises(ChangedError, match=r"top/f changed while it was being read; run it again"):
        digest_of(top)


@pytest.mark.parametrize("size", [LARGE - 1, LARGE + 1])
def test_what_changes_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    top = write_folder(tmp_path / "top", {b"f": file(os.urandom(LARGE))})
    really = SourceFolder.open_file

    def late(self: SourceFolder, found: Found) -> int:
        descriptor = really(self, found)
        os.truncate(top / "f", size)
        return descriptor

    monkeypatch.setattr(SourceFolder, "open_file", late)
    with pytest.raises(ChangedError, match="top/f changed"):
        digest_of(top)
