"""Holes in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsd.cache.punch import punch_hole


def test_a_hole_frees_blocks_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(64 * 4096)
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDWR)
    before = os.fstat(descriptor).st_blocks
    if not punch_hole(descriptor, 5000, 10 * 4096):
        pytest.skip("this file system has no holes")
    assert os.fstat(descriptor).st_blocks == before - 9 * 8
    assert path.read_bytes() == data[:5000] + bytes(10 * 4096) + data[5000 + 10 * 4096 :]
    os.close(descriptor)


def test_errors_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file"):
        punch_hole(descriptor, 0, 1)
    os.close(descriptor)
