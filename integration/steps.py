"""A work tree with steps that are run by `fsd run`, and data in a mount: for tests of what is run again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsd.daemon.mounts import FILESYSTEM_TYPE, list_mounts
from integration.program import Program, appear

REPOSITORY = "birds"


@dataclass(frozen=True)
class Done:
    """What `fsd run` did."""

    code: int
    out: str
    said: list[str]
    """Its notes."""

    @property
    def is_hit(self) -> bool:
        """Whether nothing ran."""
        return any(line.startswith("fsd: HIT: ") for line in self.said)

    @property
    def reasons(self) -> str:
        """Why something ran; '' where it does not say."""
        return next((line.removeprefix("fsd: MISS: ") for line in self.said if line.startswith("fsd: MISS: ")), "")


class Project:
    """A Git work tree, a store that is mounted, and one repository of data in it."""

    def __init__(self, program: Program, top: Path) -> None:
        self.program = program
        self.top = top
        top.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "a@b")
        self.git("config", "user.name", "A")
        program("init")
        self.mountpoint = top.parent / "mnt"
        self._source = top.parent / "source"
        self.write(".fsd.toml", f'store = "{program.store}"\nmountpoint = "{self.mountpoint}"\n')

    def mount(self) -> None:
        """Mount the store."""
        self.program.mount(self.mountpoint)

    def umount(self) -> None:
        """Take the mount away."""
        self.program("umount", self.mountpoint)

    def git(self, *arguments: str) -> None:
        """Run Git."""
        subprocess.run(["git", *arguments], cwd=self.top, env=self.program.environment, check=True)

    def write(self, path: str, text: str) -> None:
        """A file of the work tree."""
        place = self.top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def read(self, path: str) -> str:
        """A file of the work tree, through whatever it is."""
        return (self.top / path).read_text()

    def publish(self, files: Mapping[str, str], *options: str) -> str:
        """Publish a version of the data: its id."""
        subprocess.run(["rm", "-rf", self._source], check=True)
        self._source.mkdir()
        for path, text in files.items():
            place = self._source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                place.symlink_to(text.removeprefix("-> "))
            else:
                place.write_text(text)
        commit: str = self.program.json("commit", self._source, REPOSITORY, *options)["commit"]
        return commit

    def pin(self, revision: str, link: str = "data", path: str = "") -> None:
        """Let a link lead to a revision of the data, as `fsd pin` would."""
        place = self.top / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(os.path.join(self.mountpoint, REPOSITORY, revision, path).rstrip("/"))
        appear(place)

    def python(self, name: str, code: str) -> None:
        """A program of the work tree."""
        self.write(name, f"import json, os, sys\nfrom pathlib import Path\n{code}")

    def run(
        self,
        *arguments: str,
        folder: str = "",
        variables: Mapping[str, str] | None = None,
        stdin: Any = subprocess.DEVNULL,
        program: Program | None = None,
    ) -> Done:
        """`fsd run` with these arguments, the command among them."""
        used = self.program if program is None else program
        done = subprocess.run(
            [*self._alone(), *used.command, "run", *arguments],
            cwd=self.top / folder,
            env={**used.environment, **(variables or {})},
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.splitlines())

    def _alone(self) -> list[str]:
        """Where others have mounts of fsd on this machine: what to start a command with, so that it does not see them.
        Theirs may be of another version, which would make it say that it cannot tell what is read."""
        others = [mount.mountpoint for mount in list_mounts() if mount.type == FILESYSTEM_TYPE]
        others = [place for place in others if not place.startswith(f"{self.top.parent}/")]
        if not others or os.geteuid() != 0:
            return []
        script = "".join(f"umount -l {shlex.quote(place)}; " for place in others) + 'exec "$@"'
        return ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh"]

    def step(self, name: str, *arguments: str, **options: Any) -> Done:
        """`fsd run` of a Python program of the work tree, which must succeed."""
        done = self.run(*arguments, "--", sys.executable, name, **options)
        assert done.code == 0, done
        return done
