"""DVC repositories as DVC 3 and DVC 2 lay them out, written by hand. `integration/test_import_dvc.py` holds this
against the real DVC, where that is installed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tests.importing.importing import GitFolder


def md5_of(data: bytes) -> str:
    """As DVC 3 has it."""
    return hashlib.md5(data).hexdigest()


class DvcFolder:
    """A work tree of Git with DVC, whose contents are in a remote that is a folder beside it, or in the cache."""

    def __init__(self, top: Path, *, legacy: bool = False) -> None:
        self.top = top
        self.git = GitFolder(top)
        self.remote = top.parent / f"{top.name}-remote"
        self.legacy = legacy
        (top / ".dvc").mkdir()
        self.configure(f"../../{self.remote.name}")
        (top / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")

    def configure(self, url: str, **options: str) -> None:
        """Name the remote."""
        more = "".join(f"    {name} = {value}\n" for name, value in options.items())
        text = f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n{more}"
        (self.top / ".dvc" / "config").write_text(text)

    @property
    def cache(self) -> Path:
        """DVC's own folder for contents."""
        return self.top / ".dvc" / "cache"

    def keep(self, data: bytes, *, name: str = "", cached: bool = False) -> str:
        """Put a content into the remote, or the cache; its name."""
        name = name or md5_of(data)
        folder = self.cache if cached else self.remote
        path = folder / ("" if self.legacy else "files/md5") / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def track(self, path: str, data: bytes | Mapping[str, bytes], *, cached: bool = False, more: str = "") -> None:
        """`dvc add`: a file, or a directory by its relative paths."""
        self._write(f"{path}.dvc", f"outs:\n{self.out(path.rpartition('/')[2], data, cached=cached, more=more)}")

    def out(self, name: str, data: bytes | Mapping[str, bytes], *, cached: bool = False, more: str = "") -> str:
        """The lines on an output; its contents are kept."""
        kind = "" if self.legacy else "  hash: md5\n"
        if isinstance(data, bytes):
            return f"- md5: {self.keep(data, cached=cached)}\n  size: {len(data)}\n{kind}{more}  path: {name}\n"
        parts = [{"md5": self.keep(each, cached=cached), "relpath": below} for below, each in sorted(data.items())]
        listed = json.dumps(parts).encode()
        md5 = self.keep(listed, name=md5_of(listed) + ".dir", cached=cached)
        size = sum(map(len, data.values()))
        return f"- md5: {md5}\n  size: {size}\n  nfiles: {len(data)}\n{kind}{more}  path: {name}\n"

    def _write(self, path: str, text: str) -> None:
        full = self.top / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)

    def lock(self, outs: Mapping[str, str], *, folder: str = "", pipeline: str = "") -> None:
        """`dvc repro`: the outputs of stages (lines of `out`)."""
        lines = ["schema: '2.0'", "stages:"]
        for stage, text in outs.items():
            lines += [f"  {stage}:", "    cmd: make", "    outs:"]
            lines += [f"    {line}" for line in text.rstrip("\n").splitlines()]
        self._write(f"{folder}dvc.lock", "\n".join([*lines, ""]))
        if pipeline:
            self._write(f"{folder}dvc.yaml", pipeline)
