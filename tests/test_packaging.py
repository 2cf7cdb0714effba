"""What is installed is what is here: no package is forgotten, and none is called `cli`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


def _setuptools() -> dict[str, Any]:
    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert isinstance(table, dict)
    return table


def test_every_package_is_installed() -> None:
    found = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in REPOSITORY.glob("fsd/**/__init__.py")}
    assert set(_setuptools()["packages"]) == found | {"fsd_cli"}


def test_every_extension_is_built() -> None:
    found = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("fsd/**/*.c")}
    built = {source for extension in _setuptools()["ext-modules"] for source in extension["sources"]}
    assert built == found


def test_the_folder_cli_is_installed_under_a_name_of_our_own() -> None:
    assert _setuptools()["package-dir"] == {"fsd": "fsd", "fsd_cli": "cli"}
    assert (REPOSITORY / "typings" / "fsd_cli").resolve() == REPOSITORY / "cli"
    code = "import fsd_cli, importlib.util; print(importlib.util.find_spec('cli'))"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
