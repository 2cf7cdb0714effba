"""Real mounts for tests, none of which outlives its test.

A test that leaves a mount behind, crashes or kills a daemon still gets it cleared: whatever is mounted below a test's
temporary folder is taken away lazily afterwards, and below the own folder of the session (of the worker, where there
are several) at its end. What sessions left that have ended is cleared before. Nothing is cleared that belongs to a
session or a worker that still runs: a daemon may be dead there because a test is about just that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fsd.daemon import mounts
from integration.program import Program

REPOSITORY = Path(__file__).parents[1]
START_TIMEOUT_S = 20.0


def sweep(folder: Path, *, only_stale: bool = False) -> list[str]:
    """Take away every mount below `folder`, newest first; returns where they were."""
    prefix = os.path.realpath(folder) + "/"
    left = [mount.mountpoint for mount in mounts.list_mounts() if mount.mountpoint.startswith(prefix)]
    for mountpoint in reversed(left):
        if only_stale and not mounts.is_stale(mountpoint):
            continue
        mounts.unmount(mountpoint, lazy=True)
    return left


class FakeMount:
    """A daemon of `fake_daemon.py` and the mount that it serves."""

    def __init__(self, path: Path, settings: dict[str, Any], *, wrapper: tuple[str, ...] = ()) -> None:
        self.path = path
        self.log = path.with_name(path.name + ".log")
        command = [*wrapper, sys.executable, "-m", "integration.fake_daemon", str(path), json.dumps(settings)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.greeting = self._answer()

    def counts(self) -> dict[str, int]:
        """What the daemon was asked since the last call."""
        return self._ask("counts")

    def peek(self) -> dict[str, int]:
        """The same, without starting anew."""
        return self._ask("peek")

    def release(self) -> None:
        """Let stalled reads go."""
        self._ask("release")

    def wait(self) -> int:
        """The daemon's exit code, once it has ended by itself."""
        return self.process.wait(START_TIMEOUT_S)

    def close(self) -> None:
        """End the daemon if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def _ask(self, command: str) -> dict[str, int]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the daemon ended:\n{self.log.read_text()}"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


FakeMounts = Callable[..., FakeMount]


@pytest.fixture
def fake_mount(tmp_path: Path) -> Iterator[FakeMounts]:
    """Mounts a fake tree: `fake_mount(files=10, interposed=False, …)`, settings as in `fake_daemon.py`."""
    made: list[FakeMount] = []

    def mount(*, path: Path | None = None, wrapper: tuple[str, ...] = (), **settings: Any) -> FakeMount:
        path = path or tmp_path / f"mount{len(made)}"
        path.mkdir(exist_ok=True)
        made.append(FakeMount(path, settings, wrapper=wrapper))
        return made[-1]

    yield mount
    for daemon in made:
        daemon.close()
    sweep(tmp_path)


def _program(folder: Path) -> Iterator[Program]:
    yield Program(folder / "home")
    sweep(folder)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program with a home of its own; what it mounted below the test's folder is unmounted afterwards."""
    yield from _program(tmp_path)


@pytest.fixture(scope="module")
def module_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The same for a whole module."""
    yield from _program(tmp_path_factory.mktemp("program"))


def ended_sessions(own: Path) -> Iterator[Path]:
    """The temporary folders of the sessions beside ours that run no more. `own` is ours, or that of our worker.

    pytest keeps its process id in `.lock` of a session's folder while the session runs.
    """
    session = own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own
    for other in session.parent.glob("pytest-*"):
        if other.name == "pytest-current" or other.resolve() == session.resolve():
            continue
        with suppress(FileNotFoundError):
            pid = (other / ".lock").read_text()
            if Path("/proc", pid or "self").exists():  # empty: it begins just now
                continue
        yield other


@pytest.fixture(autouse=True, scope="session")
def _no_mounts_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Earlier sessions may have been killed; ours may not leave anything."""
    own = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":  # one of them is enough
        for session in ended_sessions(own):
            sweep(session, only_stale=True)
    yield
    left = sweep(own)
    assert left == [], f"mounts were left behind: {left}"
