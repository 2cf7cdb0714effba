"""File systems of Debian, for tests to boot and to build in: made by debootstrap, which takes a minute, and kept.

    $XDG_CACHE_HOME/fsd-tests/NAME-KEY.tar.gz       (~/.cache), one for each name, of what KEY stands for

One is made anew after a week, with what Debian has mended since. `python -m integration.debian` makes what is missing:
`script/test --all` runs it first, since tests may take no longer than three minutes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"

_FRESH_S = 7 * 86_400.0
_ANSWER_TIMEOUT_S = 10
_MAKE_TIMEOUT_S = 900.0


class UnavailableError(Exception):
    """There is none to be had on this machine, and why."""


@dataclass(frozen=True, slots=True)
class Image:
    """One of them."""

    name: str
    packages: str
    """What is in it besides the least, with commas between."""

    @property
    def archive(self) -> Path:
        """Where it is kept."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        key = hashlib.sha256(f"{MIRROR} {SUITE} {self.packages}".encode()).hexdigest()[:16]
        return Path(cache) / "fsd-tests" / f"{self.name}-{key}.tar.gz"

    def unpack(self, root: Path, environment: Mapping[str, str]) -> None:
        """Make the folder `root`, filled. `environment` has what leads to the mirror. Raises UnavailableError."""
        self.make(environment)
        root.mkdir(parents=True)
        unpack = ["tar", "--extract", "--numeric-owner", f"--file={self.archive}", "-C", os.fspath(root)]
        subprocess.run(unpack, timeout=_MAKE_TIMEOUT_S, check=True)

    def make(self, environment: Mapping[str, str]) -> bool:
        """Have it kept; whether that took making it. Raises as `unpack`. Those who come at once wait for the first."""
        if missing := missing_to_make():
            raise UnavailableError(missing)
        with _locked(self.archive.parent):
            is_there = self.archive.exists()
            if is_there and time.time() - self.archive.stat().st_mtime < _FRESH_S:
                return False
            if not mirror_answers(environment):
                if is_there:  # an old one is better than none
                    return False
                raise UnavailableError(f"{MIRROR} does not answer, and nothing is kept at {self.archive}")
            self._make(environment)
        return True

    def _make(self, environment: Mapping[str, str]) -> None:
        new = self.archive.with_name(f"{self.name}.new")  # what was killed leaves one, for the next to overwrite
        with tempfile.TemporaryDirectory(prefix="fsd-debian-") as folder:
            root = f"{folder}/root"
            include = [f"--include={self.packages}"] if self.packages else []
            _run(["debootstrap", "--variant=minbase", *include, SUITE, root, MIRROR], environment)
            pack = ["tar", "--create", "--numeric-owner", "--use-compress-program=gzip -1", f"--file={new}"]
            _run([*pack, "-C", root, "--exclude=./var/cache/apt/archives/*.deb", "."], environment)
        for old in self.archive.parent.glob(f"{self.name}-*.tar.gz"):
            old.unlink()
        new.replace(self.archive)


MACHINE = Image("machine", "systemd,systemd-sysv,dbus,fuse3,libfuse3-3,python3,python3-venv")
"""What boots, with what an installation of fsd takes."""

SLIM = Image("slim", "")
"""As small as debian:bookworm-slim, of which images of containers are made."""


def missing_to_make() -> str:
    """What this machine lacks to make any; '' if it lacks nothing."""
    if os.geteuid() != 0:
        return "takes root"
    return "" if shutil.which("debootstrap") else "takes debootstrap"


def mirror_answers(environment: Mapping[str, str]) -> bool:
    """Whether it can be reached, asked as debootstrap would, which goes on asking for hours."""
    ask = ["wget", "--quiet", "--spider", f"--timeout={_ANSWER_TIMEOUT_S}", "--tries=1"]
    return subprocess.run([*ask, f"{MIRROR}/dists/{SUITE}/InRelease"], env=environment, check=False).returncode == 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_MAKE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-20:])
        raise RuntimeError(f"{command[0]} gave {done.returncode}:\n{last}\n{done.stderr}")


def main() -> None:
    """Have all that tests use."""
    for image in (MACHINE, SLIM):
        try:
            if image.make(os.environ):
                print(f"debian: made {image.archive}", file=sys.stderr)
        except UnavailableError as error:
            print(f"debian: tests that need '{image.name}' will be skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
