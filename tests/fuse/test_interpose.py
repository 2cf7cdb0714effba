"""The extension is built from what is here, says so, and is not missed where it cannot be."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fsd.fuse import interpose
from fsd.fuse.interpose import State

SOURCE = Path(interpose.__file__).with_name("_interpose.c")


def _run(code: str) -> str:
    """Symbols are bound once a process, so each case is a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("version", [30, 35])
def test_it_compiles_without_a_warning(tmp_path: Path, version: int) -> None:
    source = tmp_path / "copy.c"
    source.write_text(SOURCE.read_text().replace("FUSE_USE_VERSION 35", f"FUSE_USE_VERSION {version}"))
    include = sysconfig.get_path("include")
    flags = ["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", *flags, f"-I{include}", "-o", tmp_path / "x.so", source], check=True, timeout=60)


def test_python_and_c_agree() -> None:
    source = SOURCE.read_text()
    for name, value in re.findall(r"FSD_(\w+) = (\d+),", source):
        assert State[name] == int(value)
    assert len(re.findall(r"FSD_(\w+) = (\d+),", source)) == len(list(State))
    assert "FSD_CACHE_LISTING (UINT64_C(1) << 63)" in source
    assert interpose.CACHE_LISTING == 1 << 63


def test_importing_the_package_loads_it() -> None:
    if not interpose.available():
        pytest.skip(interpose.unavailable_reason())
    assert _run("import fsd.fuse.adapter; from fsd.fuse import interpose; print(interpose.available())") == "True"


def test_too_late_is_not_an_error() -> None:
    code = "import pyfuse3; from fsd.fuse import interpose; print(interpose.unavailable_reason()); "
    assert _run(code + "interpose.configure(enabled=True)") == "pyfuse3 was imported before fsd.fuse"


def test_it_is_an_ordinary_module_too() -> None:
    if not interpose.available():
        pytest.skip(interpose.unavailable_reason())
    assert "fsd_interpose" not in _run("import fsd.fuse._interpose as module; print(dir(module))")


def test_without_a_session_nothing_is_claimed() -> None:
    assert _run("import fsd.fuse.adapter; from fsd.fuse import interpose; print(int(interpose.state()))") == "0"
