"""A wheel of this working copy and of everything it needs, so that an installation asks nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "fsd", "cli")


def make_wheels(folder: Path, *, extras: str = "obstore") -> Path:
    """Fill `folder` with wheels; the one of fsd."""
    # Of a copy: building leaves files behind.
    source = folder / "source"
    source.mkdir(parents=True)
    for name in _SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(path, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "-w", folder]
    subprocess.run([*command, f"{source}[{extras}]" if extras else source], check=True, timeout=300)
    shutil.rmtree(source)
    return next(folder.glob("fsd-*.whl"))


def offline(folder: Path) -> dict[str, str]:
    """The environment for a pip that takes only what `make_wheels` has put into `folder`."""
    return os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": os.fspath(folder)}
