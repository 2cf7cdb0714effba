"""The installed program, driven as a user does, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from integration.waiting import wait_for

COMMAND_TIMEOUT_S = 120.0


class Program:
    """Runs `fsd` with everything it would keep in a user's home below one folder."""

    def __init__(self, home: Path, *, wrapper: tuple[str, ...] = ()) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.store = home / "store"
        self.wrapper = wrapper
        # Git's configuration of a user is found in the home as well.
        elsewhere = ("FSD_", "XDG_", "GIT_CONFIG_GLOBAL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
        self.environment = kept | {"HOME": str(home), "FSD_STORE": str(self.store)}

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [*self.wrapper, sys.executable, "-m", "fsd_cli"]

    def run(
        self, *arguments: str | Path | bytes, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit code."""
        command = [*self.command, *(os.fspath(argument) for argument in arguments)]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def __call__(self, *arguments: str | Path | bytes) -> str:
        """Run a command that must succeed; its standard output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"fsd {arguments} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *arguments: str | Path | bytes) -> Any:
        """Run a command that must succeed with `--json`."""
        return json.loads(self(*arguments, "--json"))

    def start(self, *arguments: str | Path, stdout: IO[bytes] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command and return at once; the caller ends it."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            env=self.environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def configure(self, **limits: int | float | str) -> None:
        """Give every later command these limits."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in limits.items()]
        path = self.home / ".config" / "fsd" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["[limits]", *lines, ""]))

    def mount(self, path: Path, *options: str) -> Path:
        """Mount the store; the fixture that made this program unmounts it."""
        path.mkdir(parents=True, exist_ok=True)
        self("mount", self.store, path, *options)
        return path


def status(mountpoint: Path) -> dict[str, Any]:
    """What the daemon of a mount says of itself."""
    answer: dict[str, Any] = json.loads((mountpoint / ".fsd" / "status").read_text())
    return answer


APPEARS_WITHIN_S = 5.0


def soon(condition: Callable[[], bool], what: str) -> None:
    """Wait as long as a mount may take to show what was just published."""
    wait_for(condition, what, within_s=APPEARS_WITHIN_S)


def appear(path: Path) -> Path:
    """Wait until a path is there, as long as a mount may take to show what was just published."""
    soon(path.exists, str(path))
    return path
