"""Git work trees for tests: the real `git`, the installed `fsd`, and an identity of nobody's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from integration.program import COMMAND_TIMEOUT_S, Program

_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Someone"), ("EMAIL", "someone@example.org"))
}


def environment(program: Program) -> dict[str, str]:
    """Variables with which a shell finds `fsd`, and Git an identity."""
    path = os.pathsep.join((os.path.dirname(sys.executable), program.environment.get("PATH", os.defpath)))
    return program.environment | _IDENTITY | {"PATH": path, "LC_ALL": "C.UTF-8"}


class WorkTree:
    """A folder in which somebody works."""

    def __init__(self, program: Program, path: Path) -> None:
        self.path = path
        self.environment = environment(program)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command there, whatever its exit code."""
        return subprocess.run(
            [os.fspath(word) for word in command],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def __call__(self, *command: str | Path) -> str:
        """Run a command that must succeed; its standard output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def commit(self, message: str) -> str:
        """Commit everything; Git's name of the commit."""
        self("git", "add", "-A")
        self("git", "commit", "-q", "-m", message)
        return self("git", "rev-parse", "HEAD").strip()

    def __truediv__(self, name: str) -> Path:
        return self.path / name
