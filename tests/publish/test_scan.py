"""Scan indexes: whole or not at all, and of no other folder, store or repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsd.publish.scan import ScanKey, ScanWriter, open_scan_index
from fsd.publish.source import STATUS

KEY = ScanKey(b"/a/\xff\nfolder", "store", "repo")
COMMIT = bytes(range(32))
STATUSES = bytes(range(2 * STATUS.size))


def write(folder: Path, commit: bytes = COMMIT) -> Path:
    writer = ScanWriter(folder, KEY, None)
    writer.add(b"", b"a\0b", STATUSES)
    writer.add(b"d", b"", b"")
    writer.finish(commit)
    return folder / KEY.file_name


def test_there_and_back(tmp_path: Path) -> None:
    path = write(tmp_path / "made")
    index = open_scan_index(path.parent, KEY)
    assert index is not None
    assert index.commit == COMMIT
    assert [run[:3] for run in index.runs()] == [(b"", b"a\0b", STATUSES), (b"d", b"", b"")]
    assert [run[:3] for run in index.runs()] == [(b"", b"a\0b", STATUSES), (b"d", b"", b"")]
    index.close()
    assert [each.name for each in path.parent.iterdir()] == [KEY.file_name]


def test_every_damage_is_found(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert open_scan_index(tmp_path, KEY) is None, at
        path.write_bytes(data[:at])
        assert open_scan_index(tmp_path, KEY) is None, at
    path.write_bytes(data + b"\0")
    assert open_scan_index(tmp_path, KEY) is None
    path.unlink()
    assert open_scan_index(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "other", [KEY._replace(folder=b"/b"), KEY._replace(store="other"), KEY._replace(repository="other")]
)
def test_another_ones_index_is_none(tmp_path: Path, other: ScanKey) -> None:
    path = write(tmp_path)
    assert other.file_name != KEY.file_name
    path.rename(tmp_path / other.file_name)
    assert open_scan_index(tmp_path, other) is None


def test_a_discarded_scan_leaves_the_old_index(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    index = open_scan_index(tmp_path, KEY)
    writer = ScanWriter(tmp_path, KEY, index)
    assert index is not None
    writer.keep(next(index.runs()))
    writer.add(b"new", b"x", STATUSES)
    writer.discard()
    writer.discard()
    index.close()
    assert path.read_bytes() == data
    assert len(list(tmp_path.iterdir())) == 1


def test_the_same_entries_for_another_commit(tmp_path: Path) -> None:
    path = write(tmp_path)
    index = open_scan_index(tmp_path, KEY)
    assert index is not None
    writer = ScanWriter(tmp_path, KEY, index)
    for run in index.runs():
        writer.keep(run)
    writer.finish(COMMIT[::-1])
    index.close()
    again = open_scan_index(tmp_path, KEY)
    assert again is not None
    assert again.commit == COMMIT[::-1]
    assert [run[:3] for run in again.runs()] == [(b"", b"a\0b", STATUSES), (b"d", b"", b"")]
    again.close()
    assert path.exists()
