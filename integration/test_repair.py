"""Putting back what a store lost while a mount has the cache: by way of its daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from integration.program import Program, status
from integration.test_roundtrip import described, make_awkward_tree


def test_from_the_cache_of_a_mount(program: Program, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_awkward_tree(source)
    (source / "large").write_bytes(os.urandom(20_000_000))
    (source / "text").write_text("spam and eggs " * 100_000)
    program("init", program.store)
    program("commit", source, "data", "--tag", "v1")
    mountpoint = program.mount(tmp_path / "mount")
    program("prefetch", mountpoint / "data" / "v1")
    before = {}
    for path in [
        path for name in ("commits", "pages", "recipes", "packs") for path in (program.store / name).rglob("*")
    ]:
        if path.is_file():
            before[path] = path.read_bytes()
            path.unlink()

    # A daemon that hangs has the cache, and does not answer.
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        tried = program.run("verify", "--repair")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tried.returncode == 6
    assert "going without the cache" in tried.stderr
    assert str(mountpoint) in tried.stderr, "who has the cache"

    made = program.run("verify", "--repair")
    assert (made.returncode, made.stderr) == (0, "")
    assert f"from the cache of {mountpoint}" in made.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert program("verify", "--data").splitlines()[-1] == "all of it is there and right"
    program("checkout", "data/v1", tmp_path / "out")
    assert described(os.fsencode(tmp_path / "out")) == described(os.fsencode(source))
