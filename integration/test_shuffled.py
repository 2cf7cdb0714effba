"""`fsd.shuffled` through a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import fsd
from fsd.limits import MIB
from integration.datasets import noise
from integration.program import Program


def test_an_epoch_through_a_mount(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    for number in range(60):
        path = source / f"class{number % 3}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(number, 20_000 * number))
    program("init", program.store)
    program("commit", source, "pictures")
    branch = program.mount(tmp_path / "mount") / "pictures" / "main"

    order = fsd.shuffled(str(branch), 1, buffer_bytes=20 * MIB)
    assert order.root == os.path.realpath(branch)
    # A plain folder with the same files has the same order, if it is asked for.
    names = [os.path.relpath(path, order.root) for path in order]
    assert names == [os.path.relpath(path, source) for path in fsd.shuffled(str(source), 1, buffer_bytes=20 * MIB)]
    for found, name in zip(order, names, strict=True):
        assert Path(found).read_bytes() == (source / name).read_bytes()

    # Where nothing is asked for, there is a buffer in a mount alone.
    monkeypatch.setattr("fsd.shuffle.BUFFER_BYTES", 20 * MIB)
    assert list(fsd.shuffled(str(branch), 1)) == list(order)
    plain = [os.path.relpath(path, source) for path in fsd.shuffled(str(source), 1)]
    assert plain != names
    assert sorted(plain) == sorted(names)
